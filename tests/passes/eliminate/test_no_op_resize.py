"""no-op-resize: scale 1 in every mode that maps a place to itself."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.testing import Applied, apply, assert_missed, model
from passes.eliminate.no_op_resize import NoOpResize

ONES = np.ones(4, np.float32)


def resize(step: str, shape: str = "1, 1, N, M", version: int = 18, **weights: object) -> Applied:
    head = f'<ir_version: 8, opset_import: ["": {version}]>'
    text = f"{head} g (float[{shape}] x) => (float[A, B, C, D] y) {{ a = {step}  y = Neg(a) }}"
    return apply(NoOpResize(), model(text, **weights))


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("places", ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"])
def test_scales_of_1(mode: str, places: str) -> None:
    step = f'Resize<mode = "{mode}", coordinate_transformation_mode = "{places}">(x, , s)'
    assert resize(step, s=ONES).body == "y = Neg(x)"
    assert not resize(step, s=ONES).after.graph.initializer


def test_other_scales() -> None:
    assert resize("Resize(x, , s)", s=np.array([1, 1, 2, 1], np.float32)).applied == ()
    assert resize("Resize(x, , s)", s=np.array([1, 1, 1, 0.5], np.float32)).applied == ()


def test_sizes() -> None:
    assert resize("Resize(x, , , s)", "1, 1, 3, 4", s=np.array([1, 1, 3, 4])).body == "y = Neg(x)"
    assert resize("Resize(x, , , s)", "1, 1, 3, 4", s=np.array([1, 1, 3, 5])).applied == ()
    assert resize("Resize(x, , , s)", "1, 1, N, 4", s=np.array([1, 1, 3, 4])).applied == ()


def test_older_versions() -> None:
    assert resize("Resize(x, s)", version=10, s=ONES).body == "y = Neg(x)"
    assert resize("Resize(x, r, s)", version=11, r=np.zeros(0, np.float32), s=ONES).body == "y = Neg(x)"
    assert resize("Upsample(x, s)", version=9, s=ONES).body == "y = Neg(x)"
    assert resize("Upsample<scales = [1.0, 1.0, 1.0, 1.0]>(x)", version=8).body == "y = Neg(x)"
    assert resize("Upsample<scales = [1.0, 1.0, 2.0, 1.0]>(x)", version=8).applied == ()


@pytest.mark.parametrize(("places", "version"), [("tf_crop_and_resize", 18), ("tf_half_pixel_for_nn", 11)])
def test_places_that_move(places: str, version: int) -> None:
    roi = np.array([0, 0, 0, 0, 1, 1, 1, 1], np.float32)
    step = f'Resize<mode = "nearest", coordinate_transformation_mode = "{places}">(x, r, s)'
    done = resize(step, version=version, r=roi, s=ONES)
    assert done.applied == ()
    assert_missed(done, "resize", places)


def test_scales_known_at_run_time_only() -> None:
    text = "g (float[1, 1, N, M] x, float[4] s) => (float[A, B, C, D] y) { a = Resize(x, , s)  y = Neg(a) }"
    assert apply(NoOpResize(), model(text), feeds=()).applied == ()
    assert apply(NoOpResize(), model(text, s=ONES), feeds=()).applied == ()  # a default that may be overridden


def test_sizes_of_axes_in_another_order() -> None:
    text = "g (float[2, 3] x) => (float[A, B] y) { a = Resize<axes = [1, 0]>(x, , , s)  y = Neg(a) }"
    assert apply(NoOpResize(), model(text, s=np.array([2, 3])), feeds=()).applied == ()


def test_scales_that_a_caller_gives() -> None:
    text = """<ir_version: 8, opset_import: ["": 8, "f": 1]>
        g (float[1, 1, 2, 2] x) => (float[A, B, C, D] y) { y = f.go<s = [1.0, 1.0, 2.0, 1.0]>(x) }
        <domain: "f", opset_import: ["": 8]> go <s> (x) => (y) { a = Upsample<scales: floats = @s>(x)  y = Neg(a) }"""
    assert apply(NoOpResize(), model(text), feeds=()).remarks == ()
