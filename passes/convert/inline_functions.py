"""Calls of model-local functions give way to what they stand for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from graphopt.analysis.determined import Determined
from graphopt.ir import Function, Graph, Node, Tensor
from graphopt.ir.calls import expansion
from graphopt.ir.dissolve import Dissolver
from graphopt.ir.opsets import left_behind
from graphopt.pipeline.protocol import Context, Contract, Pass, option

RULE = "inline"


@dataclass(frozen=True)
class InlineFunctions(Pass):
    """Put the nodes of a model-local function where the function is called.

    What it does
        Precondition: a node of the main graph or of a body in it calls a function of the model, whose
        operators mean the same at the caller's opset. Rewrite: a copy of the function's nodes takes the
        place of the call, under names that nothing else has, with the attributes that the call gives, or
        their defaults. Functions that are called in it are inlined in turn; functions that nobody calls any
        more go, and the domains that their nodes use are imported by the model.

    Example
        before: y = local.f<slope = 0.5>(x)    function f <slope> (a) => (b): b = LeakyRelu<alpha = @slope>(a)
        after:  y = LeakyRelu<alpha = 0.5>(x)

    When not
        A runtime or compiler that knows the function by name runs something faster for it. Functions that
        call themselves, calls that give a graph as attribute, and what would make more than `nodes` nodes
        stay.

    Contract
        EXACT. A call means what the nodes of the function mean. The file may grow: a function that is
        called often is there as often; with `once` only those that are called in one place are inlined.

    Source
        ONNX IR specification, "Functions".
    """

    name = "inline-functions"
    contract = Contract.EXACT
    changes = ("opsets",)
    grows = True

    once: bool = option(False, "only functions that are called in one place")
    nodes: int = option(100_000, "how many nodes the main graph, bodies included, may have at most afterwards")

    def run(self, graph: Graph, ctx: Context) -> None:
        if graph.functions:
            _Work(graph, ctx, self.once, self.nodes).run()


class _Work:
    def __init__(self, graph: Graph, ctx: Context, once: bool, most: int) -> None:
        self.graph, self.ctx, self.once, self.most = graph, ctx, once, most
        self.called = Determined(graph).called
        self.count = sum(len(scope.nodes) for scope in graph.graphs())
        self.calls: Counter[Function] = Counter(
            function for scope in graph.scopes() for node in scope.nodes if (function := self.called(node)) is not None
        )

    def run(self) -> None:
        dissolver, inlined = Dissolver(), False
        pending = [node for scope in self.graph.graphs() for node in scope.nodes]
        pending.reverse()
        while pending:
            node = pending.pop()
            function = self.called(node)
            if function is None or (self.once and self.calls[function] > 1):
                continue
            why = self.why_not(node, function)
            if why is not None:
                self.ctx.missed(RULE, node, why)
            elif self.ctx.rewrite(RULE, node, f"function {function.name}"):
                new = self.inline(node, function, dissolver)
                pending.extend(reversed(new))
                inlined = True
        if inlined:
            dissolver.finish()
            self.drop_uncalled()

    def why_not(self, node: Node, function: Function) -> str | None:
        if node.bodies:
            return "the call gives the function a graph"
        different = next(iter(left_behind(function, self.graph.opset).values()), None)
        if different is not None:
            return different
        for one in function.import_domains or ():
            version = self.graph.opset_of(one.domain)
            if one.domain not in ("", "ai.onnx") and version not in (0, int(one.version)):
                return f"function {function.name!r} imports {one.domain} {one.version} and the model {version}"
        if self.count + len(function.nodes) > self.most:
            return f"the model would have more than {self.most} nodes"
        return None

    def inline(self, node: Node, function: Function, dissolver: Dissolver) -> list[Node]:
        """Replace one call; the nodes that stand in its place."""
        body = expansion(function, node)
        new = [one for scope in body.graphs() for one in scope.nodes]
        self.count += len(new) - 1
        for one in function.import_domains or ():
            if not self.graph.opset_of(one.domain):
                self.graph.import_domains = [*(self.graph.import_domains or ()), one]
        dissolver.meet(node, body)
        arguments: dict[Tensor, Tensor] = dict(zip(body.inputs, node.inputs, strict=False))
        dissolver.dissolve(node, body, arguments)
        return new

    def drop_uncalled(self) -> None:
        """Take out functions that were called, and are not any more."""
        needed: set[Function] = set()
        pending: list[Graph] = [self.graph]
        while pending:
            for function in self._callees(pending.pop()):
                if function not in needed:
                    needed.add(function)
                    pending.append(function)
        functions = self.graph.functions
        functions[:] = [one for one in functions if one in needed or not self.calls[one]]

    def _callees(self, top: Graph) -> Iterator[Function]:
        for scope in top.graphs():
            for node in scope.nodes:
                function = self.called(node)
                if function is not None:
                    yield function
