"""Theorems about every format: widths, signs, zeros, and scales for tensors, channels and blocks."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from passes.quantize.candidates import Plan
from passes.quantize.fitting import fitted
from passes.quantize.formats import Format
from passes.quantize.grid import Grid, asymmetric, code_dtype, codes, over, spread, symmetric, values_of
from passes.quantize.pieces import pieces, steps_shape

Array = np.ndarray[Any, Any]

SINGLE, HALF, BRAIN = np.dtype(np.float32), np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)
WIDTHS = (2, 4, 8, 16)
PLACES = ((None, 0), (0, 0), (2, 0), (0, 2), (1, 3), (1, 7), (1, 100), (2, 4))
SIZES = {SINGLE: (3e-44, 1e-30, 0.37, 255.0, 1.7e38), HALF: (2e-6, 0.37, 3e4), BRAIN: (1e-38, 0.37, 1.6e38)}


def weight(dtype: np.dtype[Any], size: float, seed: int = 0) -> Array:
    """[5, 7, 6] values up to `size`: zeros, all negative, all positive, outliers, and values mid-way."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(-1, 1, (5, 7, 6))
    values[1] = 0
    values[2] = -np.abs(values[2])
    values[3] = np.abs(values[3]) + 0.5
    values[:, 4] *= 1e-2
    values[4, :, 3:] = np.rint(values[4, :, 3:] * 30) / 30
    return np.clip(values / np.abs(values).max() * size, -size, size).astype(dtype)


def grids(values: Array, axis: int | None, block: int, bits: int) -> list[Grid]:
    found = spread(values, axis, block)
    return [
        make(found, axis, values.dtype, bits, block=block, signed=signed)
        for make in (symmetric, asymmetric)
        for signed in (True, False)
    ]


