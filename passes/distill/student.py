"""Parts of a student that can be fitted: layers, first factors of products of two, and normalizations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from graphopt.analysis.activations import Observation
from graphopt.analysis.constants import constant_of, constant_values
from graphopt.analysis.float_layers import FloatLayer, float_layer
from graphopt.analysis.layer_fit import LayerFit, Sums
from graphopt.analysis.least_squares import Fit, decibels, fitted
from graphopt.analysis.masked_least_squares import fitted_where
from graphopt.analysis.matching import only_reader, operand
from graphopt.analysis.residual_fit import JoinedFit, ResidualFit
from graphopt.analysis.scale_fit import ScaleFit
from graphopt.ir import Node, Tensor
from passes.distill.teacher import Goal

Array = np.ndarray[Any, Any]

FAITHFUL: Final = 1e-6
"""A share of the variance that sums of float32 products cannot tell from nothing."""

_WIDEST: Final = 1 << 30  # bytes of the sums of one layer
SAME: Final = "it gives what it gave in the original"


@dataclass(frozen=True, eq=False)
class Layer:
    """A linear layer that is fitted to its goal; `behind` is the second of two factors, which the goal is of."""

    layer: FloatLayer
    behind: FloatLayer | None = None

    @property
    def node(self) -> Node:
        return self.layer.node

    @property
    def result(self) -> Tensor:
        """What the goal is compared with."""
        return self.layer.result if self.behind is None else self.behind.result

    @property
    def axis(self) -> int:
        return self.layer.axis if self.behind is None else self.behind.axis

    @property
    def bytes(self) -> int:
        """What its sums take."""
        outputs = self.layer.outputs if self.behind is None else self.behind.outputs
        size = self.layer.inputs + 1
        return 16 * self.layer.groups * size * (size + outputs)

    def why_not(self) -> str | None:
        """Why it is not fitted, in a clause."""
        if self.bytes > _WIDEST:
            return f"its {self.layer.inputs} inputs are too many for a Gram matrix"
        return None

    def question(self, goal: Goal, rows: int) -> Observation:
        """What has to be seen."""
        if goal.more:
            return Observation((self.layer.data, goal.original, *goal.more), JoinedFit(self.layer.rows, rows))
        if goal.other is None:
            return Observation((self.layer.data, goal.original), LayerFit(self.layer.rows, rows, goal.kept))
        return Observation((self.layer.data, goal.original, goal.other), ResidualFit(self.layer.rows, rows, goal.kept))

    def answer(self, seen: Any, damping: float) -> tuple[str, Any] | str:
        """What is best, as a text and what `write` takes; or a clause on why the present weights stay."""
        assert isinstance(seen, LayerFit)
        found = self._first(seen, damping) if self.behind is not None else self._alone(seen, damping)
        if isinstance(found, str):
            return found
        if found.before <= FAITHFUL:
            return SAME
        return found.text, found

    def write(self, found: Any) -> None:
        """Put the weights and the bias in place."""
        self.layer.write(found.weights, found.bias)

    def _alone(self, seen: LayerFit, damping: float) -> Fit | str:
        weights, bias = self.layer.weights(), self.layer.bias()
        free = weights != 0
        if free.all():
            found = fitted(seen, weights, bias, self.layer.has_bias, damping)
        else:
            found = fitted_where(seen, weights, bias, free, self.layer.has_bias, damping)
        return found if isinstance(found, str) else self._stored(seen, found)

    def _first(self, seen: LayerFit, damping: float) -> Fit | str:
        """The first of two factors A B. Where B is R V, the rows of V orthonormal, A R is fitted to the goal by V'."""
        assert self.behind is not None
        if seen.trouble is not None or seen.whole is None:
            return seen.trouble or "no data were seen"
        first, second, bias = self.layer.weights()[0], self.behind.weights()[0], self.behind.bias()[0]
        if seen.whole.cross.shape[1:] != (len(first) + 1, second.shape[1]):
            return "no data of the size of its weight were seen"
        turned, triangle = np.linalg.qr(second.T)
        if np.abs(np.diagonal(triangle)).min(initial=np.inf) <= 1e-9 * np.abs(triangle).max(initial=0.0):
            return "the second of its two factors has less than full rank"
        inner = LayerFit(seen.rows, seen.most)
        inner.halves = [None if half is None else _turned(half, turned, bias) for half in seen.halves]
        found = fitted(inner, (first @ triangle.T)[None], np.zeros((1, len(triangle))), False, damping)
        if isinstance(found, str):
            return found
        before = seen.whole.error(np.concatenate([first @ second, bias[None]])[None])
        made = np.linalg.solve(triangle, found.weights[0].T).T[None]
        return self._stored(seen, Fit(made, self.layer.bias(), before, 0.0, found.damping))

    def _stored(self, seen: LayerFit, found: Fit) -> Fit | str:
        """The fit as a file keeps it, if it is still better."""
        weights, bias = self.layer.stored(found.weights, found.bias)
        whole = seen.whole
        assert whole is not None, "it was fitted to something"
        if self.behind is None:
            made = np.concatenate([weights, bias[:, None, :]], axis=1)
        else:
            made = np.concatenate([weights @ self.behind.weights(), self.behind.bias()[:, None, :]], axis=1)
        after = whole.error(made)
        if not after < found.before:
            return "its error on the calibration feeds would not get smaller"
        return Fit(weights, bias, found.before, after, found.damping)


