"""Patterns: what they match, in which orders, and why they do not."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from graphopt.analysis.pattern import Match, Miss, Pattern, first_match
from graphopt.ir import Graph, Node, decode
from graphopt.ir.store import Store
from graphopt.testing import model

GELU = Pattern("a = Div(x, 1.4142135623730951)  b = Erf(a)  c = Add(b, 1)  d = Mul(x, c)  y = Mul(d, 0.5)")
R2, ONE, HALF = (np.float32(one) for one in (2**0.5, 1, 0.5))


def graph(nodes: str, outputs: str = "float[N] y", head: str = "", **weights: object) -> Graph:
    return decode(model(f"{head} g (float[N] x, float[N] z) => ({outputs}) {{ {nodes} }}", **weights), Store())


def gelu(nodes: str, outputs: str = "float[N] y") -> Graph:
    return graph(nodes, outputs, r=R2, one=ONE, h=HALF, k=np.float32(0.7))


def maker(root: Graph, name: str = "y") -> Node:
    found: Node = next(node for node in root.nodes if any(out.name == name for out in node.outputs))
    return found


@pytest.mark.parametrize(
    "nodes",
    [
        "a = Div(x, r) b = Erf(a) c = Add(b, one) d = Mul(x, c) y = Mul(d, h)",
        "a = Div(x, r) b = Erf(a) c = Add(one, b) d = Mul(c, x) y = Mul(h, d)",
        "a = Div(x, r) b = Erf(a) c = Add(one, b) d = Mul(x, c) y = Mul(h, d)",
    ],
)
def test_a_chain_in_every_order(nodes: str) -> None:
    root = gelu(nodes)
    found = GELU.match(maker(root))
    assert isinstance(found, Match)
    assert found["x"] is root.inputs[0] and found["y"] is root.outputs[0]
    assert found.root is maker(root) and found.node("b").op == "Erf"
    assert {node.op for node in found.nodes} == {"Div", "Erf", "Add", "Mul"} and len(found.nodes) == 5
    assert {one.name for one in found.inner()} == {"a", "b", "c", "d"}


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ("a = Div(x, r) b = Erf(a) c = Add(b, k) d = Mul(x, c) y = Mul(d, h)", None),  # too early to tell
        ("a = Div(x, k) b = Erf(a) c = Add(b, one) d = Mul(x, c) y = Mul(d, h)", "'k' is not 1.41"),
        ("a = Div(z, r) b = Erf(a) c = Add(b, one) d = Mul(x, c) y = Mul(d, h)", "'x' stands where 'z' is expected"),
        ("a = Div(x, r) b = Tanh(a) c = Add(b, one) d = Mul(x, c) y = Mul(d, h)", None),
        ("a = Relu(x) y = Mul(a, h)", None),
    ],
)
def test_near_misses(nodes: str, why: str | None) -> None:
    found = GELU.match(maker(gelu(nodes)))
    if why is None:
        assert found is None
    else:
        assert isinstance(found, Miss) and why in found.why


def test_another_root() -> None:
    assert GELU.match(maker(gelu("y = Relu(x)"))) is None


def test_an_inner_value_that_others_need() -> None:
    chain = "a = Div(x, r) b = Erf(a) c = Add(b, one) d = Mul(x, c) y = Mul(d, h)"
    found = GELU.match(maker(gelu(f"{chain} e = Relu(b)", "float[N] y, float[N] e")))
    assert isinstance(found, Miss) and found.why == "'b' is also read by Relu 'Relu(e)'"
    found = GELU.match(maker(gelu(chain, "float[N] y, float[N] c")))
    assert isinstance(found, Miss) and found.why == "'c' is a graph output"


def test_a_reader_in_a_body() -> None:
    chain = "a = Div(x, r) b = Erf(a) c = Add(b, one) d = Mul(x, c) y = Mul(d, h)"
    branch = "() => (float[N] o) { o = Relu(a) }"
    root = gelu(
        f"{chain} t = Constant<value = bool {{1}}>() "
        f"e = If (t) <then_branch = t1 {branch}, else_branch = t2 () => (float[N] p) {{ p = Neg(x) }}>",
        "float[N] y, float[N] e",
    )
    found = GELU.match(maker(root))
    assert isinstance(found, Miss) and found.why.startswith("'a' is also read by Relu")


def test_nodes_of_two_graphs() -> None:
    branch = "(float[N] o) { o = Log(a) }"
    root = graph(
        f"a = Exp(x) t = Constant<value = bool {{1}}>() "
        f"y = If (t) <then_branch = t1 () => {branch}, else_branch = t2 () => (float[N] p) {{ p = Neg(x) }}>"
    )
    inner = next(node for scope in root.scopes() for node in scope.nodes if node.op == "Log")
    assert Pattern("a = Exp(x)  y = Log(a)").match(inner) is None


def test_backtracking_over_both_operands() -> None:
    """The first order fits at the root and fails further up; the other one is the right one."""
    pattern = Pattern("a = Relu(x)  b = Neg(a)  c = Relu(z)  d = Exp(c)  y = Add(b, d)")
    assert isinstance(pattern.match(maker(graph("a = Relu(x) b = Neg(a) c = Relu(z) d = Exp(c) y = Add(d, b)"))), Match)
    twins = Pattern("a = Relu(x)  b = Neg(z)  c = Mul(a, p)  d = Mul(b, x)  y = Add(c, d)")
    root = graph("a = Relu(x) b = Neg(z) c = Mul(a, z) d = Mul(x, b) y = Add(d, c)")
    found = twins.match(maker(root))
    assert isinstance(found, Match) and found["p"] is root.inputs[1]


def test_a_shared_inner_value() -> None:
    pattern = Pattern("a = Sub(x, m)  b = Mul(a, a)  y = Div(a, b)")
    found = pattern.match(maker(graph("a = Sub(x, z) b = Mul(a, a) y = Div(a, b)")))
    assert isinstance(found, Match) and len(found.nodes) == 3
    assert pattern.match(maker(graph("a = Sub(x, z) e = Relu(a) b = Mul(a, e) y = Div(a, b)"))) is None


def test_two_lines_may_be_one_node() -> None:
    pattern = Pattern("a = Exp(x)  b = Exp(x)  y = Add(a, b)")
    found = pattern.match(maker(graph("a = Exp(x) y = Add(a, a)")))
    assert isinstance(found, Match) and len(found.nodes) == 2
    assert isinstance(pattern.match(maker(graph("a = Exp(x) b = Exp(x) y = Add(a, b)"))), Match)


def test_an_operand_that_the_match_makes() -> None:
    """What is in the place of an operand must still be there once the nodes are gone."""
    pattern = Pattern("a = Exp(x)  b = Mul(a, p)  y = Add(b, x)")
    assert isinstance(pattern.match(maker(graph("a = Exp(x) b = Mul(a, a) y = Add(b, x)"))), Miss)


def test_alternatives_and_attributes() -> None:
    pattern = Pattern("a = ReduceMean|ReduceSum<keepdims=1>(x, _)  y = Sqrt(a)")
    old = '<ir_version: 8, opset_import: ["": 13]>'
    for nodes in ("a = ReduceMean<axes=[0]>(x)", "a = ReduceSum(x)", "a = ReduceMean<axes=[0], keepdims=1>(x)"):
        assert isinstance(pattern.match(maker(graph(f"{nodes} y = Sqrt(a)", head=old))), Match)
    for nodes in ("a = ReduceMax<axes=[0]>(x)", "a = ReduceMean<axes=[0], keepdims=0>(x)"):
        assert pattern.match(maker(graph(f"{nodes} y = Sqrt(a)", head=old))) is None
    listed = Pattern("a = Transpose<perm=[1, 0]>(x)  y = Relu(a)")
    for perm, fits in (("[1, 0]", True), ("[0, 1]", False)):
        root = decode(
            model(f"g (float[N, 2] x) => (float[2, N] y) {{ a = Transpose<perm={perm}>(x) y = Relu(a) }}"), Store()
        )
        assert isinstance(listed.match(maker(root)), Match) is fits


def test_constants_of_a_kind() -> None:
    any_constant, one_number = Pattern("y = Mul(x, ?c)"), Pattern("y = Mul(x, #c)")
    row = graph("y = Mul(x, w)", w=np.ones(3, np.float32))
    single = graph("y = Mul(w, x)", w=np.asarray([2.5], np.float32))
    made = graph("w = Constant<value_float = 2.5>() y = Mul(w, x)")
    assert isinstance(any_constant.match(maker(row)), Match) and one_number.match(maker(row)) is None
    for root in (single, made):
        found = one_number.match(maker(root))
        assert isinstance(found, Match) and found.number("c") == 2.5
    assert any_constant.match(maker(graph("y = Mul(x, z)"))) is None


@pytest.mark.parametrize(
    ("value", "fits"),
    [
        (np.float32(2**0.5), True),
        (np.nextafter(np.float32(2**0.5), np.float32(2)), True),
        (np.float32(1.4142), False),
        (np.float64(2**0.5), True),
        (np.float64(np.float32(2**0.5)), False),
        (np.float16(2**0.5), True),
        (np.float16(1.41), False),
        (np.asarray(2**0.5, ml_dtypes.bfloat16), True),
        (np.asarray(1.5, ml_dtypes.bfloat16), False),
        (np.int64(1), False),
        (np.asarray([2**0.5, 2**0.5], np.float32), False),
        (np.asarray([[2**0.5]], np.float32), True),
    ],
)
def test_numbers_up_to_rounding(value: np.ndarray, fits: bool) -> None:
    kind = {"float32": "float", "float64": "double", "int64": "int64"}.get(
        str(np.asarray(value).dtype), str(value.dtype)
    )
    root = decode(model(f"g ({kind}[N] x) => ({kind}[N] y) {{ y = Mul(x, w) }}", w=value), Store())
    assert isinstance(Pattern("y = Mul(x, 1.4142135623730951)").match(maker(root)), Match) is fits


def test_outputs_by_place() -> None:
    pattern = Pattern("_, b = Split<axis=0>(x, _)  y = Relu(b)")
    text = "p, q = Split<num_outputs=2>(x) y = Relu({}) e = Neg(z)"
    found = pattern.match(maker(graph(text.format("q"))))
    assert isinstance(found, Match) and found.node("b").op == "Split"
    assert pattern.match(maker(graph(text.format("p")))) is None
    both = graph(text.replace("Neg(z)", "Neg(p)").format("q"), "float[M] y, float[M] e")
    assert isinstance(pattern.match(maker(both)), Miss)


def test_operands_that_are_left_out() -> None:
    clip = Pattern("y = Clip(x, _, #high)")
    assert isinstance(clip.match(maker(graph("y = Clip(x, , h)", h=HALF))), Match)
    assert clip.match(maker(graph("y = Clip(x)"))) is None
    assert Pattern("y = Clip(x, #low, #high)").match(maker(graph("y = Clip(x, , h)", h=HALF))) is None
    assert Pattern("y = Clip(x)").match(maker(graph("y = Clip(x, , h)", h=HALF))) is None


def test_other_domains() -> None:
    root = graph(
        "a = com.microsoft.Gelu(x) y = Relu(a)",
        head='<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]>',
    )
    assert isinstance(Pattern("a = com.microsoft.Gelu(x)  y = Relu(a)").match(maker(root)), Match)
    assert Pattern("a = Gelu(x)  y = Relu(a)").match(maker(root)) is None


def test_the_first_pattern_that_matches() -> None:
    patterns = [Pattern("a = Exp(x)  y = Log(a)"), Pattern("a = Neg(x)  y = Log(a)")]
    root = graph("a = Neg(x) y = Log(a)")
    found = first_match(patterns, maker(root))
    assert isinstance(found, Match) and found.node("a").op == "Neg"
    assert first_match(patterns[:1], maker(root)) is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "at least one"),
        ("y = Mul(x", "no statement"),
        ("y = Mul(x, a b)", "no operand"),
        ("a = Exp(x)  y = Log(x)", "nothing reads 'a'"),
        ("y = Exp(a)  a = Log(y)", "before it is made"),
        ("y = Exp<axis>(x)", "no attributes"),
    ],
)
def test_no_pattern(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        _ = Pattern(text).calls
