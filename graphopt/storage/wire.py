"""Taking a serialized model apart and together at the wire, so that weights need not be parsed.

`split` finds the large `raw_data` of tensors in the bytes of a model and leaves references in
their place: what remains, the skeleton, is small and is parsed by protobuf; the weights stay in
the (mapped) file. `join` is the inverse: the canonical protobuf bytes of the whole model, in
pieces, with at most one tensor looked at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from onnx import ModelProto, TensorProto

from graphopt.ir.store import EMBEDDED, EXPLICIT, LARGE, Store, reference
from graphopt.storage.walk import BYTES, NO_LIMIT, Kind, Later, Piece, Pieces, encoded, resolved, rewrite, skip, varint

DEPTH = 90
"""Tensors nested deeper stay in the skeleton: protobuf reads 100 messages deep, references add one."""


@dataclass(frozen=True)
class Raw:
    """Where `raw_data` is in a tensor message: its tag, first and last byte."""

    tag: int
    start: int
    stop: int
    explicit: bool


def find_raw(buffer: Piece, start: int, stop: int) -> Raw | None:
    """The large `raw_data` of the tensor message at `start`, None when there is none to take out.

    A tensor that also has external data, or gives `raw_data` twice, is left alone.
    """
    found: tuple[int, int, int] | None = None
    explicit = False
    pos = start
    while pos < stop:
        begin = pos
        tag, pos = varint(buffer, pos, stop)
        end = skip(buffer, tag, pos, stop)
        if tag == 13 << 3 | BYTES:
            return None
        if tag == 9 << 3 | BYTES:
            if found is not None:
                return None
            found = (begin, varint(buffer, pos, stop)[1], end)
        elif tag == 14 << 3:
            if explicit or varint(buffer, pos, stop)[0]:
                return None
            explicit = True
        pos = end
    if found is None or found[2] - found[1] < LARGE:
        return None
    return Raw(*found, explicit)


def _entry(key: str, value: str) -> bytes:
    k, v = key.encode(), value.encode()
    body = b"\x0a" + encoded(len(k)) + k + b"\x12" + encoded(len(v)) + v
    return b"\x6a" + encoded(len(body)) + body


def split(buffer: Piece, base: int, budget: int = NO_LIMIT) -> bytes:
    """The skeleton of the serialized model in `buffer`, which a store holds at address `base`.

    Raises Malformed, and TooMany when there are more than `budget` fields to look at.
    """

    def replace(kind: Kind, start: int, stop: int) -> Pieces | None:
        raw = find_raw(buffer, start, stop)
        if raw is None:
            return None
        link = _entry("location", EMBEDDED) + _entry("offset", str(base + raw.start))
        link += _entry("length", str(raw.stop - raw.start))
        if raw.explicit:
            link += _entry(EXPLICIT, "1")
        return [buffer[start : raw.tag], buffer[raw.stop : stop], link, b"\x70\x01"]

    pieces = rewrite(buffer, replace, depth=DEPTH, budget=budget)
    return bytes(buffer) if pieces is None else b"".join(resolved(pieces))


def occurrences(buffer: bytes, pattern: bytes) -> list[int]:
    """Every position of `pattern` in `buffer`, ascending."""
    found = []
    at = buffer.find(pattern)
    while at >= 0:
        found.append(at)
        at = buffer.find(pattern, at + 1)
    return found


_BEFORE_RAW = frozenset((1 << 3, 2 << 3, *(number << 3 | BYTES for number in range(3, 9))))


def with_raw(proto: TensorProto, payload: Piece | Later) -> Pieces:
    """The content of a tensor message: `proto`, which has no data of its own, with `raw_data` in its place."""
    head = proto.SerializeToString()
    pos = 0
    while pos < len(head):
        tag, after = varint(head, pos, len(head))
        if tag not in _BEFORE_RAW:  # the rest, and at the end what nobody knows
            break
        pos = skip(head, tag, after, len(head))
    return [head[:pos], b"\x4a" + encoded(len(payload)), payload, head[pos:]]


def embedded(proto: TensorProto, payload: Piece | Later) -> Pieces:
    """The content of a tensor message whose reference is replaced by the bytes it refers to."""
    explicit = reference(proto).explicit
    proto.ClearField("external_data")
    proto.ClearField("data_location")
    if explicit:
        proto.data_location = TensorProto.DEFAULT
    return with_raw(proto, payload)


def join(proto: ModelProto, store: Store) -> Iterator[Piece]:
    """The bytes that `SerializeToString` of the whole model would give, in pieces of any size.

    `proto` is a skeleton and `store` knows its payloads; references to external files stay as
    they are. The result is canonical: parsing it and serializing it again gives the same bytes.
    """
    skeleton = proto.SerializeToString()

    def replace(kind: Kind, start: int, stop: int) -> Pieces | None:
        tensor = TensorProto.FromString(skeleton[start:stop])
        if tensor.data_location != TensorProto.EXTERNAL or reference(tensor).location != EMBEDDED:
            return None
        return embedded(tensor, Later(*store.later(tensor)))

    pieces = rewrite(skeleton, replace, marks=occurrences(skeleton, EMBEDDED.encode()), minimum=None)
    yield from resolved([skeleton] if pieces is None else pieces)
