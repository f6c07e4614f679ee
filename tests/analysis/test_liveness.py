"""What nobody reads, and which operators may do more than compute."""

from __future__ import annotations

import pytest

from graphopt.analysis.liveness import Effects, is_unread
from graphopt.ir import Graph, Node, decode
from graphopt.ir.store import Store
from graphopt.testing import model

IMPORTS = '<ir_version: 10, opset_import: ["": 21, "acme": 1, "ai.onnx.ml": 3, "com.microsoft": 1, "local": 1]>'


def graph(text: str) -> Graph:
    return decode(model(f"{IMPORTS} {text}"), Store())


def node(root: Graph, value: str) -> Node:
    found: Node = next(one for one in root.nodes if any(out.name == value for out in one.outputs))
    return found


def test_readers_of_every_kind_count() -> None:
    root = graph(
        """g (bool c, float[N] x) => (float[N] y) {
            none = Relu(x)  by_node = Relu(x)  by_body = Relu(x)  part, left = Dropout(x)
            r = Neg(by_node)  s = Abs(part)
            y = If(c)<then_branch = t () => (float[N] o) { o = Neg(by_body) },
                      else_branch = e () => (float[N] o) { o = Abs(x) }>
        }"""
    )
    unread = [one.outputs[0].name for one in root.nodes if is_unread(one)]
    assert unread == ["none", "r", "s"]


@pytest.mark.parametrize(
    ("call", "why"),
    [
        ("Relu(x)", None),
        ("RandomNormalLike(x)", None),
        ("ai.onnx.ml.Binarizer(x)", None),
        ("com.microsoft.Gelu(x)", None),
        ("com.microsoft.AllReduce(x)", "AllReduce reaches outside of the graph"),
        ("com.microsoft.PythonOp(x)", "PythonOp reaches outside of the graph"),
        ("acme.Relu(x)", "operators of the domain 'acme' may have effects besides their outputs"),
        ("Plugin_TRT(x)", "ONNX defines no operator Plugin_TRT, so it may have effects besides its outputs"),
        ("local.pure(x)", None),
        ("local.inner(x)", "operators of the domain 'acme' may have effects besides their outputs"),
        ("local.outer(x)", "operators of the domain 'acme' may have effects besides their outputs"),
        ("local.missing(x)", "operators of the domain 'local' may have effects besides their outputs"),
    ],
)
def test_effects_of_operators(call: str, why: str | None) -> None:
    root = graph(
        f"""g (float[N] x) => (float[N] y) {{ a = {call}  y = Abs(x) }}
        <domain: "local", opset_import: ["": 21, "acme": 1]> pure (a) => (b) {{ b = Neg(a) }}
        <domain: "local", opset_import: ["": 21, "acme": 1]> inner (a) => (b) {{ c = Neg(a)  b = acme.Print(c) }}
        <domain: "local", opset_import: ["": 21, "local": 1]>
        outer (a) => (b) {{ c = local.pure(a)  b = local.inner(c) }}"""
    )
    assert Effects(root).of(node(root, "a")) == why


def test_a_function_may_redefine_an_operator_of_a_strange_domain() -> None:
    root = graph(
        """g (float[N] x) => (float[N] y) { y = acme.Print(x) }
        <domain: "acme", opset_import: ["": 21]> Print (a) => (b) { b = Neg(a) }"""
    )
    assert Effects(root).of(root.nodes[0]) is None


def test_bodies_at_any_depth() -> None:
    root = graph(
        """g (bool c, float[N] x) => (float[N] y) {
            y = If(c)<then_branch = t () => (float[N] o) {
                          o = If(c)<then_branch = u () => (float[N] q) { q = acme.Print(x) },
                                    else_branch = f () => (float[N] q) { q = Abs(x) }>
                      },
                      else_branch = e () => (float[N] o) { o = Abs(x) }>
        }"""
    )
    assert Effects(root).of(root.nodes[0]) is not None


def test_functions_that_call_each_other_end() -> None:
    """Not valid, but no reason to hang."""
    root = graph(
        """g (float[N] x) => (float[N] y) { y = local.one(x) }
        <domain: "local", opset_import: ["": 21, "local": 1]> one (a) => (b) { b = local.two(a) }
        <domain: "local", opset_import: ["": 21, "local": 1]> two (a) => (b) { b = local.one(a) }"""
    )
    assert Effects(root).of(root.nodes[0]) is None


def test_overloads_are_told_apart() -> None:
    proto = model(
        f"""{IMPORTS} g (float[N] x) => (float[N] y) {{ a = local.f(x)  y = local.f(x) }}
        <domain: "local", overload: "one", opset_import: ["": 21]> f (a) => (b) {{ b = Neg(a) }}
        <domain: "local", overload: "two", opset_import: ["": 21, "acme": 1]> f (a) => (b) {{ b = acme.Print(a) }}"""
    )
    proto.graph.node[0].overload, proto.graph.node[1].overload = "one", "two"
    root = decode(proto, Store())
    effects = Effects(root)
    assert [effects.of(one) is None for one in root.nodes] == [True, False]