def _turned(sums: Sums, turned: Array, bias: Array) -> Sums:
    """Sums for results of which a bias is taken and that are then multiplied by orthonormal columns.

    The energy is that of all there was before, spread evenly, so that what is missed is so in all.
    """
    cross = sums.cross[0] - sums.gram[0][:, -1:] * bias
    energy = float((sums.energy[0] - 2 * bias * sums.cross[0][-1] + sums.count * bias**2).sum())
    spread = np.full((1, turned.shape[1]), energy / turned.shape[1])
    return Sums(sums.count, sums.gram, (cross @ turned)[None], spread)


@dataclass(frozen=True, eq=False)
class Normalization:
    """A LayerNormalization over its last axis, whose scale and bias are fitted, channel by channel."""

    node: Node

    axis = -1
    bytes = 0

    @property
    def result(self) -> Tensor:
        """What the goal is compared with."""
        found: Tensor = self.node.outputs[0]
        return found

    def why_not(self) -> str | None:
        """Why it is not fitted, in a clause."""
        if operand(self.node, 2) is None:
            return "it has no bias"
        for tensor in self.node.inputs[1:3]:
            values = constant_values(tensor)
            if values is None or constant_of(tensor) is None or values.ndim != 1 or values.dtype != np.float32:
                return "its scale or bias is not a vector of float32"
            if only_reader(tensor) is not self.node:
                return "its scale or bias is read by something else, too"
        return None

    def question(self, goal: Goal, rows: int) -> Observation:
        """What has to be seen."""
        return Observation((self.result, goal.original), ScaleFit(goal.kept))

    def answer(self, seen: Any, damping: float) -> tuple[str, Any] | str:
        """What is best, as a text and what `write` takes; or a clause on why scale and bias stay."""
        assert isinstance(seen, ScaleFit)
        found, whole = seen.best(), seen.whole
        if isinstance(found, str) or whole is None:
            return str(found)
        factor, offset = found
        before = whole.missed(np.ones_like(factor), np.zeros_like(factor)) / max(whole.variance, 1e-300)
        if before <= FAITHFUL:
            return SAME
        after = whole.missed(factor, offset) / max(whole.variance, 1e-300)
        text = f"error {decibels(before)} dB below its result before, {decibels(after)} dB after, scale and bias"
        return text, found

    def write(self, found: Any) -> None:
        """Put scale and bias in place."""
        factor, offset = found
        graph = self.node.graph
        assert graph is not None, "it was found in a graph"
        scale, bias = (constant_values(tensor) for tensor in self.node.inputs[1:3])
        assert scale is not None and bias is not None, "checked before"
        graph.set_values(self.node.inputs[1], (scale * factor).astype(scale.dtype))
        graph.set_values(self.node.inputs[2], (bias * factor + offset).astype(bias.dtype))


Part = Layer | Normalization


def part_of(node: Node) -> Part | str | None:
    """What can be fitted at a node, or a clause on why it cannot; None for other operators."""
    if node.is_op("LayerNormalization"):
        axis = node.attrs.get("axis", -1)
        return Normalization(node) if axis == -1 else None
    found = float_layer(node)
    if isinstance(found, FloatLayer):
        return Layer(found)
    if found is None and node.is_op("MatMul", "Gemm", "Conv") and len(node.inputs) > 1:
        maker = node.inputs[1].inputs[0] if node.inputs[1].inputs else None
        if maker is not None and maker.is_op("DequantizeLinear"):
            return "its weight is quantized: refit fits such"
    return found


def factor_of(layer: FloatLayer) -> FloatLayer | None:
    """The layer that multiplies the result of this one, where both are one matrix in two factors."""
    reader = only_reader(layer.result)
    if layer.has_bias and layer.bias().any():
        return None
    found = float_layer(reader) if reader is not None and reader.is_op("MatMul") and layer.node.op == "MatMul" else None
    if not isinstance(found, FloatLayer) or found.data is not layer.result or found.outputs < found.inputs:
        return None
    return found
