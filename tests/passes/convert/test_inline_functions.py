"""inline-functions: calls give way to the nodes of what they call."""

from __future__ import annotations

from onnx import ModelProto, helper

from graphopt.testing import Applied, apply, assert_missed, model
from passes.convert.inline_functions import InlineFunctions

HEAD = '<ir_version: 10, opset_import: ["": 21, "local": 1]>'
FUNCTION = '<domain: "local", opset_import: ["": 21, "local": 1]>'


def inline(text: str, once: bool = False, runs: bool = True, nodes: int = 1000) -> Applied:
    return apply(InlineFunctions(once=once, nodes=nodes), model(text), feeds=None if runs else ())


def test_two_calls_of_one_function() -> None:
    done = inline(
        f"""{HEAD} g (float[N] x) => (float[N] y) {{ a = local.f(x)  y = local.f(a) }}
        {FUNCTION} f (a) => (c) {{ b = Neg(a)  c = Exp(b) }}"""
    )
    assert done.body == "b = Neg(x)\na = Exp(b)\nb_1 = Neg(a)\ny = Exp(b_1)"
    assert not done.after.functions and [one.domain for one in done.after.opset_import] == ["", "local"]


def test_attributes_given_defaulted_and_left_out() -> None:
    before = model(
        f"""{HEAD} g (float[N] x) => (float[N] y, float[N] z) {{ y = local.f<slope = 0.5>(x)  z = local.f(x) }}
        {FUNCTION} f <slope> (a) => (c) {{ c = LeakyRelu<alpha: float = @slope>(a) }}"""
    )
    done = apply(InlineFunctions(), before)
    assert done.body == "y = LeakyRelu<alpha=0.5>(x)\nz = LeakyRelu(x)"
    function = before.functions[0]
    del function.attribute[:]
    function.attribute_proto.append(helper.make_attribute("slope", 0.25))
    done = apply(InlineFunctions(), before)
    assert done.body == "y = LeakyRelu<alpha=0.5>(x)\nz = LeakyRelu<alpha=0.25>(x)"


def test_functions_in_functions_and_bodies() -> None:
    done = inline(
        f"""{HEAD} g (bool c, float[N] x) => (float[N] y) {{
            b = Abs(x)
            y = If(c)<then_branch = t () => (float[N] o) {{ o = local.f(b) }},
                      else_branch = e () => (float[N] o) {{ o = Neg(b) }}>
        }}
        {FUNCTION} f (a) => (c) {{ b = local.h(a)  c = Exp(b) }}
        {FUNCTION} h (a) => (c) {{ b = Sin(a)  c = Cos(b) }}"""
    )
    assert "local" not in done.body and not done.after.functions
    assert [line.strip() for line in done.body.splitlines()][-4:] == [
        "then_branch: () => (o)",
        "b_2 = Sin(b)",
        "b_1 = Cos(b_2)",
        "o = Exp(b_1)",
    ]


def test_inputs_left_out_and_handed_through() -> None:
    done = inline(
        f"""{HEAD} g (float[N] x, float hi) => (float[N] y, float[N] z) {{ y, z = local.f(x, , hi) }}
        {FUNCTION} f (a, low, high) => (b, c) {{ b = Clip(a, low, high)  c = Identity(a) }}"""
    )
    assert done.body == "y = Clip(x, , hi)\nz = Identity(x)"


def test_a_result_that_nobody_takes() -> None:
    done = inline(
        f"""{HEAD} g (float[N] x) => (float[N] y) {{ y, left = local.f(x) }}
        {FUNCTION} f (a) => (b, c) {{ b = Neg(a)  c = Exp(a) }}"""
    )
    assert done.body == "y = Neg(x)\nleft = Exp(x)"


def test_a_body_in_a_function() -> None:
    done = inline(
        f"""{HEAD} g (bool y, float[N] o) => (float[N] r) {{ r = local.f(y, o) }}
        {FUNCTION} f (c, a) => (y) {{
            y = If(c)<then_branch = t () => (float[N] o) {{ o = Exp(a) }},
                      else_branch = e () => (float[N] o) {{ o = Neg(a) }}>
        }}"""
    )
    assert done.body.splitlines()[0] == "r = If(y)" and "Exp(o)" in done.body and "local" not in done.body


def test_only_what_is_called_once() -> None:
    done = inline(
        f"""{HEAD} g (float[N] x) => (float[N] y) {{ a = local.f(x)  b = local.f(a)  y = local.h(b) }}
        {FUNCTION} f (a) => (c) {{ c = Exp(a) }}
        {FUNCTION} h (a) => (c) {{ c = Neg(a) }}""",
        once=True,
    )
    assert done.body.splitlines()[:3] == ["a = local.f(x)", "b = local.f(a)", "y = Neg(b)"]
    assert [one.name for one in done.after.functions] == ["f"]


