"""Operators between DequantizeLinear and QuantizeLinear, computed in 8 bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.analysis.constants import constant_values
from graphopt.analysis.matching import maker, operand
from graphopt.analysis.pattern_terms import attribute
from graphopt.ir import Graph, Node, Tensor
from graphopt.ir.values import Array
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.fuse.onnxruntime.grids import Grid, grid
from passes.fuse.onnxruntime.site import DOMAIN, Site, single

_ONE_INPUT = ("Sigmoid", "LeakyRelu", "Softmax", "AveragePool", "GlobalAveragePool")
_TWO_INPUTS = {"MatMul": ("QLinearMatMul", ""), "Add": ("QLinearAdd", DOMAIN), "Mul": ("QLinearMul", DOMAIN)}
_MOST = 2**31 - 1
_SINCE = 10  # QLinearConv and QLinearMatMul


@dataclass(frozen=True)
class _Quantized:
    """A value that is dequantized, the node that does it, and the grid."""

    node: Node
    value: Tensor
    grid: Grid

    @property
    def slots(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.value, self.grid.scale, self.grid.zero


@dataclass(frozen=True)
class OrtQlinear(Pass):
    """Compute between DequantizeLinear and QuantizeLinear in 8 bits: QLinearConv, QLinearMatMul, QLinearAdd ...

    What it does
        Precondition: Conv, MatMul, Add, Mul, AveragePool, GlobalAveragePool, Sigmoid, LeakyRelu or Softmax
        reads values of DequantizeLinear, and a QuantizeLinear alone reads it; scales and zero points are
        constants of 8 bits, one for each value (for weights of a Conv one for each channel, too). Rewrite:
        the operator on the integers, QLinearConv and QLinearMatMul of ONNX or one of com.microsoft. The bias
        of a Conv, if it is not quantized yet, becomes integers of 32 bits on the grid of the products.
        What is read by others too stays for them. Main graph and bodies; of
        functions only what has an operator of ONNX itself.

    Example
        before: f = DequantizeLinear(q, s, z)    g = Sigmoid(f)    y = QuantizeLinear(g, t, u)
        after:  y = com.microsoft.QLinearSigmoid(q, s, z, t, u)

    When not
        Other runtimes than onnxruntime do not know the operators of com.microsoft, nor do all of its
        execution providers: they are written for its CPU. Signed activations with unsigned weights, for which
        onnxruntime has no kernel. Sizes of the results of its own operators are not known to ONNX's shape
        inference. The file may grow by the domain's import and name.

    Contract
        ROUNDING. Exact sums of integers instead of rounded ones of floating point, and one rounding
        at the end: where a result lies between two integers of 8 bits, it may be the other one.

    Source
        Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
        Inference", 2018; onnxruntime, "Contrib Operators".
    """

    name = "ort-qlinear"
    contract = Contract.ROUNDING
    changes = ("opsets",)
    grows = True

    def run(self, graph: Graph, ctx: Context) -> None:
        site = Site(graph, ctx)
        for node in site.nodes():
            if not node.is_op("QuantizeLinear") or (target := grid(node)) is None or not target.single:
                continue
            inner = single(node.inputs[0], node, "Conv", *_TWO_INPUTS, *_ONE_INPUT)
            if inner is not None and inner.graph is not None and inner.graph.opset >= _SINCE:
                rule: Callable[[Site, Node, Node, Grid], None]
                rule = _conv if inner.op == "Conv" else _two if inner.op in _TWO_INPUTS else _one
                rule(site, node, inner, target)


def _quantized(node: Node, index: int) -> _Quantized | None:
    """Input `index` of a node where a DequantizeLinear of the same graph makes it."""
    tensor = operand(node, index)
    made = maker(tensor, "DequantizeLinear") if tensor is not None else None
    if made is None or made.graph is not node.graph:
        return None
    found = grid(made)
    return None if found is None else _Quantized(made, made.inputs[0], found)


def _fuse(
    site: Site,
    quantize: Node,
    inner: Node,
    sources: list[Node],
    op: str,
    inputs: Sequence[Tensor | Array],
    attrs: dict[str, Any],
    domain: str,
) -> bool:
    unread = [one for one in dict.fromkeys(sources) if _only_for(one, inner)]
    nodes = [quantize, inner, *unread]
    return site.fuse(inner.op.lower(), quantize, nodes, op, inputs, attrs, name=inner.name, domain=domain)


def _only_for(source: Node, reader: Node) -> bool:
    output = source.outputs[0]
    if output.graph_outputs or len(output.outputs) > len(reader.inputs):
        return False
    return all(one is reader for one in output.readers)


def _one(site: Site, quantize: Node, inner: Node, target: Grid) -> None:
    source = _quantized(inner, 0)
    if source is None or not source.grid.single:
        return
    if source.grid.zeros.dtype != target.zeros.dtype:
        site.ctx.missed(inner.op.lower(), quantize, "signed integers on one side and unsigned ones on the other")
        return
    attrs = dict(inner.attrs)
    if inner.op == "Softmax":
        assert inner.graph is not None
        attrs = {"axis": attribute(inner, "axis"), "opset": inner.graph.opset}
    elif any(int(one) != 1 for one in attrs.pop("dilations", ())):
        site.ctx.missed(inner.op.lower(), quantize, "QLinearAveragePool knows no dilations")
        return
    inputs = [*source.slots, target.scale, target.zero]
    _fuse(site, quantize, inner, [source.node], f"QLinear{inner.op}", inputs, attrs, DOMAIN)


def _two(site: Site, quantize: Node, inner: Node, target: Grid) -> None:
    first, second = _quantized(inner, 0), _quantized(inner, 1)
    if first is None or second is None or not (first.grid.single and second.grid.single):
        return
    op, domain = _TWO_INPUTS[inner.op]
    dtypes = [one.zeros.dtype for one in (first.grid, second.grid, target)]
    unsigned = inner.op == "MatMul" and dtypes[0] == dtypes[2] == np.uint8
    if len(set(dtypes)) > 1 and not unsigned:
        site.ctx.missed(inner.op.lower(), quantize, f"there is no kernel for {', '.join(map(str, dtypes))}")
        return
    inputs = [*first.slots, *second.slots, target.scale, target.zero]
    _fuse(site, quantize, inner, [first.node, second.node], op, inputs, {}, domain)


def _conv(site: Site, quantize: Node, inner: Node, target: Grid) -> None:
    value, weight = _quantized(inner, 0), _quantized(inner, 1)
    if value is None or weight is None or not value.grid.single:
        return
    dtypes = [one.zeros.dtype for one in (value.grid, weight.grid, target)]
    per_channel = weight.grid.scales.ndim == 1 and weight.grid.axis == 0 and len(set(weight.grid.zeros.tolist())) == 1
    if not weight.grid.single and not per_channel:
        site.ctx.missed("conv", quantize, "the weights have scales along another axis, or several zero points")
        return
    if dtypes[0] != dtypes[2] or (dtypes[0] == np.int8 and dtypes[1] != np.int8):
        site.ctx.missed("conv", quantize, f"there is no kernel for {', '.join(map(str, dtypes))}")
        return
    inputs: list[Tensor | Array] = [*value.slots, *weight.slots, target.scale, target.zero]
    sources = [value.node, weight.node]
    bias = operand(inner, 2)
    if bias is not None:
        dequantize = maker(bias, "DequantizeLinear")
        found = _bias(bias, dequantize, value.grid.scales.astype(np.float64) * weight.grid.scales.reshape(-1))
        if isinstance(found, str):
            site.ctx.missed("conv", quantize, found)
            return
        inputs.append(found)
        if dequantize is not None and dequantize.graph is inner.graph:
            sources.append(dequantize)
    _fuse(site, quantize, inner, sources, "QLinearConv", inputs, dict(inner.attrs), "")


def _bias(bias: Tensor, dequantize: Node | None, scales: Array) -> Tensor | Array | str:
    """The bias in units of `scales`: the integers it is dequantized from, or new ones; or why there are none."""
    stored = None
    if dequantize is None:
        values = constant_values(bias)
    else:
        stored, scale, zero = (operand(dequantize, index) for index in range(3))
        whole = constant_values(stored) if stored is not None else None
        step = constant_values(scale) if scale is not None else None
        start = constant_values(zero) if zero is not None else None
        if whole is None or step is None or whole.dtype != np.int32 or (start is not None and start.any()):
            return "its bias is not made of constant integers of 32 bits"
        values = whole * step.astype(np.float64)
    if values is None or values.ndim != 1 or values.dtype not in (np.float32, np.float64):
        return "its bias is not constant"
    units = np.rint(values / scales)
    if not (np.abs(units) < _MOST).all():
        return "its bias does not fit into 32 bits"
    found = units.astype(np.int32)
    before = constant_values(stored) if stored is not None else None
    if stored is not None and before is not None and np.array_equal(before, found):
        return stored
    return np.asarray(found)
