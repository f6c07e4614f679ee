"""Walking protobuf's wire format: which messages can hold tensors, and how to change those tensors.

Iterative, with a stack of its own, and it descends only where something can be. Encoding:
protobuf.dev, "Encoding"; field numbers: onnx.proto.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from graphopt.ir.store import LARGE

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


NO_LIMIT = 1 << 62

_VARINT, _FIXED64, BYTES, _GROUP, _END_GROUP, _FIXED32 = range(6)


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
        self.children = {int(key[1:]) << 3 | BYTES: kind for key, kind in kinds.items()}
        self.once = frozenset(number << 3 | BYTES for number in once)


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
    if kind == BYTES:
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
            if tag & 7 != BYTES:
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
            if size >= least or (marked and within(pos, stop)) or (every and (child.leaf or child is GRAPH)):
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
    depth: int = NO_LIMIT,
    budget: int = NO_LIMIT,
) -> Pieces | None:
    """Rewrite tensor messages of the serialized ModelProto in `buffer`: pieces, or None if nothing changed.

    `replace` sees the tensors that are at least `minimum` bytes long or hold one of the ascending
    positions `marks`, at most `depth` messages deep. A message that gives a singular tensor twice
    is left as it is: a parser merges those. Raises Malformed, and TooMany after `budget` fields.
    """
    walk = _Walk(NO_LIMIT if minimum is None else minimum, _Marks(marks), depth, budget)
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


def visit(buffer: Piece, look: Visit, marks: Sequence[int] = (), budget: int = NO_LIMIT) -> None:
    """Show `look` the tensors of the serialized ModelProto in `buffer`, sparse ones whole.

    Seen are those that are large, that hold one of the ascending positions `marks`, or that stand
    in a message of which either is true or in a graph in such a message; so all initializers of
    the main graph are. Raises as `rewrite` does.
    """
    walk = _Walk(LARGE, _Marks(marks), NO_LIMIT, budget, every=True)
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
