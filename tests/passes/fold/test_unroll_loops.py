"""unroll-loops: a Loop that runs once is its body, one that never runs is its initial values."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorAnnotation

from graphopt.testing import Applied, apply, assert_missed, model
from passes.fold.unroll_loops import UnrollLoops

ONCE = """g (float[N] x) => (float[N] y) {{
    a = Abs(x)
    r = Loop({count}, {start}, a)<body = b (int64 i, bool go, float[N] s) => (bool on, float[N] next) {{
        {ending}  t = Add(s, x)  next = Tanh(t)
    }}>
    y = Neg(r)
}}"""


def unroll(text: str, runs: bool = True, **weights: object) -> Applied:
    return apply(UnrollLoops(), model(text, **weights), feeds=None if runs else ())


def of(count: str = "", start: str = "", ending: str = "on = Identity(go)") -> str:
    return ONCE.format(count=count, start=start, ending=ending)


def number(value: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.array(value, np.int64)


@pytest.mark.parametrize("start", ["", "yes"])
def test_one_trip(start: str) -> None:
    done = unroll(of("n", start), n=number(1), yes=np.array(True))
    assert done.body == "a = Abs(x)\nt = Add(a, x)\nr = Tanh(t)\ny = Neg(r)"
    assert [one.name for one in done.after.graph.initializer] == ([] if start else ["yes"])
    assert [one.rule for one in done.applied] == ["once"]


def test_a_body_that_ends_itself() -> None:
    done = unroll(of("n", "yes", "on = Constant<value = bool {0}>()"), n=number(7), yes=np.array(True))
    assert done.body == "a = Abs(x)\nt = Add(a, x)\nr = Tanh(t)\ny = Neg(r)"


def test_without_a_condition_the_body_cannot_end_it() -> None:
    """As the operator is defined; runtimes differ."""
    assert unroll(of("n", "", "on = Constant<value = bool {0}>()"), n=number(7)).applied == ()


@pytest.mark.parametrize(("count", "start"), [(0, True), (-3, True), (5, False)])
def test_no_trip(count: int, start: bool) -> None:
    done = unroll(of("n", "c"), n=number(count), c=np.array(start))
    assert done.body == "a = Abs(x)\ny = Neg(a)" and not done.after.graph.initializer
    assert [one.rule for one in done.applied] == ["never"]


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        (of("n", "yes").replace("float[N] x)", "float[N] x, int64 n)"), {"yes": np.array(True)}),
        (of("n", "c").replace("float[N] x)", "float[N] x, bool c)"), {"n": number(1)}),
        (of("n"), {"n": number(2)}),
    ],
)
def test_what_is_not_known_or_runs_longer_stays(text: str, weights: dict[str, object]) -> None:
    assert unroll(text, runs="int64 n" not in text, **weights).applied == ()


def test_a_count_that_sizes_give() -> None:
    text = of("d").replace("float[N]", "float[1]").replace("a = Abs(x)", "a = Abs(x)  s0 = Shape(x)  d = Gather(s0, z)")
    done = unroll(text, z=number(0))
    assert done.body == "a = Abs(x)\nt = Add(a, x)\nr = Tanh(t)\ny = Neg(r)"


def test_the_iteration_number_and_the_condition_become_constants() -> None:
    done = unroll(
        """g (int64[N] x) => (int64[N] y) {
            y = Loop(n, , x)<body = b (int64 i, bool go, int64[N] s) => (bool on, int64[N] next) {
                on = Identity(go)  w = Where(go, s, i)  next = Add(w, i)
            }>
        }""",
        n=number(1),
    )
    assert done.body == "w = Where(go_1, x, i_1)\ny = Add(w, i_1)"
    assert sorted(one.name for one in done.after.graph.initializer) == ["go_1", "i_1"]


@pytest.mark.parametrize(("opset", "axes"), [(11, "<axes=[0]>(o)"), (13, "(o, axes)"), (21, "(o, axes)")])
def test_a_stacked_output(opset: int, axes: str) -> None:
    done = unroll(
        f"""<ir_version: 8, opset_import: ["": {opset}]> g (float[N] x) => (float[N] y, float[M, N] all) {{
            y, all = Loop(n, , x)<body = b (int64 i, bool go, float[N] s) => (bool on, float[N] next, float[N] o) {{
                on = Identity(go)  next = Tanh(s)  o = Neg(next)
            }}>
        }}""",
        n=number(1),
    )
    assert done.body == f"y = Tanh(x)\no = Neg(y)\nall = Unsqueeze{axes}"


def test_two_stacked_outputs_stay() -> None:
    done = unroll(
        """g (float[N] x) => (float[M, N] all, float[M, N] more) {
            y, all, more = Loop(n, , x)<body = b (int64 i, bool go, float[N] s)
                                             => (bool on, float[N] next, float[N] o, float[N] p) {
                on = Identity(go)  next = Tanh(s)  o = Neg(next)  p = Exp(s)
            }>
        }""",
        n=number(1),
    )
    assert_missed(done, "once", "its 2 stacked outputs would take an Unsqueeze each")


def test_a_stacked_output_of_no_trip_stays() -> None:
    done = unroll(
        """g (float[N] x) => (float[M, N] all) {
            y, all = Loop(n, , x)<body = b (int64 i, bool go, float[N] s) => (bool on, float[N] next, float[N] o) {
                on = Identity(go)  next = Tanh(s)  o = Neg(next)
            }>
        }""",
        n=number(0),
    )
    assert_missed(done, "never", "the shape of the stacked output 'all'")


def test_values_that_pass_through() -> None:
    """Also crossed over, and as outputs of the graph that are inputs of it."""
    done = unroll(
        """g (float[N] x, float[N] z) => (float[N] y, float[N] w) {
            y, w = Loop(n, , x, z)<body = b (int64 i, bool go, float[N] s, float[N] t)
                                        => (bool on, float[N] p, float[N] q) {
                on = Identity(go)  p = Identity(t)  q = Identity(s)
            }>
        }""",
        n=number(1),
    )
    assert done.body == "y = Identity(z)\nw = Identity(x)"


def test_loops_in_loops_and_names_in_bodies() -> None:
    done = unroll(
        """g (float[N] x) => (float[N] y) {
            y = Loop(n, , x)<body = b (int64 i, bool go, float[N] s) => (bool on, float[N] next) {
                on = Identity(go)
                next = Loop(n, , s)<body = c (int64 j, bool g, float[N] u) => (bool h, float[N] k) {
                    h = Identity(g)  k = Loop(m, , u)<body = d (int64 l, bool e, float[N] z) => (bool f, float[N] o) {
                        f = Identity(e)  o = Sin(z)
                    }>
                }>
            }>
        }""",
        n=number(1),
        m=number(2),
    )
    assert done.body.splitlines()[0] == "y = Loop(m, , x)" and len(done.applied) == 2


def test_in_a_function() -> None:
    done = unroll(
        """<ir_version: 10, opset_import: ["": 21, "local": 1]>
        g (float[N] x) => (float[N] y) { y = local.f(x) }
        <domain: "local", opset_import: ["": 21]>
        f (a) => (c) {
            n = Constant<value_int = 1>()
            c = Loop(n, , a)<body = b (int64 i, bool go, float[N] s) => (bool on, float[N] next) {
                on = Identity(go)  f0 = Cast<to = 1>(i)  next = Add(s, f0)
            }>
        }"""
    )
    assert done.body.splitlines()[2:] == [
        "  i_1 = Constant<value=int64[] {0}>()",
        "  f0 = Cast<to=1>(i_1)",
        "  c = Add(a, f0)",
    ]


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_body_that_ends_itself_whatever_the_count(count: int) -> None:
    done = unroll(of("n", "yes", "on = Constant<value = bool {0}>()"), n=number(count), yes=np.array(True))
    assert "Loop" not in done.body


def test_a_count_of_another_shape_is_no_count() -> None:
    """One number counts, however many axes it has; two are a model at fault."""
    assert "Loop" not in unroll(of("n", "yes"), n=number(1).reshape(1), yes=np.array(True)).body
    assert apply(UnrollLoops(), model(of("n", "yes"), n=np.array([1, 1]), yes=np.array(True)), laws=False).applied == ()


def test_two_loops_in_one_sweep() -> None:
    body = "<body = b (int64 i, bool go, float[N] s) => (bool on, float[N] next) { on = Identity(go)  next = Tanh(s) }>"
    done = unroll(f"g (float[N] x) => (float[N] y) {{ r = Loop(n, , x){body}  y = Loop(n, , r){body} }}", n=number(1))
    assert done.body == "r = Tanh(x)\ny = Tanh(r)"


def test_a_loop_that_carries_nothing() -> None:
    text = """g (float[N] x) => (float[A, N] y) {
        y = Loop(n, yes)<body = b (int64 i, bool go) => (bool on, float[N] row) {
            on = Identity(go)  row = Tanh(x) }> }"""
    done = unroll(text, n=number(1), yes=np.array(True))
    assert "Loop" not in done.body and [one.rule for one in done.applied] == ["once"]


def test_a_condition_that_the_body_hands_through() -> None:
    text = """g (float[N] x) => (float[N] y) {
        y = Loop(n, yes, x)<body = b (int64 i, bool go, float[N] s) => (bool go, float[N] next) { next = Tanh(s) }> }"""
    done = unroll(text, runs=False, n=number(1), yes=np.array(True))
    assert done.body == "y = Tanh(x)"


def test_a_loop_that_is_none_of_onnx() -> None:
    text = """<ir_version: 8, opset_import: ["": 18, "my": 1]> g (float[N] x) => (float[N] y) {
        y = my.Loop(n, yes, x)<
            body = b (int64 i, bool go, float[N] s) => (bool on, float[N] next) {
                on = Identity(go)  next = Tanh(s) }> }"""
    assert unroll(text, runs=False, n=number(1), yes=np.array(True)).remarks == ()


@pytest.mark.parametrize(("count", "start"), [("k", "yes"), ("m", "yes")])
def test_a_count_that_may_be_zero_though_the_body_ends_itself(count: str, start: str) -> None:
    """It is fed, or the size of an input."""
    text = f"""g (float[N] x, int64 k) => (float[N] y) {{ m = Size(x)
        y = Loop({count}, {start}, x)<body = b (int64 i, bool go, float[N] s) => (bool on, float[N] next) {{
            on = Constant<value = bool {{0}}>()  next = Tanh(s) }}> }}"""
    assert unroll(text, yes=np.array(True)).applied == ()


def test_without_a_count_a_body_that_ends_itself_runs_once() -> None:
    done = unroll(of("", "yes", "on = Constant<value = bool {0}>()"), yes=np.array(True))
    assert "Loop" not in done.body


SEQUENCES = """<ir_version: 8, opset_import: ["": {version}]>
    g (float[N] x, seq(float[N]) q) => (float[N] y, seq(float[N]) p) {{
        y, p = Loop(n, , x, q)<body = b (int64 i, bool go, float[N] s, seq(float[N]) t)
            => (bool on, float[N] next, seq(float[N]) u) {{
            on = Identity(go)  next = Tanh(s)  u = SequenceInsert(t, s) }}> }}"""


@pytest.mark.parametrize(("version", "stays"), [(13, True), (16, False)])
def test_no_trip_of_a_sequence_that_an_identity_cannot_copy(version: int, stays: bool) -> None:
    done = unroll(SEQUENCES.format(version=version), runs=False, n=number(0))
    assert bool(done.applied) != stays
    if stays:
        assert_missed(done, "never", "may need an Identity, which cannot copy it")


def test_no_trip_of_tensors_before_an_identity_takes_all() -> None:
    done = unroll(f'<ir_version: 8, opset_import: ["": 13]> {of("n")}', n=number(0))
    assert "Loop" not in done.body


def test_a_body_with_annotations_stays() -> None:
    """Its names would mean something else outside."""
    proto = model(of("n"), n=number(1), k=np.float32(1))
    body = next(one for one in proto.graph.node if one.op_type == "Loop").attribute[0].g
    note = TensorAnnotation(tensor_name="t")
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="k")
    body.quantization_annotation.append(note)
    assert_missed(apply(UnrollLoops(), proto), "once", "quantization annotations are about values of its body")


def test_once_in_a_function_that_needs_the_number_of_the_trip() -> None:
    """There a constant is a node."""
    text = """<ir_version: 10, opset_import: ["": 18, "f": 1]> g (float[3] x) => (float[3] y) { y = f.go(x) }
        <domain: "f", opset_import: ["": 18]> go (x) => (y) {
            n = Constant<value_int = 1>()  yes = Constant<value = bool {1}>()
            y = Loop(n, yes, x)<body = b (int64 i, bool go, float[3] s) => (bool on, float[3] next) {
                on = Identity(go)  f = Cast<to = 1>(i)  next = Add(s, f) }> }"""
    done = unroll(text)
    assert "Loop" not in str(done.after.functions) and not done.after.graph.initializer


def test_a_condition_that_the_body_computes_with_too() -> None:
    """What says whether to go on stays, and with it what it reads."""
    text = """g (float[N] x) => (float[N] y) {
        y = Loop(n, yes, x)<body = b (int64 i, bool go, float[N] s) => (bool on, float[N] next) {
            on = Not(go)  f = Cast<to = 1>(on)  next = Add(s, f) }> }"""
    done = unroll(text, n=number(1), yes=np.array(True))
    assert "Loop" not in done.body and "Not" in done.body
