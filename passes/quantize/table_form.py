"""Codes made floats by looking them up in a table of all that there are, which any runtime can."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from graphopt.analysis.weights import Weight
from graphopt.ir import Graph, Tensor
from graphopt.ir.dtypes import onnx_dtype
from graphopt.ir.values import Array
from passes.quantize.cast_form import Layout
from passes.quantize.dequantize import Order
from passes.quantize.grid import Grid
from passes.quantize.small_floats import SMALL, Small
from passes.quantize.storing import Steps, put

_PACKED = 21  # the opset from which on two codes of 4 bits can be stored in a byte and cast
_BIAS = 127  # of the exponents that stand for powers of two
_INDEX = onnx_dtype(np.int32)


def write_table(weight: Weight, grid: Grid, codes: Array, order: Order) -> None:
    """Put small floats with scales that are powers of two in the weight's place, and take the weight out.

    The codes are stored as the bits of those floats, the scales as exponents, and both are looked up
    in tables of the float32 numbers that they mean.
    """
    home, name = weight.home, weight.tensor.name
    small = next(one for one in SMALL.values() if one.dtype == codes.dtype)
    steps = Steps(home, name)
    stored = home.constant(_bits(codes, small, home.opset_of()), f"{name}_{codes.dtype}")
    value = _lookup(steps, stored, home.constant(small.decoded(), f"{name}_values"))
    value = steps.add("Mul", [value, _scale(steps, home, name, grid, codes.shape)])
    if weight.constant.dtype != np.float32:
        steps.add("Cast", [value], {"to": weight.constant.onnx_dtype})
    put(weight, steps.nodes, order)


def _scale(steps: Steps, home: Graph, name: str, grid: Grid, shape: tuple[int, ...]) -> Tensor:
    layout = Layout(tuple(int(size) for size in shape), grid.axis, grid.block)
    exponents = layout.spread_out(grid.scale.view(np.uint8))
    least, most = int(exponents.min()), int(exponents.max())
    powers = np.ldexp(np.float32(1), np.arange(least - _BIAS, most - _BIAS + 1)).astype(np.float32)
    stored = home.constant((exponents - np.uint8(least)).astype(np.uint8), f"{name}_exponents")
    scale = _lookup(steps, stored, home.constant(powers, f"{name}_powers"))
    if not layout.block:
        return scale
    axis = layout.axis or 0
    return steps.add("Gather", [scale, home.constant(layout.block_of(), f"{name}_blocks")], {"axis": axis})


def _lookup(steps: Steps, codes: Tensor, table: Tensor) -> Tensor:
    return steps.add("Gather", [table, steps.add("Cast", [codes], {"to": _INDEX})])


def _bits(codes: Array, small: Small, opset: int) -> Array:
    found = codes.view(np.uint8)
    return (found & np.uint8(15)).astype(ml_dtypes.uint4) if small.bits == 4 and opset >= _PACKED else found
