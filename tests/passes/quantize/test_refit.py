"""refit: integer weights and biases fitted to what the layers made in the model as it was read."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from graphopt.pipeline import Pipeline
from graphopt.testing import apply, model
from graphopt.testing.apply import Applied, assert_missed
from graphopt.testing.running import outputs_of
from passes.quantize.refit import Refit
from passes.quantize.scalars_into_grids import ScalarsIntoGrids
from passes.quantize.static_int8 import StaticInt8

STATIC = StaticInt8(target="onnxruntime")


def filled(text: str, opset: int = 17, seed: int = 0, **weights: np.ndarray) -> onnx.ModelProto:
    """A model with the initializers that are given."""
    made = model(text, opset=opset)
    for name, values in weights.items():
        made.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    return made


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def convolutions(groups: int = 1) -> onnx.ModelProto:
    """Two convolutions, of which the second reads what the first was rounded to."""
    draw = rng()
    return filled(
        f"""agraph (float[B, 4, 8, 8] x) => (float[B, 8, 8, 8] y) {{
            c = Conv<pads = [1, 1, 1, 1]>(x, w, b)  r = Relu(c)
            y = Conv<pads = [1, 1, 1, 1], group = {groups}>(r, v, d) }}""",
        w=draw.normal(size=(8, 4, 3, 3)),
        b=draw.normal(size=8),
        v=draw.normal(size=(8, 8 // groups, 3, 3)),
        d=draw.normal(size=8),
    )


def images(count: int = 3, seed: int = 1) -> list[dict[str, np.ndarray]]:
    draw = rng(seed)
    return [{"x": draw.normal(size=(4, 4, 8, 8)).astype(np.float32)} for _ in range(count)]


def refitted(before: onnx.ModelProto, feeds: list[dict[str, np.ndarray]], **options: Any) -> tuple[Applied, Applied]:
    """The model statically quantized, and then refitted."""
    return (
        apply(Pipeline((STATIC,)), before, feeds=feeds),
        apply(Pipeline((STATIC, Refit(**options))), before, feeds=feeds),
    )


def errors(done: Applied, feeds: list[dict[str, np.ndarray]], name: str = "y") -> float:
    """The squared error of an output over all feeds."""
    before = outputs_of(done.before.SerializeToString(), feeds)
    after = outputs_of(done.after.SerializeToString(), feeds)
    pairs = zip(before, after, strict=True)
    return float(sum(np.square(np.asarray(a[name], np.float64) - np.asarray(b[name])).sum() for a, b in pairs))


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_the_error_on_the_calibration_feeds_gets_smaller(groups: int) -> None:
    plain, fitted = refitted(convolutions(groups), images())
    assert any(one.pass_name == "refit" for one in fitted.applied)
    # Each layer is fitted on one half of the rows and kept where the other half agrees: depthwise ones gain least.
    assert errors(fitted, images()) < errors(plain, images()) * (1.0 if groups < 8 else 1.02)
    assert errors(fitted, images(seed=9)) < errors(plain, images(seed=9)) * 1.1  # and not only on those


def test_dense_layers_with_a_bias_behind_them() -> None:
    draw = rng()
    before = filled(
        """agraph (float[B, 12] x) => (float[B, 6] y) {
            m = MatMul(x, w)  n = Add(m, b)  r = Relu(n)  y = Gemm<transB = 1>(r, v, d) }""",
        w=draw.normal(size=(12, 16)),
        b=draw.normal(size=16),
        v=draw.normal(size=(6, 16)),
        d=draw.normal(size=6),
    )
    feeds = [{"x": draw.normal(size=(200, 12)).astype(np.float32)} for _ in range(2)]
    plain, fitted = refitted(before, feeds)
    assert len([one for one in fitted.applied if one.pass_name == "refit"]) == 2
    assert errors(fitted, feeds) < errors(plain, feeds)


def test_the_mean_of_every_output_is_right() -> None:
    _, fitted = refitted(convolutions(), images(), rows=0)
    before = outputs_of(fitted.before.SerializeToString(), images())
    after = outputs_of(fitted.after.SerializeToString(), images())
    apart = [np.asarray(a["y"]) - np.asarray(b["y"]) for a, b in zip(after, before, strict=True)]
    off = np.mean(apart, axis=(0, 1, 3, 4))
    scale = max(float(np.abs(np.asarray(one["y"])).max()) for one in before) / 127
    assert float(np.abs(off).max()) < scale / 20  # a small share of a step of the result


def test_the_damping_is_found_on_samples_that_were_not_fitted() -> None:
    feeds, others = images(), images(6, seed=9)
    plain, found = refitted(convolutions(), feeds, rows=30)
    _, loose = refitted(convolutions(), feeds, rows=30, damping=0.0003)
    assert errors(loose, others) > 1.05 * errors(plain, others)  # it follows the few rows that were seen
    assert errors(found, others) < 1.02 * errors(plain, others)


def test_results_that_stand_for_another_value_are_found_by_provenance() -> None:
    draw = rng()
    before = filled(
        """agraph (float[B, 12] x) => (float[B, 6] y) {
            m = Gemm(x, w, b)  y = Mul(m, k) }""",
        w=draw.normal(size=(12, 6)),
        b=draw.normal(size=6),
        k=np.full(6, 3.0),
    )
    feeds = [{"x": draw.normal(size=(200, 12)).astype(np.float32)}]
    from passes.fold.scale_bias import FoldScaleBias

    done = apply(Pipeline((FoldScaleBias(), STATIC, Refit())), before, feeds=feeds)
    assert any(one.pass_name == "refit" for one in done.applied)
    assert done.sqnr_db("y") > 30


def test_a_value_that_is_another_one_is_refused() -> None:
    """Codes that are not what the weight was: their result is no attempt at the original's."""
    before = filled(
        """agraph (float[B, 12] x) => (float[B, 6] y)
        <float s = {0.03}, uint8 z = {128}, float[1] n = {1.0}> {
            q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)
            wf = DequantizeLinear<axis = 1>(w, ws)  y = MatMul(d, wf) }""",
        ws=np.full(6, 0.01),
    )
    codes = rng().integers(-127, 127, (12, 6)).astype(np.int8)
    before.graph.initializer.append(numpy_helper.from_array(codes, "w"))
    feeds = [{"x": rng(2).normal(size=(64, 12)).astype(np.float32)}]
    done = apply(Refit(), before, feeds=feeds)
    assert not done.applied  # it is the original itself: nothing can get better
    assert_missed(done, "refit", "would not get smaller")


