"""Ways to damage a file: bits, bytes, ends, pieces; and, in protobuf messages, fields and lengths."""

from __future__ import annotations

import io
import itertools
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from random import Random

from graphopt.storage.walk import encoded

Damage = Callable[[bytes, Random], bytes]

_ODD = (
    b"\x00",
    b"\xff",
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
    b"%s%n",
    "\u202e".encode(),
    b"\n",
    b'"',
    b"=",
    b"[",
)
_LENGTH_DELIMITED = 2

_TEXT = re.compile(rb"[\x09\x0a\x0d\x20-\x7e]{40}|[\x09\x0a\x0d\x20-\x7e]+$")
_TOKEN = re.compile(rb'-?\d+(?:\.\d+)?(?:e[-+]?\d+)?|"[^"\n]*"|\w+')
_TOKENS = (
    b"0", b"-1", b"1e999", b"NaN", b"nan", b"-0", b'""', b"null", b"[]", b"{}", b"true", b"1" * 400,
    b"9223372036854775808",
    b'"a"', b'"../../a"', b"0.5", b'"\\u0000"', b"[" * 2000, b"1e-400", b'{"a": 1}', b"1979-05-27", b"0x10",
)  # fmt: skip


def damaged(data: bytes, rng: Random) -> tuple[str, bytes]:
    """One to three kinds of damage to a file, and their names; to what an archive holds, or a text says, mostly."""
    names = []
    known = in_archive if data[:2] == b"PK" else in_text if _TEXT.match(data) else flip_bit
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        way = known if rng.random() < 0.5 else rng.choice(WAYS)
        names.append(way.__name__)
        data = way(data, rng)
    return "+".join(names), data


def in_archive(data: bytes, rng: Random) -> bytes:
    """A file of an archive, with right sums all around."""
    held = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as given, zipfile.ZipFile(held, "w") as made:
            names = given.namelist()
            chosen = rng.choice(names)
            for name in names:
                content = given.read(name)
                if name == chosen and rng.random() < 0.1:
                    continue
                made.writestr(name, damaged(content, rng)[1] if name == chosen else content)
                if name == chosen and rng.random() < 0.1:
                    made.writestr(f"../{name}" if rng.random() < 0.5 else f"{name}.more", content)
    except (zipfile.BadZipFile, zlib.error, RuntimeError, ValueError, IndexError, EOFError, OSError):
        return flip_bits(data, rng)
    return held.getvalue()


def in_text(data: bytes, rng: Random) -> bytes:
    """A number, a word or a line of a text."""
    if rng.random() < 0.2:
        lines = data.split(b"\n")
        at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at] if rng.random() < 0.5 else lines[other]
        return b"\n".join(lines)
    found = list(_TOKEN.finditer(data))
    if not found:
        return flip_bits(data, rng)
    one = rng.choice(found)
    return data[: one.start()] + rng.choice(_TOKENS) + data[one.end() :]


def flip_bit(data: bytes, rng: Random) -> bytes:
    made = bytearray(data)
    if made:
        made[rng.randrange(len(made))] ^= 1 << rng.randrange(8)
    return bytes(made)


def flip_bits(data: bytes, rng: Random) -> bytes:
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8)) if made else 0):
        made[rng.randrange(len(made))] ^= 1 << rng.randrange(8)
    return bytes(made)


