"""Taking a serialized model apart and together at the wire, so that weights need not be parsed.

`split` finds the large `raw_data` of tensors in the bytes of a model and leaves references in
their place: what remains, the skeleton, is small and is parsed by protobuf; the weights stay in
the (mapped) file. `join` is the inverse: the canonical protobuf bytes of the whole model, in
pieces, with at most one tensor looked at a time. Both rest on `rewrite`, which walks the wire
format with its own stack, descends only where something can be, and mends the lengths of the
enclosing messages. Encoding: protobuf.dev, "Encoding"; field numbers: onnx.proto.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from onnx import ModelProto, TensorProto

from graphopt.ir.store import EMBEDDED, EXPLICIT, LARGE, Store, byte_count, reference

Piece = bytes | memoryview


@dataclass(frozen=True)
class Later:
    """A piece of `size` bytes that is fetched only when its turn comes."""

    fetch: Callable[[], Piece]
    size: int

    def __len__(self) -> int:
        return self.size


Pieces = list[Piece | Later]


def resolved(pieces: Sequence[Piece | Later]) -> Iterator[Piece]:
    """The pieces themselves, each fetched when it is asked for."""
    for piece in pieces:
        yield piece.fetch() if isinstance(piece, Later) else piece


_NO_LIMIT = 1 << 62

DEPTH = 90
"""Tensors nested deeper stay in the skeleton: protobuf reads 100 messages deep, references add one."""

_VARINT, _FIXED64, _BYTES, _GROUP, _END_GROUP, _FIXED32 = range(6)


class Malformed(Exception):
    """The bytes are not protobuf's wire format: a field at `position` is broken."""

    def __init__(self, position: int) -> None:
        super().__init__(f"broken field at byte {position}")
        self.position = position


class TooMany(Exception):
    """There are more fields than the caller wants to look at."""


@dataclass(eq=False)
class Kind:
    """A message type: the kinds of its message fields, by field number."""

    name: str
    tensor: bool = False
    leaf: bool = False
    children: dict[int, Kind] = field(default_factory=dict)
    once: frozenset[int] = frozenset()

    def contain(self, once: Sequence[int] = (), **kinds: Kind) -> None:
        """Set the fields to descend into (`n5=NODE`); of the numbers in `once`, two are merged by a parser."""
        self.children = {int(key[1:]) << 3 | _BYTES: kind for key, kind in kinds.items()}
        self.once = frozenset(number << 3 | _BYTES for number in once)


MODEL, TRAINING, FUNCTION, GRAPH = Kind("model"), Kind("training"), Kind("function"), Kind("graph")
NODE, ATTRIBUTE, SPARSE = Kind("node"), Kind("attribute"), Kind("sparse tensor", leaf=True)
INITIALIZER, VALUE, PART = (
    Kind("initializer", tensor=True, leaf=True),
    Kind("attribute tensor", tensor=True, leaf=True),
    Kind("part of a sparse tensor", tensor=True, leaf=True),
)
MODEL.contain(n7=GRAPH, n20=TRAINING, n25=FUNCTION)
TRAINING.contain(n1=GRAPH, n2=GRAPH)
FUNCTION.contain(n7=NODE, n11=ATTRIBUTE)
GRAPH.contain(n1=NODE, n5=INITIALIZER, n15=SPARSE)
NODE.contain(n5=ATTRIBUTE)
ATTRIBUTE.contain(once=(5, 22), n5=VALUE, n6=GRAPH, n10=VALUE, n11=GRAPH, n22=SPARSE, n23=SPARSE)
SPARSE.contain(once=(1, 2), n1=PART, n2=PART)

Replace = Callable[[Kind, int, int], Pieces | None]
"""Given the kind, first and last byte of a tensor message: its new content, None to leave it."""

Visit = Callable[[Kind, int, int], None]
"""Given the kind, first and last byte of a tensor or sparse tensor message."""


class _Frame:
    """One message on the way down: what was already rewritten of it, and where to go on."""

    __slots__ = ("end", "flushed", "kind", "pieces", "pos", "seen", "start", "tag")

    def __init__(self, kind: Kind, tag: int, start: int, pos: int, end: int) -> None:
        self.kind, self.tag, self.start, self.pos, self.end = kind, tag, start, pos, end
        self.flushed = pos
        self.pieces: Pieces = []
        self.seen: set[int] = set()


