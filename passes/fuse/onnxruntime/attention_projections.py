"""Attention together with the products that make query, key and value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.analysis.constants import constant_of
from graphopt.analysis.matching import operand
from graphopt.analysis.pattern_terms import attribute, is_constant
from graphopt.ir import Constant, Graph, Node, Tensor, Variable
from graphopt.ir.supersede import supersede
from graphopt.ir.values import Array
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.fuse.onnxruntime.site import DOMAIN, FLOAT, Site, single

RULE = "projections"
_OP = "Attention"
_INPUTS = ("query", "key", "value", "bias", "key_padding_mask", "attention_bias")
_BIAS = 5


@dataclass
class _Projected:
    """`value` times `weight` plus `bias`, cut into three parts of which `order` are query, key and value."""

    split: Node
    product: Node
    add: Node | None
    value: Tensor
    weight: Tensor
    bias: Tensor | None
    order: list[int]


@dataclass(frozen=True)
class OrtAttentionProjections(Pass):
    """Let attention multiply by the weights of query, key and value itself: com.microsoft.Attention.

    What it does
        Precondition: a com.microsoft.MultiHeadAttention of which query, key and value are the three equal
        parts that a Split along the last axis makes of one MatMul of a float32 value of 3 dims with a
        constant matrix, perhaps with an Add of a constant vector between; all in one graph and read
        by nobody else. Rewrite: one Attention, its weights and bias in the order of query, key and value.

    Example
        before: p = MatMul(x, w)    s = Add(p, b)    q, k, v = Split<axis=-1>(s)
                y = com.microsoft.MultiHeadAttention<num_heads=2>(q, k, v)
        after:  y = com.microsoft.Attention<num_heads=2>(x, w, b)

    When not
        Other runtimes than onnxruntime do not know the operator, nor do all of its execution providers: it is
        written for its CPU. Attention with past keys or a padding mask. Weights in another order than query, key
        and value that others read too.

    Contract
        ROUNDING. The kernel multiplies head by head, and may cut the products into other blocks.

    Source
        Vaswani et al., "Attention is all you need", 2017, section 3.2.2; onnxruntime, "Contrib Operators":
        com.microsoft.Attention.
    """

    name = "ort-attention-projections"
    contract = Contract.ROUNDING
    changes = ("opsets",)
    grows = True

    def run(self, graph: Graph, ctx: Context) -> None:
        site = Site(graph, ctx)
        for node in site.nodes():
            if node.op != "MultiHeadAttention" or node.domain != DOMAIN or len(node.inputs) < 3:
                continue
            found = _projected(node)
            if found is None:
                continue
            why = _why_not(site, node, found)
            if why is not None:
                ctx.missed(RULE, node, why)
                continue
            nodes = [node, found.split, found.product, *([] if found.add is None else [found.add])]
            if site.may(RULE, node, nodes, _OP):
                _rewrite(site, node, found, nodes)


def _projected(node: Node) -> _Projected | None:
    """What query, key and value are the parts of."""
    parts = [node.inputs[index] for index in range(3)]
    split: Node | None = parts[0].inputs[0] if len(parts[0].inputs) == 1 else None
    if split is None or not split.is_op("Split") or len(split.outputs) != 3 or split.graph is not node.graph:
        return None
    places = {one: index for index, one in enumerate(split.outputs)}
    order = [places[one] for one in parts if one in places]
    if sorted(order) != [0, 1, 2] or attribute(split, "axis") not in (-1, 2):
        return None
    add = single(split.inputs[0], split, "Add")
    for rest, bias in [(split.inputs[0], None)] if add is None else [tuple(add.inputs), tuple(add.inputs)[::-1]]:
        product = single(rest, split if add is None else add, "MatMul")
        if product is not None and len(product.inputs) == 2 and (bias is None or constant_of(bias) is not None):
            return _Projected(split, product, add, product.inputs[0], product.inputs[1], bias, order)
    return None


def _why_not(site: Site, node: Node, found: _Projected) -> str | None:
    for index in range(3, len(node.inputs)):
        if index != _BIAS and operand(node, index) is not None:
            return f"it has the input {index}, {_INPUTS[index] if index < len(_INPUTS) else 'of past keys'}"
    if any(one.name for one in list(node.outputs)[1:]):
        return "its keys or values are outputs"
    if node.attrs.get("unidirectional"):
        return "it is causal"
    for one in found.split.outputs:
        if one.graph_outputs or len(one.outputs) != 1:
            return f"{one.name!r} is read by others too"
    weight, bias = constant_of(found.weight), None if found.bias is None else constant_of(found.bias)
    dims = site.shapes.dims(found.value)
    if weight is None or not is_constant(found.weight) or weight.onnx_dtype != FLOAT or len(weight.shape) != 2:
        return "its weights are no constant float32 matrix"
    columns = int(weight.shape[1])
    if bias is not None and (not is_constant(bias) or bias.onnx_dtype != FLOAT or list(bias.shape) != [columns]):
        return "its bias is no constant vector with a number for each column"
    if dims is None or len(dims) != 3:
        return f"{found.value.name!r} is not known to have 3 dims"
    sizes = [site.shapes.dims(one) for one in found.split.outputs]
    if any(one is None or one[-1] * 3 != columns for one in sizes):
        return "query, key and value are not known to be of one size"
    if found.order == [0, 1, 2]:
        return None
    for one in (found.weight, found.bias):
        if one is not None and (not isinstance(one, Constant) or len(one.outputs) != 1 or one.graph_outputs):
            return f"the parts of {one.name!r} are in another order, and it is read by others too"
        if one is not None and site.needs(one):
            return f"the parts of {one.name!r} are in another order, and an annotation needs it"
    return None


def _rewrite(site: Site, node: Node, found: _Projected, nodes: Sequence[Node]) -> None:
    scope = node.graph
    assert scope is not None, "a node that is fused is in a graph"
    if found.order != [0, 1, 2]:
        for one in (found.weight, found.bias):
            if isinstance(one, Constant):
                scope.set_values(one, _ordered(one.values, found.order))
    operands: list[Tensor] = [found.value, found.weight]
    mask = operand(node, _BIAS)
    if found.bias is not None or mask is not None:
        operands.append(Variable.empty() if found.bias is None else found.bias)
    if mask is not None:
        operands += [Variable.empty(), Variable.empty(), mask]
    attrs = {name: node.attrs[name] for name in ("num_heads", "scale") if name in node.attrs}
    supersede(node, nodes, [Node(_OP, node.name, attrs, operands, domain=DOMAIN)], site.needs)


def _ordered(values: Array, order: Sequence[int]) -> Array:
    """The thirds of the last axis in another order."""
    parts = np.split(values, 3, axis=-1)
    joined: Array = np.concatenate([parts[index] for index in order], axis=-1)
    return joined
