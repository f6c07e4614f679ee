"""How a pass takes out nodes that do nothing, whatever the reason is that they do nothing.

A pass gives the operators that it looks at and a finder: a function from a node to what can be done
about it. The sweep asks whether that can be done here, announces it, does it, and leaves no litter.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from graphopt.analysis.annotations import Annotations
from graphopt.analysis.constants import constant_node, constant_of, constant_values
from graphopt.analysis.dims import Dim
from graphopt.analysis.liveness import is_unread
from graphopt.analysis.shapes import Shapes
from graphopt.analysis.spelling import longer_names
from graphopt.ir import Constant, Graph, Node, Tensor
from graphopt.ir.dtypes import onnx_dtype
from graphopt.pipeline.protocol import Context


@dataclass(frozen=True)
class Same:
    """The node's only output is `value`, bit for bit or up to what the pass promises.

    `inner` are nodes that the pattern went through: they go too, where nobody else reads them.
    """

    rule: str
    value: Tensor
    inner: tuple[Node, ...] = ()


@dataclass(frozen=True)
class Reading:
    """The node computes the same from these inputs."""

    rule: str
    inputs: tuple[Tensor, ...]
    inner: tuple[Node, ...] = ()


@dataclass(frozen=True)
class Near:
    """The pattern is there, but a condition failed; `why` is a clause."""

    rule: str
    why: str


Finding = Same | Reading | Near | None


class Facts:
    """What is known of values in one sweep; shapes are only inferred once somebody asks."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    @cached_property
    def shapes(self) -> Shapes:
        return self._ctx.shapes

    def dtype(self, tensor: Tensor) -> int:
        """ONNX's number of the element type, 0 when unknown."""
        held = constant_of(tensor)
        if held is not None:
            return held.onnx_dtype
        stated = constant_values(tensor)
        return onnx_dtype(stated.dtype) if stated is not None else self.shapes.onnx_dtype(tensor)

    def dims(self, tensor: Tensor) -> tuple[Dim, ...] | None:
        """The dims as expressions, None when not even the rank is known."""
        held = constant_of(tensor)
        if held is not None:
            return tuple(int(one) for one in held.shape)
        stated = constant_values(tensor)
        return stated.shape if stated is not None else self.shapes.dims(tensor)

    def same_shape(self, one: Tensor, other: Tensor) -> bool:
        """Whether two values have provably the same shape."""
        if one is other:
            return True
        dims = self.dims(one)
        return dims is not None and dims == self.dims(other)

    def list_of(self, tensor: Tensor) -> list[Dim] | None:
        """The elements of a small integer tensor of one axis, as far as they are known."""
        values = self.shapes.value(tensor)
        return None if values is None or values.ndim != 1 else list(values)

    def keeps_shape(self, kept: Tensor, *others: Tensor) -> bool:
        """Whether `kept` comes out in its own shape when it is broadcast with each of `others`."""
        for other in others:
            dims = self.dims(other)
            if dims == () or other is kept:
                continue
            whole = self.dims(kept)
            if dims is None or whole is None or len(dims) > len(whole):
                return False
            behind = whole[len(whole) - len(dims) :]
            if any(dim != 1 and dim != goal for dim, goal in zip(dims, behind, strict=True)):
                return False
        return True


Finder = Callable[[Node, Facts], Finding]


def opset(node: Node) -> int:
    """The version of ONNX's operators that a node follows."""
    return node.graph.opset_of() if node.graph is not None else 0


def number(node: Node, name: str, default: int) -> int | None:
    """An integer attribute; None where the caller of a function decides it."""
    value = node.attrs.get(name, default)
    return value if isinstance(value, int) else None


def bypass(graph: Graph, ctx: Context, ops: Collection[str], find: Finder) -> None:
    """Go over the model until the finder finds nothing more that can be done."""
    work = _Work(graph, ctx, frozenset(ops), find)
    while work.sweep():
        pass
    for node, near in work.stayed.items():
        if node.graph is not None:
            ctx.missed(near.rule, node, near.why)


class _Work:
    def __init__(self, graph: Graph, ctx: Context, ops: frozenset[str], find: Finder) -> None:
        self.graph, self.ctx, self.ops, self.find = graph, ctx, ops, find
        self.annotations = Annotations(graph)
        self.stayed: dict[Node, Near] = {}

    def sweep(self) -> bool:
        """Go over the model once; whether anything was rewritten."""
        self.stayed, rewritten, facts = {}, False, Facts(self.ctx)
        for scope in self.graph.scopes():
            for node in [one for one in scope.nodes if one.op in self.ops and one.is_standard]:
                if node.graph is None or not node.outputs or not node.outputs[0].name:
                    continue
                found = self.find(node, facts)
                if isinstance(found, Same):
                    found = self.obstacle(scope, node, found) or found
                elif isinstance(found, Reading):
                    found = self.annotated(found) or found
                if isinstance(found, Near):
                    self.stayed[node] = found
                elif found is not None and self.ctx.rewrite(found.rule, node):
                    self.carry_out(scope, node, found)
                    rewritten = True
        return rewritten

    def obstacle(self, scope: Graph, node: Node, found: Same) -> Near | None:
        old, new = node.outputs[0], found.value
        why = self.annotations.about(old) or scope.why_not_replace(old, new)
        own = len(node.op) + sum(len(one.name.encode()) + 2 for one in (*node.inputs, *node.outputs))
        if why is None and longer_names(old, new) > own:
            why = f"the file would grow: its readers would spell out the longer name {new.name!r}"
        return None if why is None else Near(found.rule, why)

    def annotated(self, found: Reading) -> Near | None:
        """An annotation that is about a value that would go."""
        values = (output for inner in found.inner for output in inner.outputs)
        whys = (self.annotations.about(one) for one in values)
        return next((Near(found.rule, why) for why in whys if why is not None), None)

    def carry_out(self, scope: Graph, node: Node, found: Same | Reading) -> None:
        read = list(dict.fromkeys(node.inputs))
        if isinstance(found, Same):
            scope.replace_uses(node.outputs[0], found.value)
            scope.remove(node)
        else:
            reread(node, found.inputs)
        for inner in found.inner:
            if inner.graph is not None and is_unread(inner) and self._free(inner.outputs):
                read += inner.inputs
                inner.graph.remove(inner)
        self.drop_constants(read)

    def drop_constants(self, read: Iterable[Tensor]) -> None:
        """Take out constants of which a rewritten node was the last reader."""
        for tensor in dict.fromkeys(read):
            if tensor.is_read or not self._free([tensor]):
                continue
            maker = constant_node(tensor)
            if maker is not None and maker.graph is not None:
                maker.graph.remove(maker)
            home: Graph | None = tensor.__dict__.get("home")
            if isinstance(tensor, Constant) and home is not None:
                home.remove_initializer(tensor)

    def _free(self, tensors: Iterable[Tensor]) -> bool:
        return all(self.annotations.needs(one) is None for one in tensors)


def reread(node: Node, inputs: Sequence[Tensor]) -> None:
    """Let the slots of `node` read `inputs`, of which there may be fewer than before, or more."""
    assert node.graph is not None, "a node that is rewritten is in a graph"
    del node.inputs[len(inputs) :]
    for index, old in enumerate(list(node.inputs)):
        if old is not inputs[index]:
            node.graph.rewire(node, index, inputs[index])
    node.inputs.extend(inputs[len(node.inputs) :])
