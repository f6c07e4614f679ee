"""Which element types a Constant node may hold: fewer at old opsets than initializers may."""

from __future__ import annotations

from functools import cache

from onnx import TensorProto

from graphopt.ir.schema import schema


@cache
def constant_node_holds(onnx_type: int, opset: int) -> bool:
    """Whether a Constant node of `opset` may hold elements of ONNX's type number `onnx_type`; never
    where the model imports no version of ONNX's own operators (0). Source: the schema of Constant."""
    known = schema("Constant", "", opset) if opset else None
    if known is None:
        return False
    kind = TensorProto.DataType.Name(onnx_type).lower()
    return any(f"tensor({kind})" in one.allowed_type_strs for one in known.type_constraints)
