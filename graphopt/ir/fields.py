"""Copying of message fields without loss: what is set, what nobody knows, and odd encodings.

A message made anew from one that was read keeps every field that is not being replaced: also those
that are newer than the installed ONNX, and doc strings of old exporters that are not UTF-8, which
protobuf reads and writes but does not let anybody set.
"""

from __future__ import annotations

import struct
from collections.abc import Container
from typing import Any

from google.protobuf.unknown_fields import UnknownFieldSet

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # protobuf's wire types


def copy_fields(into: Any, source: Any, skip: Container[str]) -> None:
    """Copy every field of `source` that is set, unknown ones too, except those named in `skip`."""
    for descriptor, value in source.ListFields():
        name = descriptor.name
        if name in skip:
            continue
        if hasattr(value, "CopyFrom"):
            getattr(into, name).CopyFrom(value)
        elif hasattr(value, "extend"):
            getattr(into, name).extend(value)
        else:
            set_field(into, name, value)
    copy_unknown(into, source)


def set_field(into: Any, name: str, value: Any) -> None:
    """Set a singular field; text may be bytes that are not UTF-8."""
    field = into.DESCRIPTOR.fields_by_name[name]
    if isinstance(value, bytes) and field.type == field.TYPE_STRING:
        into.MergeFromString(_tag(field.number, _BYTES) + _varint(len(value)) + value)
    else:
        setattr(into, name, value)


def copy_unknown(into: Any, source: Any) -> None:
    """Copy the fields of `source` itself that its class does not know."""
    unknown = UnknownFieldSet(source)
    if len(unknown):
        into.MergeFromString(b"".join(_wire(field) for field in unknown))


def _wire(field: Any) -> bytes:
    number, kind, data = field.field_number, field.wire_type, field.data
    if kind == _VARINT:
        return _tag(number, kind) + _varint(data)
    if kind == _BYTES:
        return _tag(number, kind) + _varint(len(data)) + bytes(data)
    if kind in (_FIXED64, _FIXED32):
        return _tag(number, kind) + struct.pack("<Q" if kind == _FIXED64 else "<I", data)
    return _tag(number, kind) + b"".join(_wire(one) for one in data) + _tag(number, kind + 1)  # a group


def _tag(number: int, kind: int) -> bytes:
    return _varint(number << 3 | kind)


def _varint(value: int) -> bytes:
    made = bytearray()
    while value >= 0x80:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)