def set_bytes(data: bytes, rng: Random) -> bytes:
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 3)) if made else 0):
        made[rng.randrange(len(made))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return bytes(made)


def truncate(data: bytes, rng: Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def behead(data: bytes, rng: Random) -> bytes:
    return data[rng.randrange(min(len(data), 64) + 1) :]


def insert(data: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    more = rng.choice(_ODD) if rng.random() < 0.5 else rng.randbytes(rng.choice((1, 2, 8, 64)))
    return data[:at] + more + data[at:]


def cut_out(data: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + data[at + rng.choice((1, 2, 8, 64)) :]


def repeat_piece(data: bytes, rng: Random) -> bytes:
    at, size = rng.randrange(len(data) + 1), rng.choice((1, 8, 64, 512))
    return data[:at] + data[at : at + size] * rng.choice((2, 3, 20)) + data[at + size :]


def swap_pieces(data: bytes, rng: Random) -> bytes:
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(3))
    return data[: cuts[0]] + data[cuts[1] : cuts[2]] + data[cuts[0] : cuts[1]] + data[cuts[2] :]


def zero_piece(data: bytes, rng: Random) -> bytes:
    at, size = rng.randrange(len(data) + 1), rng.choice((4, 16, 256))
    return data[:at] + bytes(len(data[at : at + size])) + data[at + size :]


def another_length(data: bytes, rng: Random) -> bytes:
    """A length in a protobuf message that says something else."""
    found = list(_fields(data))
    if not found:
        return flip_bits(data, rng)
    _start, length_at, body, end = rng.choice(found)
    size = rng.choice(
        (0, 1, (end - body) - 1, (end - body) + 1, (end - body) * 2, 2**31 - 1, 2**31, 2**63 - 1, 2**64 - 1)
    )
    return data[:length_at] + encoded(max(size, 0)) + data[body:]


def repeat_field(data: bytes, rng: Random) -> bytes:
    """A field of a protobuf message once more, or many times."""
    found = list(_fields(data))
    if not found:
        return repeat_piece(data, rng)
    start, _, _, end = rng.choice(found)
    return _grown(data, found, start, end, data[start:end] * rng.choice((2, 2, 3, 50)))


def drop_field(data: bytes, rng: Random) -> bytes:
    """A field of a protobuf message less."""
    found = list(_fields(data))
    if not found:
        return cut_out(data, rng)
    start, _, _, end = rng.choice(found)
    return _grown(data, found, start, end, b"")


def swap_fields(data: bytes, rng: Random) -> bytes:
    """Two neighbours of a protobuf message in the other order."""
    found = list(_fields(data))
    pairs = [(one, other) for one, other in itertools.pairwise(found) if one[3] == other[0]]
    if not pairs:
        return swap_pieces(data, rng)
    one, other = rng.choice(pairs)
    return data[: one[0]] + data[other[0] : other[3]] + data[one[0] : one[3]] + data[other[3] :]


def other_number(data: bytes, rng: Random) -> bytes:
    """Another field number or wire type in a protobuf message."""
    found = list(_fields(data))
    if not found:
        return set_bytes(data, rng)
    start = rng.choice(found)[0]
    return data[:start] + bytes([rng.randrange(256)]) + data[start + 1 :]


def nest(data: bytes, rng: Random) -> bytes:
    """A field that holds itself, some levels deep."""
    found = [one for one in _fields(data) if one[3] - one[2] < 2000]
    if not found:
        return insert(data, rng)
    start, _, body, end = rng.choice(found)
    inner = data[body:end]
    tag = data[start : start + 1]
    for _ in range(rng.choice((1, 20, 150))):
        inner = tag + encoded(len(inner)) + inner
    return _grown(data, found, start, end, inner)


WAYS: tuple[Damage, ...] = (
    flip_bits, flip_bits, set_bytes, truncate, behead, insert, cut_out, repeat_piece, swap_pieces, zero_piece,
    another_length, repeat_field, drop_field, swap_fields, other_number, nest,
)  # fmt: skip

_Field = tuple[int, int, int, int]  # where it starts, its length is written, its content begins and ends


def _fields(data: bytes, start: int = 0, end: int | None = None, depth: int = 0) -> Iterator[_Field]:
    """The fields with a length of what may be a protobuf message, those inside of them that look like some too."""
    at, end = start, len(data) if end is None else end
    found: list[_Field] = []
    while at < end:
        begin = at
        key, at = _read(data, at, end)
        if key is None or key >> 3 == 0 or key >> 3 > 64:
            return
        kind = key & 7
        if kind == 0:
            value, at = _read(data, at, end)
            if value is None:
                return
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        elif kind == _LENGTH_DELIMITED:
            length_at = at
            size, at = _read(data, at, end)
            if size is None or at + size > end:
                return
            found.append((begin, length_at, at, at + size))
            at += size
        else:
            return
        if at > end:
            return
    for one in found:
        yield one
        if depth < 6 and one[3] - one[2] > 2:
            yield from _fields(data, one[2], one[3], depth + 1)


def _grown(data: bytes, found: list[_Field], start: int, end: int, by: bytes) -> bytes:
    """The data with other bytes in the place of a field, and right lengths of all that it lies in."""
    around = sorted(
        (one for one in found if one[2] <= start and end <= one[3] and one[0] < start), key=lambda one: -one[0]
    )
    made, low, high = by, start, end
    for begin, length_at, body, stop in around:
        inner = data[body:low] + made + data[high:stop]
        made, low, high = data[begin:length_at] + encoded(len(inner)) + inner, begin, stop
    return data[:low] + made + data[high:]


def _read(data: bytes, at: int, end: int) -> tuple[int | None, int]:
    value = shift = 0
    while at < end and shift < 64:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    return None, at
