"""Fit the weights and biases of layers to what they made in the model as it was read."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

import numpy as np

from graphopt.analysis.constants import constant_values
from graphopt.ir import Graph, Node
from graphopt.pipeline.protocol import Context, Contract, Pass, option
from passes.prune.repairing import RULE, Terms, layers_of, repair

_FEW: Final = 0.05  # of the weights, above which zeros are somebody's doing


@dataclass(frozen=True)
class Repair(Pass):
    """Fit float layers so that on the data they read now they give what they gave in the original.

    What it does
        Where channels, heads, blocks or ranks are gone, every layer behind reads something else than it was
        trained on, and errors pile up from layer to layer. For each Conv, Gemm, MatMul and BatchNormalization,
        in the order of the graph, this observes the data x that the layer reads now, all layers before it repaired
        already, and the result y that it had in the model as it was read (of its channels those that are left).
        Weights and bias that bring W x + b nearest to y are a linear least squares problem, solved from sums over
        all calibration feeds. damping pulls the solution towards the weights there are, so that it does not
        follow the few calibration feeds too closely; unless given it is, of nine from 0.0003 to 10, the one with
        which weights fitted to one half of the samples are best on the other half.

        Of a layer too wide for that (a Gram matrix of more than a quarter of a gigabyte) only the bias is fitted, to
        the means. A Conv or Gemm without a bias gets one.

    Example
        channels{share=0.2},repair
        before: y = Conv(x, w, b)       after: the same, with other w and b

    When not
        Behind passes that make zeros in weights, which would be filled: reconstruct keeps them; on quantized weights
        (refit fits those). Left, with the reason: layers of which over a twentieth of the weights are zero, or that
        give what they gave; weights that several nodes read or callers may override; nodes in bodies and
        functions, whose values in the original are not known.
        Calibrate on feeds like the real ones, and on many: a hundred are better than thirty here.

        Cost: one run of both models up to a layer for each level of layers (stages bounds how many), and for a layer
        with n inputs two matrices of n^2 numbers and 20 times n^3 operations.

    Contract
        LOSSY: needs a budget. No layer's squared error on the calibration feeds grows.

    Source
        He, Zhang, Sun, "Channel Pruning for Accelerating Very Deep Neural Networks", ICCV 2017, and Luo, Wu, Lin,
        "ThiNet", ICCV 2017 (least squares of the next layer). Hoerl and Kennard, "Ridge Regression", 1970. Nagel et
        al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019 (means).
    """

    name = "repair"
    contract = Contract.LOSSY
    repairs = True
    calibrates = True

    damping: float = option(
        0.0, "share of the mean energy of the inputs that pulls towards the weights there are; 0 finds the best"
    )
    rows: int = option(4096, "rows of the data of a layer that are looked at in one feed; 0 for all")
    stages: int = option(0, "at most so many runs over the feeds; 0 for one for each level of layers")
    skip: tuple[str, ...] = option((), "patterns such as /head/* of nodes and values to leave as they are")
    only: tuple[str, ...] = option((), "patterns of the nodes and values to fit; all when empty")

    def __post_init__(self) -> None:
        if not 0 <= self.damping <= 100:
            raise ValueError(f"damping must be from 0 to 100, and {self.damping:g} is not")
        if self.rows < 0 or self.stages < 0:
            raise ValueError("rows and stages must not be negative")

    def run(self, graph: Graph, ctx: Context) -> None:
        wanted = list[Node]()
        for node in layers_of(graph):
            pattern = _matching(node, self.skip)
            if pattern is not None:
                ctx.missed(RULE, node, f"skip has {pattern!r}")
            elif self.only and _matching(node, self.only) is None:
                ctx.missed(RULE, node, "only has no pattern for it")
            elif (zeros := _zeros(node)) > _FEW:
                ctx.missed(
                    RULE, node, f"{zeros:.0%} of its weights are zero, and a fit would fill them: see reconstruct"
                )
            else:
                wanted.append(node)
        repair(wanted, ctx, Terms(self.damping, self.rows, self.stages))


def _zeros(node: Node) -> float:
    """The share of zeros among the weights of a layer; 0 where these are not known."""
    values = constant_values(node.inputs[1]) if len(node.inputs) > 1 else None
    return 0.0 if values is None or not values.size else 1.0 - float(np.count_nonzero(values)) / values.size


def _matching(node: Node, patterns: tuple[str, ...]) -> str | None:
    """The first pattern that fits the name of the node, or of what it reads or makes."""
    names = [node.label, *(one.name for one in (*node.inputs, *node.outputs) if one.name)]
    return next((one for one in patterns if any(fnmatchcase(name, one) for name in names)), None)
