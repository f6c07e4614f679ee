"""identities: copies go wherever somebody can read what they copy; outputs keep their names."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, TensorAnnotation, helper

from graphopt.pipeline.gate import Limits
from graphopt.testing import Applied, apply, assert_missed, model
from passes.eliminate.identities import Identities

FALSE, TRUE = np.array(False), np.array(True)


def clean(before: ModelProto | str, runs: bool = True, gate: Limits | None = None, **weights: object) -> Applied:
    proto = model(before, **weights) if isinstance(before, str) else before
    return apply(Identities(), proto, feeds=None if runs else (), gate=gate)


def test_copies_between_nodes() -> None:
    done = clean("g (float[N] x) => (float[N] y) { a = Identity(x)  b = Relu(a)  c = Identity(b)  y = Add(c, b) }")
    assert done.body == "b = Relu(x)\ny = Add(b, b)"
    assert [(one.node, one.before, one.after) for one in done.applied] == [
        ("Identity(a)", ("a",), ("x",)),
        ("Identity(c)", ("c",), ("b",)),
    ]


def test_chains_of_copies() -> None:
    done = clean("g (float[N] x) => (float[N] y) { a = Identity(x)  b = Identity(a)  c = Identity(b)  y = Neg(c) }")
    assert done.body == "y = Neg(x)"


def test_a_copy_that_nobody_reads() -> None:
    assert clean("g (float[N] x) => (float[N] y) { a = Identity(x)  y = Neg(x) }").body == "y = Neg(x)"


def test_a_copy_of_a_weight_is_the_weight() -> None:
    done = clean("g (float[N, 2] x) => (float[N, 2] y) { a = Identity(w)  y = MatMul(x, a) }", w=np.eye(2, dtype="f"))
    assert done.body == "y = MatMul(x, w)"


def test_a_copy_of_a_constant_node() -> None:
    text = "g (float[N] x) => (float[N] y) { k = Constant<value_float = 2.0>()  a = Identity(k)  y = Mul(x, a) }"
    assert clean(text).body == "k = Constant<value_float=2>()\ny = Mul(x, k)"


def test_an_output_takes_its_name_with_it() -> None:
    done = clean("g (float[N] x) => (float[N] y) { a = Relu(x)  b = Neg(a)  y = Identity(a) }")
    assert done.body == "y = Relu(x)\nb = Neg(y)"
    assert (done.applied[0].before, done.applied[0].after) == (("y", "a"), ("y",))


def test_an_output_keeps_its_declared_type() -> None:
    """The value behind it may say less, or use other symbols."""
    before = model("g (float[N, 4] x) => (float[N, 4] y) { a = Relu(x)  y = Identity(a) }")
    before.graph.value_info.append(helper.make_tensor_value_info("a", 1, ["M", None]))
    after = clean(before).after
    assert after.graph.output == before.graph.output and not after.graph.value_info


def test_two_names_for_one_value() -> None:
    done = clean("g (float[N] x) => (float[N] y, float[N] z) { a = Relu(x)  y = Identity(a)  z = Identity(a) }")
    assert done.body == "y = Relu(x)\nz = Identity(y)"
    assert_missed(done, "identity", "'z' and 'y' are both graph outputs")


def test_an_output_and_the_value_behind_it() -> None:
    done = clean("g (float[N] x) => (float[N] a, float[N] y) { a = Relu(x)  y = Identity(a) }")
    assert done.applied == ()
    assert_missed(done, "identity", "'y' and 'a' are both graph outputs")


@pytest.mark.parametrize(
    ("signature", "why"),
    [
        ("(float[2] x) => (float[2] y) { y = Identity(x) }", "'y' is a graph output and 'x' an input"),
        ("(float[2] x) => (float[2] y) { y = Identity(w) }", "'y' is a graph output and 'w' an initializer"),
        ("(float[2] x, float[2] w) => (float[2] y) { y = Identity(w) }", "'y' is a graph output and 'w' an input"),
    ],
)
def test_between_an_input_or_a_weight_and_an_output(signature: str, why: str) -> None:
    done = clean(f"g {signature}", w=np.ones(2, np.float32))
    assert done.applied == ()
    assert_missed(done, "identity", why)


def test_of_an_overridable_input() -> None:
    text = "g (float[2] x, float[2] w) => (float[2] y) { a = Identity(w)  y = Add(x, a) }"
    assert clean(text, w=np.ones(2, np.float32)).body == "y = Add(x, w)"


def test_inside_bodies() -> None:
    """A captured value stands for its copy, except as an output of the body."""
    done = clean(
        """g (bool c, float[N] x) => (float[N] y) {
            a = Relu(x)
            y = If(c)<then_branch = t () => (float[N] o) { p = Identity(a)  q = Neg(p)  o = Identity(q) },
                      else_branch = e () => (float[N] o) { o = Identity(a) }>
        }"""
    )
    assert done.body.splitlines() == [
        "a = Relu(x)",
        "y = If(c)",
        "  else_branch: () => (o)",
        "    o = Identity(a)",
        "  then_branch: () => (o)",
        "    o = Neg(a)",
    ]
    missed = assert_missed(done, "identity", "'o' is a graph output and 'a' is made in another graph")
    assert missed.scope == "If(y).else_branch"


def test_a_body_reads_past_an_outer_copy() -> None:
    done = clean(
        """g (bool c, float[N] x) => (float[N] y) {
            a = Relu(x)  b = Identity(a)
            y = If(c)<then_branch = t () => (float[N] o) { o = Neg(b) },
                      else_branch = e () => (float[N] o) { o = Abs(b) }>
        }"""
    )
    assert "Neg(a)" in done.body and "Abs(a)" in done.body and "Identity" not in done.body


def test_a_loop_keeps_the_copy_of_its_condition() -> None:
    done = clean(
        """g (float[N] x) => (float[N] y) {
            n = Constant<value_int = 3>()
            y = Loop(n, , x)<body = b (int64 i, bool go, float[N] s) => (bool on, float[N] next) {
                on = Identity(go)  m = Identity(s)  k = Tanh(m)  next = Identity(k)
            }>
        }"""
    )
    assert "on = Identity(go)" in done.body and "next = Tanh(s)" in done.body
    assert len(done.applied) == 2
    assert_missed(done, "identity", "'on' is a graph output and 'go' an input")


def test_inside_functions() -> None:
    done = clean(
        """<ir_version: 10, opset_import: ["": 21, "local": 1]>
        g (float[N] x) => (float[N] y, float[N] z) { y, z = local.f(x) }
        <domain: "local", opset_import: ["": 21]>
        f (a) => (c, d) { b = Identity(a)  e = Neg(b)  c = Identity(e)  d = Identity(a) }"""
    )
    assert done.body.splitlines()[1:] == ["function local.f (a) => (c, d)", "  c = Neg(a)", "  d = Identity(a)"]
    assert_missed(done, "identity", "'d' is a graph output and 'a' an input")


def test_a_body_that_means_another_value_by_the_name() -> None:
    """The loop calls its state `x` too, so it cannot read the outer `x`."""
    text = """g (float[N] x) => (float[N] y) {
        n = Constant<value_int = 2>()  a = Identity(x)  b = Relu(x)
        y = Loop(n, , b)<body = b (int64 i, bool go, float[N] x) => (bool on, float[N] next) {
            on = Identity(go)  next = Add(x, a)
        }>
    }"""
    done = clean(text)
    assert done.applied == ()
    assert_missed(done, "identity", "Loop(y).body has another value called 'x'")


def test_a_body_that_hides_the_name_of_the_output() -> None:
    """`y` would become the name of `a`, which the loop reads, but its own state is called `y`."""
    text = """g (float[N] x) => (float[N] y, float[N] z) {
        n = Constant<value_int = 2>()  a = Relu(x)
        z = Loop(n, , x)<body = b (int64 i, bool go, float[N] y) => (bool on, float[N] next) {
            on = Identity(go)  next = Add(y, a)
        }>
        y = Identity(a)
    }"""
    assert_missed(clean(text), "identity", "Loop(z).body has another value called 'y'")


def test_sequences_and_optionals() -> None:
    done = clean(
        """g (float[N] x) => (float[N] y) {
            k = Constant<value_int = 0>()  s = SequenceConstruct(x, x)  t = Identity(s)  a = SequenceAt(t, k)
            o = Optional(a)  p = Identity(o)  y = OptionalGetElement(p)
        }"""
    )
    assert len(done.applied) == 2 and "Identity" not in done.body


@pytest.mark.parametrize(
    ("opset", "call", "gone"),
    [
        (6, "Dropout<is_test = 1>(x)", True),
        (6, "Dropout<is_test = 0>(x)", False),
        (6, "Dropout(x)", False),
        (7, "Dropout(x)", True),
        (10, "Dropout<ratio = 0.7>(x)", True),
        (11, "Dropout(x)", True),
        (12, "Dropout(x)", True),
        (13, "Dropout(x, r)", True),
        (13, "Dropout(x, r, off)", True),
        (13, "Dropout(x, , off)", True),
        (13, "Dropout(x, , on)", False),
        (21, "Dropout(x, , given)", False),
        (22, "Dropout(x, r, off)", True),
    ],
)
def test_dropout_by_opset(opset: int, call: str, gone: bool) -> None:
    slots = call.rstrip(")").partition("(")[2].split(", ")
    inputs = "float[N, 3] x, bool given" if "given" in call else "float[N, 3] x"
    weights: dict[str, object] = {"r": np.array(0.7, np.float32), "off": FALSE, "on": TRUE}
    used = {name: array for name, array in weights.items() if name in slots}
    text = f"""<ir_version: 8, opset_import: ["": {opset}]>
        g ({inputs}) => (float[N, 3] y) {{ a = {call}  y = Neg(a) }}"""
    done = clean(model(text, **used), runs=opset >= 7)
    assert (done.body == "y = Neg(x)") == gone
    assert bool(done.applied) == gone != bool(done.missed)


def test_why_a_dropout_stays() -> None:
    text = "g (float[N] x, bool t) => (float[N] y) {{ a = Dropout(x, , {})  y = Neg(a) }}"
    assert_missed(clean(text.format("t")), "dropout", "whether it is training is only known at run time, from 't'")
    training = clean(text.format("on"), on=TRUE)
    assert_missed(training, "dropout", "it is in training mode, so it drops at random")
    legacy = '<ir_version: 3, opset_import: ["": 6]> g (float[N] x) => (float[N] y) { a = Dropout(x)  y = Neg(a) }'
    assert_missed(clean(legacy, runs=False), "dropout", "is_test is not set, so it drops at random")


def test_a_switch_that_is_not_one_value() -> None:
    """Not valid, so no laws."""
    before = model("g (float[N] x) => (float[N] y) { a = Dropout(x, , t)  y = Neg(a) }", t=np.zeros(0, bool))
    assert_missed(apply(Identities(), before, laws=False), "dropout", "only known at run time, from 't'")


def test_a_copy_of_nothing() -> None:
    """Not valid, so no laws."""
    before = model("g (float[N] x) => (float[N] y) { a = Identity(x)  y = Neg(a) }")
    before.graph.node[0].input[0] = ""
    assert apply(Identities(), before, laws=False).remarks == ()


def test_a_switch_that_is_left_out_at_the_end() -> None:
    before = model("g (float[N] x) => (float[N] y) { a = Dropout(x, r, t)  y = Neg(a) }", r=np.float32(0.5))
    before.graph.node[0].input[2] = ""
    assert clean(before).body == "y = Neg(x)"


def test_a_switch_that_callers_may_flip() -> None:
    done = clean("g (float[N] x, bool t) => (float[N] y) { a = Dropout(x, , t)  y = Neg(a) }", t=FALSE)
    assert done.applied == ()
    assert_missed(done, "dropout", "only known at run time, from 't'")


def test_a_switch_that_is_a_constant_node_behind_a_copy() -> None:
    text = """g (float[N] x) => (float[N] y) {
        off = Constant<value = bool {0}>()  t = Identity(off)  a = Dropout(x, , t)  y = Neg(a)
    }"""
    assert clean(text).body == "off = Constant<value=bool[] {False}>()\ny = Neg(x)"


def test_a_mask_that_is_read() -> None:
    done = clean("g (float[N] x) => (float[N] y, bool[N] z) { a, m = Dropout(x)  y = Neg(a)  z = Not(m) }")
    assert done.applied == ()
    assert_missed(done, "dropout", "its mask 'm' is read")
    done = clean("g (float[N] x) => (float[N] y, bool[N] m) { a, m = Dropout(x)  y = Neg(a) }")
    assert_missed(done, "dropout", "its mask 'm' is read")


def test_a_mask_that_only_a_body_reads() -> None:
    done = clean(
        """g (bool c, float[N] x) => (float[N] y, bool[N] z) {
            a, m = Dropout(x)  y = Neg(a)
            z = If(c)<then_branch = t () => (bool[N] o) { o = Not(m) },
                      else_branch = e () => (bool[N] o) { o = IsNaN(x) }>
        }"""
    )
    assert_missed(done, "dropout", "its mask 'm' is read")


def test_a_mask_that_nobody_reads() -> None:
    assert clean("g (float[N] x) => (float[N] y) { a, m = Dropout(x)  y = Neg(a) }").body == "y = Neg(x)"


def test_a_mask_that_only_a_dead_copy_reads() -> None:
    """The copy goes, and with it the only reader of the mask: one run is enough for both."""
    done = clean("g (float[N] x) => (float[N] y) { a, m = Dropout(x)  i = Identity(m)  y = Neg(a) }")
    assert done.body == "y = Neg(x)" and len(done.applied) == 2 and done.missed == ()


def test_a_name_that_another_rewrite_frees() -> None:
    """The loop calls its state `b`, until the Dropout's output makes `b` be called `d`."""
    done = clean(
        """g (float[N] x) => (float[N] d, float[N] z) {
            n = Constant<value_int = 2>()  b = Relu(x)  i = Identity(b)
            z = Loop(n, , x)<body = f (int64 k, bool go, float[N] b) => (bool on, float[N] next) {
                on = Identity(go)  next = Add(b, i)
            }>
            d = Dropout(b)
        }"""
    )
    assert [one.node for one in done.applied] == ["Dropout(d)", "Identity(i)"]
    assert [one.node for one in done.missed] == ["Identity(on)"]
    assert "next = Add(b, d)" in done.body


