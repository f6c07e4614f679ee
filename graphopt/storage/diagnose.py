"""Why a file is not a model, said in words: looked into only after reading has failed."""

from __future__ import annotations

from typing import Any

from onnx import GraphProto, ModelProto, TensorProto

from graphopt.errors import BadModel, GraphoptError, OverLimit
from graphopt.storage.walk import Malformed, Piece, skip, varint

DEPTH_LIMIT = 100
"""How deep protobuf reads messages inside messages."""

_START = 512
_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"version https://git-lfs", "a git-lfs pointer, not the model itself; run `git lfs pull` to fetch it"),
    (0, b"version https://hawser", "a git-lfs pointer, not the model itself; run `git lfs pull` to fetch it"),
    (4, b"TFL3", "a TensorFlow Lite model; convert it to ONNX first (tf2onnx)"),
    (4, b"ORTM", "onnxruntime's own ORT format; give the ONNX model that it was made from"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file (a Keras model?); export it to ONNX first"),
    (0, b"PK\x03\x04", "a zip archive (a PyTorch checkpoint?); export the model to ONNX, or unpack it"),
    (0, b"\x1f\x8b", "gzip-compressed; unpack it first"),
    (0, b"\x28\xb5\x2f\xfd", "zstd-compressed; unpack it first"),
    (0, b"BZh", "bzip2-compressed; unpack it first"),
    (0, b"\xfd7zXZ", "xz-compressed; unpack it first"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it first"),
    (0, b"GGUF", "a GGUF model; export the original model to ONNX"),
    (0, b"\x93NUMPY", "a numpy array, not a model"),
    (257, b"ustar", "a tar archive; unpack it first"),
)


def recognised(start: bytes) -> str | None:
    """What a file that begins with `start` is, if it is a well-known thing other than ONNX."""
    for offset, magic, what in _MAGIC:
        if start[offset : offset + len(magic)] == magic:
            return what
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a Python pickle (a PyTorch checkpoint?); export the model to ONNX first"
    if start[8:10] == b'{"' and int.from_bytes(start[:8], "little") < 1 << 32:
        return "a safetensors file, which holds weights but no graph; export the model to ONNX"
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "a web page, not a model; the download failed or needs a login"
    if text.startswith(b"<?xml"):
        return "an XML file, not an ONNX model"
    if text.startswith((b"{", b"[")) and _is_text(start):
        return "a JSON file, not a model in ONNX's binary form"
    if text and _is_text(start):
        return "a text file, not a model in ONNX's binary form"
    return None


def _is_text(start: bytes) -> bool:
    try:
        text = start.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(start) - 4:  # a character cut off at the end is no evidence
            return False
        text = start[: error.start].decode("utf-8")
    return all(char.isprintable() or char in "\r\n\t\f" for char in text)


def unparsable(buffer: Piece, what: str) -> GraphoptError:
    """The reason why protobuf cannot parse `buffer`, called `what`."""
    known = recognised(bytes(buffer[:_START]))
    if known is not None:
        return BadModel(f"{what} is {known}")
    seen, broken = _top_level(buffer)
    if not seen:
        return BadModel(f"{what} is not an ONNX model (nor anything else that is recognised)")
    if broken:
        return BadModel(f"{what} is truncated or damaged; download or export it again")
    if _depth(buffer) > DEPTH_LIMIT:
        return OverLimit(
            f"{what} is nested too deeply: protobuf reads {DEPTH_LIMIT} messages inside each other "
            "(about 30 graphs in graphs), not more"
        )
    return BadModel(f"{what} is damaged: its parts are not what an ONNX model has; download or export it again")


def no_graph(model: ModelProto, buffer: Piece, what: str) -> GraphoptError:
    """Why `model`, parsed from `buffer`, has no graph."""
    known = recognised(bytes(buffer[:_START]))
    if known is not None:
        return BadModel(f"{what} is {known}")
    for kind, word in ((TensorProto, "a tensor"), (GraphProto, "a bare graph")):
        if _fits(kind, buffer):
            return BadModel(f"{what} is {word}, not a model (TensorProto or GraphProto); give the model file")
    if not model.HasField("ir_version") and not model.opset_import:
        return BadModel(f"{what} is not an ONNX model (nor anything else that is recognised)")
    return BadModel(f"{what} has no graph, so there is nothing to optimize; export it again")


def _fits(kind: Any, buffer: Piece) -> bool:
    """Whether `buffer` is one TensorProto with values, or one GraphProto with nodes and outputs."""
    if len(buffer) > 1 << 28:
        return False
    try:
        message = kind.FromString(bytes(buffer))
    except Exception:  # noqa: BLE001  (protobuf's DecodeError; whatever it is, the bytes do not fit)
        return False
    if isinstance(message, TensorProto):
        return message.data_type > 0 and any(f.name.endswith("_data") for f, _ in message.ListFields())
    return bool(message.node) and bool(message.output) and all(node.op_type for node in message.node)


def _top_level(buffer: Piece) -> tuple[bool, bool]:
    """Whether the bytes begin as a ModelProto does, and whether a field then breaks off."""
    fields = {field.number: field for field in ModelProto.DESCRIPTOR.fields}
    pos, end, seen = 0, len(buffer), False
    while pos < end:
        try:
            tag, after = varint(buffer, pos, end)
        except Malformed:
            return seen, True
        field = fields.get(tag >> 3)
        wire = 0 if field is not None and field.message_type is None and field.cpp_type <= 4 else 2
        if field is None or tag & 7 != wire:
            return seen, seen
        try:
            stop = skip(buffer, tag, after, end)
        except Malformed:
            return seen or field.name in ("graph", "functions", "metadata_props", "doc_string"), True
        seen, pos = True, stop
    return seen, False


def _depth(buffer: Piece) -> int:
    """How deep the messages are nested, at most one more than protobuf reads. Iterative."""
    deepest = 1
    stack = [(0, len(buffer), ModelProto.DESCRIPTOR)]
    while stack:
        pos, end, kind = stack.pop()
        if pos >= end:
            continue
        try:
            tag, after = varint(buffer, pos, end)
            stop = skip(buffer, tag, after, end)
        except Malformed:
            continue
        stack.append((stop, end, kind))
        field = kind.fields_by_number.get(tag >> 3)
        if tag & 7 == 2 and field is not None and field.message_type is not None:
            stack.append((varint(buffer, after, end)[1], stop, field.message_type))
            deepest = max(deepest, len(stack))
            if deepest > DEPTH_LIMIT:
                break
    return deepest
