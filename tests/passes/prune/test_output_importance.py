"""How many units of each group go by what the outputs lose, measured, or as a table predicts it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from graphopt.testing import apply, model
from graphopt.testing.apply import Applied
from passes.prune.channels import Channels
from passes.prune.heads import Heads
from passes.prune.neurons import Neurons
from passes.prune.predicted_errors import parsed

TEXT = """agraph (float[B, 8] x) => (float[B, 6] y) <float few = {0.001}> {
    a = MatMul(x, w1)  b = Relu(a)  c = MatMul(b, v1)  d = Tanh(c)
    e = MatMul(x, w2)  f = Relu(e)  g = MatMul(f, v2)  h = Tanh(g)  k = Mul(h, few)
    y = Add(d, k) }"""


def two_branches() -> onnx.ModelProto:
    """Two blocks of which the outputs hardly hear the second."""
    draw = np.random.default_rng(0)
    shapes = {"w1": (8, 32), "v1": (32, 6), "w2": (8, 32), "v2": (32, 6)}
    weights = {name: (draw.normal(size=one) / np.sqrt(one[0])).astype(np.float32) for name, one in shapes.items()}
    return model(f'<ir_version: 8, opset_import: ["": 17]> {TEXT}', **weights)


def rows(seed: int = 1) -> list[dict[str, np.ndarray]]:
    return [{"x": np.random.default_rng(seed + one).normal(size=(100, 8)).astype(np.float32)} for one in range(3)]


def left(done: Applied) -> dict[str, int]:
    shapes = {one.name: list(one.dims) for one in done.after.graph.initializer}
    return {name: shapes[name][0] for name in ("v1", "v2")}


@pytest.mark.parametrize("repair", [True, False])
def test_neurons_go_where_the_outputs_do_not_hear_them(repair: bool) -> None:
    options: dict[str, Any] = {"share": 0.4, "multiple": 1, "repair": repair}
    plain = left(apply(Neurons(**options), two_branches(), feeds=rows()))
    heard = left(apply(Neurons(importance="output", **options), two_branches(), feeds=rows()))
    assert heard["v2"] < 8 < 20 < heard["v1"]
    assert heard["v1"] > plain["v1"]


@pytest.mark.parametrize("repair", [True, False])
def test_channels_go_where_the_outputs_do_not_hear_them(repair: bool) -> None:
    options: dict[str, Any] = {"share": 0.3, "multiple": 1, "repair": repair}
    plain = left(apply(Channels(**options), two_branches(), feeds=rows()))
    heard = left(apply(Channels(importance="output", **options), two_branches(), feeds=rows()))
    assert heard["v2"] < heard["v1"]
    assert heard["v1"] > plain["v1"]


def test_channels_go_where_a_table_says_that_little_is_lost() -> None:
    plain = left(apply(Channels(share=0.3, multiple=1), two_branches(), feeds=rows()))
    told = Channels(share=0.3, multiple=1, predicted=("w1=0.1", "w2=0.0000001"))
    assert left(apply(told, two_branches(), feeds=rows()))["v1"] > plain["v1"]
    other = Channels(share=0.3, multiple=1, predicted=("another=0.1",))
    assert left(apply(other, two_branches(), feeds=rows())) == plain


def test_equal_runs_give_equal_bytes() -> None:
    chosen = Neurons(share=0.4, importance="output")
    one, other = (apply(chosen, two_branches(), feeds=rows(), laws=False).after for _ in range(2))
    assert one.SerializeToString() == other.SerializeToString()


def test_without_feeds_the_reason_is_told() -> None:
    done = apply(Neurons(importance="output"), two_branches(), feeds=[])
    assert not done.applied
    assert done.missed


@pytest.mark.parametrize("text", ["w", "w=", "=0.1", "w=x", "w=-1", "w=nan", "w=inf"])
def test_what_is_no_prediction_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="NAME=ERROR"):
        Channels(predicted=(text,))


def test_names_may_have_any_sign() -> None:
    assert parsed(("a=b=0.5", "onnx::MatMul_209=1e-3")) == {"a=b": 0.5, "onnx::MatMul_209": 0.001}


@pytest.mark.parametrize("of", [Neurons, Heads, Channels])
def test_samples_are_counted(of: Any) -> None:
    with pytest.raises(ValueError, match="samples"):
        of(samples=-1)
