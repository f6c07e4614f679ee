"""Tables that Gathers look rows up in: what they are stored as, and storing fewer rows of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphopt.analysis.constants import constant_of
from graphopt.analysis.weight_axes import gather_axis, role
from graphopt.ir import Constant, Graph, Node, Tensor, Variable

Array = np.ndarray[Any, Any]

_BLENDS = ("Mul", "Add", "Sub", "Div")
_PROJECTS = ("MatMul", "Gemm", "Transpose")


class Untrimmable(Exception):
    """The rows of a table cannot be taken apart; the text says why, in a clause."""


@dataclass(eq=False)
class Table:
    """A table of `rows` rows and the Gathers that look them up. `leaves` are the stored tensors with one row for
    each of its rows, `inner` the values that are computed from them row by row."""

    data: Tensor
    rows: int
    gathers: list[Node] = field(default_factory=list)
    leaves: dict[Tensor, None] = field(default_factory=dict)
    inner: dict[Variable, None] = field(default_factory=dict)
    makers: dict[Node, None] = field(default_factory=dict)

    @property
    def is_plain(self) -> bool:
        """Whether it is stored as it is read."""
        return not self.inner

    @property
    def bytes(self) -> int:
        """What its rows take in a file."""
        return sum(_held(one).nbytes for one in self.leaves)

    @property
    def names(self) -> list[str]:
        """Names that a user may know it by."""
        return [one.name for one in self.leaves] + [node.label for node in self.gathers]

    def trim(self, rows: Array, more: Mapping[Tensor, Array]) -> None:
        """Keep `rows` of it, in that order, and add those in `more` for a stored tensor."""
        for leaf in self.leaves:
            values = _held(leaf).values[rows]
            if leaf in more:
                values = np.concatenate([values, more[leaf].astype(values.dtype)])
            _graph_of(leaf, self).set_values(leaf, np.ascontiguousarray(values))
        for value in self.inner:
            graph = value.inputs[0].graph
            assert graph is not None, "a node that makes a table is in a graph"
            graph.narrow(value, 0, rows)  # nothing can be added to what is computed


def tables(graph: Graph) -> list[Table | tuple[Node, str]]:
    """The tables of a model, in bodies too; with the reason for those whose rows cannot be taken apart."""
    found: dict[Tensor, Table] = {}
    for scope in graph.scopes():
        for node in scope.nodes:
            if not node.is_op("Gather") or len(node.inputs) != 2:
                continue
            data = node.inputs[0]
            shape = _shape(data)
            if shape and gather_axis(node, len(shape)) == 0 and _shape(node.inputs[1]) is None:
                found.setdefault(data, Table(data, shape[0])).gathers.append(node)
    made = list[Table | tuple[Node, str]]()
    for table in found.values():
        try:
            _trace(table, table.data)
            _check(table)
            made.append(table)
        except Untrimmable as why:
            made.append((table.gathers[0], str(why)))
    return made


def _shape(tensor: Tensor) -> tuple[int, ...] | None:
    """The shape of a tensor that is stored, or computed from stored ones in a way that keeps rows apart."""
    held = constant_of(tensor)
    if held is not None:
        return tuple(int(dim) for dim in held.shape)
    node: Node | None = tensor.inputs[0] if len(tensor.inputs) == 1 else None
    if node is None or not node.inputs:
        return None
    if node.is_op("Cast", "DequantizeLinear"):
        return _shape(node.inputs[0])
    if node.is_op(*_BLENDS) and len(node.inputs) == 2:
        shapes = [_shape(one) for one in node.inputs]
        known = [one for one in shapes if one is not None]
        return np.broadcast_shapes(*known) if len(known) == 2 and _fit(*known) else None
    if node.is_op("Gather") and len(node.inputs) == 2:
        table, places = _shape(node.inputs[0]), _shape(node.inputs[1])
        axis = None if table is None else gather_axis(node, len(table))
        if table is None or places is None or axis is None:
            return None
        return (*table[:axis], *places, *table[axis + 1 :])
    return None


def _fit(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    pairs = zip(reversed(one), reversed(other), strict=False)
    return all(a == b or 1 in (a, b) for a, b in pairs)


def _trace(table: Table, tensor: Tensor) -> None:
    """Find what has a row for each row of `tensor`, which is part of a table. Raises Untrimmable."""
    if tensor in table.leaves or tensor in table.inner:
        return
    if constant_of(tensor) is not None:
        table.leaves[tensor] = None
        return
    assert isinstance(tensor, Variable)
    table.inner[tensor] = None
    node: Node = tensor.inputs[0]
    table.makers[node] = None
    shape = _shape(tensor) or ()
    for slot, read in enumerate(node.inputs):
        rows = _has_rows(node, slot, _shape(read), shape)
        if rows is None:
            raise Untrimmable(
                f"its rows share what {node.op} {node.label!r} reads as {role(node, slot) or 'an operand'}"
            )
        if rows:
            _trace(table, read)


def _has_rows(node: Node, slot: int, shape: tuple[int, ...] | None, made: tuple[int, ...]) -> bool | None:
    """Whether an operand has the rows of what a node makes along its first axis; None where that cannot be told."""
    if shape is None:
        return False if node.op == "DequantizeLinear" and slot == 2 and not node.inputs[2].name else None
    if node.op == "Cast" or (node.op == "DequantizeLinear" and slot == 0):
        return True
    if node.op == "DequantizeLinear":
        axis = int(node.attrs.get("axis", 1)) % max(len(made), 1)
        if len(shape) == len(made) and int(node.attrs.get("block_size", 0)):
            return shape[0] == made[0] if axis != 0 else None
        return len(shape) == 1 and shape[0] == made[0] and axis == 0 and made[0] > 1
    if node.op == "Gather":
        looked_up = gather_axis(node, len(_shape(node.inputs[0]) or ()))
        return slot == (1 if looked_up == 0 else 0)
    return len(shape) == len(made) and shape[0] == made[0]


def _check(table: Table) -> None:
    """Raises Untrimmable where something else reads a part of the table, or it may be overridden."""
    readers = {*table.gathers, *table.makers}
    for tensor in (*table.leaves, *table.inner):
        if tensor.graph_outputs:
            raise Untrimmable(f"{tensor.name!r} is a graph output")
        for node in tensor.readers:
            if node.is_op(*_PROJECTS) and node not in readers:
                raise Untrimmable(
                    f"{node.op} {node.label!r} reads it, too: it gives results for every row, as a projection onto "
                    "the vocabulary does"
                )
            if node not in readers:
                raise Untrimmable(f"{node.op} {node.label!r} reads {tensor.name!r}, too")
        if tensor is table.data and any(node.inputs[1] is tensor for node in table.gathers):
            raise Untrimmable("it is looked up by itself")


def _held(tensor: Tensor) -> Constant:
    held = constant_of(tensor)
    assert held is not None, "leaves are stored"
    return held


def _graph_of(leaf: Tensor, table: Table) -> Graph:
    node: Iterable[Node] = (*leaf.inputs, *table.gathers)
    graph = next(one.graph for one in node)
    assert graph is not None, "a Gather that is found is in a graph"
    return graph
