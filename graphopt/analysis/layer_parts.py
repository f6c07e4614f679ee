"""Parts of a model that can be fitted: layers, first factors of products of two, and normalizations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from graphopt.analysis.activations import Moments, Observation
from graphopt.analysis.changes import Replacement
from graphopt.analysis.constants import constant_of, constant_values
from graphopt.analysis.float_layers import FloatLayer, float_layer
from graphopt.analysis.layer_fit import LayerFit, Sums
from graphopt.analysis.layer_goals import Goal, kept_channels, question
from graphopt.analysis.layer_repair import FAITHFUL, SAME, best, means, scales, shifted, written
from graphopt.analysis.least_squares import Fit, decibels, fitted
from graphopt.analysis.matching import only_reader, operand
from graphopt.analysis.scale_fit import ScaleFit
from graphopt.analysis.shapes import Shapes
from graphopt.ir import Node, Tensor

Array = np.ndarray[Any, Any]

WIDEST: Final = 1 << 30
"""Bytes of the sums of one layer; beyond, only its bias is fitted."""


@dataclass(frozen=True)
class Answer:
    """What is best for a part: in words, as a change to be tried, and as what writes it."""

    text: str
    replaced: tuple[tuple[Tensor, Replacement], ...]
    write: Callable[[], None]


@dataclass(frozen=True, eq=False)
class Layer:
    """A linear layer that is fitted to its goal; `behind` is the second of two factors, which the goal is of."""

    layer: FloatLayer
    behind: FloatLayer | None = None

    @property
    def node(self) -> Node:
        return self.layer.node

    @property
    def last(self) -> FloatLayer:
        """The layer whose result the goal is compared with."""
        return self.layer if self.behind is None else self.behind

    @property
    def result(self) -> Tensor:
        return self.last.result

    @property
    def bytes(self) -> int:
        """What its sums take."""
        size = self.layer.inputs + 1
        return 16 * self.layer.groups * size * (size + self.last.outputs)

    @property
    def wide(self) -> bool:
        """Whether only its bias is fitted."""
        return self.bytes > WIDEST

    def why_not(self) -> str | None:
        """Why it is not fitted, in a clause."""
        if self.wide and (self.behind is not None or not self.layer.has_bias):
            return f"its {self.layer.inputs} inputs are too many for a Gram matrix"
        return None

    def questions(self, goal: Goal, rows: int, shapes: Shapes) -> list[Observation] | str:
        """What has to be seen, or a clause on why it cannot be."""
        if self.wide:
            return means(self.layer, goal)
        whole = Observation((goal.original,), Moments(self.last.axis))
        if self.behind is None:
            asked = question(self.layer, goal, rows, shapes)
            return asked if isinstance(asked, str) else [asked, whole]
        kept = kept_channels(goal, self.result, self.last.axis, shapes)
        if isinstance(kept, str):
            return kept
        return [Observation((self.layer.data, goal.original), LayerFit(self.layer.rows, rows, kept)), whole]

    def answer(self, asked: Sequence[Observation], goal: Goal, damping: float, shapes: Shapes) -> Answer | str:
        """What is best; or a clause on why the present weights stay."""
        kept = kept_channels(goal, self.result, self.last.axis, shapes)
        assert not isinstance(kept, str), "nothing would have been asked"
        found = shifted(self.layer, asked, kept) if self.wide else self._fitted(asked, goal, damping, kept)
        if isinstance(found, str):
            return found
        fit = found
        return Answer(fit.text, self.layer.replaced(fit.weights, fit.bias), lambda: written(self.layer, fit))

    def _fitted(self, asked: Sequence[Observation], goal: Goal, damping: float, kept: Array | None) -> Fit | str:
        seen, moments = (one.accumulator for one in asked)
        assert isinstance(seen, LayerFit) and isinstance(moments, Moments)
        if self.behind is not None:
            return self._first(seen, damping)
        outputs = self.layer.groups * self.layer.outputs
        scale = np.ones(outputs) if goal.more else scales(moments, outputs, kept)
        return best(self.layer, seen, damping, scale.reshape(self.layer.groups, -1))

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
        if before <= FAITHFUL:
            return SAME
        made = np.linalg.solve(triangle, found.weights[0].T).T[None]
        weights, own = self.layer.stored(made, self.layer.bias())
        both = np.concatenate([weights @ self.behind.weights(), self.behind.bias()[:, None, :]], axis=1)
        after = seen.whole.error(both)
        if not after < before:
            return "its error on the calibration feeds would not get smaller"
        return Fit(weights, own, before, after, found.damping)


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

    def questions(self, goal: Goal, rows: int, shapes: Shapes) -> list[Observation] | str:
        """What has to be seen, or a clause on why it cannot be."""
        kept = kept_channels(None, self.result, -1, shapes)
        return kept if isinstance(kept, str) else [Observation((self.result, goal.original), ScaleFit(kept))]

    def answer(self, asked: Sequence[Observation], goal: Goal, damping: float, shapes: Shapes) -> Answer | str:
        """What is best; or a clause on why scale and bias stay."""
        (seen,) = (one.accumulator for one in asked)
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
        scale, bias = (constant_values(tensor) for tensor in self.node.inputs[1:3])
        assert scale is not None and bias is not None, "checked before"
        made = (scale * factor).astype(scale.dtype), (bias * factor + offset).astype(bias.dtype)
        replaced = tuple(zip(self.node.inputs[1:3], made, strict=True))
        return Answer(text, replaced, lambda: self._write(made))

    def _write(self, made: Sequence[Array]) -> None:
        graph = self.node.graph
        assert graph is not None, "it was found in a graph"
        for tensor, values in zip(self.node.inputs[1:3], made, strict=True):
            graph.set_values(tensor, values)


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