@pytest.mark.parametrize(
    ("options", "why"),
    [({"skip": ("v_*",)}, "skip has 'v_*'"), ({"only": ("c",)}, "only has no pattern for it")],
)
def test_skip_and_only(options: dict[str, Any], why: str) -> None:
    _, fitted = refitted(convolutions(), images(), **options)
    assert_missed(fitted, "refit", why)
    assert len([one for one in fitted.applied if one.pass_name == "refit"]) == 1


def test_float_models_pass_through_without_a_word() -> None:
    assert not apply(Refit(), convolutions(), feeds=images()).remarks


def test_weights_that_two_nodes_read_are_left() -> None:
    draw = rng()
    before = filled(
        "agraph (float[B, 8] x) => (float[B, 8] y) { m = MatMul(x, w)  r = Relu(m)  y = MatMul(r, w) }",
        w=draw.normal(size=(8, 8)),
    )
    feeds = [{"x": draw.normal(size=(64, 8)).astype(np.float32)}]
    _, fitted = refitted(before, feeds)
    assert_missed(fitted, "refit", "its weight is read by something else")


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="damping"):
        Refit(damping=-1)
    with pytest.raises(ValueError, match="negative"):
        Refit(rows=-1)


def test_behind_passes_that_change_grids() -> None:
    draw = rng()
    before = filled(
        """agraph (float[B, 4, 8, 8] x) => (float[B, 8, 8, 8] y) <float k = {0.7}, float o = {0.2}> {
            c = Conv<pads = [1, 1, 1, 1]>(x, w, b)  h = Mul(c, k)  g = Add(h, o)
            y = Conv<pads = [1, 1, 1, 1]>(g, v, d) }""",
        w=draw.normal(size=(8, 4, 3, 3)),
        b=draw.normal(size=8),
        v=draw.normal(size=(8, 8, 3, 3)),
        d=draw.normal(size=8),
    )
    plain = apply(Pipeline((STATIC, ScalarsIntoGrids())), before, feeds=images())
    fitted = apply(Pipeline((STATIC, ScalarsIntoGrids(), Refit())), before, feeds=images())
    assert errors(fitted, images()) < errors(plain, images())
