"""How one node can do what a view of a view does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from graphopt.analysis.annotations import Annotations
from graphopt.analysis.file_bytes import described_bytes, plain_bytes
from graphopt.analysis.matching import integers
from graphopt.analysis.views import (
    RESHAPES,
    Dims,
    as_permutation,
    composed,
    is_view,
    moves_only_ones,
    new_axes,
    permutation,
    targets,
    viewed,
)
from graphopt.ir import Node, Tensor
from graphopt.ir.dtypes import MOST_AXES
from passes.layout.facts import Facts
from passes.layout.integer_lists import IntegerLists

SHAPE_STEM, AXES_STEM = "shape", "axes"


@dataclass(frozen=True)
class Plan:
    """What becomes of a reader of a view, when it reads what the view reads.

    `op` is "" where the reader goes and its own readers read the source; `values` are the second
    input of the new node, None where `keep` says that the second input stays, or there is none.
    """

    op: str
    attrs: Mapping[str, Any] = field(default_factory=dict)
    values: list[int] | None = None
    keep: bool = False
    growth: int = 0
    """Bytes by which the file grows, a new constant included, and one that only the reader read."""
    reused: Tensor | None = None
    """The constant that the new node reads where the model has it already."""


class Planner:
    """Plans for the views of one model. Dims of views are computed along the chain, so that they are
    known relative to its source also where nothing else is."""

    def __init__(self, facts: Facts, lists: IntegerLists, annotations: Annotations) -> None:
        self.facts, self.lists, self.annotations = facts, lists, annotations
        self._dims: dict[Tensor, Dims | None] = {}

    def dims(self, tensor: Tensor) -> Dims | None:
        """The dims of a value, through the views that make it."""
        chain = [tensor]
        while chain[-1] not in self._dims and (made := _view_of(chain[-1])) is not None and len(chain) < 1 << 16:
            chain.append(made.inputs[0])
        for one in reversed(chain):
            if one in self._dims:
                continue
            node = _view_of(one)
            source = None if node is None else self._dims.get(node.inputs[0])
            found = viewed(node, source) if node is not None and source is not None else None
            known = self.facts.dims(one) if found is None else found
            self._dims[one] = None if known is None or len(known) > MOST_AXES else known
        return self._dims[tensor]

    def plan(self, first: Node, second: Node) -> Plan | str | None:
        """How `second`, a view of the view `first`, can read what `first` reads: or in a clause why it
        cannot, or None where the two have nothing to do with each other."""
        source, result = first.inputs[0], second.outputs[0]
        before, after = self.dims(source), self.dims(result)
        if before is not None and before == after and self._is_straight(first, second, before):
            gone = self._gone(second, source, result)
            if gone is not None:
                return gone
        if before is None:
            return self._kept(first, second)
        order = self._order(first, second, before)
        if order is not None:
            if order == list(range(len(order))):
                return self._gone(second, source, result) or self._reshape(first, second, before, after)
            return self._plan(second, source, "Transpose", {"perm": order}, None)
        first_flat, second_flat = self._is_flat(first), self._is_flat(second)
        if first_flat and second_flat:
            return self._reshape(first, second, before, after)
        return None

    def _is_straight(self, first: Node, second: Node, dims: Dims) -> bool:
        """Whether the two views together leave the elements in their order."""
        if self._is_flat(first) and self._is_flat(second):
            return True
        order = self._order(first, second, dims)
        return order is not None and order == list(range(len(order)))

    def _is_flat(self, node: Node) -> bool:
        """Whether a view keeps the row-major order of the elements."""
        if node.op in RESHAPES:
            return True
        dims = self.dims(node.inputs[0])
        order = None if dims is None else permutation(node, len(dims))
        return dims is not None and order is not None and moves_only_ones(order, dims)

    def _order(self, first: Node, second: Node, before: Dims) -> list[int] | None:
        """The permutation that the two views are together, at least one of them a Transpose."""
        if first.op != "Transpose" and second.op != "Transpose":
            return None
        one, other = self._axes(first), self._axes(second)
        return None if one is None or other is None or len(one) != len(before) else composed(one, other)

    def _axes(self, node: Node) -> list[int] | None:
        dims = self.dims(node.inputs[0])
        if dims is None:
            return None
        if node.op == "Transpose":
            return permutation(node, len(dims))
        after = self.dims(node.outputs[0])
        return None if after is None else as_permutation(dims, after)

    def _gone(self, second: Node, source: Tensor, result: Tensor) -> Plan | None:
        scope = second.graph
        assert scope is not None, "a node that is planned for is in a graph"
        if self.annotations.about(result) is not None or scope.why_not_replace(result, source) is not None:
            return None
        if result.graph_outputs:
            slots = len(source.outputs) + 1
            growth = (len(result.name.encode()) - len(source.name.encode())) * slots
        else:
            growth = (len(source.name.encode()) - len(result.name.encode())) * len(result.outputs)
        freed = sum(self.lists.freed(one, second) for one in second.inputs[1:])
        return Plan("", growth=growth - plain_bytes(second) - freed)

    def _kept(self, first: Node, second: Node) -> Plan | str | None:
        """A Reshape whose target means the same for what `first` reads."""
        if second.op != "Reshape" or first.op not in RESHAPES:
            return None
        wanted = integers(second, 1, "shape")
        if wanted is None:
            return "its target is only known at run time"
        if 0 in wanted and not second.attrs.get("allowzero", 0):
            return f"the dims of {first.inputs[0].name!r} are not known"
        return self._rewired(first, second)

    def _rewired(self, first: Node, second: Node) -> Plan:
        growth = len(first.inputs[0].name.encode()) - len(first.outputs[0].name.encode())
        return Plan(second.op, keep=True, growth=growth)

    def _reshape(self, first: Node, second: Node, before: Dims, after: Dims | None) -> Plan | str | None:
        found: list[Plan] = []
        scope, source = second.graph, first.inputs[0]
        assert scope is not None, "a node that is planned for is in a graph"
        between = self.dims(first.outputs[0])
        wanted = integers(second, 1, "shape") if second.op == "Reshape" else None
        if wanted is not None and between is not None:
            copied = [] if second.attrs.get("allowzero", 0) else [at for at, size in enumerate(wanted) if size == 0]
            if all(at < len(before) and at < len(between) and before[at] == between[at] for at in copied):
                found.append(self._rewired(first, second))
        if after is None:
            return found[0] if found else f"the dims of {second.outputs[0].name!r} are not known"
        opset = scope.opset_of()
        added, taken = new_axes(before, after), new_axes(after, before)
        for op, axes in (("Unsqueeze", added), ("Squeeze", taken)):
            if axes is not None:
                attrs, values = ({"axes": axes}, None) if opset < 13 else ({}, axes)
                found.append(self._plan(second, source, op, attrs, values, AXES_STEM))
        if opset >= 5:
            found += [self._plan(second, source, "Reshape", {}, one, SHAPE_STEM) for one in targets(before, after)]
        if not found:
            shape = ", ".join(map(str, after))
            return f"no constant target makes [{shape}] of [{', '.join(map(str, before))}] in every run"
        return min(found, key=lambda one: one.growth)

    def _plan(
        self, second: Node, source: Tensor, op: str, attrs: dict[str, Any], values: list[int] | None, stem: str = ""
    ) -> Plan:
        scope = second.graph
        assert scope is not None, "a node that is planned for is in a graph"
        names = [source.name, second.outputs[0].name]
        cost, held = 0, None
        if values is not None:
            held = self.lists.find(scope, values)
            names.append(held.name if held is not None else f"{stem}_0000")
            cost = self.lists.cost(scope, values, stem)
        cost += described_bytes(op, names, attrs, second.name)
        freed = sum(self.lists.freed(one, second) for one in second.inputs[1:] if one is not held)
        return Plan(op, attrs, values, growth=cost - plain_bytes(second) - freed, reused=held)


def _view_of(tensor: Tensor) -> Node | None:
    """The view that makes a value."""
    if len(tensor.inputs) != 1:
        return None
    node: Node = tensor.inputs[0]
    return node if is_view(node) else None


__all__ = ["AXES_STEM", "SHAPE_STEM", "Plan", "Planner"]
