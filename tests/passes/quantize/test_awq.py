"""awq: the same mathematics, less error once weights are quantized; and the sample of rows it learns from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper

from graphopt.pipeline import Pipeline
from graphopt.testing import apply, assert_missed, model
from passes.quantize.awq import Awq
from passes.quantize.row_sample import RowSample
from passes.quantize.weight_int4 import WeightInt4

K = 64
CHAIN = "g (float[N, 64] x) => (float[N, 32] y) { h = LayerNormalization(x, g, b)  y = MatMul(h, w) }"
RESIDUAL = """g (float[N, 64] x) => (float[N, 64] y) {
    h = LayerNormalization(x, g, b)  m = MatMul(h, w)  y = Add(m, h) }"""
INT4 = WeightInt4(min_elements=1, range="max")


def floats(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def salient(seed: int = 3) -> Any:
    """A few channels much larger than the others."""
    found = floats(K, seed=seed)
    found[[5, 17, 40]] *= 30
    return found


def tensors(proto: ModelProto) -> dict[str, Any]:
    return {one.name: numpy_helper.to_array(one) for one in proto.graph.initializer}


FEEDS = [{"x": floats(40, K, seed=seed)} for seed in range(3)]
NORM = {"g": salient(), "b": floats(K, seed=4)}


def test_rows_that_large_channels_meet_are_scaled_up() -> None:
    proto = model(CHAIN, w=floats(K, 32), **NORM)
    done = apply(Awq(), proto, feeds=FEEDS)
    assert "taken by LayerNormalization 'LayerNormalization(h)'" in done.applied[0].why
    found = tensors(done.after)
    factors = NORM["g"] / found["g"]
    assert np.allclose(found["w"] / floats(K, 32), factors[:, None], rtol=1e-5)
    assert factors[[5, 17, 40]].min() > 1.5 * np.median(factors)
    plain = apply(INT4, proto, feeds=FEEDS).sqnr_db("y")
    assert apply(Pipeline.of(Awq(), INT4), proto, feeds=FEEDS).sqnr_db("y") > plain + 2


@pytest.mark.parametrize(("bits", "block"), [(4, 0), (2, 16), (8, 32)])
def test_other_formats(bits: Any, block: int) -> None:
    for symmetric in (True, False):
        done = apply(
            Awq(bits=bits, block=block, symmetric=symmetric), model(CHAIN, w=floats(K, 32), **NORM), feeds=FEEDS
        )
        assert len(done.applied) + len(done.missed) == 1


def test_a_residual_connection_needs_a_mul() -> None:
    proto = model(RESIDUAL, w=floats(K, K), **NORM)
    done = apply(Awq(), proto, feeds=FEEDS)
    assert "h_smooth = Mul(h, h_smooth_factors)" in done.body
    assert_missed(apply(Awq(insert=False), proto, feeds=FEEDS), "awq", "'h' is read elsewhere too, and insert is false")
    assert_missed(apply(Awq(insert_gain_db=50), proto, feeds=FEEDS), "awq", "less than insert-gain-db=50")


def test_what_gains_nothing_is_left() -> None:
    proto = model(CHAIN, w=floats(K, 32), **NORM)
    assert_missed(apply(Awq(min_gain_db=40), proto, feeds=FEEDS), "awq", "less than min-gain-db=40")
    assert_missed(apply(Awq(skip=("w",)), proto, feeds=FEEDS), "awq", "skip has 'w'")
    exact = model(CHAIN, w=np.ones((K, 32), np.float32), **NORM)
    assert_missed(apply(Awq(bits=8), exact, feeds=FEEDS), "awq", "0.0 dB lower")
    values = floats(K, 32)
    values[2, 3] = np.inf
    broken = apply(Awq(), model(CHAIN, w=values, **NORM), feeds=FEEDS, laws=False)
    assert_missed(broken, "awq", "NaN or infinities")


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="block must not be negative"):
        Awq(block=-1)
    with pytest.raises(ValueError, match="min-gain-db must be positive"):
        Awq(min_gain_db=0)


def test_a_sample_is_spread_over_all_rows() -> None:
    rows = np.arange(10000, dtype=np.float32)[:, None]
    sample = RowSample(100)
    for part in np.split(rows, [10, 15, 4000, 9000]):
        sample.update(part.reshape(1, -1, 1))
    found = np.sort(sample.rows[:, 0])
    assert len(np.unique(found)) == 100
    assert np.diff(found).max() < 250
    whole = RowSample(100)
    whole.update(rows)
    assert np.sort(whole.rows[:, 0]).tolist() == found.tolist()


def test_fewer_rows_than_the_sample_holds_are_all_kept() -> None:
    sample = RowSample(100)
    sample.update(np.zeros((0, 4), np.float32), floats(3, 2, 4))
    assert sorted(sample.rows.ravel().tolist()) == sorted(floats(3, 2, 4).ravel().tolist())
