"""Take heads out of attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from graphopt.analysis.channels import Group, channel_groups
from graphopt.ir import Graph, Node
from graphopt.pipeline.protocol import Context, option
from passes.prune.thinning import Thinning
from passes.prune.thinning_terms import Terms
from passes.prune.unit_blocks import Block, block_of

RULE = "heads"

_FUSED: Final = frozenset({"Attention", "MultiHeadAttention", "GroupQueryAttention"})


@dataclass(frozen=True)
class Heads(Terms):
    """Take heads out of attention: those that matter least go, and the projection behind makes up for them.

    What it does
        Finds attention by which axes move together: products of matrices around a Softmax with their Reshapes and
        Transposes, Attention of ONNX, and Attention, MultiHeadAttention and GroupQueryAttention of onnxruntime. A
        share of the heads of each goes: columns of the projections of queries, keys and values and of their
        biases, rows of the weight of the output projection, and the sizes in Reshapes, Splits and attributes
        that say how many there are. Where several heads of queries share one of keys and values, all these
        are one unit. The size of a head, and so the scale of the products, stays.

        importance says which. magnitude: the product of the norms of all weights of a head. activation: the norm of
        the rows of the output projection, each times the root mean square of what it reads on the calibration
        feeds. second-order: what the error of the projection's result would be without the head and with
        all other rows changed as is best; what the others cost follows with each that goes. With allocation=error
        the share is one of all attentions together, and more goes where it costs less: where the error is a
        smaller share of the variance of each channel behind the residual sum, or with importance=output where the
        outputs lose less, which is measured without up to eight numbers of heads in the order of second-order.

        With repair the output projection is then fitted to what it made in the original, in the order of
        the graph, on what it reads now (see neurons).

    Example
        heads{share=0.25}
        before: 12 heads of 32: wq, wk, wv [384, 384], Reshape to [0, 0, 12, 32], wo [384, 384]
        after:   9 heads of 32: wq, wk, wv [384, 288], Reshape to [0, 0,  9, 32], wo [288, 384]

    When not
        Left, with the reason: attention whose keys and values are handed on from step to step, since callers hold
        those of all heads; targets of Reshape that are computed; quantized or shared weights; values that
        something else reads. Heads are few, and few can be spared: neurons are the cheaper ones in most models.

        Cost: one run of both models up to a projection for each attention; for n inputs of the projection two matrices
        of n^2 numbers and about 30 times n^3 operations. With importance=output eight runs of what lies behind for
        each attention on `samples` samples, and one of the model.

    Contract
        LOSSY: needs a budget. Repair never makes the error of a layer on the calibration feeds larger.

    Source
        Michel, Levy, Neubig, "Are Sixteen Heads Really Better than One?", NeurIPS 2019. Voita et al., "Analyzing
        Multi-Head Self-Attention", ACL 2019. Kurtic, Frantar, Alistarh, "ZipLM", NeurIPS 2023.
    """

    name = "heads"

    share: float = option(0.25, "share of the heads of each attention (of their weights in all, by error) that goes")
    allocation: Literal["uniform", "error"] = option("uniform", "the same share of each, or where it costs least")
    repair: bool = option(True, "fit the output projection to what it made in the original")
    multiple: int = option(1, "numbers of heads that are left are multiples of this")

    def run(self, graph: Graph, ctx: Context) -> None:
        found = list[Block]()
        looked = False
        for group in channel_groups(graph, ctx.shapes):
            if not is_attention(group):
                continue
            looked = True
            block = _block(group)
            if isinstance(block, Block):
                found.append(block)
            else:
                ctx.missed(RULE, group.subject, block)
        if not looked and graph.outputs:
            ctx.missed(RULE, graph.outputs[0], "there is no attention whose heads can be told apart")
        Thinning(ctx, self, RULE, "heads").run(found)


def is_attention(group: Group) -> bool:
    """Whether the units of a group are heads: parts of the weights of an attention, or what a Softmax is taken of."""
    makers = [member.tensor.inputs[0] for member in group.members if member.tensor.inputs]
    return any(_attends(node) for node in (*makers, *(site.node for site in group.makers)))


def _attends(node: Node) -> bool:
    return node.is_op("Softmax", "Attention") or (node.domain == "com.microsoft" and node.op in _FUSED)


def _block(group: Group) -> Block | str:
    if group.obstacle is not None:
        return group.obstacle
    if len(group.readers) != 1:
        return f"its heads are read by {len(group.readers)} weights, not by one"
    return block_of(group)
