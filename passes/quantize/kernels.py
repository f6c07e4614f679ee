"""Which operators compute with stored integers, so that a DequantizeLinear before them costs no time."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.analysis.constants import constant_of
from graphopt.analysis.movement import View, is_mover, moved
from graphopt.ir import Node, Tensor

_BOTH_SIDES = ("Conv", "Gemm", "MatMul")
"""Operators that have integer kernels where their data are quantized, too."""


@dataclass(frozen=True)
class Codes:
    """The codes that a DequantizeLinear reads: their shape, the axis of the scales, bits of a code, and
    whether there is a scale for each block of that axis."""

    shape: tuple[int, ...]
    axis: int | None
    bits: int
    blocked: bool = False


def why_kept(dequantize: Node, codes: Codes) -> str | None:
    """A clause that names an operator behind this node that may compute with its codes; None where all
    of them compute with floats."""
    pending: list[tuple[Tensor, View | None]] = [(dequantize.outputs[0], View.whole(codes.shape))]
    while pending:
        tensor, view = pending.pop()
        for node in tensor.readers:
            if is_mover(node) and node.inputs[0] is tensor:
                pending.append((node.outputs[0], None if view is None else moved(node, view)))
                continue
            why = _why_kept(node, tensor, view, codes)
            if why is not None:
                return why
    return None


def _why_kept(node: Node, tensor: Tensor, view: View | None, codes: Codes) -> str | None:
    if node.is_op("QuantizeLinear"):
        return f"QuantizeLinear {node.label!r} makes integers of it again"
    if not node.is_standard:
        return f"what {node.op} {node.label!r} can compute with is not known"
    if node.is_op(*_BOTH_SIDES) and any(_is_dequantized(one) for one in node.inputs if one is not tensor):
        return f"{node.op} {node.label!r} may run on integers, its data are quantized as well"
    if node.is_op("MatMul", "Gemm") and _is_right_matrix(node, tensor, view, codes):
        return f"{node.op} {node.label!r} may run on integer weights"
    return None


def _is_dequantized(tensor: Tensor) -> bool:
    """Whether a value comes from integers that are only known at run time."""
    maker = tensor.inputs[0] if len(tensor.inputs) == 1 else None
    return maker is not None and maker.is_op("DequantizeLinear") and constant_of(maker.inputs[0]) is None


def _is_right_matrix(node: Node, tensor: Tensor, view: View | None, codes: Codes) -> bool:
    """Whether kernels for integer weights are known to fit: a matrix [K, N] on the right of at most 8 bits,
    with one scale, one for each column, or one for each block of a column."""
    if len(node.inputs) < 2 or node.inputs[1] is not tensor or codes.bits > 8 or view is None:
        return False
    if len(view.shape) != 2 or any(node.attrs.get(name) for name in ("transA", "transB")):
        return False
    place = None if codes.axis is None else view.place_of(codes.axis)
    return codes.axis is None or place == (0 if codes.blocked else 1)
