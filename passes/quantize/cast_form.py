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
from passes.quantize.storing import put

POWER = np.dtype(ml_dtypes.float8_e8m0fnu)
"""The type of scales that are powers of two and nothing else."""

_SINGLE = 1  # ONNX's number of float32, in which the product is computed


@dataclass(frozen=True)
class Affine:
    """What the codes mean: (code - zero) * scale in float32, then of the type `onnx_type`.

    `scale` and `zero` broadcast to the codes; they are float32, or a scale of powers of two. For a
    scale a block, `split` is the shape in which blocks have an axis of their own, and `whole` that of
    the codes; both are int64 tensors.
    """

    onnx_type: int
    scale: Tensor
    zero: Tensor | None = None
    split: Tensor | None = None
    whole: Tensor | None = None


def cast_nodes(graph: Graph, stem: str, codes: Tensor, floats: Tensor, meaning: Affine) -> list[Node]:
    """New nodes, in order, that make `floats` of `codes`; they are in no graph yet."""
    nodes: list[Node] = []
    scale = meaning.scale
    if scale.onnx_dtype != _SINGLE:
        wide = graph.variable(f"{stem}_powers")
        nodes.append(Node("Cast", graph.fresh_name(f"{stem}_powers"), {"to": _SINGLE}, [scale], [wide]))
        scale = wide
    steps: list[tuple[str, dict[str, Any], Tensor | None]] = [("Cast", {"to": _SINGLE}, None)]
    if meaning.split is not None:
        steps.append(("Reshape", {}, meaning.split))
    if meaning.zero is not None:
        steps.append(("Sub", {}, meaning.zero))
    steps.append(("Mul", {}, scale))
    if meaning.whole is not None:
        steps.append(("Reshape", {}, meaning.whole))
    if meaning.onnx_type != _SINGLE:
        steps.append(("Cast", {"to": meaning.onnx_type}, None))
    value = codes
    for index, (op, attrs, operand) in enumerate(steps):
        made = floats if index == len(steps) - 1 else graph.variable(f"{stem}_{op}")
        reads = [value] if operand is None else [value, operand]
        nodes.append(Node(op, graph.fresh_name(f"{stem}_{op}"), attrs, reads, [made]))
        value = made
    return nodes


def write_cast(weight: Weight, grid: Grid, codes: Array, order: Order) -> None:
    """Put `codes` (the shape of the weight) on `grid` in the weight's place, and take the weight out.

    Unlike behind DequantizeLinear, nodes that move the weight go on to move floats: all of it is
    computed at load.
    """
    home, name = weight.home, weight.tensor.name
    shape = tuple(int(size) for size in codes.shape)
    stored = home.constant(codes, f"{name}_{codes.dtype}")
    zero = as_floats(grid.zero)
    parameters = [None if one is None else spread_out(one, shape, grid.axis, grid.block) for one in (grid.scale, zero)]
    scale = parameters[0]
    assert scale is not None, "a grid has a scale"
    if scale.dtype != POWER:
        scale = scale.astype(np.float32, copy=False)
    meaning = Affine(
        onnx_dtype(weight.constant.dtype),
        home.constant(scale, f"{name}_scale"),
        None if parameters[1] is None else home.constant(parameters[1], f"{name}_zero"),
        *(block_shapes(home, name, shape, grid.axis, grid.block) if grid.block else ()),
    )
    put(weight, cast_nodes(home, name, stored, home.variable(f"{name}_floats"), meaning), order)


def block_shapes(
    graph: Graph, stem: str, shape: tuple[int, ...], axis: int | None, block: int
) -> tuple[Tensor, Tensor]:
    """The shape of the codes with an axis for the elements of a block behind `axis`, and as it is."""
    along = axis or 0
    cut = (*shape[:along], shape[along] // block, block, *shape[along + 1 :])
    split, whole = np.array(cut, np.int64), np.array(shape, np.int64)
    return graph.constant(split, f"{stem}_blocks"), graph.constant(whole, f"{stem}_shape")


def spread_out(values: Array, shape: tuple[int, ...], axis: int | None, block: int) -> Array:
    """Scales or zeros in a shape that broadcasts to the codes, or to their blocks."""
    if block:
        return np.expand_dims(values, (axis or 0) + 1)
    return lined_up(values, len(shape), axis)


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
    """One value for all, or one for each index of `axis`, in a shape that broadcasts to that rank.

    An axis that is counted from the end needs no rank.
    """
    if values.size == 1 or axis is None:
        return values.reshape(())
    behind = -axis - 1 if axis < 0 else rank - 1 - axis
    return values.reshape(-1, *[1] * behind)


def _is_integer(dtype: np.dtype[Any]) -> bool:
    """Whether a stored type is one of integers; numpy does not know those below a byte."""
    return dtype.kind in "iu" or dtype.name.startswith(("int", "uint"))
