"""LayerNormalization of a sum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graphopt.analysis.constants import constant_of
from graphopt.analysis.matching import maker, operand
from graphopt.analysis.pattern_terms import attribute
from graphopt.ir import Graph, Node, Tensor, Variable
from graphopt.ir.supersede import remove_all
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.fuse.onnxruntime.site import DOMAIN, FLOAT, Site, single

RULE = "skip"
_OP = "SkipLayerNormalization"
_RANKS = (2, 3)  # the kernel looks for batch, sequence and hidden size


@dataclass(frozen=True)
class OrtSkipLayerNormalization(Pass):
    """Let LayerNormalization add up what it normalizes: com.microsoft.SkipLayerNormalization.

    What it does
        Precondition: float32; a LayerNormalization over the last axis, with constant scale and bias, reads
        the sum of two values of the very same shape of 2 or 3 dims, all in one graph, and nobody reads its mean or
        deviation. Rewrite: one SkipLayerNormalization, with a vector that was added to one of the two
        before as its bias. Others who read the sum read it from there too. Main graph and bodies.

    Example
        before: s = Add(x, y)    z = LayerNormalization<axis=-1>(s, g, b)
        after:  z = com.microsoft.SkipLayerNormalization<epsilon=1e-05>(x, y, g, b)

    When not
        Other runtimes than onnxruntime do not know the operator, nor do all of its execution providers: it is
        written for its CPU. Shapes that are not known to be equal. Sizes of the result are not known to
        ONNX's shape inference. The file may grow by the domain's import and name.

    Contract
        ROUNDING. The same mathematics in one kernel.

    Source
        onnxruntime, "Contrib Operators": com.microsoft.SkipLayerNormalization.
    """

    name = "ort-skip-layer-normalization"
    contract = Contract.ROUNDING
    changes = ("opsets",)
    grows = True

    def run(self, graph: Graph, ctx: Context) -> None:
        site = Site(graph, ctx)
        for node in site.nodes():
            if node.is_op("LayerNormalization") and node.inputs:
                _normalization(site, node)


def _normalization(site: Site, node: Node) -> None:
    add = maker(node.inputs[0], "Add")
    if add is None or add.graph is not node.graph or len(add.inputs) != 2:
        return
    why = _why_not(site, node, add)
    if why is not None:
        site.ctx.missed(RULE, node, why)
        return
    value = node.inputs[0]
    nodes, inputs = [node, add], [*add.inputs, operand(node, 1), operand(node, 2)]
    bias = _bias(site, add)
    if bias is not None:
        nodes.append(bias[0])
        inputs = [bias[1], bias[2], operand(node, 1), operand(node, 2), bias[3]]
    elif inputs[-1] is None:
        inputs.pop()
    attrs = {"epsilon": attribute(node, "epsilon")}
    if single(value, node, "Add") is add:
        site.fuse(RULE, node, nodes, _OP, inputs, attrs)
    elif site.may(RULE, node, [node, *nodes[2:]], _OP):
        _keep_sum(site, add, nodes, inputs, attrs)


def _keep_sum(site: Site, add: Node, nodes: list[Node], inputs: list[Tensor | None], attrs: dict[str, Any]) -> None:
    """Put the operator where the sum is made, which is its fourth output."""
    scope = add.graph
    assert scope is not None, "a node that is fused is in a graph"
    outputs = [nodes[0].outputs[0], Variable.empty(), Variable.empty(), add.outputs[0]]
    for node in (nodes[0], add):
        node.outputs.clear()
    slots = [Variable.empty() if one is None else one for one in inputs]
    scope.insert(Node(_OP, nodes[0].name, attrs, slots, outputs, domain=DOMAIN), before=add)
    remove_all(nodes, site.needs)


def _why_not(site: Site, node: Node, add: Node) -> str | None:
    dims = site.shapes.dims(node.inputs[0])
    first, second = (site.shapes.dims(one) for one in add.inputs)
    if any(one.name for one in list(node.outputs)[1:]):
        return "its mean or deviation has a name"
    if dims is None or len(dims) not in _RANKS:
        return f"{node.inputs[0].name!r} is not known to have 2 or 3 dims"
    if attribute(node, "axis") not in (-1, len(dims) - 1):
        return "it normalizes over more than the last axis"
    if first != dims or second != dims:
        return "the shapes of what is added up are not known to be the same"
    if not site.is_float(*add.inputs, *node.inputs[:2]):
        return "it is not known to be float32, which is all that the operator has a kernel for"
    if any(one is not None and _length(site, one) != dims[-1] for one in (operand(node, 1), operand(node, 2))):
        return "scale or bias is not a constant vector of the last axis"
    return None


def _length(site: Site, tensor: Tensor) -> int | None:
    held = constant_of(tensor)
    return int(held.shape[0]) if held is not None and len(held.shape) == 1 and held.onnx_dtype == FLOAT else None


def _bias(site: Site, add: Node) -> tuple[Node, Tensor, Tensor, Tensor] | None:
    """Of one operand: the Add of a vector that makes it, what that adds to, the other operand, the vector."""
    for value, other in (add.inputs, add.inputs[::-1]):
        inner = single(value, add, "Add")
        if inner is None or len(inner.inputs) != 2:
            continue
        for rest, vector in (inner.inputs, inner.inputs[::-1]):
            dims, length = site.shapes.dims(rest), _length(site, vector)
            if dims and length == dims[-1] and dims == site.shapes.dims(value):
                return inner, rest, other, vector
    return None
