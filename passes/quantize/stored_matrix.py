"""Weights that are stored as integers, in the layout that a product reads them, and what reads them else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.analysis.constants import constant_of, constant_values
from graphopt.analysis.matching import maker, operand
from graphopt.ir import Constant, Graph, Node, Tensor
from graphopt.ir.dtypes import bits, onnx_dtype

Array = np.ndarray[Any, Any]

_AXIS = 1  # the default of DequantizeLinear


@dataclass(frozen=True, eq=False)
class StoredMatrix:
    """(codes - zero) * scale, a matrix that DequantizeLinear makes of constants.

    `codes` are of ONNX's integer types of 2, 4 or 8 bits. `scale` and `zero` (None for zeros) have
    shape (), or (C,) along `axis`, or with a `block` that of the codes with `axis` in blocks. `base`
    is the tensor that holds the codes, with its axes exchanged if `flipped`; `parameters` are what
    DequantizeLinear reads scales and zeros from.
    """

    codes: Array
    scale: Array
    zero: Array | None
    axis: int | None
    block: int
    base: Tensor
    flipped: bool = False
    parameters: tuple[Tensor, ...] = ()

    @property
    def transposed(self) -> StoredMatrix:
        """The same weight with its axes exchanged."""
        scale, zero = self.scale, self.zero
        if self.block:
            scale, zero = scale.T, None if zero is None else zero.T
        axis = None if self.axis is None else 1 - self.axis
        return StoredMatrix(self.codes.T, scale, zero, axis, self.block, self.base, not self.flipped, self.parameters)

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return bits(onnx_dtype(self.codes.dtype))

    def unsigned(self, values: Array) -> Array:
        """Codes or zeros as uint8 from 0 on: those with a sign are moved up by the middle one."""
        if self.codes.dtype.name.startswith("u"):
            return np.ascontiguousarray(values).view(np.uint8)
        return np.ascontiguousarray(
            values.astype(np.int8) + np.int8(-128 if self.bits == 8 else 1 << self.bits - 1)
        ).view(np.uint8)

    def zeros(self) -> Array:
        """The zeros as uint8 from 0 on, in the shape of the scales."""
        zero = self.zero
        return self.unsigned(np.zeros(self.scale.shape, self.codes.dtype) if zero is None else zero)


def stored_matrix(tensor: Tensor) -> StoredMatrix | None:
    """The stored form of a matrix of floats, also behind Transpose, before or after DequantizeLinear."""
    node = maker(tensor, "Transpose", "DequantizeLinear")
    if node is None:
        return None
    if node.op == "Transpose":
        found = stored_matrix(node.inputs[0]) if _flips(node) else None
        return None if found is None else found.transposed
    codes, scale = _values(node.inputs[0]), _values(node.inputs[1])
    given = operand(node, 2)
    zero = None if given is None else _values(given)
    if codes is None or scale is None or (given is not None and zero is None) or codes.ndim != 2:
        return None
    kind = codes.dtype.name.rstrip("0123456789")
    if kind not in ("int", "uint") or bits(onnx_dtype(codes.dtype)) > 8 or "output_dtype" in node.attrs:
        return None
    block, axis = node.attrs.get("block_size", 0), node.attrs.get("axis", _AXIS)
    if not isinstance(block, int) or not isinstance(axis, int):
        return None
    base, flipped = _base(node.inputs[0])
    parts = tuple(node.inputs[1:])
    if scale.size == 1 and not block:
        zero = None if zero is None else zero.reshape(())
        return StoredMatrix(codes, scale.reshape(()), zero, None, 0, base, flipped, parts)
    return StoredMatrix(codes, scale, zero, axis % 2, block, base, flipped, parts)


def readers_at_the_end(base: Tensor) -> list[tuple[Node, int]]:
    """What reads a stored matrix once it has been moved and made floats: nodes and input slots."""
    ends: list[tuple[Node, int]] = []
    pending = [base]
    while pending:
        tensor = pending.pop()
        for node in tensor.readers:
            for slot, read in enumerate(node.inputs):
                if read is not tensor:
                    continue
                if slot == 0 and node.is_op("Transpose", "DequantizeLinear") and not node.outputs[0].graph_outputs:
                    pending.append(node.outputs[0])
                else:
                    ends.append((node, slot))
    return ends


def home_of(base: Tensor) -> Graph:
    """The graph that a stored tensor belongs to."""
    scope: Graph | None = base.__dict__.get("home") if isinstance(base, Constant) else base.inputs[0].graph
    assert scope is not None, "what is stored is in a graph"
    return scope


def drop_unread(tensors: list[Tensor]) -> None:
    """Take out what nobody reads any more: the makers of `tensors`, what those alone read, and constants."""
    pending = list(tensors)
    while pending:
        tensor = pending.pop()
        if tensor.is_read or not tensor.name:
            continue
        if isinstance(tensor, Constant):
            scope: Graph | None = tensor.__dict__.get("home")
            if scope is not None and tensor in scope.initializers:
                scope.remove_initializer(tensor)
            continue
        node = maker(tensor, "Transpose", "DequantizeLinear", "Reshape", "Constant", "Gather")
        if node is not None and node.graph is not None:
            inputs = list(node.inputs)
            node.graph.remove(node)
            pending.extend(inputs)


def _flips(node: Node) -> bool:
    order: object = node.attrs.get("perm", [1, 0])
    return order == [1, 0]  # or else, in a function, what its callers give


def _values(tensor: Tensor) -> Array | None:
    """A constant, or one whose two axes a Transpose exchanges."""
    node = maker(tensor, "Transpose")
    if node is None:
        return constant_values(tensor)
    values = _values(node.inputs[0]) if _flips(node) else None
    return values.T if values is not None and values.ndim == 2 else None


def _base(tensor: Tensor) -> tuple[Tensor, bool]:
    flipped = False
    while constant_of(tensor) is None and tensor.inputs:
        tensor, flipped = tensor.inputs[0].inputs[0], not flipped
    return tensor, flipped
