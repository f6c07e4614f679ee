"""The stored tensors of a model, and which of them are weights of which operators.

A weight is an initializer, or the tensor of a Constant node, that an operator reads as its weight:
directly, through nodes that only move its elements, from inside a body that captures it, or from
inside a function that it is passed to. Whoever wants to store other values in its place has to
know everything that reads it; `Weight.obstacle` says, in a clause, what is in the way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from graphopt.analysis.movement import View, is_mover, moved
from graphopt.analysis.weight_axes import axes_of, is_weight_slot, role
from graphopt.ir import Constant, Function, Graph, Node, Tensor, Variable

_SHAPE_ONLY = ("Shape", "Size")  # readers that do not look at values


@dataclass(frozen=True, eq=False)
class Site:
    """One place where an operator reads a weight: input `slot` of `node`.

    `channel` and `inputs` are axes of the *stored* tensor (see `weight_axes`), None where what the
    operator means is not one axis of it. `groups` are the blocks of the input axis.
    """

    node: Node
    slot: int
    channel: int | None
    inputs: int | None
    groups: int = 1

    @property
    def is_table(self) -> bool:
        """Whether the operator looks rows up instead of multiplying."""
        return self.node.op == "Gather"


@dataclass(frozen=True, eq=False)
class Weight:
    """A stored tensor and everything that reads it.

    `constant` holds the values; `home` is the graph that it belongs to, `holder` the Constant node
    whose attribute it is (None for an initializer), `tensor` what the nodes read. `sites` are the
    places that read it as a weight; there may be none. `obstacle` is a clause that
    says why other values must not take its place, None when they may; `is_quantized` whether it
    is read by a QuantizeLinear or DequantizeLinear, so that a weight may lie behind that; `in_parts`
    whether operators read parts of it, put together in another order: then sites have no axes.
    """

    constant: Constant
    home: Graph
    holder: Node | None
    tensor: Tensor
    sites: tuple[Site, ...]
    obstacle: str | None
    is_quantized: bool = False
    in_parts: bool = False

    @property
    def subject(self) -> Node | Tensor:
        """What a remark about the weight is about."""
        return self.constant if self.holder is None else self.holder

    @property
    def names(self) -> tuple[str, ...]:
        """Names that a user may know it by: its own, and those of the operators that read it."""
        own = (self.tensor.name,) if self.holder is None else (self.tensor.name, self.holder.label)
        return tuple(dict.fromkeys((*own, *(site.node.label for site in self.sites))))

    @property
    def elements(self) -> int:
        """How many elements it has."""
        return math.prod(int(size) for size in self.constant.shape)


def weights(graph: Graph, parts: bool = False) -> list[Weight]:
    """Every stored tensor of the model that `graph` belongs to: initializers, defaults of
    overridable inputs, and dense tensors of Constant nodes, in bodies and functions too.

    With `parts`, what is read through Slice, Split and Concat is a weight, too, with `in_parts`.

    Reads no values but those of shapes and axes. Time is linear in nodes and readers.
    """
    functions = {(one.domain, one.name, one.overload): one for one in graph.root.functions}
    found = []
    for scope in graph.scopes():
        for constant in scope.initializers.declared():
            default_of = constant.__dict__.get("default_of")
            found.append(_weight(constant, scope, None, default_of or constant, functions, parts))
        for node in scope.nodes:
            value = node.attrs.get("value") if node.is_op("Constant") and node.outputs else None
            if isinstance(value, Constant):
                found.append(_weight(value, scope, node, node.outputs[0], functions, parts))
    return found


_Functions = dict[tuple[str, str, str], Function]


def _weight(
    constant: Constant, home: Graph, holder: Node | None, tensor: Tensor, functions: _Functions, parts: bool
) -> Weight:
    tracer = _Tracer(functions, parts)
    tracer.follow(tensor, View.whole([int(size) for size in constant.shape]))
    obstacle = tracer.obstacle
    if isinstance(tensor, Variable) and holder is None:
        obstacle = "it is also a graph input, whose value callers may give"
    return Weight(constant, home, holder, tensor, tuple(tracer.sites), obstacle, tracer.quantized, tracer.in_parts)


@dataclass
class _Tracer:
    """Finds everything that reads one stored tensor."""

    functions: _Functions
    parts: bool = False
    sites: list[Site] = field(default_factory=list)
    obstacle: str | None = None
    quantized: bool = False
    in_parts: bool = False

    def follow(self, stored: Tensor, view: View) -> None:
        """Visit the readers of `stored`, and of what is made of it by moving its elements."""
        pending: list[tuple[Tensor, View | None]] = [(stored, view)]
        seen: set[tuple[Tensor, View | None]] = set()
        while pending:
            tensor, view_of = pending.pop()
            if (tensor, view_of) in seen:
                continue
            seen.add((tensor, view_of))
            if tensor.graph_outputs:
                self.blocked(_output(tensor))
            further: list[tuple[Tensor, View | None]] = []
            for node in tensor.readers:
                for slot, read in enumerate(node.inputs):
                    if read is tensor:
                        further += self.visit(node, slot, view_of)
            pending.extend(reversed(further))

    def visit(self, node: Node, slot: int, view: View | None) -> list[tuple[Tensor, View | None]]:
        """Account for one reader; returns the tensors to follow from there."""
        function = self.functions.get((node.domain or "", node.op, _overload(node)))
        if function is not None:
            return [(formal, view) for formal in function.inputs[slot : slot + 1]]
        if slot == 0 and is_mover(node):
            return [(node.outputs[0], None if view is None else moved(node, view))]
        if slot == 0 and node.is_op("Cast"):
            return [(node.outputs[0], view)]
        if self.parts and (node.is_op("Concat") or (slot == 0 and node.is_op("Slice", "Split"))):
            self.in_parts = True
            return [(output, None) for output in node.outputs if output.name]
        if is_weight_slot(node, slot):
            self.sites.append(_site(node, slot, view))
        elif slot == 0 and node.is_op("QuantizeLinear", "DequantizeLinear"):
            self.quantized = True
            self.blocked(f"it is quantized already, by {node.op} {node.label!r}")
        elif not node.is_op(*_SHAPE_ONLY):
            self.blocked(_reader(node, slot))
        return []

    def blocked(self, why: str) -> None:
        self.obstacle = self.obstacle or why


def _site(node: Node, slot: int, view: View | None) -> Site:
    if view is None:
        return Site(node, slot, None, None)
    axes = axes_of(node, slot, view.shape)
    return Site(node, slot, view.stored_axis(axes.channel), view.stored_axis(axes.inputs), axes.groups)


def _overload(node: Node) -> str:
    return node.proto.overload if node.proto is not None else ""


def _output(tensor: Tensor) -> str:
    places = [graph.path for graph in tensor.graph_outputs]
    if "" in places:
        return f"{tensor.name!r}, which holds its values, is a graph output"
    return f"{tensor.name!r}, which holds its values, is an output of {places[0]}"


def _reader(node: Node, slot: int) -> str:
    known = role(node, slot)
    if known:
        return f"it is the {known} of {node.op} {node.label!r}"
    return f"{node.op} {node.label!r} reads it, and {node.op} is not an operator with weights"
