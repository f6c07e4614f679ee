"""no-op-but-zero-sign: plus 0.0 goes where nobody can tell which zero comes out."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.testing import Applied, apply, assert_missed, model
from passes.eliminate.no_op_but_zero_sign import NoOpButZeroSign

F = np.float32


def rounded(body: str, shape: str = "N, 4", out: str = "K, L", version: int = 18, **weights: object) -> Applied:
    text = f'<ir_version: 8, opset_import: ["": {version}]> g (float[{shape}] x) => (float[{out}] y) {{ {body} }}'
    return apply(NoOpButZeroSign(), model(text, **weights))


@pytest.mark.parametrize(("step", "zero"), [("Add(x, k)", 0.0), ("Add(k, x)", 0.0), ("Sub(x, k)", -0.0)])
def test_plus_zero(step: str, zero: float) -> None:
    for shape in ((), (1,), (4,), (1, 4)):
        done = rounded(f"a = {step}  y = Neg(a)", k=np.full(shape, zero, F))
        assert done.body == "y = Neg(x)" and not done.after.graph.initializer


def test_zero_minus_is_no_copy() -> None:
    assert rounded("a = Sub(k, x)  y = Neg(a)", k=F(0)).applied == ()
    assert rounded("a = Add(x, k)  y = Neg(a)", k=np.array([0, 0, 0, 1], F)).applied == ()


def test_zeros_that_enlarge() -> None:
    done = rounded("a = Add(x, k)  y = Neg(a)", "1, 4", k=np.zeros((3, 1), F))
    assert_missed(done, "zero", "it may change the shape")


@pytest.mark.parametrize("reader", ["Reciprocal(a)", "Div(x, a)", "Pow(a, k)", "Sqrt(a)  c = Reciprocal(b)", "Atan(a)"])
def test_somebody_may_tell_which_zero(reader: str) -> None:
    body = f"a = Add(x, z)  b = {reader}  d = Neg(b)  y = Exp(d)"
    assert_missed(rounded(body, z=F(0), k=F(2)), "zero", "may tell -0.0 from 0.0")


@pytest.mark.parametrize("reader", ["Div(a, k)", "Exp(a)", "Softmax(a)", "MatMul(a, w)  c = Reciprocal(b)"])
def test_nobody_can_tell_which_zero(reader: str) -> None:
    body = f"a = Add(x, z)  b = {reader}  y = Abs(b)"
    done = rounded(body, z=F(0), k=F(2), w=np.ones((4, 4), F))
    assert "Add" not in done.body


def test_casts_to_integers_and_back() -> None:
    lost = "a = Add(x, z)  b = Cast<to = 7>(a)  c = Cast<to = 1>(b)  y = Reciprocal(c)"
    assert (
        "Add"
        not in apply(NoOpButZeroSign(), model(f"g (float[N] x) => (float[N] y) {{ {lost} }}", z=F(0)), feeds=()).body
    )
    kept = lost.replace("to = 7", "to = 11")
    done = apply(NoOpButZeroSign(), model(f"g (float[N] x) => (float[N] y) {{ {kept} }}", z=F(0)), feeds=())
    assert_missed(done, "zero", "Reciprocal")


def test_values_that_leave_a_body() -> None:
    text = """g (bool c, float[N] x) => (float[N] y) {
        b = If(c)<then_branch = t () => (float[N] o) { p = Add(x, z)  o = Neg(p) },
                  else_branch = e () => (float[N] o) { o = Abs(x) }>
        y = Neg(b) }"""
    done = apply(NoOpButZeroSign(), model(text, z=F(0)))
    assert_missed(done, "zero", "leaves a body or function")
    text = text.replace("o = Neg(p)", "o = Exp(p)")
    assert "Add" not in apply(NoOpButZeroSign(), model(text, z=F(0))).body


def test_too_many_readers_to_look_at() -> None:
    readers = "  ".join(f"r{i} = Neg(a)" for i in range(300))
    text = f"g (float[N] x) => (float[N] y) {{ a = Add(x, z)  {readers}  y = Sum(r0, r299) }}"
    assert_missed(apply(NoOpButZeroSign(), model(text, z=F(0))), "zero", "too many values")


def test_where() -> None:
    text = "g (float[N] p, float[N] q) => (float[N] y) { z = Where(k, p, q)  y = Neg(z) }"
    assert apply(NoOpButZeroSign(), model(text, k=np.array(False))).body == "y = Neg(q)"
    text = "g (bool[N] c, float[N] p) => (float[N] y) { z = Where(c, p, p)  y = Neg(z) }"
    assert apply(NoOpButZeroSign(), model(text)).body == "y = Neg(p)"


@pytest.mark.parametrize("op", ["ReduceSum", "ReduceMean"])
def test_sums_of_one_element(op: str) -> None:
    assert rounded(f"a = {op}(x, k)  y = Neg(a)", "N, 1", k=np.array([1])).body == "y = Neg(x)"
    assert rounded(f"a = {op}(x, k)  y = Neg(a)", "N, 2", k=np.array([1])).applied == ()
    done = rounded(f"a = {op}<keepdims = 0>(x, k)  y = Neg(a)", "N, 1", "K", k=np.array([1]))
    assert done.applied == ()


def test_a_window_of_one_element() -> None:
    images = ("N, 2, 3, 3", "A, B, C, D")
    assert rounded("a = AveragePool<kernel_shape = [1, 1]>(x)  y = Neg(a)", *images).body == "y = Neg(x)"
    for other in ("strides = [2, 2]", "pads = [0, 0, 1, 1]"):
        step = f"a = AveragePool<kernel_shape = [1, 1], {other}>(x)  y = Neg(a)"
        if "pads" in other:
            step = step.replace("pads", "count_include_pad = 1, pads")
            assert (
                apply(
                    NoOpButZeroSign(), model(f"g (float[1, 2, 3, 3] x) => (float[A, B, C, D] y) {{ {step} }}"), feeds=()
                ).applied
                == ()
            )
            continue
        assert rounded(step, *images).applied == ()


def test_biases_of_convolutions() -> None:
    weights = {"w": np.ones((2, 2, 1, 1), F), "b": np.zeros(2, F)}
    for op in ("Conv", "ConvTranspose"):
        done = rounded(f"y = {op}(x, w, b)", "N, 2, 3, 3", "A, B, C, D", **weights)
        assert done.body == f"y = {op}(x, w)"
        assert [one.name for one in done.after.graph.initializer] == ["w"]
    weights["b"] = np.array([0, 1], F)
    assert rounded("y = Conv(x, w, b)", "N, 2, 3, 3", "A, B, C, D", **weights).applied == ()


def test_the_third_input_of_gemm() -> None:
    weights = {"w": np.ones((4, 2), F), "b": np.zeros(2, F)}
    assert rounded("y = Gemm(x, w, b)", **weights).body == "y = Gemm(x, w)"
    assert rounded("y = Gemm(x, w, b)", version=10, **weights).applied == ()


def test_biases_that_others_read() -> None:
    done = rounded("c = Gemm(x, w, b)  y = Sum(c, b)", w=np.ones((4, 2), F), b=np.zeros(2, F))
    assert done.body == "c = Gemm(x, w)\ny = Sum(c, b)"


def test_layer_normalization() -> None:
    weights = {"s": np.ones(4, F), "b": np.zeros(4, F)}
    assert rounded("y = LayerNormalization(x, s, b)", **weights).body == "y = LayerNormalization(x, s)"
    done = rounded("a = LayerNormalization(x, s, b)  y = Atan(a)", **weights)
    assert_missed(done, "bias", "may tell -0.0 from 0.0")


def lstm(initial: np.ndarray) -> Applied:
    text = """g (float[S, N, 3] x) => (float[S, D, N, 2] y) {
        y = LSTM<hidden_size = 2>(x, w, r, b, , h, c) }"""
    rng = np.random.default_rng(0)
    w, r = rng.normal(size=(1, 8, 3)).astype(F), rng.normal(size=(1, 8, 2)).astype(F)
    feeds = [{"x": rng.normal(size=(4, 1, 3)).astype(F)}]
    made = model(text, w=w, r=r, b=np.zeros((1, 16), F), h=np.zeros((1, 1, 2), F), c=initial)
    return apply(NoOpButZeroSign(), made, feeds=feeds)


def test_biases_and_states_of_recurrent_networks() -> None:
    assert lstm(np.zeros((1, 1, 2), F)).body == "y = LSTM<hidden_size=2>(x, w, r)"
    assert lstm(np.ones((1, 1, 2), F)).body == "y = LSTM<hidden_size=2>(x, w, r, , , , c)"


def test_an_overridable_bias_is_no_constant() -> None:
    text = "g (float[N, 4] x, float[2] b) => (float[N, 2] y) { y = Gemm(x, w, b) }"
    assert apply(NoOpButZeroSign(), model(text, w=np.ones((4, 2), F), b=np.zeros(2, F))).applied == ()


@pytest.mark.parametrize(("fill", "expected"), [(0.0, "(x, w, r)"), (1.0, "(x, w, r, , , h, c)")])
def test_states_that_are_computed_for_the_batch(fill: float, expected: str) -> None:
    text = f"""g (float[S, N, 3] x) => (float[S, D, N, 2] y) {{
        s = Shape<start = 1, end = 2>(x)  t = Concat<axis = 0>(two, s, two)
        f = ConstantOfShape<value = float[1] {{{fill}}}>(t)  h, c = Split<num_outputs = 2>(f)
        y = LSTM<hidden_size = 2>(x, w, r, , , h, c)
    }}"""
    rng = np.random.default_rng(0)
    w, r = rng.normal(size=(1, 8, 3)).astype(F), rng.normal(size=(1, 8, 2)).astype(F)
    feeds = [{"x": rng.normal(size=(4, batch, 3)).astype(F)} for batch in (1, 3)]
    done = apply(NoOpButZeroSign(), model(text, w=w, r=r, two=np.array([2])), feeds=feeds)
    assert done.body.endswith(f"y = LSTM<hidden_size=2>{expected}")


def test_what_goes_through_two_recurrent_networks() -> None:
    text = """g (float[S, N, 2] x) => (float[S, D, N, 2] z) {
        y = LSTM<hidden_size = 2>(x, w, r, b)  a = Squeeze(y, one)  z = LSTM<hidden_size = 2>(a, w, r)
    }"""
    rng = np.random.default_rng(0)
    w, r = rng.normal(size=(1, 8, 2)).astype(F), rng.normal(size=(1, 8, 2)).astype(F)
    feeds = [{"x": rng.normal(size=(4, 1, 2)).astype(F)}]
    done = apply(NoOpButZeroSign(), model(text, w=w, r=r, b=np.zeros((1, 16), F), one=np.array([1])), feeds=feeds)
    assert "y = LSTM<hidden_size=2>(x, w, r)" in done.body


def test_where_not() -> None:
    text = "g (bool[N] c, float[N] p) => (float[N] y) {{ n = Not(c)  a = Where(n, p, k)  y = {}(a) }}"
    done = apply(NoOpButZeroSign(), model(text.format("Exp"), k=F(0)))
    assert done.body == "a = Where(c, k, p)\ny = Exp(a)"
    assert_missed(apply(NoOpButZeroSign(), model(text.format("Reciprocal"), k=F(0))), "where-not", "-0.0")


# How each operator is written that hands -0.0 on, or may; between them stand "Add(x, z)" and what reads this.
CARRY = {
    **{
        op: f"{op}(a)"
        for op in ("Neg", "Relu", "LeakyRelu", "Elu", "Clip", "Sum", "Mean", "Min", "Max", "Sqrt", "Tanh")
    },
    **{op: f"{op}(a)" for op in ("Erf", "Sin", "Ceil", "Floor", "Round", "Gelu", "HardSwish", "Identity", "Transpose")},
    **{op: f"{op}(a, x)" for op in ("Add", "Sub", "Mul", "PRelu")},
    **{op: f"{op}<keepdims = 1>(a)" for op in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin")},
    "Where": "Where(e, a, x)",
    "BatchNormalization": "BatchNormalization(a, f4, f4, f4, f4)",
    "Concat": "Concat<axis = 0>(a, x)",
    "Slice": "Slice(a, i1, i4, i1)",
    "Split": "Split<axis = 1, num_outputs = 1>(a)",
    "Gather": "Gather(a, i1)",
    "Pad": "Pad(a, i0011)",
    "Expand": "Expand(a, i11)",
    "Tile": "Tile(a, i11)",
    "LayerNormalization": "LayerNormalization(a, f4)",
    "Dropout": "Dropout(a)",
}
LOSE = {
    **{op: f"{op}(a)" for op in ("Abs", "Exp", "Sigmoid", "HardSigmoid", "Softmax", "LogSoftmax", "Softplus", "Sign")},
    **{op: f"{op}(a)" for op in ("Cos", "Log")},
    **{op: f"{op}(a, x)" for op in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")},
    **{op: f"{op}(a)" for op in ("IsNaN", "IsInf", "Shape", "Size", "ArgMax", "ArgMin")},
    "MatMul": "MatMul(a, w)",
    "Gemm": "Gemm(a, w)",
    "QuantizeLinear": "QuantizeLinear(a, s, q)",
}


def read_by(step: str, last: str) -> Applied:
    """Laws aside: which operators there are is the question, not what they compute."""
    weights: dict[str, object] = {"z": F(0), "f4": np.ones(4, F), "w": np.ones((4, 4), F), "s": F(1), "q": np.uint8(0)}
    weights |= {"e": np.ones((1, 4), np.bool_), "i1": np.array([1]), "i4": np.array([4]), "i11": np.array([1, 1])}
    weights |= {"i0011": np.array([0, 0, 1, 1])}
    head = '<ir_version: 9, opset_import: ["": 20]>'
    text = f"{head} g (float[N, 4] x) => (float[A] y) {{ a = Add(x, z)  b = {step}  {last} }}"
    return apply(NoOpButZeroSign(), model(text, **weights), laws=False)


@pytest.mark.parametrize("op", list(CARRY))
def test_each_operator_that_hands_the_sign_on(op: str) -> None:
    """What reads its result decides."""
    assert "Add(x, z)" not in read_by(CARRY[op], "y = Abs(b)").body
    assert_missed(read_by(CARRY[op], "y = Reciprocal(b)"), "zero", "Reciprocal")


@pytest.mark.parametrize("op", list(LOSE))
def test_each_operator_that_does_not(op: str) -> None:
    assert "Add(x, z)" not in read_by(LOSE[op], "y = Cast<to = 1>(b)").body


OPTIONAL_BIASES = {
    "LayerNormalization": ("LayerNormalization(x, f4, zeros)", 17),
    "QLinearConv": ("QLinearConv(u, s, q, v, s, q, s, q, none)", 10),
    "RNN": ("RNN<hidden_size = 1>(x3, r1, r1, zeros2)", 7),
    "GRU": ("GRU<hidden_size = 1>(x3, r3, r3, zeros6)", 7),
    "LSTM": ("LSTM<hidden_size = 1>(x3, r4, r4, zeros8)", 7),
    "GRU state": ("GRU<hidden_size = 1>(x3, r3, r3, , , zeros1)", 7),
    "RNN state": ("RNN<hidden_size = 1>(x3, r1, r1, , , zeros1)", 7),
    "LSTM cell": ("LSTM<hidden_size = 1>(x3, r4, r4, , , , zeros1)", 7),
    "Conv": ("Conv(i, k, zero)", 1),
    "ConvTranspose": ("ConvTranspose(i, k, zero)", 1),
}


@pytest.mark.parametrize("op", list(OPTIONAL_BIASES))
def test_each_bias_from_the_first_version_on_that_takes_it(op: str) -> None:
    step, since = OPTIONAL_BIASES[op]
    weights: dict[str, object] = {"f4": np.ones(4, F), "zeros": np.zeros(4, F), "s": F(1), "q": np.uint8(0)}
    weights |= {f"r{n}": np.ones((1, n, 1), F) for n in (1, 3, 4)} | {
        f"zeros{n}": np.zeros((1, n), F) for n in (2, 6, 8)
    }
    weights |= {"zeros1": np.zeros((1, 1, 1), F), "k": np.ones((1, 1, 1, 1), F), "zero": np.zeros(1, F)}
    weights |= {"v": np.ones((1, 1, 1, 1), np.uint8), "none": np.zeros(1, np.int32)}
    inputs = "float[N, 4] x, float[S, 1, 1] x3, float[1, 1, 2, 2] i, uint8[1, 1, 2, 2] u"
    for version in {since, max(since, 7), 18}:
        text = f'<ir_version: 8, opset_import: ["": {version}]> g ({inputs}) => (float[A] y) {{ y = {step} }}'
        done = apply(NoOpButZeroSign(), model(text, **weights), laws=False)
        assert [one.rule for one in done.applied] == ["bias"], version
        assert "zero" not in done.body and "none" not in done.body


def test_a_bias_after_which_the_sign_cannot_be_read() -> None:
    """A sum that starts from 0.0 is never -0.0, whatever reads it; a normalization may be."""
    weights = {"w": np.ones((4, 4), F), "b": np.zeros(4, F)}
    assert rounded("a = Gemm(x, w, b)  y = Reciprocal(a)", **weights).body == "a = Gemm(x, w)\ny = Reciprocal(a)"


def test_integers_and_old_versions_are_left() -> None:
    text = "g (int32[N] x) => (int32[N] y) { a = Add(x, k)  y = Neg(a) }"
    assert apply(NoOpButZeroSign(), model(text, k=np.int32(0))).applied == ()
    for version, applied in ((6, False), (7, True)):
        head = f'<ir_version: 8, opset_import: ["": {version}]>'
        old = f"{head} g (float[N] x) => (float[N] y) {{ a = Add(x, k)  y = Neg(a) }}"
        assert bool(apply(NoOpButZeroSign(), model(old, k=np.zeros(1, F)), laws=False).applied) == applied


def test_as_many_reads_as_are_followed() -> None:
    for count, gone in ((256, True), (257, False)):
        steps = "  ".join(f"b{at} = Abs(a)" for at in range(count - 1))
        text = f"g (float[N] x) => (float[N] y) {{ a = Add(x, z)  y = Abs(a)  {steps} }}"
        done = apply(NoOpButZeroSign(), model(text, z=F(0)), laws=False)
        assert ("Add" not in done.body) == gone


def test_a_bias_in_integers_goes_whatever_reads_the_result() -> None:
    text = """g (uint8[1, 1, 2, 2] u) => (float[A, B, C, D] y) {
        a = QLinearConv(u, s, q, v, s, q, s, q, b)  y = DequantizeLinear(a, s, q) }"""
    weights = {"s": F(1), "q": np.uint8(0), "v": np.ones((1, 1, 1, 1), np.uint8), "b": np.zeros(1, np.int32)}
    assert apply(NoOpButZeroSign(), model(text, **weights)).body.startswith("a = QLinearConv(u, s, q, v, s, q, s, q)\n")


def test_a_transposed_convolution_is_never_minus_zero_either() -> None:
    text = "g (float[1, 1, A, B] x) => (float[1, 1, C, D] y) { a = ConvTranspose(x, w, b)  y = Reciprocal(a) }"
    done = apply(NoOpButZeroSign(), model(text, w=np.ones((1, 1, 1, 1), F), b=np.zeros(1, F)), laws=False)
    assert done.body == "a = ConvTranspose(x, w)\ny = Reciprocal(a)"


def test_a_convolution_loses_the_sign() -> None:
    text = "g (float[1, 1, A, B] x) => (float[1, 1, C, D] y) { a = Add(x, z)  b = Conv(a, w)  y = Reciprocal(b) }"
    done = apply(NoOpButZeroSign(), model(text, w=np.ones((1, 1, 1, 1), F), z=F(0)), laws=False)
    assert "Add" not in done.body
