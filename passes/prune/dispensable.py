"""Operators that might go: those that a value in front of them, or a constant, can stand for."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graphopt.analysis.activations import Moments, Observation
from graphopt.analysis.constants import constant_node
from graphopt.analysis.cost import macs_of
from graphopt.analysis.movement import is_mover
from graphopt.analysis.shapes import Shapes
from graphopt.ir import Graph, Node, Tensor, Variable
from graphopt.ir.dtypes import np_dtype
from graphopt.pipeline.protocol import Context
from passes.prune.spans import Span, alike, dead_without, is_float

Array = np.ndarray[Any, Any]

_NO_OPS = ("Identity", "Cast", "CastLike", "Dropout", "Constant", "DequantizeLinear", "QuantizeLinear")
_SPREADS = ("Add", "Sub", "Mul", "Div")  # operators that broadcast what they read
_MOST_STORED = 4096  # elements of a constant that is written out in full
_LEAST_SEEN = 8  # values of a channel that make a mean
_BROADCASTS = 7  # the opset from which on Add and Mul broadcast


@dataclass(frozen=True, eq=False)
class Dispensable:
    """What might go: for `span.start`, or for a constant, the mean of what was seen. `cost` is about how much
    less there is to compute."""

    span: Span
    mean: Array | None
    cost: float

    @property
    def key(self) -> tuple[Node, Tensor | None]:
        """What tells it from others as long as the graph stays as it is around it."""
        return self.span.subject, None if self.mean is not None else self.span.start

    def fits(self, shapes: Shapes) -> bool:
        """Whether those that read the value now can do with what stands for it: another operator may have gone
        since, whose readers need it whole."""
        if self.mean is None or _spread(self.span.end, shapes):
            return True
        return tuple(self.mean.shape) == tuple(shapes.dims(self.span.end) or ())

    def now(self) -> Span | None:
        """The span in the graph as it is now; None where one of its ends is gone."""
        scope, start, end = self.span.graph, self.span.start, self.span.end
        kept = self.mean is not None or scope.is_input(start) or any(one.graph is not None for one in start.inputs)
        if not kept or not end.is_read or not end.inputs or end.inputs[0].graph is not scope:
            return None
        nodes = dead_without(scope, end, start if self.mean is None else None)
        return replace(self.span, nodes=nodes) if end.inputs[0] in nodes else None


def bypasses(graph: Graph, shapes: Shapes, longest: int) -> list[Dispensable]:
    """Single operators of which an input has the shape and type of the output, and chains of at most `longest` nodes
    between two such values through the first of which everything comes that the second is computed from."""
    found = list[Dispensable]()
    for scope in graph.scopes():
        entries = _entries(scope)
        for node in scope.nodes:
            if not _may_go(node) or node.outputs[0] not in entries:
                continue  # what is computed from constants alone is for folding
            end = node.outputs[0]
            starts = dict.fromkeys(one for one in node.inputs if one in entries and alike(one, end, shapes))
            above = (one for one in _above(end, entries, longest) if alike(one, end, shapes))
            starts |= dict.fromkeys(itertools.islice(above, 1))  # what is above that is two steps
            for start in starts:
                nodes = dead_without(scope, end, start)
                if node in nodes and len(nodes) <= longest:
                    found.append(_dispensable(scope, start, end, nodes, None, shapes))
    return found


def constants(graph: Graph, ctx: Context, spread: float) -> list[Dispensable]:
    """Operators whose output differs from its mean, of each channel, by no more than a share of its energy, where
    their readers can do with the mean."""
    asked = dict[Node, tuple[int, Observation]]()
    for scope in graph.scopes():
        entries = _entries(scope)
        for node in scope.nodes:
            axis = _channels(node, scope, ctx.shapes) if _may_go(node) and node.outputs[0] in entries else None
            if axis is not None:
                asked[node] = axis, Observation((node.outputs[0],), Moments(axis))
    refused = ctx.calibration.observe([one for _, one in asked.values()]).refused if asked else {}
    found = list[Dispensable]()
    for node, (axis, question) in asked.items():
        seen, home, end = question.accumulator, node.graph, node.outputs[0]
        if question in refused or home is None or not isinstance(seen, Moments):
            continue
        energy, mean = seen.mean_square, seen.mean
        with np.errstate(invalid="ignore"):
            apart = float((energy - np.square(mean)).sum())
        if seen.count < _LEAST_SEEN or not np.isfinite(energy).all() or apart > spread * float(energy.sum()):
            continue
        nodes = dead_without(home, end, None)
        if node in nodes:
            dims = ctx.shapes.dims(end) or ()
            values = _written(mean, axis, dims, np_dtype(ctx.shapes.onnx_dtype(end)), _spread(end, ctx.shapes))
            found.append(_dispensable(home, end, end, nodes, values, ctx.shapes))
    return found


def _dispensable(
    scope: Graph, start: Tensor, end: Tensor, nodes: tuple[Node, ...], mean: Array | None, shapes: Shapes
) -> Dispensable:
    return Dispensable(Span(scope, start, end, nodes, macs_of(nodes, shapes)), mean, cost_of(nodes, shapes))


def cost_of(nodes: Iterable[Node], shapes: Shapes) -> float:
    """About what nodes take: their multiply-accumulates, and elements that are made."""
    several = list(nodes)
    made = (_elements(out, shapes) for node in several for out in node.outputs)
    return macs_of(several, shapes) + sum(made)


def _elements(value: Tensor, shapes: Shapes) -> int:
    dims = shapes.dims(value) or ()
    return int(np.prod([dim for dim in dims if isinstance(dim, int) and dim > 0], dtype=np.float64)) if dims else 1


def _may_go(node: Node) -> bool:
    """Whether a node computes something: what only moves elements is for passes that are exact."""
    known = node.outputs and node.outputs[0].name and not any(one.name and one.is_read for one in node.outputs[1:])
    return bool(known) and not node.is_op(*_NO_OPS) and not is_mover(node)


def _channels(node: Node, scope: Graph, shapes: Shapes) -> int | None:
    """The axis of an operator's output that keeps its own means, where readers can do with means."""
    end = node.outputs[0]
    dims = shapes.dims(end)
    if not dims or not is_float(end, shapes) or end.graph_outputs or not end.is_read or scope.opset_of() < _BROADCASTS:
        return None
    axis = 1 if len(dims) > 3 else len(dims) - 1
    stored = all(isinstance(dim, int) for dim in dims) and _elements(end, shapes) <= _MOST_STORED
    return axis if isinstance(dims[axis], int) and (stored or _spread(end, shapes)) else None


