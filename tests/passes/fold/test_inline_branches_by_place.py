"""inline-branches where the place of an If, its branches, or its readers say which branch is taken."""

from __future__ import annotations

import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphopt.pipeline.gate import Limits
from graphopt.testing import Applied, apply, assert_missed, model
from passes.fold.inline_branches import InlineBranches


def inline(text: str, runs: bool = True, **weights: object) -> Applied:
    return apply(InlineBranches(), model(text, **weights), feeds=None if runs else ())


def rules(done: Applied) -> list[str]:
    return [one.rule for one in done.applied]


INNER = """g (bool c, float[N] x) => (float[N] y) {{
    {before}
    y = If({outer})<
        then_branch = t () => (float[N] o) {{
            o = If({inner})<then_branch = a () => (float[N] u) {{ u = Exp(x) }},
                            else_branch = b () => (float[N] u) {{ u = Relu(x) }}>
        }},
        else_branch = e () => (float[N] o) {{
            o = If({inner})<then_branch = a () => (float[N] u) {{ u = Sin(x) }},
                            else_branch = b () => (float[N] u) {{ u = Cos(x) }}>
        }}>
}}"""


@pytest.mark.parametrize(
    ("before", "outer", "inner", "ops"),
    [
        ("", "c", "c", ("Exp", "Cos")),
        ("n = Not(c)", "c", "n", ("Relu", "Sin")),
        ("n = Not(c)", "n", "c", ("Relu", "Sin")),
        ("n = Not(c)  m = Not(n)", "m", "n", ("Relu", "Sin")),
        ("m = Identity(c)", "m", "c", ("Exp", "Cos")),
    ],
)
def test_an_if_inside_of_one_on_the_same_condition(before: str, outer: str, inner: str, ops: tuple[str, str]) -> None:
    done = inline(INNER.format(before=before, outer=outer, inner=inner))
    assert rules(done) == ["same-condition"] * 2
    lines = [line.strip() for line in done.body.splitlines()]
    assert lines[lines.index("then_branch: () => (o)") + 1] == f"o = {ops[0]}(x)"
    assert lines[lines.index("else_branch: () => (o)") + 1] == f"o = {ops[1]}(x)"


def test_another_condition_inside_stays() -> None:
    text = INNER.format(before="", outer="c", inner="d").replace("(bool c,", "(bool c, bool d,")
    assert inline(text).applied == ()


TWINS = """g (bool c, float[N] x) => (float[N] y) {{
    y = If(c)<then_branch = t () => (float[N] o) {{ {then} }}, else_branch = e () => (float[N] o) {{ {other} }}>
}}"""


def test_branches_that_are_the_same() -> None:
    one = "k = Constant<value_float = 2.0>()  p = Mul(x, k)  o = LeakyRelu<alpha = 0.5>(p)"
    other = "l = Constant<value_float = 2.0>()  q = Mul(x, l)  o = LeakyRelu<alpha = 0.5>(q)"
    done = inline(TWINS.format(then=one, other=other))
    assert done.body == "k = Constant<value_float=2>()\np = Mul(x, k)\ny = LeakyRelu<alpha=0.5>(p)"
    assert rules(done) == ["same-branches"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("o = LeakyRelu<alpha = 0.5>(x)", "o = LeakyRelu<alpha = 0.25>(x)"),
        ("o = LeakyRelu<alpha = 0.0>(x)", "o = LeakyRelu<alpha = -0.0>(x)"),
        ("p = Exp(x)  o = Sub(p, x)", "p = Exp(x)  o = Sub(x, p)"),
        ("p = Exp(x)  o = Neg(p)", "o = Neg(x)"),
        ("k = Constant<value = float {0}>()  o = Mul(x, k)", "k = Constant<value = float {-0}>()  o = Mul(x, k)"),
        ("o = Exp(x)", "o = Neg(x)"),
    ],
)
def test_branches_that_differ(one: str, other: str) -> None:
    assert inline(TWINS.format(then=one, other=other)).applied == ()


@pytest.mark.parametrize("same", [True, False])
def test_initializers_of_branches_are_compared_by_bits(same: bool) -> None:
    before = model(TWINS.format(then="o = Add(x, w)", other="o = Add(x, v)"), w=np.float32(0), v=np.float32(0))
    for name, key, value in (("w", "then_branch", 1.0), ("v", "else_branch", 1.0 if same else 2.0)):
        branch = next(one.g for one in before.graph.node[0].attribute if one.name == key)
        branch.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
    assert len(apply(InlineBranches(), before).applied) == same


