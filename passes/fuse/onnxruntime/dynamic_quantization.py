"""Products of dynamically quantized activations with quantized weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphopt.analysis.constants import constant_of, constant_values
from graphopt.analysis.matching import maker, only_reader, operand
from graphopt.analysis.pattern import Match, Miss, Pattern, first_match
from graphopt.ir import Graph, Node, Tensor
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.fuse.onnxruntime.site import FLOAT, Site

RULE = "product"
_PATTERNS = tuple(
    Pattern(f"m = MatMulInteger({operands})  c = Cast<to=1>(m)  k = Mul(s, ?ws)  y = Mul(c, k)")
    for operands in ("q, ?w, z, ?wz", "q, ?w, z")
)


@dataclass(frozen=True)
class OrtDynamicQuantization(Pass):
    """Multiply dynamically quantized values in one node: com.microsoft.DynamicQuantizeMatMul.

    What it does
        Precondition: DynamicQuantizeLinear, MatMulInteger with constant weights of two dims, Cast to float32, Mul
        with the product of both scales, all in one graph; scale and zero point of the weights are one number
        or one for each column. Rewrite: DynamicQuantizeMatMul; where others read the quantized values
        too, MatMulIntegerToFloat of them. A constant vector that is added then becomes its bias. Main
        graph and bodies.

    Example
        before: q, s, z = DynamicQuantizeLinear(x)    m = MatMulInteger(q, w, z, v)    c = Cast<to=1>(m)
                k = Mul(s, t)    y = Mul(c, k)
        after:  y = com.microsoft.DynamicQuantizeMatMul(x, w, t, v)

    When not
        Other runtimes than onnxruntime do not know the operators, nor do all of its execution providers: they
        are written for its CPU. Sizes of the result are not known to ONNX's shape inference. The file may
        grow by the domain's import and name.

    Contract
        ROUNDING. The same integers are multiplied; scales and bias are applied in another order.

    Source
        onnxruntime, "Contrib Operators": com.microsoft.DynamicQuantizeMatMul, MatMulIntegerToFloat.
    """

    name = "ort-dynamic-quantization"
    contract = Contract.ROUNDING
    changes = ("opsets",)
    grows = True

    def run(self, graph: Graph, ctx: Context) -> None:
        site = Site(graph, ctx)
        for node in site.nodes():
            if not node.is_op("Mul"):
                continue
            found = first_match(_PATTERNS, node)
            if isinstance(found, Match):
                _product(site, node, found)
            elif isinstance(found, Miss):
                ctx.missed(RULE, node, found.why)


def _product(site: Site, node: Node, found: Match) -> None:
    dynamic = maker(found["q"], "DynamicQuantizeLinear")
    if dynamic is None or [found["q"], found["s"], found["z"]] != list(dynamic.outputs)[:3]:
        site.ctx.missed(RULE, node, "values, scale and zero point are not of one DynamicQuantizeLinear")
        return
    why = _why_not(found)
    if why is not None:
        site.ctx.missed(RULE, node, why)
        return
    root, nodes = node, list(found.nodes)
    columns = int(_shape(found["w"])[1])
    bias = _bias(node, columns)
    if bias is not None:
        root, nodes = bias[0], [bias[0], *nodes]
    weight, scale, zero = found["w"], found["ws"], found.values.get("wz")
    added = None if bias is None else bias[1]
    inputs: list[Tensor | None]
    if dynamic.graph is node.graph and _only_for(dynamic, nodes):
        op, inputs = "DynamicQuantizeMatMul", [dynamic.inputs[0], weight, scale, zero, added]
        nodes.append(dynamic)
    else:
        op, inputs = "MatMulIntegerToFloat", [found["q"], weight, found["s"], scale, found["z"], zero, added]
    while inputs[-1] is None:
        inputs.pop()
    site.fuse(RULE, root, nodes, op, inputs, name=found.node("m").name)


def _only_for(dynamic: Node, nodes: list[Node]) -> bool:
    if any(one.graph_outputs or len(one.outputs) > len(nodes) for one in dynamic.outputs):
        return False
    return all(reader in nodes for one in dynamic.outputs for reader in one.readers)


def _shape(tensor: Tensor) -> tuple[int, ...]:
    held = constant_of(tensor)
    return () if held is None else tuple(int(dim) for dim in held.shape)


def _why_not(found: Match) -> str | None:
    shape = _shape(found["w"])
    if len(shape) != 2:
        return f"the weights {found['w'].name!r} have {len(shape)} dims"
    columns = shape[1]
    scale = constant_values(found["ws"])
    if scale is None or scale.dtype != np.float32 or scale.shape not in ((), (1,), (columns,)):
        return f"the scale {found['ws'].name!r} is neither one number nor one for each column"
    zero = found.values.get("wz")
    if zero is not None and _shape(zero) not in ((), (1,), (columns,)):
        return f"the zero point {zero.name!r} is neither one number nor one for each column"
    if zero is not None and (_shape(zero) == (columns,)) != (scale.shape == (columns,)):
        return "there is one scale and several zero points, or the other way round"
    return None


def _bias(node: Node, columns: int) -> tuple[Node, Tensor] | None:
    """The Add behind `node` that adds a constant vector, and the vector."""
    add = only_reader(node.outputs[0])
    if add is None or not add.is_op("Add") or add.graph is not node.graph:
        return None
    for index in range(2):
        vector = operand(add, index)
        held = constant_of(vector) if vector is not None else None
        if vector is not None and held is not None and held.onnx_dtype == FLOAT and _shape(vector) == (columns,):
            return add, vector
    return None