def _spread(value: Tensor, shapes: Shapes) -> bool:
    """Whether all readers broadcast `value` against another operand of the shape of their own output."""
    for reader in value.readers:
        others = [one for one in reader.inputs if one is not value]
        if not reader.is_op(*_SPREADS) or len(others) != 1:
            return False
        dims = shapes.dims(others[0])
        if dims is None or dims != shapes.dims(reader.outputs[0]):
            return False
    return True


def _written(mean: Array, axis: int, dims: Sequence[Any], dtype: Any, spreads: bool) -> Array:
    """The means of channels as an array that stands for a value of these dims."""
    shape = [1] * len(dims)
    shape[axis] = -1
    values = mean.reshape(shape).astype(np.float32 if dtype is None else dtype)
    return values if spreads else np.ascontiguousarray(np.broadcast_to(values, [int(dim) for dim in dims]))


_Entries = dict[Tensor, tuple[Tensor | None, int]]
"""For each value the nearest one through which all comes that it is computed from (None: there is none), and how
many such there are above it."""


def _entries(scope: Graph) -> _Entries:
    """Immediate dominators of the values of a graph; what is computed from constants alone is in none of them."""
    known: _Entries = {}
    for node in scope.nodes:
        read = list[Tensor]()
        for one in node.inputs:
            if one not in known and one.name and _enters(one, scope):
                known[one] = None, 0
            if one in known:
                read.append(one)
        if not read and not node.bodies:
            continue
        entry: Tensor | None = None if node.bodies else read[0]
        for one in read[1:]:
            entry = None if entry is None else _meeting(entry, one, known)
        depth = 0 if entry is None else known[entry][1] + 1
        known.update((out, (entry, depth)) for out in node.outputs if out.name)
    return known


def _enters(value: Tensor, scope: Graph) -> bool:
    """Whether it is an input, or a value of an outer graph."""
    made = any(node.graph is scope for node in value.inputs)
    return isinstance(value, Variable) and not made and constant_node(value) is None


def _meeting(one: Tensor, other: Tensor, known: _Entries) -> Tensor | None:
    """The nearest value that both come through."""
    first: Tensor | None = one
    second: Tensor | None = other
    while first is not second and first is not None and second is not None:
        if known[first][1] >= known[second][1]:
            first = known[first][0]
        else:
            second = known[second][0]
    return first if first is second else None


def _above(end: Tensor, entries: _Entries, most: int) -> Iterator[Tensor]:
    """The values that all comes through that `end` is computed from, the nearest first."""
    one = entries.get(end, (None, 0))[0]
    for _ in range(most):
        if one is None:
            return
        yield one
        one = entries.get(one, (None, 0))[0]
