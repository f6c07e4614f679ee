"""Biases through which the mean error of a quantized operator can be taken out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from graphopt.analysis.constants import constant_values
from graphopt.analysis.matching import only_reader
from graphopt.analysis.quantized import quantized_weight
from graphopt.ir import Node, Tensor
from graphopt.ir.values import Array

LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators whose result moves by what is added to their bias."""

_MOST = 2**31 - 1
_TYPES = (np.dtype(np.int32), np.dtype(np.float32))


@dataclass(frozen=True, eq=False)
class Site:
    """A linear operator and its bias: input `slot` of `holder`, the operator itself or the Add behind a MatMul.

    `result` is what the two make, `axis` the place of the output channels in it, and of the input
    channels in what the operator reads.
    """

    node: Node
    result: Tensor
    holder: Node
    slot: int

    @property
    def axis(self) -> int:
        return 1 if self.node.op in ("Conv", "ConvTranspose") else -1

    @property
    def read(self) -> Tensor:
        """The activation that the operator reads now."""
        found: Tensor = self.node.inputs[0]
        return found


def site_of(node: Node) -> Site | str:
    """Where the bias of a linear operator is, or a clause that says why there is none to change."""
    if node.op == "MatMul":
        reader = only_reader(node.outputs[0])
        if reader is None or not reader.is_op("Add") or reader.graph is not node.graph:
            return "it has no bias"
        return Site(node, reader.outputs[0], reader, 1 if reader.inputs[0] is node.outputs[0] else 0)
    if len(node.inputs) < 3 or not node.inputs[2].name:
        return "it has no bias"
    return Site(node, node.outputs[0], node, 2)


def why_not(site: Site) -> str | None:
    """Why the operator cannot be corrected as it is now, in a clause."""
    node, bias = site.node, site.holder.inputs[site.slot]
    stored = quantized_weight(bias)
    values = constant_values(bias) if stored is None else stored.values
    if values is None or values.ndim != 1 or values.dtype not in _TYPES:
        return "its bias is not a constant with one number for each output channel"
    if len(bias.readers) != 1 or (stored is not None and len(stored.codes.readers) != 1):
        return "its bias is shared"
    if node.op == "Gemm" and (node.attrs.get("beta", 1.0) != 1.0 or node.attrs.get("transA", 0)):
        return "its bias has a factor, or its first operand is transposed"
    weight = quantized_weight(node.inputs[1])
    if weight is None or weight.block or (node.op in ("Gemm", "MatMul") and weight.values.ndim != 2):
        return "its weight is not quantized with one scale for each channel or in all"
    return None


def sums(node: Node) -> Array:
    """What one more in every place of each input channel makes of each output channel: float64 [outputs, inputs].

    Away from the borders, for convolutions; for a ConvTranspose with strides, on average.
    """
    weight = quantized_weight(node.inputs[1])
    assert weight is not None
    shape = [1] * weight.values.ndim
    if weight.axis is not None:
        shape[weight.axis] = -1
    codes = weight.values.astype(np.float64)
    codes = codes if weight.zero is None else codes - weight.zero.astype(np.float64).reshape(shape)
    floats = codes * weight.scale.astype(np.float64).reshape(shape)
    if node.op in ("Gemm", "MatMul"):
        return floats if node.op == "Gemm" and node.attrs.get("transB", 0) else floats.T
    taps = floats.reshape(*floats.shape[:2], -1).sum(-1)
    groups = int(node.attrs.get("group", 1))
    if node.op == "ConvTranspose":
        strides = node.attrs.get("strides", [1])
        taps = taps / math.prod(int(one) for one in strides)
        blocks = [block.T for block in np.split(taps, groups)]
    else:
        blocks = np.split(taps, groups)
    made = np.zeros((sum(len(one) for one in blocks), sum(one.shape[1] for one in blocks)))
    row = column = 0
    for block in blocks:
        made[row : row + block.shape[0], column : column + block.shape[1]] = block
        row, column = row + block.shape[0], column + block.shape[1]
    return made


def shift(site: Site, by: Array) -> None:
    """Take `by`, one number for each output channel, from the bias."""
    graph, bias = site.node.graph, site.holder.inputs[site.slot]
    assert graph is not None
    stored = quantized_weight(bias)
    if stored is None:
        values = constant_values(bias)
        assert values is not None
        graph.set_values(bias, (values - by).astype(np.float32))
        return
    codes = stored.values.astype(np.float64) - by / stored.scale.astype(np.float64)
    graph.set_values(stored.codes, np.clip(np.rint(codes), -_MOST, _MOST).astype(np.int32))
