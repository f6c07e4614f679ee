"""inline-branches: the branch that is always taken stands where the If stood, under safe names."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, TensorAnnotation, helper, numpy_helper

from graphopt.pipeline.gate import Limits
from graphopt.testing import Applied, apply, assert_missed, model
from passes.fold.inline_branches import InlineBranches

TRUE, FALSE = np.array(True), np.array(False)


def inline(before: ModelProto | str, runs: bool = True, gate: Limits | None = None, **weights: object) -> Applied:
    proto = model(before, **weights) if isinstance(before, str) else before
    return apply(InlineBranches(), proto, feeds=None if runs else (), gate=gate)


def rules(done: Applied) -> list[str]:
    return [one.rule for one in done.applied]


CHOICE = """g (float[N] x) => (float[N] y) {
    b = Abs(x)
    r = If(c)<then_branch = t () => (float[N] o) { p = Exp(b)  o = Neg(p) },
              else_branch = e () => (float[N] o) { p = Relu(b)  o = Sqrt(p) }>
    y = Ceil(r)
}"""


@pytest.mark.parametrize(("value", "ops"), [(TRUE, "Exp Neg"), (FALSE, "Relu Sqrt")])
def test_a_constant_condition(value: object, ops: str) -> None:
    first, second = ops.split()
    done = inline(CHOICE, c=value)
    assert done.body == f"b = Abs(x)\np = {first}(b)\nr = {second}(p)\ny = Ceil(r)"
    assert not done.after.graph.initializer
    assert rules(done) == ["known-condition"]


def test_a_condition_of_one_element() -> None:
    assert inline(CHOICE, c=np.array([True])).body.count("Exp(") == 1


def test_a_condition_that_is_a_constant_node_goes() -> None:
    done = inline(CHOICE.replace("b = Abs(x)", "b = Abs(x)  c = Constant<value = bool {1}>()"))
    assert "Constant" not in done.body and "Exp(b)" in done.body


def test_a_condition_that_something_else_reads_stays() -> None:
    text = CHOICE.replace("(float[N] y)", "(float[N] y, bool n)").replace("y = Ceil(r)", "y = Ceil(r)  n = Not(c)")
    done = inline(text, c=TRUE)
    assert "n = Not(c)" in done.body and len(done.after.graph.initializer) == 1


def test_a_condition_computed_from_constants() -> None:
    text = CHOICE.replace("b = Abs(x)", "b = Abs(x)  n = Neg(k)  c = Less(n, k)")
    done = inline(text, k=np.array(2.5, np.float32))
    assert done.body == "b = Abs(x)\np = Exp(b)\nr = Neg(p)\ny = Ceil(r)"


def test_a_default_that_callers_may_override_decides_nothing() -> None:
    text = CHOICE.replace("(float[N] x)", "(float[N] x, bool c)")
    assert inline(text, c=TRUE).applied == ()


@pytest.mark.parametrize(
    ("chain", "taken"),
    [
        ("s = Shape(x)  r0 = Size(s)  c = Equal(r0, two)", "Exp"),
        ("s = Shape(x)  r0 = Size(s)  e = Equal(r0, two)  c = Not(e)", "Relu"),
        ("s = Shape<start = 1>(x)  c = Equal(s, four)", "Exp"),
        ("s = Shape(x)  d = Gather(s, one)  c = Less(d, two)", "Relu"),
        ("s = Shape(x)  d = Gather(s, one)  c = GreaterOrEqual(d, two)", "Exp"),
        ("s = Shape(x)  d = Gather(s, ones)  q = Squeeze(d, zeros)  c = Cast<to = 9>(q)", "Exp"),
        ("s = Shape(x)  d = Gather(s, one)  m = Mul(d, two)  k = Sub(m, two)  c = Greater(k, six)", "Relu"),
        ("s = Shape(x)  t = Slice(s, zeros, ones)  u = Slice(s, zeros, ones)  c = Equal(t, u)", "Exp"),
        ("s = Shape(x)  e = Equal(s, s)  h = Gather(e, one)  c = Identity(h)", "Exp"),
    ],
)
def test_a_condition_on_sizes(chain: str, taken: str) -> None:
    text = CHOICE.replace("float[N]", "float[N, 4]").replace("b = Abs(x)", f"b = Abs(x)  {chain}")
    numbers = {"one": 1, "two": 2, "six": 6, "ones": [1], "zeros": [0], "four": [4]}
    done = inline(model(text, **{key: np.array(one, np.int64) for key, one in numbers.items()}))
    assert rules(done) == ["known-condition"]
    assert f"{taken}(b)" in done.body and "Shape" not in done.body


@pytest.mark.parametrize(
    "chain",
    [
        "s = Shape(x)  d = Gather(s, zero)  c = Equal(d, one)",
        "s = Shape(x)  d = Gather(s, zero)  c = Greater(d, one)",
        "s = Shape(x)  d = Gather(s, zero)  c = Cast<to = 9>(d)",
    ],
)
def test_an_unknown_size_decides_nothing(chain: str) -> None:
    done = inline(
        CHOICE.replace("b = Abs(x)", f"b = Abs(x)  {chain}"), zero=np.array(0, np.int64), one=np.array(1, np.int64)
    )
    assert done.applied == () and done.missed == ()


def test_narrow_integers_wrap_around() -> None:
    text = "k = Identity(a)  s = Add(k, k)  z = Sub(s, s)  c = Less(s, z)"
    done = inline(CHOICE.replace("b = Abs(x)", f"b = Abs(x)  {text}"), a=np.array(2**31 - 1, np.int32))
    assert "Exp(b)" in done.body  # the sum is negative


def test_values_handed_through_become_direct() -> None:
    """Captured values and initializers of the branch as outputs, at the end and in the middle."""
    done = inline(
        """g (float[N] x) => (float[N] y, float[N] z) {
            b = Abs(x)
            z, r = If(c)<then_branch = t () => (float[N] o, float[N] q) { o = Identity(b)  q = Identity(b) },
                         else_branch = e () => (float[N] o, float[N] q) { o = Neg(b)  q = Neg(b) }>
            y = Ceil(r)
        }""",
        c=TRUE,
    )
    assert done.body == "b = Abs(x)\nz = Identity(b)\nr = Identity(b)\ny = Ceil(r)"


def test_one_value_as_two_outputs() -> None:
    before = model(
        """g (float[N] x) => (float[N] y, float[N] z) {
            y, z = If(c)<then_branch = t () => (float[N] o, float[N] q) { o = Exp(x)  q = Exp(x) },
                         else_branch = e () => (float[N] o, float[N] q) { o = Neg(x)  q = Neg(x) }>
        }""",
        c=TRUE,
    )
    then = next(one.g for one in before.graph.node[0].attribute if one.name == "then_branch")
    then.output[1].name = "o"
    done = inline(before, runs=False)
    assert done.body.splitlines()[0] == "y = Exp(x)" and done.body.splitlines()[-1] == "z = Identity(y)"


def test_initializers_of_the_branch_move_out() -> None:
    before = model(CHOICE.replace("o = Neg(p)", "o = Add(p, w)"), c=TRUE, w=np.float32(1.0))
    branch = next(one.g for one in before.graph.node[1].attribute if one.name == "then_branch")
    branch.initializer.append(numpy_helper.from_array(np.array(5.0, np.float32), "w"))
    done = inline(before)
    assert done.body.splitlines()[2] == "r = Add(p, w_1)"
    assert [one.name for one in done.after.graph.initializer] == ["w", "w_1"]


def test_names_that_another_body_uses() -> None:
    """`p` is made in the branch, in a sibling and in a later body: each means its own."""
    done = inline(
        """g (bool d, float[N] x) => (float[N] y) {
            r = If(c)<then_branch = t () => (float[N] o) { p = Exp(x)  o = Neg(p) },
                      else_branch = e () => (float[N] o) { o = Relu(x) }>
            y = If(d)<then_branch = t () => (float[N] o) { p = Sqrt(r)  o = Ceil(p) },
                      else_branch = e () => (float[N] o) { o = Abs(r) }>
        }""",
        c=TRUE,
    )
    assert done.body.splitlines()[:2] == ["p_1 = Exp(x)", "r = Neg(p_1)"]
    assert "p = Sqrt(r)" in done.body


def test_a_body_inside_that_reuses_the_name_of_the_output() -> None:
    done = inline(
        """g (bool d, float[N] x) => (float[N] y) {
            r = If(c)<then_branch = t () => (float[N] o) {
                          o = Neg(x)
                      },
                      else_branch = e () => (float[N] o) {
                          q = Abs(x)
                          o = If(d)<then_branch = a () => (float[N] u) { r = Exp(q)  u = Neg(r) },
                                    else_branch = b () => (float[N] u) { u = Relu(q) }>
                      }>
            y = Ceil(r)
        }""",
        c=FALSE,
    )
    lines = done.body.splitlines()
    assert lines[0] == "q = Abs(x)" and lines[1] == "r = If(d)" and lines[-1] == "y = Ceil(r)"
    assert "    r_1 = Exp(q)" in lines


def test_nodes_of_one_name_in_two_graphs() -> None:
    """A runtime may refuse two nodes of one name in one graph."""
    before = model(CHOICE, c=TRUE)
    before.graph.node[0].name = "same"
    for attribute in before.graph.node[1].attribute:
        attribute.g.node[0].name, attribute.g.node[1].name = "same", "other"
    done = inline(before)
    assert [node.name for node in done.after.graph.node] == ["same", "same_1", "other", ""]


def test_nested_branches_go_together() -> None:
    done = inline(
        """g (float[N] x) => (float[N] y) {
            y = If(c)<then_branch = t () => (float[N] o) {
                          p = Exp(x)
                          o = If(d)<then_branch = a () => (float[N] u) { u = Neg(p) },
                                    else_branch = b () => (float[N] u) { u = Relu(p) }>
                      },
                      else_branch = e () => (float[N] o) {
                          o = If(d)<then_branch = a () => (float[N] u) { u = Neg(x) },
                                    else_branch = b () => (float[N] u) { u = Relu(x) }>
                      }>
        }""",
        c=TRUE,
        d=FALSE,
    )
    assert done.body == "p = Exp(x)\ny = Relu(p)"
    assert len(done.applied) == 2


def test_inside_a_loop_and_a_function() -> None:
    done = inline(
        """<ir_version: 10, opset_import: ["": 21, "local": 1]>
        g (float[N] x) => (float[N] y) {
            n = Constant<value_int = 2>()
            z = Loop(n, , x)<body = b (int64 i, bool go, float[N] s) => (bool on, float[N] next) {
                on = Identity(go)  t = Constant<value = bool {1}>()
                next = If(t)<then_branch = a () => (float[N] o) { o = Neg(s) },
                             else_branch = e () => (float[N] o) { o = Exp(s) }>
            }>
            y = local.f(z)
        }
        <domain: "local", opset_import: ["": 21]>
        f (a) => (b) {
            t = Constant<value = bool {0}>()
            b = If(t)<then_branch = u () => (float[N] o) { o = Neg(a) },
                      else_branch = v () => (float[N] o) { o = Exp(a) }>
        }"""
    )
    assert "    next = Neg(s)" in done.body and "  b = Exp(a)" in done.body and "If" not in done.body


def test_a_gate_that_lets_one_through() -> None:
    text = """g (float[N] x) => (float[N] y) {
        r = If(c)<then_branch = t () => (float[N] o) { o = Exp(x) }, else_branch = e () => (float[N] o) { o = Neg(x) }>
        y = If(c)<then_branch = t () => (float[N] o) { o = Abs(r) }, else_branch = e () => (float[N] o) { o = Neg(r) }>
    }"""
    done = inline(text, gate=Limits(disabled=frozenset({("inline-branches", 1)})), c=TRUE)
    assert done.body.startswith("r = If(c)") and done.body.endswith("y = Abs(r)")


def test_what_is_declared_of_its_output_may_hold_for_the_other_branch() -> None:
    before = model(
        """g (float[N] x) => (int64[Q] y) {
            r = If(c)<then_branch = t () => (float[N] o) { o = Neg(x) },
                      else_branch = e () => (float[M, N] o) { o = Unsqueeze(x, z) }>
            y = Shape(r)
        }""",
        c=TRUE,
        z=np.array([0], np.int64),
    )
    before.graph.value_info.append(helper.make_tensor_value_info("r", 1, [1, "N"]))
    done = inline(before)
    assert done.body == "r = Neg(x)\ny = Shape(r)" and not done.after.graph.value_info


def test_an_output_that_is_declared_as_the_other_branch_makes_it() -> None:
    before = model(
        """g (float[N] x) => (float[P, N] y) {
            y = If(c)<then_branch = t () => (float[N] o) { o = Neg(x) },
                      else_branch = e () => (float[M, N] o) { o = Unsqueeze(x, z) }>
        }""",
        c=TRUE,
        z=np.array([0], np.int64),
    )
    assert_missed(inline(before), "known-condition", "'y' is declared with another shape than the branch gives it")


def test_annotations_in_the_branch_keep_it() -> None:
    before = model(CHOICE, c=TRUE)
    branch = next(one.g for one in before.graph.node[1].attribute if one.name == "then_branch")
    branch.quantization_annotation.append(TensorAnnotation(tensor_name="p"))
    done = inline(before)
    assert done.applied == ()
    assert_missed(done, "known-condition", "quantization annotations are about values of its body")


def test_longer_names_that_would_make_the_file_grow() -> None:
    long = "v" * 200
    reads = "  ".join(f"a{i} = Add(p, p)" for i in range(40))
    total = "o = Sum(" + ", ".join(f"a{i}" for i in range(40)) + ")"
    done = inline(
        f"""g (bool d, float[N] x) => (float[N] y) {{
            y = If(c)<then_branch = t () => (float[N] o) {{ p = Exp(x)  {reads}  {total} }},
                      else_branch = e () => (float[N] o) {{ o = Relu(x) }}>
            {long} = If(d)<then_branch = t () => (float[N] o) {{ p = Neg(y)  o = Abs(p) }},
                           else_branch = e () => (float[N] o) {{ o = Abs(y) }}>
        }}""",
        c=TRUE,
    )
    assert done.applied == ()
    assert_missed(done, "known-condition", "the file would grow")


@pytest.mark.parametrize(
    ("declared", "made", "goes"),
    [
        ("2, 3", "2, 3", True),
        ("2, 3", "2, 4", False),
        ("2, 3", "6", False),
        ("N, 3", "2, 3", True),
        ("5, 4", "2, 3", False),
    ],
)
def test_a_declared_output_and_what_the_branch_makes(declared: str, made: str, goes: bool) -> None:
    """The other branch may be what makes it."""
    text = f"""g (float[K] x) => (float[{declared}] y) {{
        y = If(c)<then_branch = t () => (float[{made}] o) {{ o = ConstantOfShape(s) }},
                  else_branch = e () => (float[A, B] p) {{ p = Reshape(x, k) }}> }}"""
    shape = np.array([int(one) for one in made.split(", ")])
    done = apply(InlineBranches(), model(text, c=TRUE, s=shape, k=np.array([2, 3])), feeds=(), laws=False)
    assert bool(done.applied) == goes
    if not goes:
        assert_missed(done, "known-condition", "declared with another shape")


def test_an_if_that_is_none_of_onnx() -> None:
    text = """<ir_version: 8, opset_import: ["": 18, "my": 1]> g (float[N] x) => (float[N] y) {
        y = my.If(c)<then_branch = t () => (float[N] o) { o = Neg(x) },
                     else_branch = e () => (float[N] p) { p = Abs(x) }> }"""
    assert inline(text, runs=False, c=TRUE).remarks == ()


def test_a_declared_output_where_the_branch_says_nothing_of_its_shape() -> None:
    text = """g (float[K] x) => (float[2, 3] y) {
        y = If(c)<then_branch = t () => (float[2, 4] o) { o = ConstantOfShape(s) },
                  else_branch = e () => (float[A, B] p) { p = Reshape(x, k) }> }"""
    before = model(text, c=TRUE, s=np.array([2, 4]), k=np.array([2, 3]))
    before.graph.node[0].attribute[0].g.output[0].type.tensor_type.ClearField("shape")
    done = apply(InlineBranches(), before, feeds=(), laws=False)
    assert_missed(done, "known-condition", "declared with another shape")


@pytest.mark.parametrize(("steps", "decided"), [(20, True), (70, False)])
def test_a_condition_on_sizes_that_is_computed_in_very_many_steps(steps: int, decided: bool) -> None:
    """Then it is not looked whether it is about sizes alone, and the ranks say nothing."""
    chain = "  ".join(f"s{at + 1} = Add(s{at}, zero)" for at in range(steps))
    text = f"""g (float[N, M, K] x) => (float[A, B] y) {{
        h = Shape(x)  s0 = Gather(h, one)  {chain}  c = Equal(s{steps}, one)
        r = If(c)<then_branch = t () => (float[N, K] o) {{ o = Squeeze(x, axes) }},
                  else_branch = e () => (float[N, M, K] p) {{ p = Identity(x) }}>
        y = Transpose<perm = [1, 0]>(r) }}"""
    done = inline(text, runs=False, one=np.array(1), zero=np.array(0), axes=np.array([1]))
    assert ("demanded-rank" in rules(done)) == decided
