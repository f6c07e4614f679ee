"""Merge slices of slices and expansions of expansions."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.analysis.annotations import Annotations
from graphopt.analysis.file_bytes import described_bytes, plain_bytes
from graphopt.analysis.matching import integers, maker, only_reader
from graphopt.ir import Graph, Node, Tensor, Variable
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.layout.cuts import Cut, cuts_of, joined
from passes.layout.facts import Facts
from passes.layout.integer_lists import IntegerLists

SLICES, EXPANDS = "slice-of-slice", "expand-of-expand"
_INPUTS = 10  # the version from which on Slice takes its bounds as inputs


@dataclass(frozen=True)
class MergeSlices(Pass):
    """Let one Slice or Expand do what several do one after the other.

    What it does
        Precondition: nothing but the second node reads the first one. "slice-of-slice": the bounds of
        both are constant, and of different axes, or of the same one and known to be one range of it.
        "expand-of-expand": both shapes are constant, and the first one expands no axis that the second
        one would not. Rewrite: the second node reads what the first one reads, and the first one goes.
        Main graph, bodies and functions.

    Example
        before: a = Slice(x, [1], [9], [0])    y = Slice(a, [2], [4], [0])
        after:  y = Slice(x, [3], [5], [0])

    When not
        Two slices of one axis of unknown length, of which one counts from the end or goes backward.
        Where new bounds take more bytes than go. A value that is an output, or that a body reads.

    Contract
        EXACT. The operators copy elements, and the same ones come out in the same order.

    Source
        ONNX operators: Slice (1, 10, 11, 13), Expand (8, 13).
    """

    name = "merge-slices"
    contract = Contract.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        annotations = Annotations(graph)
        work = _Work(ctx, annotations, IntegerLists(graph, annotations), Facts(ctx))
        # Again while something happens: a constant that one rewrite adds is free for the next one.
        while work.sweep(graph):
            pass
        for (node, rule), why in work.stayed.items():
            ctx.missed(rule, node, why)


class _Work:
    def __init__(self, ctx: Context, annotations: Annotations, lists: IntegerLists, facts: Facts) -> None:
        self.ctx, self.annotations, self.lists, self.facts = ctx, annotations, lists, facts
        self.stayed: dict[tuple[Node, str], str] = {}

    def sweep(self, graph: Graph) -> int:
        """Go over the model once; how many rewrites there were."""
        self.stayed = {}
        applied = 0
        for scope in graph.scopes():
            for node in [one for one in scope.nodes if one.is_op("Slice", "Expand")]:
                if node.graph is scope:
                    applied += self.slice(scope, node) if node.op == "Slice" else self.expand(scope, node)
        return applied

    def first(self, node: Node, tensor: Tensor) -> Node | None:
        """The node of the same operator that makes `tensor` for `node` alone."""
        made = maker(tensor, node.op)
        if made is None or made.graph is not node.graph or only_reader(tensor) is not node:
            return None
        return made if self.annotations.about(tensor) is None else None

    def slice(self, scope: Graph, second: Node) -> int:
        first = self.first(second, second.inputs[0])
        if first is None:
            return 0
        source = first.inputs[0]
        opset, rank = scope.opset_of(), None
        if any(axis < 0 for node in (first, second) for axis in integers(node, 3, "axes") or ()):
            rank = self.facts.rank(source)
        inner, outer = cuts_of(first, rank), cuts_of(second, rank)
        if inner is None or outer is None:
            self.stayed[second, SLICES] = "their bounds are not constant"
            return 0
        merged: dict[int, Cut] = dict(inner)
        for axis, cut in outer.items():
            both = cut if axis not in inner else joined(inner[axis], cut, self.length(source, axis))
            if both is None:
                self.stayed[second, SLICES] = f"how both cut axis {axis} depends on its length"
                return 0
            merged[axis] = both
        if opset < _INPUTS and any(cut.step != 1 for cut in merged.values()):
            return 0
        axes = sorted(merged)
        cuts = [merged[axis] for axis in axes]
        bounds = [[cut.start for cut in cuts], [cut.end for cut in cuts], axes]
        if any(cut.step != 1 for cut in cuts):
            bounds.append([cut.step for cut in cuts])
        growth = self.growth(scope, first, second, bounds)
        if growth > 0:
            self.stayed[second, SLICES] = f"the file would grow by {growth} bytes"
            return 0
        if not self.ctx.rewrite(SLICES, second):
            return 0
        names = ("starts", "ends", "axes", "steps")
        if opset < _INPUTS:
            self.put(second, [source], dict(zip(names, bounds, strict=False)))
        else:
            lists = [self.lists.get(second, values, name) for values, name in zip(bounds, names, strict=False)]
            self.put(second, [source, *lists], {}, first)
        self.take_out(first)
        return 1

    def length(self, tensor: Tensor, axis: int) -> int | None:
        dims = self.facts.dims(tensor)
        dim = dims[axis] if dims is not None and axis < len(dims) else None
        return dim if isinstance(dim, int) else None

    def growth(self, scope: Graph, first: Node, second: Node, bounds: list[list[int]]) -> int:
        """Bytes by which the file grows when one Slice stands for both."""
        names, cost, reused = [first.inputs[0].name, second.outputs[0].name], 0, set[Tensor]()
        attrs: dict[str, list[int]] = {}
        if scope.opset_of() < _INPUTS:
            attrs = dict(zip(("starts", "ends", "axes"), bounds, strict=True))
        else:
            for values in bounds:
                held = self.lists.find(scope, values)
                names.append("starts_0000" if held is None else held.name)
                cost += self.lists.cost(scope, values, "starts")
                reused |= set() if held is None else {held}
        cost += described_bytes("Slice", names, attrs, second.name)
        return cost - plain_bytes(first) - plain_bytes(second) - self.lists.freed_with((first, second), reused)

    def expand(self, scope: Graph, second: Node) -> int:
        first = self.first(second, second.inputs[0])
        if first is None:
            return 0
        inner, outer = (integers(one, 1, "shape") for one in (first, second))
        if inner is None or outer is None or len(inner) > len(outer):
            return 0
        beside = outer[len(outer) - len(inner) :]
        if any(size not in (1, other) for size, other in zip(inner, beside, strict=True)):
            self.stayed[second, EXPANDS] = "the first one expands an axis that the second one leaves"
            return 0
        names = len(first.inputs[0].name.encode()) - len(second.inputs[0].name.encode())
        if names > plain_bytes(first):
            return 0
        if not self.ctx.rewrite(EXPANDS, second):
            return 0
        scope.rewire(second, 0, first.inputs[0])
        self.take_out(first)
        return 1

    def put(self, node: Node, inputs: list[Tensor], attrs: dict[str, object], first: Node | None = None) -> None:
        """Put a node of the same operator in the place of `node`, with the same result."""
        scope = node.graph
        assert scope is not None, "a node that is merged is in a graph"
        old, result = list(node.inputs[1:]), node.outputs[0]
        node.outputs[0] = Variable.empty()
        scope.insert(Node(node.op, node.name, attrs, inputs, [result]), before=node)
        scope.remove(node)
        if first is not None:
            for one in old:
                self.lists.drop(one)

    def take_out(self, first: Node) -> None:
        scope = first.graph
        assert scope is not None, "a node that is taken out is in a graph"
        old = list(first.inputs[1:])
        scope.remove(first)
        for one in old:
            self.lists.drop(one)
