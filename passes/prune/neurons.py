"""Make feed-forward blocks narrower."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from graphopt.analysis.channels import Group, channel_groups
from graphopt.ir import Graph
from graphopt.pipeline.protocol import Context, option
from passes.prune.thinning import Thinning
from passes.prune.thinning_terms import Terms
from passes.prune.unit_blocks import Block, block_of

RULE = "neurons"


@dataclass(frozen=True)
class Neurons(Terms):
    """Make feed-forward blocks narrower: neurons that matter least go, and the layer behind makes up for them.

    What it does
        Finds two linear layers (MatMul with an Add, Gemm) with nothing but elementwise operators between them, by
        their structure: an activation in one operator or written out, gated ones with two layers in front (also
        merged into one with a Split), biases. A share of the neurons goes: columns of the first weights, numbers of
        the biases, rows of the second weight, so that all tensors really shrink.

        importance says which. magnitude: the product of the norms of the weights that make and that read a neuron.
        activation: the norm of the weights that read it times the root mean square of the neuron on the
        calibration feeds. second-order: what the block's error would be with all other weights that read the
        block changed as is best, from the Gram matrix of the neurons; the cheapest go first, and what the others
        cost follows each time. With allocation=error the share is one of all blocks together, and more
        goes where it costs less: where the error is a smaller share of the variance of each channel behind the
        residual sum, or with importance=output where the outputs lose less, which is measured without eight numbers
        of neurons in the order of second-order. Up to nine tenths of a block may go.

        With repair the second layer is then fitted to what it made in the original, in the order of the graph, on
        what it reads now: weights and bias that miss least, pulled towards those there are by damping
        (unless given, of nine shares the one with which weights fitted to one half of the samples are best on the
        other half).

    Example
        neurons{share=0.25}
        before: y = MatMul(Relu(MatMul(x, w1[384, 1536]) + b1[1536]), w2[1536, 384])
        after:  y = MatMul(Relu(MatMul(x, u1[384, 1152]) + c1[1152]), u2[1152, 384])

    When not
        Left, with the reason: blocks whose neurons something else reads, or that are graph outputs; quantized
        layers (prune first, then quantize); weights that callers may override, or that several operators read;
        layers too wide for a Gram matrix. Convolutions are left to channels. In bodies and functions the
        layer is fitted to what it makes before its neurons go.
        Calibrate on feeds like the real ones and on many: a sentence model that lost a quarter of its neurons kept
        29 dB with 32 sentences, 35 with 100, 36 with 200 and 38 with 500.

        Cost: one run of both models up to a block for each block; for n neurons two matrices of n^2 numbers and about
        30 times n^3 operations. With importance=output eight runs of what lies behind for each block on `samples`
        samples, and one of the model.

    Contract
        LOSSY: needs a budget. Repair never makes the error of a layer on the calibration feeds larger.

    Source
        Hassibi and Stork, "Second Order Derivatives for Network Pruning: Optimal Brain Surgeon", NIPS 1992. Kurtic,
        Frantar, Alistarh, "ZipLM", NeurIPS 2023 (whole structures, one after the other). Sun et al., "A Simple and
        Effective Pruning Approach for Large Language Models", ICLR 2024 (weights times activations). Hoerl and
        Kennard, "Ridge Regression", 1970.
    """

    name = "neurons"

    share: float = option(0.25, "share of the neurons of each block (of their weights in all, by error) that goes")
    allocation: Literal["uniform", "error"] = option("error", "where it costs least, or the same share of each block")
    repair: bool = option(True, "fit the second layer to what it made in the original")
    multiple: int = option(8, "numbers of neurons that are left are multiples of this")

    def run(self, graph: Graph, ctx: Context) -> None:
        found = list[Block]()
        looked = False
        for group in channel_groups(graph, ctx.shapes):
            if not is_feed_forward(group):
                continue
            looked = True
            block = block_of(group)
            if isinstance(block, Block):
                found.append(block)
            else:
                ctx.missed(RULE, group.readers[0].node, block)
        if not looked and graph.outputs:
            ctx.missed(RULE, graph.outputs[0], "no two linear layers have only elementwise operators between them")
        Thinning(ctx, self, RULE, "neurons").run(found)


def is_feed_forward(group: Group) -> bool:
    """Whether linear layers make the units of one value, each unit one number, and one linear layer reads them."""
    sites = (*group.makers, *group.readers)
    if len(group.readers) != 1 or any(not one.node.is_op("MatMul", "Gemm") or one.slot != 1 for one in sites):
        return False
    if len({id(site.node.inputs[0]) for site in group.makers}) != 1:
        return False
    return bool(group.readers[0].positions.shape == (group.size, 1))
