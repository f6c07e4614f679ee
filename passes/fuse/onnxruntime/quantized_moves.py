"""Values between DequantizeLinear and QuantizeLinear that only move."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.analysis.annotations import Annotations
from graphopt.analysis.matching import maker, only_reader
from graphopt.ir import Graph, Node, Tensor
from graphopt.ir.supersede import remove_all, supersede
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.fuse.onnxruntime.activations import Activation, activation
from passes.fuse.onnxruntime.grids import Grid, grid

_MOVES = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Gather", "Expand", "Tile", "MaxPool")
_LONGEST = 16  # moves in a row that are looked at
_POOLED = 12  # the version since which MaxPool takes integers
_BOUNDS = ("Clip", "Relu")


@dataclass(frozen=True)
class QuantizedMoves(Pass):
    """Move quantized values as integers, and drop bounds that the integers keep anyway.

    What it does
        Rule move: DequantizeLinear, then some of Transpose, Reshape, Squeeze, Unsqueeze, Flatten, Slice,
        Gather, Expand, Tile and (since opset 12) MaxPool, then QuantizeLinear on the very same grid (one
        constant scale and zero point of 8 bits): the integers are moved themselves. Rule bound: with a
        Clip or Relu in between whose bounds the grid does not leave, all three go. Rule bound-before: so
        does a Clip or Relu that only a QuantizeLinear reads, where everything beyond the bounds becomes
        the same integer. Rule pair: and DequantizeLinear and QuantizeLinear on the same grid with nothing
        in between. What is read by others too stays for them. Main graph, bodies and functions.

    Example
        before: f = DequantizeLinear(q, s, z)    t = Transpose(f)    y = QuantizeLinear(t, s, z)
        after:  y = Transpose(q)

    When not
        Other grids on both sides, vectors of scales, scales that are not constant.

    Contract
        ROUNDING. For numbers it is exact: the integer nearest to q * s / s is q, as long as s is no
        subnormal number. Only for NaN, which has no integer, may a bound have mattered.

    Source
        ONNX operator reference, QuantizeLinear and DequantizeLinear.
    """

    name = "quantized-moves"
    contract = Contract.ROUNDING

    def run(self, graph: Graph, ctx: Context) -> None:
        annotations = Annotations(graph)
        for scope in graph.scopes():
            for node in list(scope.nodes):
                if node.graph is scope and node.is_op("QuantizeLinear"):
                    _quantize(scope, node, annotations, ctx)


def _quantize(scope: Graph, quantize: Node, annotations: Annotations, ctx: Context) -> None:
    target = grid(quantize)
    if target is None or not target.single:
        return
    bound = _unneeded_bound(quantize, target)
    if bound is not None and ctx.rewrite("bound-before", bound):
        scope.rewire(quantize, 0, bound.inputs[0])
        _remove(bound, annotations)
    value = quantize.inputs[0]
    source = _source(value, quantize, target)
    if source is not None:
        _skip(scope, "pair", quantize, source, [quantize, source], annotations, ctx)
        return
    node = maker(value, *_BOUNDS)
    if node is not None and node.graph is scope and node.inputs:
        source = _source(node.inputs[0], node, target)
        if source is not None and _covers(node, target):
            _skip(scope, "bound", quantize, source, [quantize, node, source], annotations, ctx)
        return
    moves: list[Node] = []
    while (node := maker(value, *_MOVES)) is not None and node.graph is scope and _is_for_integers(node):
        if len(moves) == _LONGEST:
            return
        moves.append(node)
        value = node.inputs[0]
        source = _source(value, node, target)
        if source is not None:
            _move(quantize, moves, source, annotations, ctx)
            return


def _is_for_integers(node: Node) -> bool:
    if node.op == "MaxPool":  # the largest of some numbers is the largest of their integers
        return len(node.outputs) == 1 and node.graph is not None and node.graph.opset >= _POOLED
    return len(node.inputs) > 0


def _source(value: Tensor, reader: Node, target: Grid) -> Node | None:
    """The DequantizeLinear of the same graph that makes `value` from the integers of the same grid."""
    node = maker(value, "DequantizeLinear")
    if node is None or node.graph is not reader.graph:
        return None
    found = grid(node)
    return node if found is not None and found.same(target) else None


def _covers(node: Node, target: Grid) -> bool:
    """Whether nothing on the grid is beyond the bounds of a Clip or Relu."""
    found = activation(node, _BOUNDS)
    if not isinstance(found, Activation):
        return False
    low, high = found.numbers.get("min", 0.0), found.numbers.get("max", float("inf"))
    least, most = target.range
    return low <= least and most <= high


def _unneeded_bound(quantize: Node, target: Grid) -> Node | None:
    """A Clip or Relu that is only there for `quantize`, which saturates inside of its bounds."""
    node = maker(quantize.inputs[0], *_BOUNDS)
    if node is None or node.graph is not quantize.graph or only_reader(node.outputs[0]) is not quantize:
        return None
    return node if _covers(node, target) else None


def _skip(
    scope: Graph, rule: str, quantize: Node, source: Node, nodes: list[Node], annotations: Annotations, ctx: Context
) -> None:
    """Let everybody read the integers that there were before."""
    old, new = quantize.outputs[0], source.inputs[0]
    why = annotations.about(old) or scope.why_not_replace(old, new)
    if why is not None:
        ctx.missed(rule, quantize, why)
    elif ctx.rewrite(rule, quantize):
        scope.replace_uses(old, new)
        for node in nodes:
            _remove(node, annotations)


def _move(quantize: Node, moves: list[Node], source: Node, annotations: Annotations, ctx: Context) -> None:
    """Let the moves, the last one first, move integers."""
    readers = [quantize, *moves]
    for reader, node in zip(readers, moves, strict=False):
        value = node.outputs[0]
        why = annotations.about(value)
        if why is None and only_reader(value) is not reader:
            why = f"{value.name!r} is read by others too, as floating point"
        if why is not None:
            ctx.missed("move", quantize, why)
            return
    if not ctx.rewrite("move", quantize, ", ".join(one.op for one in reversed(moves))):
        return
    scope = quantize.graph
    assert scope is not None, "a node that is walked is in a graph"
    value, made = source.inputs[0], []
    for node in reversed(moves):
        outputs = [] if node is moves[0] else [scope.variable(f"{node.outputs[0].name}_quantized")]
        made.append(Node(node.op, node.name, dict(node.attrs), [value, *list(node.inputs)[1:]], outputs))
        value = outputs[0] if outputs else value
    supersede(quantize, readers, made, lambda one: annotations.needs(one) is not None)
    _remove(source, annotations)


def _remove(node: Node, annotations: Annotations) -> None:
    """Take the node out if nobody reads it any more."""
    if not any(one.is_read or annotations.needs(one) for one in node.outputs):
        remove_all([node], lambda one: annotations.needs(one) is not None)