def test_initializers_that_nobody_reads_do_not_make_branches_differ() -> None:
    before = model(TWINS.format(then="o = Exp(x)", other="o = Exp(x)"))
    branch = next(one.g for one in before.graph.node[0].attribute if one.name == "else_branch")
    branch.initializer.append(numpy_helper.from_array(np.array(1, np.float32), "unread"))
    assert rules(apply(InlineBranches(), before)) == ["same-branches"]


# A squeeze of an axis of unknown size, as exporters write it.
SQUEEZE = """g (float[N, 3, L] x) => (float[P, 1, Q, 2] y{more}) {{
    s = Shape(x)  d = Gather(s, last)  c = Equal(d, one)
    r = If(c)<then_branch = t () => (float o) {{ o = Squeeze(x, last) }},
              else_branch = e () => (float o) {{ o = Identity(x) }}>
    {middle}
}}"""
WEIGHTS: dict[str, object] = {
    "last": np.array([-1], np.int64),
    "zero": np.array([0], np.int64),
    "one": np.array([1], np.int64),
    "w": np.ones((1, 8, 3), np.float32),
    "u": np.ones((1, 8, 2), np.float32),
}
LSTM = "z = Unsqueeze(r, zero)  y = LSTM<hidden_size = 2>(z, w, u)"


def squeeze(middle: str, more: str = "") -> onnx.ModelProto:
    """The branches give out tensors of unknown shape."""
    proto = model(SQUEEZE.format(middle=middle, more=more), **WEIGHTS)
    for node in proto.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                attribute.g.output[0].type.tensor_type.ClearField("shape")
    return proto


def feeds(length: int) -> list[dict[str, object]]:
    return [{"x": np.random.default_rng(length).standard_normal((2, 3, length)).astype(np.float32)}]


def test_a_recurrent_layer_takes_three_axes() -> None:
    done = apply(InlineBranches(), squeeze(LSTM), feeds=feeds(1))
    assert done.body.splitlines() == [
        "r = Squeeze(x, last)",
        "z = Unsqueeze(r, zero)",
        "y = LSTM<hidden_size=2>(z, w, u)",
    ]
    assert [(one.rule, one.why) for one in done.applied] == [("demanded-rank", "LSTM(y) takes 2 axes of r")]


def test_demands_can_be_left_alone() -> None:
    assert apply(InlineBranches(demands=False), squeeze(LSTM), feeds=feeds(1)).applied == ()


def test_a_reader_whose_result_nobody_needs_demands_nothing() -> None:
    proto = squeeze(LSTM.replace("y =", "left ="), ", float q")
    del proto.graph.output[:]
    proto.graph.output.append(helper.make_tensor_value_info("q", 1, ["A", "B", "C"]))
    proto.graph.node.append(helper.make_node("Neg", ["r"], ["q"]))
    assert apply(InlineBranches(), proto, feeds=feeds(1)).applied == ()


def test_a_reader_in_another_branch_demands_nothing() -> None:
    """It does not run in every run in which the If does."""
    proto = squeeze(LSTM)
    inner = helper.make_graph(list(proto.graph.node[-2:]), "t", [], [helper.make_tensor_value_info("y", 1, None)])
    zero = helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.zeros((1, 1, 1, 2), np.float32)))
    other = helper.make_graph([zero], "e", [], [helper.make_tensor_value_info("k", 1, None)])
    del proto.graph.node[-2:]
    proto.graph.node.append(helper.make_node("If", ["f"], ["y"], then_branch=inner, else_branch=other))
    proto.graph.input.append(helper.make_tensor_value_info("f", TensorProto.BOOL, []))
    off = [{**feeds(4)[0], "f": np.array(False)}]
    assert apply(InlineBranches(), proto, feeds=off).applied == ()


def test_a_condition_on_what_is_fed_is_no_squeeze() -> None:
    proto = squeeze(LSTM)
    del proto.graph.node[:3]
    proto.graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    done = apply(InlineBranches(), proto, feeds=[{**feeds(1)[0], "c": np.array(True)}])
    assert done.applied == ()


