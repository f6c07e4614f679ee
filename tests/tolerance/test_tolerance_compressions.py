"""What compressions make of weights: rounding agrees with the pass that quantizes, zeros with the one that prunes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper

from graphopt.ir import decode
from graphopt.storage.read import from_proto
from graphopt.testing import apply, model
from graphopt.tolerance.compressions import COMPRESSIONS, rounded, smallest, weak
from graphopt.tolerance.layers import Layer, find
from passes.prune.magnitude import Magnitude
from passes.quantize.weight_int8 import WeightInt8

TEXT = "g (float[N, 64] x) => (float[N, 48] y) { y = MatMul(x, w) }"
CONV = "g (float[1, 8, 6, 6] x) => (float[1, 16, 4, 4] y) { y = Conv(x, w, b) }"


def floats(*shape: int) -> Any:
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


def layer(proto: Any) -> Layer:
    source = from_proto(proto, None)
    (found,) = find(decode(source.proto, source.store)).layers
    return found


@pytest.mark.parametrize(("granularity", "name"), [("channel", "int8-channel"), ("tensor", "int8-tensor")])
def test_rounding_is_that_of_weight_int8(granularity: Any, name: str) -> None:
    old = floats(64, 48)
    proto = model(TEXT, w=old)
    done = apply(WeightInt8(granularity), proto, feeds=())
    found = {one.name: numpy_helper.to_array(one) for one in done.after.graph.initializer}
    pass_made = found["w_int8"].astype(np.float32) * found["w_scale"]
    ours = COMPRESSIONS[name].make(layer(proto), old)
    assert ours is not None
    assert np.allclose(ours, pass_made, rtol=0, atol=float(found["w_scale"].max()) * 1e-3)


def test_zeros_are_those_of_magnitude() -> None:
    old = floats(64, 48)
    proto = model(TEXT, w=old)
    done = apply(Magnitude(0.5, "layer"), proto, feeds=())
    (found,) = (numpy_helper.to_array(one) for one in done.after.graph.initializer)
    assert (smallest(old, 0.5) == found).all()


def test_of_equal_weights_the_first_go() -> None:
    assert smallest(np.array([1, 2, 1, 1], np.float32), 0.5).tolist() == [0, 2, 0, 1]
    assert smallest(np.array([1, 2], np.float32), 0.0).tolist() == [1, 2]
    assert smallest(np.array([1, 2], np.float32), 1.0).tolist() == [0, 0]


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_rounding_errs_by_half_a_step_at_most(bits: int) -> None:
    old = floats(33, 7)
    most = (1 << bits - 1) - 1
    for axis, block in ((None, 0), (0, 0), (1, 0), (0, 8), (1, 4)):
        new = rounded(old, bits, axis, block)
        if axis is None:
            step: Any = np.abs(old).max() / most
        elif not block:
            step = np.abs(old).max(1 - axis, keepdims=True) / most
        else:
            starts = np.arange(0, old.shape[axis], block)
            peaks = np.maximum.reduceat(np.abs(old), starts, axis=axis)
            step = np.repeat(peaks, block, axis=axis).take(np.arange(old.shape[axis]), axis=axis) / most
        assert (np.abs(new - old) <= step / 2 * 1.00001).all()


def test_channels_that_go_are_those_of_least_norm() -> None:
    old = floats(16, 8, 3, 3) * np.arange(16, 0, -1, dtype=np.float32).reshape(-1, 1, 1, 1) ** 2
    assert weak(old, 0, 0.25).tolist() == [12, 13, 14, 15]
    one = layer(model(CONV, w=old, b=floats(16)))
    made = COMPRESSIONS["channels-25"].make(one, old)
    assert made is not None
    assert not np.any(made[12:])
    assert (made[:12] == old[:12]).all()


def test_a_layer_of_one_channel_cannot_lose_channels() -> None:
    one = layer(model("g (float[N, 64] x) => (float[N, 1] y) { y = MatMul(x, w) }", w=floats(64, 1)))
    assert COMPRESSIONS["channels-25"].make(one, floats(64, 1)) is None
    assert COMPRESSIONS["int4-block"].make(one, floats(64, 1)) is not None
