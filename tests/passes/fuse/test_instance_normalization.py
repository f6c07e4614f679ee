"""instance-normalization: means over the places of each channel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.testing import Applied, apply, assert_missed, model
from passes.fuse.instance_normalization import InstanceNormalization

RNG = np.random.default_rng(2)
HEAD = "m = ReduceMean<axes=[2, 3]>(x) d = Sub(x, m) q = Mul(d, d) v = ReduceMean<axes=[-1, -2]>(q) a = Add(v, eps)"
NODES = f"{HEAD} s = Sqrt(a) n = Div(d, s) g = Mul(n, scale) y = Add(g, bias)"


def done(
    nodes: str = NODES, kind: str = "float", shape: str = "N, 5, 3, 4", opset: int = 13, **tensors: Any
) -> Applied:
    dtype = np.float64 if kind == "double" else np.float32
    known = {name: RNG.standard_normal((5, 1, 1)).astype(dtype) for name in ("scale", "bias")}
    head = f'<ir_version: 8, opset_import: ["": {opset}]>'
    text = f"{head} g ({kind}[{shape}] x) => ({kind}[{shape}] y) {{ {nodes} }}"
    given: dict[str, Any] = {"eps": dtype(1e-5)} | known | tensors
    return apply(InstanceNormalization(), model(text, **given))


@pytest.mark.parametrize("opset", [7, 13, 17])
def test_each_channel(opset: int) -> None:
    found = done(opset=opset)
    assert found.body == "y = InstanceNormalization<epsilon=1e-05>(x, scale_1, bias_1)"
    assert {one.name: list(one.dims) for one in found.after.graph.initializer} == {"scale_1": [5], "bias_1": [5]}


def test_a_batch_axis_in_the_scale() -> None:
    found = done(scale=np.ones((1, 5, 1, 1), np.float32))
    assert found.body == "y = InstanceNormalization<epsilon=1e-05>(x, scale_1, bias_1)"


@pytest.mark.parametrize("shape", [(1, 1, 1), (4,), (5, 3, 1)])
def test_other_scales(shape: tuple[int, ...]) -> None:
    found = done(scale=np.ones(shape, np.float32))
    assert not found.applied
    assert_missed(found, "mean-of-each-channel", "'scale' is not one number for each channel")


def test_other_axes_and_types() -> None:
    last = NODES.replace("axes=[2, 3]", "axes=[3]").replace("axes=[-1, -2]", "axes=[-1]")
    assert not done(last).applied
    assert_missed(done(kind="double"), "mean-of-each-channel", "'x' is double, not float")


def test_a_scale_that_others_read() -> None:
    found = done(NODES.replace("y = Add(g, bias)", "h = Add(g, bias) y = Mul(h, scale)"))
    assert not found.applied
    assert_missed(found, "mean-of-each-channel", "would have to be stored twice")


@pytest.mark.parametrize("shape", ["1, 5, 0, 4", "N, 5, H, 4"])
def test_channels_that_may_be_empty(shape: str) -> None:
    """onnxruntime's kernel reads past the end of memory, and may crash, where a channel has no places."""
    found = done(shape=shape)
    assert not found.applied
    assert_missed(found, "mean-of-each-channel", "may have channels without places")