def test_constants_of_branches_in_models_of_ir_version_3() -> None:
    """There an initializer would have to be an input."""
    text = """<ir_version: 3, opset_import: ["": 9]>
        g (float[4] x) => (float[4] y) {
            c = Constant<value = bool {1}>()
            y = If(c)<then_branch = t () => (float[4] o) { o = Add(x, w) },
                      else_branch = e () => (float[4] o) { o = Neg(x) }>
        }"""
    before = model(text)
    branch = next(one.g for one in before.graph.node[1].attribute if one.name == "then_branch")
    branch.initializer.append(numpy_helper.from_array(np.array(5.0, np.float32), "w"))
    branch.input.append(helper.make_tensor_value_info("w", 1, []))
    done = apply(InlineBranches(), before, feeds=())
    assert done.applied == () and assert_missed(done, "known-condition", "an input of its body has a default")


def test_initializers_of_a_branch_in_a_function_become_constant_nodes() -> None:
    before = model(
        """<ir_version: 10, opset_import: ["": 21, "local": 1]>
        g (float[N] x) => (float[N] y) { y = local.f(x) }
        <domain: "local", opset_import: ["": 21]>
        f (a) => (b) {
            t = Constant<value = bool {1}>()
            b = If(t)<then_branch = u () => (float[N] o) { o = Add(a, w) },
                      else_branch = v () => (float[N] o) { k = Exp(a)  l = Exp(k)  m = Exp(l)  o = Exp(m) }>
        }"""
    )
    branch = next(one.g for one in before.functions[0].node[1].attribute if one.name == "then_branch")
    branch.initializer.append(numpy_helper.from_array(np.array(5.0, np.float32), "w"))
    done = apply(InlineBranches(), before)
    assert done.body.splitlines()[2:] == ["  w = Constant<value=float[] {5.0}>()", "  b = Add(a, w)"]


def test_many_of_them_take_linear_time() -> None:
    one = """v{0} = If(c)<then_branch = t () => (float[N] o) {{ p = Neg(v{1})  o = Abs(p) }},
                          else_branch = e () => (float[N] o) {{ o = Exp(v{1}) }}>"""
    chain = "\n".join(one.format(i + 1, i) for i in range(5000))
    proto = model(f"g (float[N] v0) => (float[N] v5000) {{ {chain} }}", c=np.array(True))
    start = time.process_time()
    done = apply(InlineBranches(), proto, laws=False)
    assert len(done.applied) == 5000 and len(done.after.graph.node) == 10_000
    assert time.process_time() - start < 20  # about 1; quadratic it would be minutes


def test_a_gate_that_keeps_the_outer_one() -> None:
    text = INNER.format(before="", outer="c", inner="c")
    gate = Limits(disabled=frozenset({("inline-branches", 1)}))
    assert len(apply(InlineBranches(), model(text), gate=gate).applied) == 1


@pytest.mark.parametrize("step", ["And(c, d)", "Or(c, d)", "Xor(c, d)"])
def test_what_is_computed_from_the_same_condition_is_another_one(step: str) -> None:
    """Only a copy and a negation say what the condition says."""
    text = INNER.format(before=f"n = {step}", outer="c", inner="n").replace("(bool c,", "(bool c, bool d,")
    assert inline(text).applied == ()
    text = INNER.format(before=f"n = {step}", outer="n", inner="c").replace("(bool c,", "(bool c, bool d,")
    assert inline(text).applied == ()


@pytest.mark.parametrize("step", ["Not(f)", "Identity(f)", "Equal(v, v)"])
def test_a_condition_computed_from_what_is_fed_is_no_squeeze(step: str) -> None:
    proto = squeeze(LSTM)
    del proto.graph.node[:3]
    made = model(f"g (bool f, float v) => (bool c) {{ c = {step} }}").graph.node[0]
    proto.graph.node.insert(0, made)
    fed = {"f": np.array(step != "Not(f)"), "v": np.array(1, np.float32)}
    for name, kind in (("f", TensorProto.BOOL), ("v", TensorProto.FLOAT)):
        if name in made.input:
            proto.graph.input.append(helper.make_tensor_value_info(name, kind, []))
    given = {name: value for name, value in fed.items() if name in made.input}
    assert apply(InlineBranches(), proto, feeds=[{**feeds(1)[0], **given}]).applied == ()
