"""unread-outputs: what is optional and unread is left out, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorAnnotation

from graphopt.testing import Applied, apply, model
from passes.eliminate.unread_outputs import UnreadOutputs

RNG = np.random.default_rng(0)


def recurrent(op: str, gates: int, outputs: str, read: str, shape: str = "A, B, C") -> Applied:
    text = f"""g (float[S, N, 3] x) => (float[{shape}] y) {{
        {outputs} = {op}<hidden_size = 2>(x, w, r)  y = Neg({read}) }}"""
    w, r = (RNG.normal(size=(1, gates * 2, size)).astype(np.float32) for size in (3, 2))
    return apply(UnreadOutputs(), model(text, w=w, r=r))


@pytest.mark.parametrize(("op", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_recurrent_networks(op: str, gates: int) -> None:
    done = recurrent(op, gates, "a, h", "a", "A, B, C, D")
    assert done.body == f"a = {op}<hidden_size=2>(x, w, r)\ny = Neg(a)"
    assert recurrent(op, gates, "a, h", "h").body == f", h = {op}<hidden_size=2>(x, w, r)\ny = Neg(h)"


def test_outputs_that_are_read_keep_their_place() -> None:
    assert recurrent("LSTM", 4, "a, h, c", "c").body == ", , c = LSTM<hidden_size=2>(x, w, r)\ny = Neg(c)"


def test_masks_and_statistics() -> None:
    text = "g (float[N, 4] x) => (float[N, 4] y) { a, m = Dropout(x)  b, n, v = LayerNormalization(a, s)  y = Neg(b) }"
    done = apply(UnreadOutputs(), model(text, s=np.ones(4, np.float32)))
    assert done.body == "a = Dropout(x)\nb = LayerNormalization(a, s)\ny = Neg(b)"
    assert [one.rule for one in done.applied] == ["unread", "unread"]


def test_graph_outputs_and_readers_in_bodies() -> None:
    text = """g (bool c, float[N] x) => (float[N] y, bool[N] m) { a, m = Dropout(x)  b, n = Dropout(a)  d = Neg(b)
        y = If(c)<then_branch = t () => (float[N] o) { k = Cast<to = 1>(n)  o = Mul(k, d) },
                  else_branch = e () => (float[N] o) { o = Abs(d) }> }"""
    assert apply(UnreadOutputs(), model(text)).applied == ()


def test_inside_bodies_and_functions() -> None:
    text = """<ir_version: 10, opset_import: ["": 21, "f": 1]> g (bool c, float[N] x) => (float[N] z) {
        y = If(c)<then_branch = t () => (float[N] o) { p, m = Dropout(x)  o = Neg(p) },
                  else_branch = e () => (float[N] o) { o = Abs(x) }>
        z = f.go(y) }
    <domain: "f", opset_import: ["": 21]> go (x) => (y) { a, m = Dropout(x)  y = Neg(a) }"""
    done = apply(UnreadOutputs(), model(text))
    assert "p = Dropout(x)" in done.body and "a = Dropout(x)" in done.body and len(done.applied) == 2


def test_what_is_not_optional_or_decides() -> None:
    text = """g (float[1, 1, 4] x) => (float[1, 1, 2] y) {
        a, i = MaxPool<kernel_shape = [2], strides = [2]>(x)  b, j = TopK(a, k)
        c, d = Split<axis = 2, num_outputs = 2>(x)
        y = Add(b, c) }"""
    assert apply(UnreadOutputs(), model(text, k=np.array([2]))).applied == ()


def test_nothing_is_read() -> None:
    text = "g (float[S, N, 3] x) => (float[S, N, 3] y) { a, h = RNN<hidden_size = 2>(x, w, r)  y = Neg(x) }"
    w, r = np.ones((1, 2, 3), np.float32), np.ones((1, 2, 2), np.float32)
    assert apply(UnreadOutputs(), model(text, w=w, r=r)).applied == ()


@pytest.mark.parametrize(
    ("step", "kept"),
    [
        ("a, i, j, k = Unique(x)", "a = Unique(x)"),
        ("a, l = SoftmaxCrossEntropyLoss(m, t)", "a = SoftmaxCrossEntropyLoss(m, t)"),
    ],
)
def test_each_output_that_is_optional(step: str, kept: str) -> None:
    text = f"g (float[N] x, float[N, C] m, int64[N] t) => (float[K] y) {{ {step}  y = Neg(a) }}"
    assert apply(UnreadOutputs(), model(text), laws=False).body.startswith(f"{kept}\n")


@pytest.mark.parametrize("step", ["a, b = Dropout(x)", "a, b = Unique(x)", "a, b = LayerNormalization(x, s)"])
def test_the_first_output_stays_where_only_another_is_read(step: str) -> None:
    text = f"g (float[N, 4] x) => (float[K] y) {{ {step}  y = Cast<to = 1>(b) }}"
    assert apply(UnreadOutputs(), model(text, s=np.ones(4, np.float32)), laws=False).applied == ()


def test_an_output_that_an_annotation_is_about_stays() -> None:
    proto = model("g (float[N] x) => (float[N] y) { a, m = Dropout(x)  y = Neg(a) }", k=np.float32(2))
    note = TensorAnnotation(tensor_name="m")
    entry = note.quant_parameter_tensor_names.add()
    entry.key, entry.value = "SCALE_TENSOR", "k"
    proto.graph.quantization_annotation.append(note)
    assert apply(UnreadOutputs(), proto).applied == ()
