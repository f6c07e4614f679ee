"""Names must be UTF-8: what is compared, sorted and written as text has to be text.

protobuf does not look at the encoding of ONNX's strings (the schema is of its second syntax), and
hands out bytes where text was expected. A copy of the schema in which names are of the third
syntax makes its parser look, at the parser's speed. Doc strings and metadata are not names: old
exporters put file paths in odd encodings there, and they pass through as bytes.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from onnx import ModelProto

from graphopt.errors import BadModel
from graphopt.ir.wording import shown

_NAMES = {
    "attribute",
    "dim_param",
    "domain",
    "input",
    "name",
    "op_type",
    "output",
    "overload",
    "ref_attr_name",
    "tensor_name",
}


@cache
def _strict() -> Any:
    """A message class that reads the bytes of a ModelProto and insists on UTF-8 in names."""
    schema = descriptor_pb2.FileDescriptorProto()
    ModelProto.DESCRIPTOR.file.CopyToProto(schema)
    schema.syntax = "proto3"
    kinds = list(schema.message_type)
    while kinds:
        kind = kinds.pop()
        kinds.extend(kind.nested_type)
        for field in kind.field:
            field.ClearField("default_value")
            if field.type == field.TYPE_STRING and field.name not in _NAMES:
                field.type = field.TYPE_BYTES
    pool = descriptor_pool.DescriptorPool()
    try:
        pool.AddSerializedFile(schema.SerializeToString())
    except TypeError as error:  # ONNX's own schema is sound: this is how protobuf says that memory ran out
        raise MemoryError(str(error)) from error
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(ModelProto.DESCRIPTOR.full_name))


def check_names(model: ModelProto, canonical: bytes, what: str) -> None:
    """Raise BadModel when a name in `model` (serialized: `canonical`) is not UTF-8."""
    try:
        _strict().FromString(canonical)
    except DecodeError:
        raise BadModel(f"{what} has a name that is not UTF-8 text{_first(model)}; export it again") from None


def _first(model: ModelProto) -> str:
    for index, node in enumerate(model.graph.node):
        for text in (node.name, node.op_type, *node.input, *node.output):
            if isinstance(text, bytes):
                return f", {shown(text)} of node {index}"
    return ""
