"""Which operators to compute in integers: chains that begin and end at weights, never islands.

Turning a value into integers and back costs a walk over it each way. An operator without weights is
taken only where that saves more conversions than it causes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from graphopt.analysis.shapes import Shapes
from graphopt.ir import Node, Tensor
from passes.quantize.static.schemes import Scheme
from passes.quantize.static.units import Unit

_SYMBOL = 8  # what a symbolic dim is taken for
_UNKNOWN = 1024.0  # elements of a value of unknown rank


@dataclass(eq=False)
class Choice:
    """The units to quantize, in the order of the graph, and the values that get a grid.

    `groups` are values that share one: what is only moved keeps its codes.
    """

    units: list[Unit]
    groups: list[list[Tensor]]
    results: set[Tensor]
    given_up: dict[Node, str] = field(default_factory=dict)

    def is_result(self, tensor: Tensor) -> bool:
        """Whether a chosen unit makes the value in integers."""
        return tensor in self.results


def choose(units: Sequence[Unit], scheme: Scheme, shapes: Shapes) -> Choice:
    """The units that pay, of those that are possible."""
    chosen = dict.fromkeys(units)
    given_up: dict[Node, str] = {}
    if not scheme.whole:
        weigh = _Scales(chosen, scheme, shapes)
        pending = True
        while pending:
            pending = False
            for unit in [one for one in chosen if one.kind != "weighted"]:
                why = weigh.why_not(unit)
                if why is not None:
                    del chosen[unit]
                    weigh.drop(unit)
                    given_up[unit.node] = why
                    pending = True
    kept = list(chosen)
    results = _results(kept, scheme)
    values = dict.fromkeys(value for unit in kept for value in read_by(unit, scheme, kept))
    values.update(dict.fromkeys(result for unit in kept for result in unit.results if result in results))
    return Choice(kept, _groups(kept, values), results, given_up)


def read_by(unit: Unit, scheme: Scheme, kept: Iterable[Unit]) -> tuple[Tensor, ...]:
    """The activations that a unit wants to read as integers."""
    if not (scheme.residual_only and unit.op == "Add"):
        return unit.read
    made = {result for one in kept if one.kind == "weighted" for result in one.results}
    return tuple(value for value in unit.read if value not in made)[:1] or unit.read[1:2]


def _results(kept: Sequence[Unit], scheme: Scheme) -> set[Tensor]:
    if not scheme.outputs:
        return set()
    read = {value for unit in kept for value in unit.read}
    return {
        result
        for unit in kept
        for result in unit.results
        if scheme.whole or unit.op not in scheme.ends or result in read
    }


def _groups(kept: Sequence[Unit], values: Iterable[Tensor]) -> list[list[Tensor]]:
    """The values by grid: a mover's operands and results share one."""
    group = {value: [value] for value in values}
    for unit in kept:
        if unit.kind != "mover":
            continue
        together = [value for value in (*unit.read, *unit.results) if value in group]
        for value in together[1:]:
            first, other = group[together[0]], group[value]
            if first is not other:
                first.extend(other)
                for one in other:
                    group[one] = first
    return list({id(one): one for one in group.values()}.values())


class _Scales:
    """Weighs a follower or mover: conversions when it computes in integers against those when not."""

    def __init__(self, chosen: Iterable[Unit], scheme: Scheme, shapes: Shapes) -> None:
        self.scheme, self.shapes = scheme, shapes
        self.makers: dict[Tensor, Unit] = {}
        self.readers: dict[Tensor, dict[Unit, None]] = {}
        for unit in chosen:
            for result in unit.results:
                self.makers[result] = unit
            for value in unit.read:
                self.readers.setdefault(value, {})[unit] = None

    def drop(self, unit: Unit) -> None:
        """Forget a unit that computes in floating point."""
        for result in unit.results:
            self.makers.pop(result, None)
        for value in unit.read:
            self.readers[value].pop(unit, None)

    def why_not(self, unit: Unit) -> str | None:
        """Why the unit should stay floating point, in a clause; None when it should not."""
        if not self.scheme.outputs:
            linked = any(value in self.makers for value in unit.read)
            return None if linked else "nothing that it reads comes from an operator with weights"
        if self._adds_to_a_float(unit):
            return "it adds a constant to a result that stays floating point"
        others = sum(len(self.readers.get(result, {})) for result in unit.results)
        as_integers = sum(self._to_integers(value, unit) for value in unit.read)
        as_integers += sum(self.size(result) for result in unit.results if self._has_float_reader(result))
        as_floats = sum(self._to_floats(value, unit) for value in unit.read)
        as_floats += sum(self.size(result) for result in unit.results if self.readers.get(result))
        if as_integers > as_floats or (as_integers == as_floats and not others):
            return "alone it would cost more conversions than it saves"
        return None

    def size(self, value: Tensor) -> float:
        """About how many elements a value has."""
        dims = self.shapes.dims(value)
        if dims is None:
            return _UNKNOWN
        return float(math.prod(dim if isinstance(dim, int) else _SYMBOL for dim in dims))

    def _adds_to_a_float(self, unit: Unit) -> bool:
        if not unit.constants or unit.op not in ("Add", "Sub"):
            return False
        maker = self.makers.get(unit.read[0])
        return maker is not None and maker.op in self.scheme.ends and maker.bias is None

    def _to_integers(self, value: Tensor, unit: Unit) -> float:
        if value in self.makers or any(one is not unit for one in self.readers[value]):
            return 0.0
        return self.size(value)

    def _to_floats(self, value: Tensor, unit: Unit) -> float:
        maker = self.makers.get(value)
        if maker is None or maker.op in self.scheme.ends or self._has_float_reader(value, unit):
            return 0.0
        return self.size(value)

    def _has_float_reader(self, value: Tensor, besides: Unit | None = None) -> bool:
        if value.graph_outputs:
            return True
        own = self.readers.get(value, {})
        taken = {one.node for one in own} | ({besides.node} if besides is not None else set())
        return any(node not in taken for node in value.readers)
