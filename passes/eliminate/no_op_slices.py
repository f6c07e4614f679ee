"""Cutting off nothing, padding with nothing, joining with nothing, picking and writing everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.analysis.constants import constant_of, constant_values
from graphopt.analysis.dim_bounds import at_least, less_or_equal, low
from graphopt.analysis.dims import Dim
from graphopt.analysis.matching import maker, only_reader, operand
from graphopt.ir import Graph, Node, Tensor
from graphopt.ir.dtypes import bits
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.eliminate.bypass import Facts, Finding, Reading, Same, bypass, number, opset

_BEYOND = (1 << 31) - 1  # no axis is longer: ONNX says to write the largest integer for "to the end"
_MEMORY = 1 << 47  # bytes that no tensor takes: all that a process can address
_MOST_INDICES = 1 << 16  # constant indices up to which it is looked whether they count up
_OLD_AXIS = 1  # along which a Concat joins that names none, as it may before opset 4
_FIRST_AXIS_INPUT = 10  # Slice takes its bounds as inputs from this version on


@dataclass(frozen=True)
class NoOpSlices(Pass):
    """Remove slices of everything, pads of nothing, joins with nothing, writes of all or nothing.

    What it does
        "slice": every axis is cut from its start or before to its end or beyond (to 2147483647, or to
        where no memory would hold the tensor: 128 TiB), in steps of 1; or all steps go forward and the
        result is provably as large as the input. "pad": nothing is added on any side. "split": there is
        one output. "concat": there is one input. "empty-input": a Concat has an input that is of size 0
        along its axis, and others: it reads only these. "nested": a Concat reads another one along the
        same axis, and nobody else does: it reads what that one reads. "gather": the indices count from
        0 to the end of the axis. "scatter": there are no indices, so the data come out as they are.
        "overwrite": a ScatterND without reduction writes every slice of the first axes, in order: the
        updates come out. Otherwise whoever read the output reads the input. Shapes are inferred,
        symbolic dims included. Main graph, bodies and functions.

    Example
        before: a = Slice(x, [0], [9223372036854775807])    b = Concat<axis=0>(a, e)    y = Relu(b)
        after:  y = Relu(x)    where e is float[0, 4]

    When not
        An end that is a symbolic size other than the axis' own may cut something off, so the node
        stays, as does a slice that goes backward. Of inputs that are all of size 0 a Concat keeps the
        first. A Split with several outputs stays even if all but one are empty. An input or an
        initializer cannot become an output of the graph.

    Contract
        EXACT. The operators copy, and what they copy is the whole input.

    Source
        ONNX operators: Slice (1, 10, 11, 13), Pad (2, 11, 13, 18 ...), Split, Concat, Gather, Scatter,
        ScatterElements, ScatterND (11, 13, 16, 18).
    """

    name = "no-op-slices"
    contract = Contract.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        bypass(graph, ctx, _FINDERS, lambda node, facts: _FINDERS[node.op](node, facts))


def _slice(node: Node, facts: Facts) -> Finding:
    value = operand(node, 0)
    if value is None:
        return None
    starts, ends = _bounds(node, 1, "starts", facts), _bounds(node, 2, "ends", facts)
    if starts is None or ends is None or len(starts) != len(ends):
        return None
    axes = _bounds(node, 3, "axes", facts, list(range(len(starts))))
    steps = _bounds(node, 4, "steps", facts, [1] * len(starts))
    if axes is None or steps is None or not all(at_least(step, 1) for step in steps):
        return None
    dims = facts.dims(value)
    whole = len(axes) == len(starts) == len(steps) and all(
        step == 1 and _whole(start, end, _dim(dims, axis), _longest(value, dims, axis, facts))
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True)
    )
    return Same("slice", value) if whole or _unchanged(node, value, facts) else None


def _unchanged(node: Node, value: Tensor, facts: Facts) -> bool:
    """Whether as much comes out as goes in: going forward, that can only be everything."""
    return facts.same_shape(value, node.outputs[0])


def _bounds(
    node: Node, index: int, name: str, facts: Facts, default: Sequence[Dim] | None = None
) -> Sequence[Dim] | None:
    """Starts, ends, axes or steps of a Slice; None where they are not known."""
    if opset(node) < _FIRST_AXIS_INPUT:
        given: Any = node.attrs.get(name, default)
        return given if isinstance(given, list) else None
    tensor = operand(node, index)
    return default if tensor is None else facts.list_of(tensor)


def _dim(dims: tuple[Dim, ...] | None, axis: Dim) -> Dim | None:
    if dims is None or not isinstance(axis, int) or not -len(dims) <= axis < len(dims):
        return None
    return dims[axis]


def _longest(value: Tensor, dims: tuple[Dim, ...] | None, axis: Dim, facts: Facts) -> int:
    """A length that an axis never has, because the other axes are so long that no memory would do."""
    if dims is None or not isinstance(axis, int):
        return _BEYOND
    slab = bits(facts.dtype(value)) // 8
    for place, dim in enumerate(dims):
        if place != axis % len(dims):
            slab *= low(dim) or 0  # an axis that may be empty makes the others as long as they like
    return min(_BEYOND, _MEMORY // slab) if slab else _BEYOND


def _whole(start: Dim, end: Dim, dim: Dim | None, longest: int) -> bool:
    """Whether an axis is kept from the first to the last element."""
    if start != 0 and not (isinstance(start, int) and start <= -_BEYOND):
        return False
    if isinstance(end, int) and end >= longest:
        return True
    return dim is not None and at_least(end, 0) and less_or_equal(dim, end) is True


def _pad(node: Node, facts: Facts) -> Finding:
    value, pads = operand(node, 0), None
    if opset(node) < 11:
        given = node.attrs.get("pads", node.attrs.get("paddings"))
        pads = given if isinstance(given, list) else None
    elif (tensor := operand(node, 1)) is not None:
        pads = facts.list_of(tensor)
    if value is None or pads is None or any(one != 0 for one in pads):
        return None
    return Same("pad", value)


def _split(node: Node, facts: Facts) -> Finding:
    value = operand(node, 0)
    return Same("split", value) if value is not None and len(node.outputs) == 1 else None


def _concat(node: Node, facts: Facts) -> Finding:
    if len(node.inputs) == 1:
        value = operand(node, 0)
        return None if value is None else Same("concat", value)
    axis = number(node, "axis", _OLD_AXIS)
    if axis is None:
        return None
    kept = [one for one in node.inputs if _dim(facts.dims(one), axis) != 0]
    kept = kept or list(node.inputs[:1])
    if len(kept) == len(node.inputs):
        return _flattened(node)
    return Reading("empty-input", tuple(kept)) if len(kept) > 1 else Same("empty-input", kept[0])


def _flattened(node: Node) -> Finding:
    """A Concat that does at once what the Concats do that only it reads; the last one takes in all."""
    if _outer(node) is not None:
        return None
    inputs, inner = list[Tensor](), list[Node]()
    pending = list(reversed(node.inputs))
    while pending:
        one = pending.pop()
        before = maker(one, "Concat")
        if before is None or _outer(before) is None:
            inputs.append(one)
        else:
            inner.append(before)
            pending.extend(reversed(before.inputs))
    return Reading("nested", tuple(inputs), tuple(inner)) if inner else None


def _outer(node: Node) -> Node | None:
    """The Concat along the same axis in the same graph that alone reads a Concat, if one does."""
    reader = only_reader(node.outputs[0])
    if reader is None or not reader.is_op("Concat") or reader.graph is not node.graph:
        return None
    axis = number(node, "axis", _OLD_AXIS)
    return reader if axis is not None and number(reader, "axis", _OLD_AXIS) == axis else None


def _gather(node: Node, facts: Facts) -> Finding:
    value, indices = operand(node, 0), operand(node, 1)
    axis = number(node, "axis", 0)
    if value is None or indices is None or axis is None or _few(indices) is None:
        return None
    held, dim = constant_values(indices), _dim(facts.dims(value), axis)
    if held is None or held.ndim != 1 or not isinstance(dim, int) or held.size != dim:
        return None
    counts = np.where(held < 0, held + dim, held)
    return Same("gather", value) if np.array_equal(counts, np.arange(dim)) else None


def _scatter(node: Node, facts: Facts) -> Finding:
    data, indices = operand(node, 0), operand(node, 1)
    if data is None or indices is None:
        return None
    dims = facts.dims(indices)
    if dims is None:
        return None
    if 0 in (dims[:-1] if node.op == "ScatterND" else dims):
        return Same("scatter", data)
    updates = operand(node, 2)
    if node.op != "ScatterND" or updates is None or node.attrs.get("reduction", "none") != "none":
        return None
    whole = facts.dims(data)
    held = constant_values(indices) if _few(indices) else None
    if held is None or whole is None or not facts.same_shape(data, updates):
        return None
    depth = held.shape[-1]
    front = whole[:depth]
    # Slices are written in order, each once: every place along the first axes, as np.ndindex goes.
    if held.shape[:-1] != front or not depth:
        return None
    grid = np.moveaxis(np.indices(held.shape[:-1]), 0, -1)
    counts = np.where(held < 0, held + np.array(held.shape[:-1]), held)
    return Same("overwrite", updates) if np.array_equal(counts, grid) else None


def _few(indices: Tensor) -> int | None:
    """How many constant indices there are; None when they are not constant, or too many to look at."""
    held = constant_of(indices)
    if held is not None:
        size = int(np.prod([int(one) for one in held.shape], dtype=np.int64))
        return size if 0 < size <= _MOST_INDICES else None
    values = constant_values(indices)
    return None if values is None else values.size


_FINDERS = {
    "Slice": _slice,
    "Pad": _pad,
    "Split": _split,
    "Concat": _concat,
    "Gather": _gather,
    "Scatter": _scatter,
    "ScatterElements": _scatter,
    "ScatterND": _scatter,
}
