"""Fit a changed model to the original, layer by layer, in closed form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from graphopt.analysis.layer_parts import Part, part_of
from graphopt.analysis.reconstruction import Reconstruction, Terms
from graphopt.ir import Graph, Node
from graphopt.pipeline.protocol import Context, Contract, Pass, option

RULE = "reconstruct"


@dataclass(frozen=True)
class Reconstruct(Pass):
    """Fit a changed model to the original, layer by layer in closed form, as long as the outputs gain by it.

    What it does
        The model as it was read is the teacher, the model as it is now the student: pruned, narrowed, of low rank,
        without some of its blocks. Each Conv, Gemm, MatMul and BatchNormalization, in the order of the graph, is
        fitted to what the teacher has in its place (of its channels those that are left), on the data that it reads
        now, all layers before it fitted already: least squares, from sums over all calibration feeds, pulled by
        damping towards the weights there are; unless given, damping is the one with which weights fitted to one half
        of the samples are best on the other half, where the error of each channel counts by the spread of what later
        layers read of it, as in neurons. What a residual connection adds counts: with absorb, a layer in front of a
        sum is fitted so that the sum is the teacher's, and makes up for what is wrong with the other addend. Scale
        and bias of each LayerNormalization are then fitted channel by channel.

        Weights that are zero stay zero: of a sparse layer each output is fitted with the weights that it has.
        Of two factors in place of one matrix the first is fitted through the second, then the second. Of a layer too
        wide for a Gram matrix (of more than a gigabyte) only the bias is fitted, to the means. A Conv or Gemm without
        a bias gets one. rounds says how often all that is done; factors of low rank gain from a second one.

        Before a fit is written the outputs are measured with it, on `samples` of the calibration feeds, and one
        with which they would be further from the teacher's than they are is left out, with a remark. Those of
        one stage are tried together, too.

    Example
        magnitude{sparsity=0.5},reconstruct
        before: y = MatMul(x, w) + b, half of w zero    after: the same with other w and b, the same half zero

    When not
        On quantized weights (refit fits those). Left, with the reason: layers that give what they gave, that stand for
        no value of the original, or whose weights something else reads or callers may override; nodes in bodies
        and functions, whose values in the original are not known. Calibrate on feeds like the real ones, and on
        many: with as few rows as a layer has inputs nothing can be learned, and little is changed.
        Behind neurons, heads and channels, which fit the layers that they change themselves, little is left to gain.

        Cost: for each level of layers one run of both models on all feeds, one of the model on `samples` of
        them, and for each layer of it one of what lies behind (stages bounds how many levels there are); for a
        layer with n inputs two matrices of n^2 numbers and about 20 times n^3 operations.

    Contract
        LOSSY: needs a budget. No layer's squared error on the calibration feeds grows, and that of no output does
        on the samples measured (of the worst output, where there are several).

    Source
        Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015; Romero et al., "FitNets", ICLR
        2015 (a teacher's inner values). He, Zhang, Sun, "Channel Pruning for Accelerating Very Deep Neural
        Networks", ICCV 2017, and Luo, Wu, Lin, "ThiNet", ICCV 2017 (least squares on the data of the student).
        Hoerl and Kennard, "Ridge Regression", 1970. Hestenes and Stiefel, "Methods of Conjugate Gradients", 1952
        (for the sparse layers). Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias
        Correction", ICCV 2019 (means).
    """

    name = "reconstruct"
    contract = Contract.LOSSY
    calibrates = True
    repairs = True

    damping: float = option(
        0.0, "share of the mean energy of the inputs that pulls towards the weights there are; 0 finds the best"
    )
    absorb: bool = option(True, "fit a layer in front of a sum so that the sum is right")
    rounds: int = option(1, "how often all layers are fitted")
    rows: int = option(4096, "rows of the data of a layer that are looked at in one feed; 0 for all")
    stages: int = option(0, "at most so many runs over the feeds in a round; 0 for one for each level of layers")
    samples: int = option(64, "samples of the calibration feeds on which the outputs are compared; 0 for all")
    skip: tuple[str, ...] = option((), "patterns such as /head/* of nodes and values to leave as they are")
    only: tuple[str, ...] = option((), "patterns of the nodes and values to fit; all when empty")

    def __post_init__(self) -> None:
        if not 0 <= self.damping <= 100:
            raise ValueError(f"damping must be from 0 to 100, and {self.damping:g} is not")
        if min(self.rows, self.stages, self.samples) < 0 or self.rounds < 1:
            raise ValueError("rows, stages and samples must not be negative, and rounds must be at least 1")

    def run(self, graph: Graph, ctx: Context) -> None:
        parts = list(self._parts(graph, ctx))
        if not parts:
            if graph.outputs and not any(part_of(node) for scope in graph.scopes() for node in scope.nodes):
                ctx.missed(RULE, graph.outputs[0], "the model has no layer with stored float weights")
            return
        terms = Terms(self.damping, self.absorb, self.rounds, self.rows, self.stages, self.samples)
        Reconstruction(ctx, terms, RULE).run(parts, graph)

    def _parts(self, graph: Graph, ctx: Context) -> Iterator[Part]:
        for scope in graph.scopes():
            for node in scope.nodes:
                found = part_of(node)
                if found is None:
                    continue
                why = found if isinstance(found, str) else self._unwanted(node)
                if why is not None:
                    ctx.missed(RULE, node, why)
                elif not isinstance(found, str):
                    yield found

    def _unwanted(self, node: Node) -> str | None:
        names = [node.label, *(tensor.name for tensor in (*node.outputs, *node.inputs) if tensor.name)]
        pattern = next((one for one in self.skip if any(fnmatchcase(name, one) for name in names)), None)
        if pattern is not None:
            return f"skip has {pattern!r}"
        if self.only and not any(fnmatchcase(name, one) for name in names for one in self.only):
            return "only has no pattern for it"
        return None
