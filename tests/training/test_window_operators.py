"""Convolutions, pools and resizing against onnxruntime: padding, strides, dilations, rounding of sizes."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from one_operator import agree, floats, ints

pytest.importorskip("torch", reason="needs the extra: pip install 'graphopt[distill]'")

X = floats(2, 4, 9, 8)


@pytest.mark.parametrize(
    "attrs",
    [
        {},
        {"pads": [1, 0, 2, 1]},
        {"pads": [1, 1, 1, 1], "strides": [2, 3]},
        {"dilations": [2, 1], "pads": [2, 1, 2, 1]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 3]},
        {"auto_pad": "SAME_UPPER", "strides": [3, 1]},
        {"auto_pad": "VALID", "strides": [2, 1]},
    ],
)
@pytest.mark.parametrize("group", [1, 2, 4])
def test_conv(attrs: dict[str, Any], group: int) -> None:
    agree("Conv", X, floats(8, 4 // group, 3, 2, seed=1), floats(8, seed=2), group=group, **attrs)


def test_conv_of_one_and_three_axes() -> None:
    agree("Conv", floats(2, 3, 11), floats(4, 3, 3, seed=1), None, pads=[2, 0], strides=[2])
    agree("Conv", floats(1, 2, 5, 4, 6), floats(3, 2, 2, 3, 2, seed=1), floats(3), pads=[0, 1, 1, 1, 1, 0])


@pytest.mark.parametrize(
    "attrs",
    [
        {},
        {"strides": [2, 3]},
        {"strides": [2, 2], "pads": [1, 0, 0, 1]},
        {"strides": [3, 2], "output_padding": [1, 1]},
        {"dilations": [2, 1], "strides": [2, 1]},
        {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
        {"strides": [2, 3], "auto_pad": "SAME_LOWER"},
        {"strides": [3, 3], "output_shape": [16, 14]},
        {"strides": [3, 3], "output_shape": [16, 14], "auto_pad": "SAME_UPPER"},
    ],
)
@pytest.mark.parametrize("group", [1, 2])
def test_conv_transpose(attrs: dict[str, Any], group: int) -> None:
    x, weight = floats(2, 4, 5, 4), floats(4, 6 // group, 3, 4, seed=1)
    agree("ConvTranspose", x, weight, floats(6, seed=2), group=group, **attrs)


POOLS = [
    {"kernel_shape": [3, 2]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [3, 2], "strides": [2, 3], "pads": [0, 1, 2, 0]},
    {"kernel_shape": [2, 2], "strides": [2, 3], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 1, 1], "ceil_mode": 1},
    {"kernel_shape": [2, 3], "strides": [3, 3], "ceil_mode": 1, "pads": [1, 1, 0, 1]},
    {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [3, 2], "strides": [2, 1], "auto_pad": "SAME_LOWER"},
    {"kernel_shape": [2, 3], "dilations": [3, 2]},
    {"kernel_shape": [2, 3], "dilations": [3, 2], "strides": [2, 2], "ceil_mode": 1, "pads": [1, 0, 1, 1]},
]


@pytest.mark.parametrize("attrs", POOLS)
def test_max_pool(attrs: dict[str, Any]) -> None:
    agree("MaxPool", X, **attrs)
    agree("MaxPool", X, outputs=2, **attrs)
    agree("MaxPool", X, outputs=2, storage_order=1, **attrs)


@pytest.mark.parametrize("attrs", POOLS)
@pytest.mark.parametrize("counted", [0, 1])
def test_average_pool(attrs: dict[str, Any], counted: int) -> None:
    agree("AveragePool", X, count_include_pad=counted, **attrs)


@pytest.mark.parametrize("attrs", [one for one in POOLS if "ceil_mode" not in one])
@pytest.mark.parametrize("power", [1, 2, 3])
def test_lp_pool(attrs: dict[str, Any], power: int) -> None:
    agree("LpPool", X, p=power, **attrs)


def test_pools_of_one_and_three_axes() -> None:
    for op in ("MaxPool", "AveragePool"):
        agree(op, floats(2, 3, 10), kernel_shape=[3], strides=[2], pads=[1, 0], ceil_mode=1)
        agree(op, floats(1, 2, 5, 4, 6), kernel_shape=[2, 3, 2], strides=[2, 1, 2], pads=[0, 1, 0, 1, 1, 0])


def test_max_pool_of_bytes() -> None:
    for kind in (np.int8, np.uint8):
        x = np.random.default_rng(0).integers(0, 100, (1, 2, 6, 6)).astype(kind)
        agree("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
def test_global_pools(op: str) -> None:
    agree(op, X)
    agree(op, floats(2, 3, 7))


MODES = [
    *itertools.product(
        ["nearest"], ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric"]
    ),
    *itertools.product(["linear"], ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]),
    *itertools.product(["cubic"], ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]),
]


@pytest.mark.parametrize(("mode", "how"), MODES)
@pytest.mark.parametrize("scales", [(2.0, 3.0), (0.6, 1.7), (0.5, 0.5)])
def test_resize_by_scales(mode: str, how: str, scales: tuple[float, float]) -> None:
    x, factors = floats(1, 2, 6, 5), np.array([1, 1, *scales], np.float32)
    agree("Resize", x, None, factors, mode=mode, coordinate_transformation_mode=how, tolerance=1e-5)


@pytest.mark.parametrize(("mode", "how"), MODES)
def test_resize_by_sizes(mode: str, how: str) -> None:
    sizes = ints(1, 2, 9, 4)
    agree(
        "Resize", floats(1, 2, 6, 5), None, None, sizes, mode=mode, coordinate_transformation_mode=how, tolerance=1e-5
    )


@pytest.mark.parametrize("rounding", ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
def test_resize_nearest_rounding(rounding: str) -> None:
    for how in ("half_pixel", "asymmetric"):
        for scale in (2.0, 0.5, 1.5):
            agree(
                "Resize",
                floats(1, 1, 6, 6),
                None,
                np.array([1, 1, scale, scale], np.float32),
                mode="nearest",
                nearest_mode=rounding,
                coordinate_transformation_mode=how,
            )


def test_resize_a_region() -> None:
    roi = np.array([0, 0, 0.1, 0.2, 1, 1, 0.8, 1.3], np.float32)
    options: dict[str, Any] = {"coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 9.0}
    agree("Resize", floats(1, 1, 5, 5), roi, None, ints(1, 1, 4, 6), mode="linear", tolerance=1e-5, **options)


def test_resize_leaving_the_outside_out() -> None:
    factors = np.array([1, 1, 1.7, 0.8], np.float32)
    agree("Resize", floats(1, 1, 6, 6), None, factors, mode="cubic", exclude_outside=1, cubic_coeff_a=-0.5)


def test_old_resizes() -> None:
    factors = np.array([1, 1, 2, 3], np.float32)
    for mode in ("nearest", "linear"):
        agree("Resize", floats(1, 2, 3, 4), factors, mode=mode, opset=10)
        agree("Upsample", floats(1, 2, 3, 4), factors, mode=mode, opset=9)
        agree("Upsample", floats(1, 2, 3, 4), mode=mode, scales=[1.0, 1.0, 2.0, 3.0], opset=7)
