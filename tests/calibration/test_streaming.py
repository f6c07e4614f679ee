"""Every way to stream gives accumulators the same values, and holds no more of them than it may."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from asking import Asking, Kept

from graphopt.analysis.activations import Extremes, Gram, Observation, Observed, Original
from graphopt.calibration import tapped
from graphopt.errors import CouldNotTell
from graphopt.runtime.client import Worker
from graphopt.testing import model

TEXT = """g (float[N,4] x) => (float[N,3] y) {
    a = MatMul(x, w)  b = Relu(a)  c = Exp(b)  d = Mul(c, c)  y = Sub(d, a)
}"""
WEIGHT = np.random.default_rng(0).normal(0, 0.3, (4, 3)).astype(np.float32)
ROWS = np.random.default_rng(1).normal(0, 1, (12, 4)).astype(np.float32)


def chain() -> onnx.ModelProto:
    return model(TEXT, w=WEIGHT)


def expected() -> dict[str, Any]:
    a = ROWS @ WEIGHT
    b = np.maximum(a, 0)
    c = np.exp(b)
    return {"x": ROWS, "a": a, "b": b, "c": c, "d": c * c, "y": c * c - a}


def cut(sizes: list[int]) -> list[dict[str, Any]]:
    ends = np.cumsum(sizes)
    return [{"x": ROWS[end - size : end]} for end, size in zip(ends, sizes, strict=True)]


def kept(asked: Asking, *names: str) -> tuple[dict[str, Kept], Observed]:
    found = {name: Kept() for name in names}
    return found, asked.observe(*(Observation((asked.value(name),), one) for name, one in found.items()))


@pytest.mark.parametrize("bound", [1, 60, 500, 1 << 20])
@pytest.mark.parametrize("sizes", [[12], [5, 7], [1] * 12])
def test_values_are_those_of_the_graph_whatever_may_be_held(bound: int, sizes: list[int]) -> None:
    found, answer = kept(Asking(chain(), cut(sizes), bound), *expected())
    assert answer.feeds == len(sizes) and not answer.refused
    for name, value in expected().items():
        assert np.allclose(found[name].all(), value, rtol=1e-5, atol=1e-6), name
    if bound == 1:
        assert all(len(values[0]) == 1 for values in found["a"].seen)  # a sample at a time


def test_values_of_one_question_come_together() -> None:
    asked, pair = Asking(chain(), cut([12]), 60), Kept()
    asked.observe(Observation((asked.value("a"), asked.value("x"), Original("y")), pair))
    for a, x, y in pair.seen:
        assert np.allclose(a, x @ WEIGHT, rtol=1e-5, atol=1e-6)
        assert len(y) == len(x)
    assert np.allclose(pair.all(2), expected()["y"], rtol=1e-5, atol=1e-6)


def test_the_graph_as_it_is_and_the_model_as_it_was_are_told_apart() -> None:
    asked, now, before = Asking(chain(), cut([12])), Kept(), Kept()
    relu = next(node for node in asked.graph.nodes if node.op == "Relu")
    relu.op = "Neg"
    asked.observe(Observation((asked.value("b"),), now), Observation((Original("b"),), before))
    a = expected()["a"]
    assert np.allclose(now.all(), -a) and np.allclose(before.all(), np.maximum(a, 0))


def test_samples_that_depend_on_one_another_stay_together() -> None:
    """Where the leading axis is no batch, cutting it would change what is computed."""
    text = "g (float[N,4] x) => (float[N,4] y) { m = ReduceMax<keepdims=1>(x, k)  s = Sub(x, m)  y = Exp(s) }"
    proto = model(text, k=np.array([0], np.int64))
    found, answer = kept(Asking(proto, cut([12]), 1), "s", "y")
    assert not answer.refused
    assert np.allclose(found["s"].all(), ROWS - ROWS.max(0, keepdims=True), rtol=1e-5)


def test_fixed_leading_dims_are_not_cut() -> None:
    proto = model("g (float[12,4] x) => (float[12,4] y) { a = Relu(x)  y = Exp(a) }")
    found, _ = kept(Asking(proto, cut([12]), 1), "a", "y")
    assert [len(values[0]) for values in found["a"].seen] == [12]


def test_feeds_of_different_shapes() -> None:
    proto = model("g (float[N,T] x) => (float[N,T] y) { a = Relu(x)  y = Exp(a) }")
    feeds = [{"x": np.full(shape, index, np.float32)} for index, shape in enumerate([(1, 3), (4, 9), (2, 1)], 1)]
    for bound in (1, 40, 1 << 20):
        found, answer = kept(Asking(proto, feeds, bound), "a")
        assert answer.feeds == 3
        sizes = [sum(values[0].size for values in found["a"].seen if values[0].flat[0] == index) for index in (1, 2, 3)]
        assert sizes == [3, 36, 2]


def test_several_inputs_and_scalars_are_fed_as_they_are() -> None:
    text = (
        "g (float[N,4] x, float s, float[2,1] state) => (float[N,4] y) {"
        " t = ReduceSum<keepdims=0>(state)  a = Mul(x, s)  y = Add(a, t) }"
    )
    feed = {"x": ROWS, "s": np.float32(2).reshape(()), "state": np.array([[1], [2]], np.float32)}
    found, answer = kept(Asking(model(text), [feed], 1), "a", "y", "state")
    assert not answer.refused
    assert np.allclose(found["y"].all(), ROWS * 2 + 3, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "why"),
    [("w", "it is a constant"), ("q", "it is no tensor of numbers"), ("t", "it is no tensor of numbers")],
)
def test_what_cannot_be_seen_is_refused_alone(name: str, why: str) -> None:
    text = """g (float[N,4] x) => (float[N,3] y, seq(float[N,3]) q) {
        y = MatMul(x, w)  q = SequenceConstruct(y, y)  f = Cast<to=8>(y)  t = Identity(f)
    }"""
    asked = Asking(model(text, w=WEIGHT), cut([12]))
    other, refused = Observation((asked.value("y"),), Extremes()), Observation((asked.value(name),), Extremes())
    answer = asked.observe(other, refused)
    assert answer.refused == {refused: why}
    assert np.isclose(other.accumulator.high, (ROWS @ WEIGHT).max())  # type: ignore[attr-defined]


def test_a_name_that_the_model_did_not_have() -> None:
    asked = Asking(chain(), cut([12]))
    answer = asked.observe(Observation((Original("nothing"),), Extremes()))
    assert list(answer.refused.values()) == ["the model as it was read has no such value"]


def test_a_model_that_does_not_run_says_so() -> None:
    proto = model("g (float[N,4] x) => (float[N,2] y) { y = Reshape(x, s) }", s=np.array([-1, 7], np.int64))
    asked = Asking(proto, cut([12]))
    answer = asked.observe(Observation((asked.value("y"),), Extremes()))
    (why,) = answer.refused.values()
    assert why.startswith("the model does not run on the calibration feeds: ") and "Reshape" in why


def test_no_feeds_is_the_reason_for_everything() -> None:
    asked = Asking(chain(), [])

    def none() -> Any:
        raise CouldNotTell("the model accepted none of 64 generated inputs.")

    asked.data.make = none
    assert asked.observer.why_not == "the model accepted none of 64 generated inputs"
    answer = asked.observe(Observation((asked.value("y"),), Extremes()))
    assert list(answer.refused.values()) == ["the model accepted none of 64 generated inputs"]


def test_large_models_are_written_beside_their_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No message holds all weights, and every file is gone at the end."""
    monkeypatch.setattr(tapped, "MESSAGE", 1024)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    sent = list[Any]()
    load = Worker.load

    def loaded(worker: Any, made: Any, *rest: Any, **how: Any) -> Any:
        sent.append(made)
        return load(worker, made, *rest, **how)

    monkeypatch.setattr(Worker, "load", loaded)
    wide = np.random.default_rng(0).normal(0, 0.1, (4, 500)).astype(np.float32)
    proto = model("g (float[N,4] x) => (float[N,500] y) { a = MatMul(x, w)  b = Relu(a)  y = Exp(b) }", w=wide)
    found, answer = kept(Asking(proto, cut([12]), 2000), "a", "b", "y")
    assert not answer.refused
    assert np.allclose(found["a"].all(), ROWS @ wide, rtol=1e-4, atol=1e-5)
    assert len(sent) > 2 and all(isinstance(made, Path) for made in sent)
    assert list(tmp_path.iterdir()) == []


def test_the_user_s_arrays_stay_writable() -> None:
    feeds = cut([12])
    asked = Asking(chain(), feeds)
    asked.observe(Observation((asked.value("x"),), Gram()))
    assert feeds[0]["x"].flags.writeable
