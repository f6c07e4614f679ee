"""How large the values of an excerpt are, before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import AttributeProto, TensorProto, checker, shape_inference

from graphopt.analysis.excerpt import Excerpt
from graphopt.errors import BadModel
from graphopt.ir import Constant
from graphopt.ir.dtypes import bits
from graphopt.ir.tensors import onnx_dtype
from graphopt.ir.values import Array

_STRING_ROOM = 32  # bytes of a string that is made of a number


@dataclass(frozen=True)
class Extent:
    """A tensor's element type (ONNX's number), dims, elements, and bytes as stored (at most, for strings)."""

    onnx_dtype: int
    shape: tuple[int, ...]
    elements: int
    bytes: int


Extents = Mapping[str, Extent | None]
"""By the name that a value has in the excerpt; None where the size cannot be told, or is no tensor's."""


def extents(excerpt: Excerpt) -> Extents:
    """The extent of every value of an excerpt, from ONNX's inference over it.

    Values that decide about the shapes of others count where they are constants of the excerpt.
    Sizes are exact integers of any magnitude.
    """
    found: dict[str, Extent | None] = {}
    longest: dict[str, int] = {}
    for name, held in excerpt.constants.items():
        found[name] = _of_constant(held)
        if _number(held) == TensorProto.STRING:
            longest[name] = _longest(held)
    types = {info.name: info.type for info in _inferred(excerpt.proto)}
    for node in excerpt.proto.graph.node:
        room = _STRING_ROOM + sum(longest.get(name, 0) for name in node.input)
        room += max((len(text) for one in node.attribute for text in _texts(one)), default=0)
        for name in node.output:
            if name:
                longest[name] = room
                found[name] = _of_type(types.get(name), room)
    return found


def _number(held: Constant | Array) -> int:
    return held.onnx_dtype if isinstance(held, Constant) else onnx_dtype(held.dtype)


def _of_constant(held: Constant | Array) -> Extent:
    shape = tuple(int(dim) for dim in held.shape)
    number = _number(held)
    stored = held.nbytes if isinstance(held, Constant) else (held.size * bits(number) + 7) // 8
    return Extent(number, shape, math.prod(shape), stored)


def _longest(held: Constant | Array) -> int:
    values = held.values if isinstance(held, Constant) else held
    return max(
        (len(one if isinstance(one, bytes) else str(one).encode()) for one in values.ravel().tolist()), default=0
    )


def _texts(attribute: Any) -> list[bytes]:
    if attribute.type == AttributeProto.TENSOR and attribute.t.data_type == TensorProto.STRING:
        return list(attribute.t.string_data)
    return [attribute.s, *attribute.strings]


def _inferred(proto: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    try:
        return list(shape_inference.infer_shapes(proto).graph.value_info)
    except (shape_inference.InferenceError, checker.ValidationError, ValueError, RuntimeError):
        return []  # contradictory, or something inside of onnx: then no size can be told


def _of_type(type_: onnx.TypeProto | None, room: int) -> Extent | None:
    if type_ is None or not type_.HasField("tensor_type") or not type_.tensor_type.HasField("shape"):
        return None
    dims = type_.tensor_type.shape.dim
    if not all(dim.HasField("dim_value") and dim.dim_value >= 0 for dim in dims):
        return None
    number = int(type_.tensor_type.elem_type)
    try:
        width = 8 * room if number == TensorProto.STRING else bits(number)
    except BadModel:
        return None
    shape = tuple(int(dim.dim_value) for dim in dims)
    elements = math.prod(shape)
    return Extent(number, shape, elements, (elements * width + 7) // 8)
