"""Integers made floats by Cast, Sub and Mul, which runtimes compute once, when a model is loaded.

A DequantizeLinear of constants is kept by runtimes, so that they can recognise integer kernels; where
there is none it runs every time. Cast and Mul of constants are folded like any others. float32 holds
every code of up to 16 bits and every difference of a code and a zero point, so both forms make the same
bits: the product, rounded once. For float16 and bfloat16 a second Cast follows, which runtimes without
kernels for these leave out again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from graphopt.analysis.weights import Weight
from graphopt.ir import Graph, Node, Tensor
from graphopt.ir.dtypes import bits, np_dtype, onnx_dtype
from graphopt.ir.values import Array
from passes.quantize.dequantize import Order
from passes.quantize.grid import Grid
from passes.quantize.storing import Steps, put

POWER = np.dtype(ml_dtypes.float8_e8m0fnu)
"""The type of scales that are powers of two and nothing else."""

_SINGLE = 1  # ONNX's number of float32, in which the product is computed


@dataclass(frozen=True)
class Affine:
    """What the codes mean: (code - zero) * scale in float32, then of the type `onnx_type`.

    `scale` and `zero` broadcast to the codes; they are float32, or a scale of powers of two. For
    scales of blocks, `blocks` says for each index of `axis` in which block it lies.
    """

    onnx_type: int
    scale: Tensor
    zero: Tensor | None = None
    blocks: Tensor | None = None
    axis: int = 0


def cast_nodes(graph: Graph, stem: str, codes: Tensor, floats: Tensor, meaning: Affine) -> list[Node]:
    """New nodes, in order, that make `floats` of `codes`; they are in no graph yet."""
    steps = Steps(graph, stem)

    def operand(one: Tensor) -> Tensor:
        wide = one if one.onnx_dtype == _SINGLE else steps.add("Cast", [one], {"to": _SINGLE})
        return wide if meaning.blocks is None else steps.add("Gather", [wide, meaning.blocks], {"axis": meaning.axis})

    value = steps.add("Cast", [codes], {"to": _SINGLE})
    if meaning.zero is not None:
        value = steps.add("Sub", [value, operand(meaning.zero)])
    value = steps.add("Mul", [value, operand(meaning.scale)])
    if meaning.onnx_type != _SINGLE:
        steps.add("Cast", [value], {"to": meaning.onnx_type})
    steps.nodes[-1].outputs[0] = floats
    return steps.nodes


def write_cast(weight: Weight, grid: Grid, codes: Array, order: Order) -> None:
    """Put `codes` (the shape of the weight) on `grid` in the weight's place, and take the weight out.

    Unlike behind DequantizeLinear, nodes that move the weight go on to move floats: all of it is
    computed at load.
    """
    home, name = weight.home, weight.tensor.name
    layout = Layout(tuple(int(size) for size in codes.shape), grid.axis, grid.block)
    stored = home.constant(codes, f"{name}_{codes.dtype}")
    scale = layout.spread_out(grid.scale if grid.scale.dtype == POWER else grid.scale.astype(np.float32, copy=False))
    held = home.constant(scale, f"{name}_scale")
    meaning = layout.meaning(home, name, onnx_dtype(weight.constant.dtype), held, as_floats(grid.zero))
    put(weight, cast_nodes(home, name, stored, home.variable(f"{name}_floats"), meaning), order)


@dataclass(frozen=True)
class Layout:
    """Codes of `shape` with one scale, one for each index of `axis`, or one for each `block` along it."""

    shape: tuple[int, ...]
    axis: int | None
    block: int = 0

    def spread_out(self, values: Array) -> Array:
        """Scales or zeros in a shape that broadcasts to the codes, or to one index of each block."""
        return values if self.block else lined_up(values, len(self.shape), self.axis)

    def meaning(self, graph: Graph, stem: str, onnx_type: int, scale: Tensor, zero: Array | None) -> Affine:
        """What the codes mean, with `scale` spread out; puts the other constants into `graph`."""
        held = None if zero is None else graph.constant(self.spread_out(zero), f"{stem}_zero")
        if not self.block:
            return Affine(onnx_type, scale, held)
        return Affine(onnx_type, scale, held, graph.constant(self.block_of(), f"{stem}_blocks"), self.axis or 0)

    def block_of(self) -> Array:
        """The block in which each index of the axis lies: int32."""
        return (np.arange(self.shape[self.axis or 0]) // self.block).astype(np.int32)


def why_not_exact(code: int, zero: Array | None) -> str | None:
    """Why Cast and Mul would not make what DequantizeLinear makes of codes of the ONNX type `code`, in a
    clause; None when they make the same bits."""
    stored = np_dtype(code)
    if stored is None or bits(code) == 0:
        return f"its codes are of element type {code}"
    if zero is None or not np.asarray(zero, np.float32).any():
        return None
    if bits(code) > 16 or not _is_integer(stored):
        return f"its codes are {stored} with a zero point"
    return None


def as_floats(zero: Array | None) -> Array | None:
    """The zero point as floats, None where there is nothing to subtract."""
    if zero is None or not np.asarray(zero, np.float32).any():
        return None
    return np.asarray(zero, np.float32)


def lined_up(values: Array, rank: int, axis: int | None) -> Array:
    """One value for all, or one for each index of `axis`, in a shape that broadcasts to that rank."""
    if values.size == 1 or axis is None:
        return values.reshape(())
    return values.reshape(-1, *[1] * (rank - 1 - axis))


def _is_integer(dtype: np.dtype[Any]) -> bool:
    """Whether a stored type is one of integers; numpy does not know those below a byte."""
    return dtype.kind in "iu" or dtype.name.startswith(("int", "uint"))
