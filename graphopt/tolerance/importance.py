"""How much each weight of a layer counts for what the layer gives: the mean square of what it multiplies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from graphopt.analysis.activations import Observation
from graphopt.analysis.layer_gram import LayerGram
from graphopt.analysis.layer_inputs import Rows, inputs_of, piecewise
from graphopt.analysis.weight_axes import gather_axis
from graphopt.analysis.weights import Site
from graphopt.ir import Tensor, Variable
from graphopt.tolerance.layers import Layer

Array = np.ndarray[Any, Any]

_MOST: Final = 512  # rows of each sample that are looked at
_WIDE: Final = 2304  # inputs up to which their products with each other are summed up, not their squares only
_ACTIVATIONS: Final = (
    "Relu",
    "Clip",
    "LeakyRelu",
    "PRelu",
    "Elu",
    "Selu",
    "Celu",
    "Gelu",
    "Mish",
    "HardSwish",
    "Swish",
)
_OUTPUT_AXES: Final = {("Conv", 1): 1, ("ConvTranspose", 1): 1, ("Gemm", 0): 0, ("Gemm", 1): 1,
                       ("MatMul", 0): -2, ("MatMul", 1): -1}  # fmt: skip


@dataclass
class Reading:
    """What is summed up of one place that reads a weight: the data it is multiplied with, and what comes out.

    `data` and `result` are those values, None where there is none that tells how weights count.
    """

    site: Site
    shape: tuple[int, ...]
    channel: int | None
    data: Variable | None
    result: Variable | None
    rows: Rows | None
    gram: LayerGram | LayerSquares | None = None
    squares: Array | None = None
    low: float = np.inf
    high: float = -np.inf
    energy: float = 0.0
    elements: int = 0
    results: Array | None = None

    @classmethod
    def of(cls, layer: Layer, site: Site) -> Reading:
        """Of one of the layer's sites."""
        node, rows = site.node, None
        data: Tensor | None = node.inputs[1] if site.is_table else None
        plain = node.inputs[site.slot] is layer.weight.tensor
        # where it is read through a Transpose or the like, only the axis that is summed over is known
        if not site.is_table and (plain or (site.inputs is not None and node.op in ("MatMul", "Gemm"))):
            found = inputs_of(node, site.slot, layer.shape)
            data, rows = (None, None) if isinstance(found, str) else found
        tells = layer.channel is not None and (node.op, site.slot) in _OUTPUT_AXES
        return cls(
            site, layer.shape, layer.channel,
            data if isinstance(data, Variable) and data.name else None,
            _settled(node.outputs[0]) if tells and isinstance(node.outputs[0], Variable) else None,
            rows,
        )  # fmt: skip

    @property
    def is_main(self) -> bool:
        """Whether the place is in the main graph."""
        return self.site.node.graph is not None and self.site.node.graph.path == ""

    def observations(self) -> list[Observation]:
        """What to ask of a run where the place is in a body or a function."""
        asked = ((self.data, self.see_data), (self.result, self.see_result))
        return [Observation((value,), _Seeing(see)) for value, see in asked if value is not None]

    def see_data(self, data: Array) -> None:
        """See the data of one feed."""
        if data.size and self.site.is_table:
            self._looked_up(data)
        elif data.size and self.rows is not None and self.rows.why_not(data) is None:
            self._multiplied(data, self.rows)

    def see_result(self, result: Array) -> None:
        """See what came out of it for one feed."""
        if not result.size or self.channel is None:
            return
        axis = _OUTPUT_AXES[self.site.node.op, self.site.slot] % result.ndim
        others = tuple(one for one in range(result.ndim) if one != axis)
        square = np.square(result, dtype=np.float64).sum(axis=others)
        if len(square) == self.shape[self.channel]:
            self.results = square if self.results is None else self.results + square

    def _multiplied(self, data: Array, rows: Rows) -> None:
        self.low, self.high = min(self.low, float(data.min())), max(self.high, float(data.max()))
        self.energy += float(np.square(data, dtype=np.float64).sum())
        self.elements += data.size
        if self.gram is None:
            width = int(rows.rows(data, np.zeros(1, np.int64)).shape[2])
            self.gram = LayerGram(rows, _MOST) if width <= _WIDE else LayerSquares(rows, _MOST)
        self.gram.update(data)

    def _looked_up(self, indices: Array) -> None:
        axis = gather_axis(self.site.node, len(self.shape))
        if axis is None or indices.dtype.kind not in "iu":
            return
        rows = self.shape[axis]
        counts = np.bincount(indices.reshape(-1).astype(np.int64) % rows, minlength=rows).astype(np.float64)
        self.squares = counts if self.squares is None else self.squares + counts

    @property
    def seen(self) -> bool:
        """Whether the data were seen, so that weights count by them."""
        if self.site.is_table:
            return self.squares is not None and bool(np.any(self.squares))
        return self.gram is not None and self.gram.trouble is None and self._rows_of(np.empty(self.shape)) is not None

    def energy_of(self, weights: Array) -> float:
        """The energy of what the layer would give with these weights; the sum of their squares where the data were
        not seen."""
        if not self.seen:
            return float(np.square(weights, dtype=np.float64).sum())
        if self.site.is_table:
            axis = gather_axis(self.site.node, len(self.shape))
            assert self.squares is not None and axis is not None, "it was seen"
            read = np.flatnonzero(self.squares)  # few rows of many are read
            square = np.square(weights.take(read, axis=axis), dtype=np.float64)
            return float(np.moveaxis(square, axis, 0).reshape(len(read), -1).sum(axis=1) @ self.squares[read])
        assert self.gram is not None
        rows = self._rows_of(weights)
        assert rows is not None, "it was seen"
        if self.gram.matrix.ndim == 2:
            return float((np.square(rows) * self.gram.matrix[:, None]).sum())
        return float(((rows @ self.gram.matrix) * rows).sum())

    def _rows_of(self, weights: Array) -> Array | None:
        """Weights as float64 [groups, outputs, inputs], in the order of the rows of the data."""
        assert self.gram is not None
        groups, inputs = self.gram.matrix.shape[:2]
        if self.site.node.op == "Conv":
            fits = self.shape[0] % max(groups, 1) == 0 and inputs == int(np.prod(self.shape[1:]))
            return weights.reshape(groups, self.shape[0] // groups, inputs).astype(np.float64) if fits else None
        if self.site.inputs is None or groups != 1 or inputs != self.shape[self.site.inputs]:
            return None
        return np.moveaxis(weights, self.site.inputs, -1).reshape(1, -1, inputs).astype(np.float64)

    @property
    def rounding(self) -> float | None:
        """The energy that rounding the data to 8 bits in all would have, relative to theirs; None where unseen."""
        if not self.elements or not self.energy or not np.isfinite(self.energy):
            return None
        step = (max(self.high, 0.0) - min(self.low, 0.0)) / 255.0
        return step * step / 12.0 * self.elements / self.energy


@dataclass
class Importance:
    """How a layer's weights count, over all places that read it."""

    layer: Layer
    readings: list[Reading] = field(default_factory=list)
    _whole: dict[int, float] = field(default_factory=dict)

    @classmethod
    def of(cls, layer: Layer) -> Importance:
        """With nothing seen yet."""
        return cls(layer, [Reading.of(layer, site) for site in layer.sites])

    def values(self) -> tuple[str, ...]:
        """Names of the values of the main graph that it wants to see."""
        both = (value for one in self.readings if one.is_main for value in (one.data, one.result))
        return tuple(dict.fromkeys(value.name for value in both if value is not None))

    def observations(self) -> list[Observation]:
        """What to ask of a run about values in bodies and functions."""
        return [asked for one in self.readings if not one.is_main for asked in one.observations()]

    def update(self, values: Mapping[str, Any]) -> None:
        """See the values of the main graph, by name, for one feed."""
        for one in self.readings if values else ():
            if one.is_main:
                for value, see in ((one.data, one.see_data), (one.result, one.see_result)):
                    found = None if value is None else values.get(value.name)
                    if isinstance(found, np.ndarray):
                        see(found)

    @property
    def by_data(self) -> bool:
        """Whether the data of every place were seen, so that weights count by them."""
        return all(one.seen for one in self.readings)

    def share(self, change: Array, values: Array) -> float:
        """The energy of a change of the weights relative to theirs, both as they count for what the layer gives."""
        if not self.by_data:
            whole = float(np.square(values, dtype=np.float64).sum())
            return float(np.square(change, dtype=np.float64).sum()) / whole if whole > 0.0 else 0.0
        parts = []
        for number, one in enumerate(self.readings):
            if number not in self._whole:
                self._whole[number] = one.energy_of(values)
            whole = self._whole[number]
            parts.append(max(one.energy_of(change), 0.0) / whole if whole > 0.0 else 0.0)
        return sum(parts) / len(parts)

    def channels(self) -> Array | None:
        """The energy of what comes out in each channel, relative to all of them; None where that is unseen."""
        found = [one.results for one in self.readings]
        known = [one / one.sum() for one in found if one is not None and one.sum() > 0.0]
        return sum(known[1:], known[0]) / len(known) if known and len(known) == len(found) else None

    @property
    def rounding(self) -> float | None:
        """The energy of rounding the data to 8 bits, relative to theirs; the mean over the places."""
        found = [one.rounding for one in self.readings]
        known = [one for one in found if one is not None]
        return sum(known) / len(known) if known and len(known) == len(found) else None


def _settled(result: Variable) -> Variable:
    """The result itself, or what an activation that keeps zero makes of it: what that drops is not missed."""
    readers = result.readers
    if len(readers) != 1 or result.graph_outputs or not readers[0].is_op(*_ACTIVATIONS):
        return result
    made = readers[0].outputs[0] if readers[0].inputs[0] is result else result
    return made if isinstance(made, Variable) and made.name else result


@dataclass(frozen=True, eq=False)
class _Seeing:
    """An accumulator that shows values to a reading."""

    see: Callable[[Array], None]
    key: str = "sensitivity"

    def update(self, *values: Array) -> None:
        self.see(values[0])


class LayerSquares:
    """The sums of squares of each input of an operator: `matrix` float64 [groups, inputs]. For operators of so many
    inputs that a Gram matrix would not be bounded."""

    def __init__(self, rows: Rows, most: int) -> None:
        self.rows, self.most = rows, most
        self.count = 0
        self.matrix: Array = np.zeros((0, 0))
        self.trouble: str | None = None

    def update(self, *values: Array) -> None:
        """See the data of one feed."""
        (data,) = values
        width = int(self.rows.rows(data, np.zeros(1, np.int64)).size)
        for which in piecewise(self.rows.places(data), self.most * data.shape[0], width):
            found = self.rows.rows(data, which)
            square = np.square(found, dtype=np.float64).sum(axis=1)
            if self.count and self.matrix.shape != square.shape:
                self.trouble = "its data change in size from feed to feed"
                return
            self.matrix = self.matrix + square if self.count else square
            self.count += found.shape[1]
