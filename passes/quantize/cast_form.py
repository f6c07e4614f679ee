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

import numpy as np

from graphopt.ir import Graph, Node, Tensor
from graphopt.ir.dtypes import bits, np_dtype
from graphopt.ir.values import Array

BROADCAST = 7
"""The opset from which on Mul and Sub line up their operands by themselves."""

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
