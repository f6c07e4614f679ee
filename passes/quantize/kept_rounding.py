"""A rounded layer as arrays of numpy's own types and back, to be kept between runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from graphopt.ir.dtypes import np_dtype, onnx_dtype
from passes.quantize.grid import Grid
from passes.quantize.layer_rounding import Rounded

Array = np.ndarray[Any, Any]

_NONE = -1  # of the axis


def state_of(one: Rounded) -> dict[str, Array]:
    """All of it: codes and zeros as whole numbers, steps as their bytes."""
    grid = one.grid
    zero = {} if grid.zero is None else {"zero": _numbers(grid.zero, grid)}
    axis = _NONE if grid.axis is None else grid.axis
    return zero | {
        "codes": _numbers(one.codes, grid),
        "scale": np.asarray(grid.scale, order="C").view(f"u{grid.scale.dtype.itemsize}"),
        "types": np.array([onnx_dtype(grid.scale.dtype), onnx_dtype(grid.code)]),
        "grid": np.array([axis, grid.low, grid.high, grid.block]),
        "left": np.array(one.left),
    }


def restored(state: Mapping[str, Array]) -> Rounded:
    """What `state_of` was given."""
    scale, code = (np_dtype(int(one)) for one in state["types"])
    assert scale is not None and code is not None, "they were of these types"
    axis, low, high, block = (int(one) for one in state["grid"])
    zero = state["zero"].astype(code) if "zero" in state else None
    grid = Grid(state["scale"].view(scale), zero, None if axis == _NONE else axis, low, high, code, block)
    return Rounded(grid, state["codes"].astype(code), float(state["left"]))


def _numbers(array: Array, grid: Grid) -> Array:
    """Codes in the smallest of numpy's types that holds all of the grid."""
    kinds = [one for one in (np.int8, np.uint8) if np.iinfo(one).min <= grid.low and grid.high <= np.iinfo(one).max]
    return array.astype(np.int16).astype(kinds[0] if kinds else np.int16)