def test_a_dropout_that_makes_an_output() -> None:
    done = clean("g (float[N] x) => (float[N] y) { a = Relu(x)  y = Dropout(a) }")
    assert done.body == "y = Relu(x)"
    done = clean("g (float[N] x) => (float[N] y) { y = Dropout(x) }")
    assert_missed(done, "dropout", "'y' is a graph output and 'x' an input")


def test_operators_of_that_name_in_other_domains() -> None:
    text = """<ir_version: 10, opset_import: ["": 21, "acme": 1]>
        g (float[N] x) => (float[N] y) { a = acme.Identity(x)  b = acme.Dropout(a)  y = Neg(b) }"""
    assert clean(text, runs=False).remarks == ()


def test_the_spelled_out_default_domain() -> None:
    before = model("g (float[N] x) => (float[N] y) { a = Identity(x)  y = Neg(a) }")
    before.graph.node[0].domain = "ai.onnx"
    assert apply(Identities(), before, laws=False).body == "y = Neg(x)"  # onnx's checker refuses the spelling


@pytest.mark.parametrize(
    ("subject", "parameter", "why"),
    [
        ("a", "w", "a quantization annotation is about 'a'"),
        ("b", "a", "it is a quantization parameter of 'b'"),
    ],
)
def test_annotated_values_stay(subject: str, parameter: str, why: str) -> None:
    before = model(
        "g (float[N] x) => (float[N] y) { a = Identity(x)  b = Add(a, w)  y = Neg(b) }", w=np.ones(1, np.float32)
    )
    note = TensorAnnotation(tensor_name=subject)
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value=parameter)
    before.graph.quantization_annotation.append(note)
    assert_missed(clean(before), "identity", why)


def test_an_annotation_follows_the_name() -> None:
    before = model("g (float[N] x) => (float[N] y) { a = Relu(x)  y = Identity(a) }", s=np.ones(1, np.float32))
    note = TensorAnnotation(tensor_name="a")
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="s")
    before.graph.quantization_annotation.append(note)
    assert clean(before).after.graph.quantization_annotation[0].tensor_name == "y"


def test_a_refused_rewrite_stays() -> None:
    text = "g (float[N] x) => (float[N] y) { a = Identity(x)  b = Identity(a)  y = Neg(b) }"
    done = clean(text, gate=Limits(frozenset({("identities", 1)})))
    assert done.body == "a = Identity(x)\ny = Neg(a)"
    assert [one.node for one in done.disabled] == ["Identity(a)"]
