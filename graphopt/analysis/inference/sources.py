"""Rules of operators that make tensors from nothing but attributes and sizes; ONNX's own inference for
operators without a rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, checker, helper, numpy_helper, shape_inference

from graphopt.analysis.dims import Dim
from graphopt.analysis.inference.fact import UNKNOWN, Call, Fact, Rule, concrete
from graphopt.analysis.inference.moving import sized
from graphopt.ir.schema import schema, standard
from graphopt.ir.values import Constant, onnx_number, read_info

_SHOWN = 64  # elements of a tensor attribute up to which ONNX gets to see it
# What becomes of exceptions in C++ where a node is not what its rule takes for granted.
_GIVES_UP = (RuntimeError, TypeError, ValueError, LookupError, ArithmeticError)


def _shape(call: Call) -> Fact:
    dims = call.fact(0).dims
    if dims is None:
        return Fact(TensorProto.INT64, (call.fresh(),))
    rank = len(dims)
    start, end = call.integer("start", 0), call.integer("end", rank)
    start, end = (max(0, min(rank, one + rank if one < 0 else one)) for one in (start, end))
    return Fact(TensorProto.INT64, (max(0, end - start),))


def _size(call: Call) -> Fact:
    return Fact(TensorProto.INT64, ())


def _constant_of_shape(call: Call) -> Fact:
    held = call.attrs.get("value")
    dtype = held.onnx_dtype if isinstance(held, Constant) else TensorProto.FLOAT
    fact = call.fact(0)
    if fact.value is not None:
        return Fact(dtype, tuple(sized(one, call) for one in fact.value.reshape(-1)))
    length = concrete(fact.dims)
    return Fact(dtype, None if length is None else tuple(call.fresh() for _ in range(length[0])))


def _random(call: Call) -> Fact:
    shape = call.listed("shape")
    return Fact(call.integer("dtype", TensorProto.FLOAT), None if shape is None else tuple(shape))


RULES: dict[str, Rule] = {
    "Shape": _shape,
    "Size": _size,
    "ConstantOfShape": _constant_of_shape,
    **dict.fromkeys(("RandomNormal", "RandomUniform"), _random),
}


def by_onnx(call: Call, domain: str) -> list[Fact]:
    """What ONNX's inference says of one node; nothing where it has no schema, or gives up."""
    known = schema(call.op, domain, call.opset)
    if known is None or any(one is not None and not one.dtype for one in call.inputs):
        return []
    attributes = {name: _attribute(value) for name, value in call.attrs.items()}
    if any(value is None for value in attributes.values()):
        return []
    ins = [f"i{slot}" if one is not None else "" for slot, one in enumerate(call.inputs)]
    outs = [f"o{slot}" for slot in range(call.count)]
    names: dict[Dim, str] = {}
    types, data = {}, {}
    for name, fact in zip(ins, call.inputs, strict=True):
        if fact is None:
            continue
        types[name] = _type(fact, names)
        if fact.value is not None and all(isinstance(one, int) for one in fact.value.flat):
            array = fact.value.astype(helper.tensor_dtype_to_np_dtype(fact.dtype))
            data[name] = numpy_helper.from_array(array, name)
        elif fact.floats and fact.dtype == TensorProto.FLOAT:
            data[name] = helper.make_tensor(name, fact.dtype, concrete(fact.dims) or (), fact.floats)
    try:
        node = helper.make_node(call.op, ins, outs, domain="" if standard(domain) else domain, **attributes)
        imports = [helper.make_opsetid("" if standard(domain) else domain, call.opset)]
        found = shape_inference.infer_node_outputs(known, node, types, data, opset_imports=imports)
    except (shape_inference.InferenceError, checker.ValidationError, *_GIVES_UP):
        return []
    exact = {text: dim for dim, text in names.items()}
    return [_fact(found.get(name), exact, call) for name in outs]


def _attribute(value: Any) -> Any:
    if isinstance(value, Constant):
        return numpy_helper.from_array(np.asarray(value.values)) if np.prod(value.shape) <= _SHOWN else None
    if isinstance(value, list | tuple):
        return list(value) if value and all(isinstance(one, int | float | str | bytes) for one in value) else None
    return value if isinstance(value, int | float | str | bytes) else None


def _type(fact: Fact, names: dict[Dim, str]) -> onnx.TypeProto:
    if fact.dims is None:
        return helper.make_tensor_type_proto(fact.dtype, None)
    shape = [dim if isinstance(dim, int) else names.setdefault(dim, f"d{len(names)}") for dim in fact.dims]
    return helper.make_tensor_type_proto(fact.dtype, shape)


def _fact(found: onnx.TypeProto | None, exact: dict[str, Dim], call: Call) -> Fact:
    if found is None:
        return UNKNOWN
    kind, dtype, shape = read_info(onnx.ValueInfoProto(type=found))
    if kind != "tensor_type":
        return UNKNOWN
    if shape is None:
        return Fact(onnx_number(dtype))
    dims: Sequence[Dim] = [
        dim if isinstance(dim, int) else exact[dim] if dim in exact else call.fresh() for dim in shape
    ]
    return Fact(onnx_number(dtype), tuple(dims))
