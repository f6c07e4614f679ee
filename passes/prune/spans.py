"""Parts of a graph between two values of one shape, of which the first can stand for the second."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from graphopt.analysis.annotations import Annotations
from graphopt.analysis.constants import constant_node
from graphopt.analysis.cost import macs_of
from graphopt.analysis.liveness import Effects
from graphopt.analysis.matching import only_reader
from graphopt.analysis.shapes import Shapes
from graphopt.ir import Constant, Graph, Node, Tensor, Variable
from graphopt.ir.order import reads

_FLOATS = (1, 10, 11, 16)  # float32, float16, float64, bfloat16
_FAR = 512  # nodes that are looked at on the way back to where a block begins
_ACTIVATIONS = ("Relu", "Clip", "LeakyRelu")
_SETTLES = (
    "LayerNormalization", "RMSNormalization", "BatchNormalization", "InstanceNormalization", "GroupNormalization",
    *_ACTIVATIONS,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Span:
    """What lies between two values of one shape. Where `start` stands for `end`, the `nodes` (in the order of the
    graph) have no reader left. `macs` are their multiply-accumulates; a layer is of several `parts`."""

    graph: Graph
    start: Tensor
    end: Tensor
    nodes: tuple[Node, ...]
    macs: int
    parts: tuple[Span, ...] = ()

    @property
    def subject(self) -> Node:
        """The node that a remark is about: the one that makes the end."""
        node: Node = self.end.inputs[0]
        return node


def residual_spans(graph: Graph, shapes: Shapes) -> list[Span]:
    """The residual blocks of all graphs of a model, and layers of one or two of them with what settles their sum.

    A block is a sum of two values of its own shape, of which one comes from the other, or both from a third. It
    goes where the other one (of two that come from a third, the one with fewer multiply-accumulates) stands for the
    sum. What is behind the sum, a LayerNormalization for one, stays; layers go with it.
    """
    found = list[Span]()
    for scope in graph.scopes():
        blocks = list(_blocks(scope, shapes))
        found += blocks
        seen = {(one.start, one.end) for one in blocks}
        after = {one.start: one for one in blocks}
        for first in blocks:
            second = after.get(_settled(first.end))
            ends: dict[Tensor, tuple[Span, ...]] = {_normalized(first.end): (first,)}
            if second is not None:
                ends |= {second.end: (first, second), _normalized(second.end): (first, second)}
            for end, parts in ends.items():
                if (first.start, end) not in seen and alike(first.start, end, shapes):
                    seen.add((first.start, end))
                    found += _span(scope, first.start, end, shapes, parts)
    return found


def _blocks(scope: Graph, shapes: Shapes) -> Iterator[Span]:
    for node in scope.nodes:
        if not node.is_op("Add", "Sum") or len(node.inputs) != 2 or not node.outputs:
            continue
        end, (one, other) = node.outputs[0], node.inputs
        if one is other or not (alike(one, end, shapes) and alike(other, end, shapes)):
            continue
        behind_one, behind_other = _behind(one, scope), _behind(other, scope)
        if one in behind_other or other in behind_one:
            start = one if one in behind_other else other
            spans = list(_span(scope, start, end, shapes))
        elif behind_one.intersection(behind_other):
            spans = [span for start in (one, other) for span in _span(scope, start, end, shapes)]
            spans = sorted(spans, key=lambda span: -span.macs)[:1]
        else:
            continue
        yield from spans


def _span(scope: Graph, start: Tensor, end: Tensor, shapes: Shapes, parts: tuple[Span, ...] = ()) -> Iterator[Span]:
    """The part between two values, if there are multiply-accumulates in it."""
    nodes = dead_without(scope, end, start)
    macs = macs_of(nodes, shapes)
    if macs and isinstance(start, Variable):
        yield Span(scope, start, end, nodes, macs, parts)


def alike(one: Tensor, other: Tensor, shapes: Shapes) -> bool:
    """Whether two values have the same shape in every run and the same type, of floating point."""
    dims = shapes.dims(one)
    known = isinstance(one, Variable) and isinstance(other, Variable) and bool(dims) and is_float(one, shapes)
    return known and shapes.onnx_dtype(one) == shapes.onnx_dtype(other) and dims == shapes.dims(other)


def is_float(value: Tensor, shapes: Shapes) -> bool:
    """Whether a value is of floating point."""
    return shapes.onnx_dtype(value) in _FLOATS


def _behind(value: Tensor, scope: Graph) -> set[Tensor]:
    """The values of a graph that `value` is computed from, as far as one looks."""
    found, pending, left = set[Tensor](), [value], _FAR
    while pending and left > 0:
        one = pending.pop()
        for node in one.inputs:
            if node.graph is scope:
                left -= 1
                new = [read for read in node.inputs if isinstance(read, Variable) and read not in found]
                new = [read for read in new if constant_node(read) is None and read.name]
                found.update(new)
                pending.extend(new)
    return found


def _settled(end: Tensor) -> Tensor:
    """The value behind the normalization or activation that alone reads a sum, else the sum."""
    reader = only_reader(end)
    while reader is not None and reader.is_op(*_SETTLES) and reader.inputs[0] is end and reader.outputs:
        end = reader.outputs[0]
        reader = only_reader(end)
    return end


def _normalized(end: Tensor) -> Tensor:
    """The same, where a normalization is on the way: to leave an activation away as well is hardly another trial."""
    settled = _settled(end)
    one = settled
    while one is not end and one.inputs[0].op in _ACTIVATIONS:
        one = one.inputs[0].inputs[0]
    return end if one is end else settled


def dead_without(scope: Graph, end: Tensor, start: Tensor | None) -> tuple[Node, ...]:
    """The nodes of a graph that nobody needs once what reads `end` reads something else, and `start` is still read."""
    if len(end.inputs) != 1:
        return ()
    effects = Effects(scope.root)
    dead, pending = set[Node](), list[Node](end.inputs)
    while pending:
        node = pending.pop()
        if node in dead or node.graph is not scope or effects.of(node) is not None:
            continue
        gone = all(
            one is end
            or (one is not start and not one.graph_outputs and all(_owner(r, scope) in dead for r in one.readers))
            for one in node.outputs
            if one.name
        )
        if gone:
            dead.add(node)
            pending.extend(maker for read in reads(node) for maker in read.inputs)
    return tuple(node for node in scope.nodes if node in dead)


def _owner(node: Node, scope: Graph) -> Node | None:
    """The node of `scope` that a node is, or is in a body of."""
    one: Node | None = node
    while one is not None and one.graph is not scope:
        graph: Graph | None = one.graph
        one = graph.parent if graph is not None and isinstance(graph.parent, Node) else None
    return one


def why_not_bypassed(graph: Graph, span: Span) -> str | None:
    """Why the value at the end of a span has to be made by what makes it, in a clause."""
    annotation = Annotations(graph).about(span.end)
    if annotation is not None:
        return annotation
    return "it is an output of more than one graph" if len(span.end.graph_outputs) > 1 else None


def bypass(span: Span, value: Tensor) -> None:
    """Let everything that reads the end of a span read `value`, and take out the nodes that nobody reads then."""
    scope, read = span.graph, list[Tensor]()
    if scope.why_not_replace(span.end, value) is not None:  # an input for an output, for one
        made = Node("Identity", scope.fresh_name("Identity"), {}, [value], [scope.variable("kept")])
        value = scope.insert(made, before=span.subject).outputs[0]
    scope.replace_uses(span.end, value)
    for node in reversed(span.nodes):
        if node.graph is not None and not any(one.name and one.is_read for one in node.outputs):
            read += reads(node)
            scope.remove(node)
    drop_unread(scope, read)


def drop_unread(graph: Graph, tensors: Iterable[Tensor]) -> None:
    """Take out the constants among some tensors that nobody reads any more."""
    annotations = Annotations(graph)
    for tensor in dict.fromkeys(tensors):
        if tensor.is_read or annotations.needs(tensor) is not None:
            continue
        maker = constant_node(tensor)
        if maker is not None and maker.graph is not None:
            maker.graph.remove(maker)
        home: Graph | None = tensor.__dict__.get("home")
        if isinstance(tensor, Constant) and home is not None:
            home.remove_initializer(tensor)
