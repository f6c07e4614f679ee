"""Operators with bodies, functions and lists, against onnxruntime; and gradients through them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from graphopt.testing.text import model
from graphopt.training.agreement import distance
from graphopt.training.program import Program

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'graphopt[distill]'")


def check(proto: Any, **feeds: Any) -> None:
    expected = ort.InferenceSession(proto.SerializeToString()).run(None, feeds)
    with torch.no_grad():
        made = Program.of(proto)({name: torch.from_numpy(np.asarray(one)) for name, one in feeds.items()})
    for name, wanted in zip(made, expected, strict=True):
        assert distance(made[name].numpy(), wanted) < 1e-6, name


CHOICE = """g (float[3] x, bool c) => (float[3] y) {
    d = Exp(x)
    y = If (c) <
        then_branch = t () => (float[3] a) { a = Mul(d, w) },
        else_branch = e () => (float[3] b) { s = Add(d, w)  b = Neg(s) }
    >
}"""


@pytest.mark.parametrize("taken", [True, False])
def test_if(taken: bool) -> None:
    proto = model(CHOICE, w=np.array([1, 2, 3], np.float32))
    check(proto, x=np.array([0.1, -1, 2], np.float32), c=np.array(taken))


def test_gradients_reach_captured_weights() -> None:
    program = Program.of(model(CHOICE, w=np.ones(3, np.float32)))
    program.parameters["w"].requires_grad_(True)
    program({"x": torch.zeros(3), "c": torch.tensor(False)})["y"].sum().backward()
    assert program.parameters["w"].grad.tolist() == [-1, -1, -1]


LOOP = """g (int64 n, bool c, float[2] x) => (float[2] last, float[K, 2] every) {
    last, every = Loop (n, c, x) <
        body = b (int64 i, bool going, float[2] v) => (bool more, float[2] next, float[2] seen) {
            f = Cast<to = 1>(i)
            g = Mul(v, w)
            next = Add(g, f)
            seen = Neg(next)
            s = ReduceSum<keepdims = 0>(next)
            more = Less(s, limit)
        }
    >
}"""


@pytest.mark.parametrize(("turns", "go"), [(3, True), (100, True), (3, False)])
def test_loop(turns: int, go: bool) -> None:
    proto = model(LOOP, w=np.array([1.5, 0.5], np.float32), limit=np.float32(30))
    if not go:
        made = Program.of(proto)({"n": torch.tensor(turns), "c": torch.tensor(go), "x": torch.ones(2)})
        assert made["last"].tolist() == [1, 1]
        assert made["every"].numel() == 0
        return
    check(proto, n=np.array(turns), c=np.array(go), x=np.array([1, 2], np.float32))


def test_gradients_through_turns() -> None:
    program = Program.of(model(LOOP, w=np.array([1.5, 0.5], np.float32), limit=np.float32(1e9)), compute="float64")
    x = torch.ones(2, dtype=torch.float64, requires_grad=True)
    program({"n": torch.tensor(3), "c": torch.tensor(True), "x": x})["last"].sum().backward()
    assert x.grad.tolist() == [1.5**3, 0.5**3]


SCAN = """g (float[2] s, float[3, 4, 2] x, float[4, 3] k) => (float[2] last, float[A, B] every, float[C, D] other) {
    last, every, other = Scan <
        num_scan_inputs = 2, scan_input_axes = [1, 0], scan_input_directions = [0, 1],
        scan_output_axes = [0, 1], scan_output_directions = [1, 0],
        body = b (float[2] h, float[3, 2] v, float[3] u) => (float[2] next, float[2] seen, float[3] more) {
            t = MatMul(u, v)
            next = Add(h, t)
            seen = Tanh(next)
            more = Neg(u)
        }
    > (s, x, k)
}"""


def test_scan() -> None:
    rng = np.random.default_rng(0)
    x, k = rng.standard_normal((3, 4, 2), np.float32), rng.standard_normal((4, 3), np.float32)
    check(model(SCAN), s=np.zeros(2, np.float32), x=x, k=k)


FUNCTIONS = """<ir_version: 10, opset_import: ["": 21, "my": 1]>
g (float[3] x) => (float[3] y) { a = my.Twice<by = 3.0>(x)  y = my.Twice(a) }
<domain: "my", opset_import: ["": 21, "my": 1]> Twice <by: float = 2.0> (v) => (r) {
    c = Constant<value_float: float = @by>()
    m = my.Inner(v)
    r = Mul(m, c)
}
<domain: "my", opset_import: ["": 21]> Inner (v) => (r) { one = Constant<value_float = 1.0>()  r = Add(v, one) }
"""


def test_functions() -> None:
    check(model(FUNCTIONS), x=np.array([1, 2, 3], np.float32))


def test_constants_of_two_calls_are_parameters_of_their_own() -> None:
    values = sorted(one.item() for one in Program.of(model(FUNCTIONS)).parameters.values())
    assert values == [1, 1, 2, 3]


def test_lists() -> None:
    proto = model(
        """g (float[5, 2] x, int64[2] s) => (float[A, 2] y, float[B, 2] z, int64 n) {
        parts = SplitToSequence(x, s)
        first = SequenceAt(parts, zero)
        more = SequenceInsert(parts, first)
        y = ConcatFromSequence<axis = 0>(more)
        less = SequenceErase(more, zero)
        z = ConcatFromSequence<axis = 0>(less)
        n = SequenceLength(less)
    }""",
        zero=np.array(0),
    )
    check(proto, x=np.arange(10, dtype=np.float32).reshape(5, 2), s=np.array([2, 3]))