def test_a_function_of_another_opset() -> None:
    before = model(
        f"""<ir_version: 10, opset_import: ["": 11, "local": 1]>
        g (float[N] x) => (float[N] y) {{ y = local.f(x) }}
        {FUNCTION} f (a) => (c) {{ k = Constant<value_ints = [0]>()  b = Unsqueeze(a, k)  c = Squeeze(b, k) }}"""
    )
    done = apply(InlineFunctions(), before, laws=False)
    assert not done.applied
    assert_missed(done, "inline", "follows opset 21")


def test_a_function_of_another_opset_whose_operators_are_the_same() -> None:
    before: ModelProto = model(
        f"""<ir_version: 10, opset_import: ["": 20, "local": 1]>
        g (float[N] x) => (float[N] y) {{ y = local.f(x) }}
        {FUNCTION} f (a) => (c) {{ c = Exp(a) }}"""
    )
    assert apply(InlineFunctions(), before, laws=False).body == "y = Exp(x)"


def test_limits() -> None:
    calls = "  ".join(f"a{i + 1} = local.f(a{i})" for i in range(5))
    done = inline(
        f"""{HEAD} g (float[N] a0) => (float[N] y) {{ {calls}  y = Neg(a5) }}
        {FUNCTION} f (a) => (c) {{ b = Neg(a)  d = Sin(b)  c = Exp(d) }}""",
        nodes=12,
    )
    assert len(done.applied) == 2
    assert_missed(done, "inline", "the model would have more than 12 nodes")


def test_domains_that_functions_use() -> None:
    before = model(
        f"""{HEAD} g (float[N] x) => (float[N] y) {{ y = local.f(x) }}
        <domain: "local", opset_import: ["": 21, "other": 3]> f (a) => (c) {{ c = other.Op(a) }}"""
    )
    done = apply(InlineFunctions(), before, feeds=())
    assert [(one.domain, one.version) for one in done.after.opset_import] == [("", 21), ("local", 1), ("other", 3)]


def test_functions_of_functions_of_functions() -> None:
    done = inline(
        f"""{HEAD} g (float[N] x) => (float[N] y) {{ y = local.f(x) }}
        {FUNCTION} f (a) => (c) {{ c = local.h(a) }}
        {FUNCTION} h (a) => (c) {{ c = local.k(a) }}
        {FUNCTION} k (a) => (c) {{ c = Exp(a) }}"""
    )
    assert done.body == "y = Exp(x)" and not done.after.functions


def test_what_nobody_called_before_stays_and_what_others_call_too() -> None:
    done = inline(
        f"""{HEAD} g (float[N] x) => (float[N] y) {{ a = local.f(x)  b = local.f(a)  y = local.k(b) }}
        {FUNCTION} f (a) => (c) {{ c = local.h(a) }}
        {FUNCTION} h (a) => (c) {{ c = Exp(a) }}
        {FUNCTION} k (a) => (c) {{ c = Neg(a) }}
        {FUNCTION} lonely (a) => (c) {{ c = Abs(a) }}""",
        once=True,
    )
    assert [one.name for one in done.after.functions] == ["f", "h", "lonely"]
    assert "y = Neg(b)" in done.body


def test_another_version_of_a_domain() -> None:
    before = model(
        f"""{HEAD.replace('"local": 1', '"local": 1, "other": 2')} g (float[N] x) => (float[N] y) {{ y = local.f(x) }}
        <domain: "local", opset_import: ["": 21, "other": 3]> f (a) => (c) {{ c = other.Op(a) }}"""
    )
    assert_missed(apply(InlineFunctions(), before, feeds=()), "inline", "function 'f' imports other 3 and the model 2")


def test_names_of_nodes() -> None:
    """Those that are there already get another one; the others keep theirs, or none."""
    done = inline(
        f"""{HEAD} g (float[N] x) => (float[N] y) {{ [first] a = Neg(x)  y = local.f(a) }}
        {FUNCTION} f (a) => (d) {{ [first] b = Abs(a)  [second] c = Exp(b)  d = Sin(c) }}"""
    )
    assert [one.name for one in done.after.graph.node] == ["first", "first_1", "second", ""]


def test_what_was_declared_of_the_result_of_a_call_is_taken_back() -> None:
    """It may hold for other calls only."""
    before = model(
        f"""{HEAD} g (float[N] x) => (float[N] y) {{ a = local.f(x)  y = Neg(a) }}
        {FUNCTION} f (a) => (c) {{ c = Exp(a) }}"""
    )
    before.graph.value_info.append(helper.make_tensor_value_info("a", 1, ["N"]))
    assert not apply(InlineFunctions(), before).after.graph.value_info
