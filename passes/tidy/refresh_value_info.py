"""Declared types and shapes that are not true."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.analysis.shapes import Shapes
from graphopt.ir import Graph, Node, Tensor, Variable
from graphopt.ir.claims import claim, claims, withdraw
from graphopt.ir.values import Dim
from graphopt.pipeline.protocol import Context, Contract, Pass, option


@dataclass(frozen=True)
class RefreshValueInfo(Pass):
    """Drop what a model says of its values where it is wrong, and on request say what is right.

    What it does
        Precondition: `value_info` declares a name that no value has, or an element type, a number of axes or
        a size other than what follows from the inputs. Rewrite: the declaration goes (`stale`). With `add`,
        values whose element type and shape follow from the inputs and of which nothing is said are declared
        (`add`); symbolic sizes keep the names that the inputs give them.

    Example
        before: float[N, 4] x    a = Relu(x)    y = Neg(a)    value_info: float[N, 7] a, float[3] gone
        after:  float[N, 4] x    a = Relu(x)    y = Neg(a)

    When not
        Declarations of sequences and optionals are not looked at, nor those in functions unless nothing has
        that name. What inputs and outputs declare is the signature.

    Contract
        EXACT. A declaration computes nothing, but a runtime may refuse a model for a wrong one. With
        `add` the file grows.

    Source
        ONNX IR specification, `value_info`.
    """

    name = "refresh-value-info"
    contract = Contract.EXACT
    grows = True

    add: bool = option(False, "declare values of which nothing is said, where their types are known")

    def run(self, graph: Graph, ctx: Context) -> None:
        if not self.add and not any(True for scope in graph.scopes() for _ in claims(scope)):
            return
        shapes = ctx.shapes
        for scope in graph.scopes():
            subject = next(iter(scope.nodes), None)
            for name, tensor, dtype, dims in claims(scope):
                why = f"no value is called {name!r}" if tensor is None else _contradiction(tensor, dtype, dims, shapes)
                about: Node | Tensor | None = subject if tensor is None else tensor
                if why is not None and about is not None and ctx.rewrite("stale", about, why):
                    withdraw(scope, name, tensor)
                    _announce(graph, name)
        if self.add:
            for scope in graph.graphs():
                self.declare(scope, shapes, ctx)

    def declare(self, scope: Graph, shapes: Shapes, ctx: Context) -> None:
        known = {tensor for _, tensor, _, _ in claims(scope)}
        for node in scope.nodes:
            for tensor in node.outputs:
                if not tensor.name or tensor in known or tensor.graph_outputs or not isinstance(tensor, Variable):
                    continue
                dtype, shape = shapes.onnx_dtype(tensor), shapes.shape(tensor)
                if dtype and shape is not None and tensor.type == "tensor_type" and ctx.rewrite("add", tensor):
                    claim(scope, tensor, dtype, shape)
                    _announce(scope.root, tensor.name)


def _contradiction(tensor: Tensor, dtype: int, dims: tuple[Dim, ...] | None, shapes: Shapes) -> str | None:
    found, shape = shapes.onnx_dtype(tensor), shapes.shape(tensor)
    if dtype and found and dtype != found:
        return f"it has elements of type {found}, not {dtype}"
    if dims is None or shape is None:
        return None
    if len(dims) != len(shape):
        return f"it has {len(shape)} axes, not {len(dims)}"
    for axis, (said, known) in enumerate(zip(dims, shape, strict=True)):
        if isinstance(said, int) and isinstance(known, int) and said != known:
            return f"axis {axis} has the size {known}, not {said}"
    return None


def _announce(root: Graph, name: str) -> None:
    if root.journal is not None:
        root.journal.note("values", (name,), (name,))
