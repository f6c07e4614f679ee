"""Operators of ONNX that give results of the same dtype and shape as some of onnxruntime's own.

ONNX's shape inference knows nothing of the domain com.microsoft, and so of nothing behind a node of it.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx
from onnx import helper

DOMAIN = "com.microsoft"

_ELEMENTWISE = frozenset(("Gelu", "FastGelu", "QuickGelu", "BiasGelu", "SkipLayerNormalization", "BiasSoftmax"))
_SAME = {"FusedConv": ("Conv", 3), "FusedGemm": ("Gemm", 3)}
_EINSUM = 12  # the version since which there is Einsum


def put_stand_ins(graphs: Iterable[onnx.GraphProto], opset: int) -> None:
    """Let nodes of the domain com.microsoft be nodes of ONNX with the same dtypes and shapes, where there are any.

    The messages are changed in place, and mean nothing but shapes any more. Each node stays one node.
    """
    for graph in graphs:
        for node in graph.node:
            if node.domain == DOMAIN and len(node.output) == 1:
                _stand_in(node, opset)


def _stand_in(node: onnx.NodeProto, opset: int) -> None:
    if node.op_type in _ELEMENTWISE:
        _become(node, "Identity", 1)
    elif node.op_type in _SAME:
        op, inputs = _SAME[node.op_type]
        _become(node, op, inputs, [one for one in node.attribute if not one.name.startswith("activation")])
    elif node.op_type == "FusedMatMul":
        flags = {one.name: one.i for one in node.attribute if one.name.startswith("trans")}
        if not any(flags.values()):
            _become(node, "MatMul", 2)
        elif not flags.get("transBatchA") and not flags.get("transBatchB") and opset >= _EINSUM:
            first = "...ji" if flags.get("transA") else "...ij"
            second = "...kj" if flags.get("transB") else "...jk"
            _become(node, "Einsum", 2, [helper.make_attribute("equation", f"{first},{second}->...ik")])


def _become(node: onnx.NodeProto, op: str, inputs: int, attributes: Iterable[onnx.AttributeProto] = ()) -> None:
    kept = list(attributes)
    node.op_type, node.domain = op, ""
    del node.input[inputs:]
    del node.attribute[:]
    node.attribute.extend(kept)