def meant(made: Array, grid: Grid) -> Array:
    zero = np.zeros(grid.scale.shape) if grid.zero is None else grid.zero.astype(np.float64)
    whole = made.astype(np.float64) - over(zero, grid, made.shape)
    return np.asarray(whole * over(grid.scale.astype(np.float64), grid, made.shape))


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize(("axis", "block"), PLACES)
@pytest.mark.parametrize(("dtype", "size"), [(dtype, size) for dtype in SIZES for size in SIZES[dtype]])
def test_no_weight_is_further_than_half_a_step(
    bits: int, axis: int | None, block: int, dtype: np.dtype[Any], size: float
) -> None:
    values = weight(dtype, size)
    for grid in grids(values, axis, block, bits):
        assert grid.scale.shape == steps_shape(values.shape, axis, block)
        made = codes(values, grid)
        assert made.dtype == grid.code
        step = over(grid.scale.astype(np.float64), grid, values.shape)
        assert (np.abs(values.astype(np.float64) - meant(made, grid)) <= step / 2 * (1 + 1e-9)).all()
        assert (made.astype(int) >= grid.low).all()
        assert (made.astype(int) <= grid.high).all()
        final = values_of(made, grid)
        assert final.dtype == dtype
        assert np.array_equal(final, meant(made, grid).astype(np.float32).astype(dtype))


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize(("axis", "block"), PLACES)
def test_zero_stays_zero_and_signs_change_nothing(bits: int, axis: int | None, block: int) -> None:
    values = weight(SINGLE, 1.0, seed=3)
    values[:, ::2] = -0.0
    signed, unsigned, both, neither = (meant(codes(values, grid), grid) for grid in grids(values, axis, block, bits))
    assert (signed[:, ::2] == 0).all()
    assert (both[:, ::2] == 0).all()
    assert np.array_equal(signed, unsigned)
    assert np.array_equal(both, neither)


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("signed", [True, False])
def test_packed_codes_are_what_onnx_reads(bits: int, signed: bool) -> None:
    """An odd number of codes; the bytes that a model holds, read by onnx."""
    from graphopt.ir.tensors import to_tensor_proto

    values = weight(SINGLE, 1.0)[:, :, :5]
    grid = asymmetric(spread(values, 1, 3), 1, SINGLE, bits, block=3, signed=signed)
    made = codes(values, grid)
    proto = to_tensor_proto("q", made)
    assert proto.data_type == getattr(onnx.TensorProto, f"{'' if signed else 'U'}INT{bits}")
    assert len(proto.raw_data) == -(-made.size * bits // 8)
    assert np.array_equal(numpy_helper.to_array(proto).astype(int), made.astype(int))


@pytest.mark.parametrize(("bits", "opset"), [(2, 25), (4, 21), (4, 23), (8, 21), (16, 21)])
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize(("axis", "block"), [(None, 0), (0, 0), (1, 0), (0, 16), (0, 3), (1, 32), (1, 100)])
def test_values_are_what_onnxruntime_dequantizes(
    bits: int, opset: int, signed: bool, axis: int | None, block: int
) -> None:
    ort = pytest.importorskip("onnxruntime")
    values = np.random.default_rng(1).standard_normal((35, 67)).astype(np.float32)
    grid = asymmetric(spread(values, axis, block), axis, SINGLE, bits, block=block, signed=signed)
    made = codes(values, grid)
    attributes = {} if axis is None else {"axis": axis} | ({"block_size": block} if block else {})
    node = helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], **attributes)
    assert grid.zero is not None
    stored = {"q": made, "s": grid.scale, "z": grid.zero}
    graph = helper.make_graph(
        [node],
        "g",
        [],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, list(values.shape))],
        [numpy_helper.from_array(one, name) for name, one in stored.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.checker.check_model(proto, full_check=True)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    assert np.array_equal(session.run(None, {})[0], values_of(made, grid))


def test_the_last_block_may_be_shorter() -> None:
    values = np.arange(1, 8, dtype=np.float32).reshape(7, 1)
    grid = symmetric(spread(values, 0, 3), 0, SINGLE, 4, block=3)
    assert grid.scale.shape == (3, 1)
    assert np.allclose(grid.scale[:, 0] * 7, [3, 6, 7])
    assert codes(values, grid)[:, 0].astype(int).tolist() == [2, 5, 7, 5, 6, 7, 7]


def test_a_block_as_long_as_the_axis_is_a_channel() -> None:
    values = weight(SINGLE, 1.0)[0]
    rows, blocks = spread(values, 0), spread(values, 1, 6)
    assert np.array_equal(rows.high, blocks.high[:, 0])
    assert np.array_equal(
        codes(values, symmetric(rows, 0, SINGLE)), codes(values, symmetric(blocks, 1, SINGLE, block=6))
    )


@pytest.mark.parametrize("bits", (2, 4, 8))
@pytest.mark.parametrize("even", [True, False])
@pytest.mark.parametrize(("axis", "block"), PLACES)
@pytest.mark.parametrize("dtype", [SINGLE, HALF])
def test_the_fitted_range_never_has_a_larger_squared_error(
    bits: int, even: bool, axis: int | None, block: int, dtype: np.dtype[Any]
) -> None:
    rng = np.random.default_rng(bits)
    values = rng.standard_t(4, (24, 35, 8)).astype(dtype)
    values[3] = 0
    plan: Any = Plan(None, dtype, axis, "", block)  # type: ignore[arg-type]
    found = spread(values, axis, block)
    errors = []
    for range_ in ("max", "mse"):
        grid = Format(bits, even, range=range_).grid(plan, found, values)  # type: ignore[arg-type]
        squares = (values.astype(np.float64) - meant(codes(values, grid), grid)) ** 2
        total = np.zeros(grid.scale.shape)
        for part, steps in pieces(values.shape, axis, block):
            here = steps.of(total)
            here += part.of(squares).sum(tuple(i for i in range(4) if here.shape[i] == 1), keepdims=True)
        errors.append(total)
        noise = 2e-5 * grid.scale.astype(np.float64) ** 2  # of the search, which is in float32
    assert (errors[1] <= errors[0] * (1 + 1e-5) + noise).all()
    assert errors[1].sum() < errors[0].sum() * (0.999 if bits == 8 else 0.97)


def test_a_fitted_channel_of_zeros_keeps_its_step() -> None:
    values = np.zeros((3, 4), np.float32)
    values[1] = [1, -1, 0.5, 0.25]
    grid = fitted(values, symmetric(spread(values, 0), 0, SINGLE, 4))
    assert grid.scale[0] == 1
    assert grid.scale[2] == 1
    assert np.isfinite(grid.scale).all()


@pytest.mark.parametrize("shape", [(70_001,), (300, 701), (3, 70_001), (70_001, 3), (1, 1, 90_000), (9, 1, 9_000)])
def test_pieces_cover_everything_once(shape: tuple[int, ...]) -> None:
    for axis, block in [(None, 0), *((axis, block) for axis in range(len(shape)) for block in (0, 1, 32, 100_000))]:
        seen = np.zeros(shape, np.int8)
        for part, steps in pieces(shape, axis, block):
            view = part.of(seen)
            view += 1
            scales = steps.of(np.zeros(steps_shape(shape, axis, block)))
            assert all(one in (1, full) for one, full in zip(scales.shape, view.shape, strict=True))
        assert (seen == 1).all()


@pytest.mark.parametrize("bits", WIDTHS)
def test_code_dtypes_are_onnx_s(bits: int) -> None:
    for signed, prefix in ((True, "INT"), (False, "UINT")):
        number = getattr(onnx.TensorProto, f"{prefix}{bits}")
        assert code_dtype(bits, signed) == helper.tensor_dtype_to_np_dtype(number)