def varint(buffer: Piece, pos: int, end: int) -> tuple[int, int]:
    """The varint at `pos` and where the next field goes on. Raises Malformed."""
    value = shift = 0
    for place in range(pos, min(pos + 10, end)):
        byte = buffer[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place + 1
        shift += 7
    raise Malformed(pos)


def encoded(value: int) -> bytes:
    """`value` as a varint."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def skip(buffer: Piece, tag: int, pos: int, end: int) -> int:
    """Where the field whose tag was just read ends. Raises Malformed."""
    kind = tag & 7
    if kind == _BYTES:
        size, pos = varint(buffer, pos, end)
        stop = pos + size
    elif kind == _VARINT:
        stop = varint(buffer, pos, end)[1]
    elif kind == _FIXED32:
        stop = pos + 4
    elif kind == _FIXED64:
        stop = pos + 8
    elif kind == _GROUP:
        stop = _skip_group(buffer, pos, end)
    else:
        raise Malformed(pos)
    if stop > end:
        raise Malformed(pos)
    return stop


def _skip_group(buffer: Piece, pos: int, end: int) -> int:
    """Where a group ends (an old form of unknown fields). Iterative; a parser checks the numbers."""
    depth = 1
    while depth:
        tag, pos = varint(buffer, pos, end)
        if tag & 7 == _GROUP:
            depth += 1
        elif tag & 7 == _END_GROUP:
            depth -= 1
        else:
            pos = skip(buffer, tag, pos, end)
    return pos


class _Marks:
    """Positions that make a message worth descending into; asked for in ascending order."""

    def __init__(self, marks: Sequence[int]) -> None:
        self.marks, self.at = marks, 0

    def within(self, start: int, stop: int) -> bool:
        marks, at, count = self.marks, self.at, len(self.marks)
        while at < count and marks[at] < start:
            at += 1
        self.at = at
        return at < count and marks[at] < stop


@dataclass
class _Walk:
    """How to go down: which messages are worth it, how deep, and how many fields may be looked at."""

    least: int
    marks: _Marks
    depth: int
    budget: int
    every: bool = False

    def descend(self, buffer: Piece, frame: _Frame, depth: int) -> _Frame | None:
        """Go on in `frame` until a message worth looking into, or to its end (None)."""
        pos, end, children, once = frame.pos, frame.end, frame.kind.children, frame.kind.once
        least, within, marked, every = self.least, self.marks.within, bool(self.marks.marks), self.every
        budget, deep = self.budget, depth >= self.depth
        found = None
        while pos < end:
            start = pos
            tag = buffer[pos]
            pos += 1
            if tag >= 0x80:
                tag, pos = varint(buffer, start, end)
            budget -= 1
            if tag & 7 != _BYTES:
                pos = skip(buffer, tag, pos, end)
                continue
            if pos >= end:
                raise Malformed(start)
            size = buffer[pos]
            pos += 1
            if size >= 0x80:
                size, pos = varint(buffer, pos - 1, end)
            stop = pos + size
            if stop > end:
                raise Malformed(start)
            if tag in once:
                if tag in frame.seen:  # a parser merges the two, so neither can be replaced alone
                    frame.pieces = []
                    pos = end
                    break
                frame.seen.add(tag)
            child = children.get(tag)
            if child is None or deep:
                pos = stop
                continue
            if size >= least or (marked and within(pos, stop)) or (every and (child.leaf or depth == 1)):
                found = _Frame(child, tag, start, pos, stop)
                pos = stop
                break
            pos = stop
        frame.pos = pos
        self.budget = budget
        if budget < 0:
            raise TooMany
        return found


def rewrite(
    buffer: Piece,
    replace: Replace,
    *,
    marks: Sequence[int] = (),
    minimum: int | None = LARGE,
    depth: int = _NO_LIMIT,
    budget: int = _NO_LIMIT,
) -> Pieces | None:
    """Rewrite tensor messages of the serialized ModelProto in `buffer`: pieces, or None if nothing changed.

    `replace` sees the tensors that are at least `minimum` bytes long or hold one of the ascending
    positions `marks`, at most `depth` messages deep. A message that gives a singular tensor twice
    is left as it is: a parser merges those. Raises Malformed, and TooMany after `budget` fields.
    """
    walk = _Walk(_NO_LIMIT if minimum is None else minimum, _Marks(marks), depth, budget)
    stack = [_Frame(MODEL, 0, 0, 0, len(buffer))]
    while True:
        frame = stack[-1]
        child = walk.descend(buffer, frame, len(stack))
        if child is not None and child.kind.tensor:
            _close(frame, child, replace(child.kind, child.pos, child.end), buffer)
        elif child is not None:
            stack.append(child)
        else:
            stack.pop()
            if frame.pieces:
                frame.pieces.append(buffer[frame.flushed : frame.end])
            if not stack:
                return frame.pieces or None
            _close(stack[-1], frame, frame.pieces or None, buffer)


def visit(buffer: Piece, look: Visit, marks: Sequence[int] = (), budget: int = _NO_LIMIT) -> None:
    """Show `look` the tensors of the serialized ModelProto in `buffer`, sparse ones whole.

    Seen are those that are large, that hold one of the ascending positions `marks`, or that stand
    in a message of which either is true; so all initializers of the main graph are. Raises as
    `rewrite` does.
    """
    walk = _Walk(LARGE, _Marks(marks), _NO_LIMIT, budget, every=True)
    stack = [_Frame(MODEL, 0, 0, 0, len(buffer))]
    while stack:
        child = walk.descend(buffer, stack[-1], len(stack))
        if child is None:
            stack.pop()
        elif child.kind.leaf:
            look(child.kind, child.pos, child.end)
        else:
            stack.append(child)


def _close(parent: _Frame, child: _Frame, content: Pieces | None, buffer: Piece) -> None:
    """Put a message's new content into its parent, with its new length."""
    if content is None:
        return
    parent.pieces.append(buffer[parent.flushed : child.start])
    parent.pieces.append(encoded(child.tag) + encoded(sum(map(len, content))))
    parent.pieces.extend(content)
    parent.flushed = child.end


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
        if tag == 13 << 3 | _BYTES:
            return None
        if tag == 9 << 3 | _BYTES:
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


def split(buffer: Piece, base: int, budget: int = _NO_LIMIT) -> bytes:
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


def with_raw(proto: TensorProto, payload: Piece | Later) -> Pieces:
    """The content of a tensor message: `proto`, which has no data of its own, with `raw_data` in its place."""
    head = proto.SerializeToString()
    pos = last = 0
    while pos < len(head):
        tag, after = varint(head, pos, len(head))
        if tag >> 3 > 8 or tag >> 3 < last:
            break
        last = tag >> 3
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
        fetch = store.fetcher(tensor)
        return embedded(tensor, Later(fetch, byte_count(tensor)))

    pieces = rewrite(skeleton, replace, marks=occurrences(skeleton, EMBEDDED.encode()), minimum=None)
    yield from resolved([skeleton] if pieces is None else pieces)
