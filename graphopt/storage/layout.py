"""Which tensors of a model go into its file and which into the external file beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from google.protobuf.message import EncodeError
from onnx import ModelProto, TensorProto

from graphopt.errors import OverLimit
from graphopt.ir.store import EMBEDDED, LARGE, Store, refer, reference
from graphopt.storage.walk import INITIALIZER, Kind, Later, Piece, Pieces, rewrite
from graphopt.storage.wire import embedded, find_raw, occurrences

External = Literal["auto", "never", "always"]
Key = tuple[str, int, int]

_EXTERNAL = b"p\x01"  # the field data_location: EXTERNAL, as protobuf itself writes it

EMBEDDED_LIMIT = 2_000_000_000
"""A model file larger than this cannot be read back by protobuf (2 GiB, less room for a reader's own)."""


@dataclass(eq=False)
class Item:
    """One tensor whose payload is not in the skeleton's bytes, or could be moved out of them.

    `proto` is the message without payload, `payload` gives that, `size` bytes long; `origin` is
    where it is: in the skeleton's bytes, in the model file, in memory, or at `offset` of external
    file `location`.
    """

    kind: Kind
    proto: TensorProto
    payload: Later
    origin: Literal["inline", "file", "added", "external"]
    location: str
    offset: int
    goes_out: bool = False

    @property
    def size(self) -> int:
        return self.payload.size

    @property
    def key(self) -> Key:
        """Equal for tensors that share their bytes."""
        return self.location, self.offset, self.size


class Layout:
    """The plan for one model: `items`, of which those that `goes_out` belong into the external file."""

    def __init__(self, proto: ModelProto, store: Store) -> None:
        try:
            self.skeleton = proto.SerializeToString()
        except (EncodeError, ValueError):
            raise OverLimit(
                "the model has more than 2 GB beside its raw weights, which protobuf cannot write"
            ) from None
        self._store = store
        self._marks = occurrences(self.skeleton, _EXTERNAL)
        self.items: dict[int, Item] = {}
        rewrite(self.skeleton, self._note, marks=self._marks)

    def _note(self, kind: Kind, start: int, stop: int) -> None:
        raw = find_raw(self.skeleton, start, stop)
        if raw is not None:
            first, last = raw.start, raw.stop
            proto = TensorProto.FromString(self.skeleton[start : raw.tag] + self.skeleton[last:stop])
            inline = Later(lambda: memoryview(self.skeleton)[first:last], last - first)
            self.items[start] = Item(kind, proto, inline, "inline", "", start)
        elif self.skeleton.find(_EXTERNAL, start, stop) >= 0:
            proto = TensorProto.FromString(self.skeleton[start:stop])
            if proto.data_location != TensorProto.EXTERNAL:
                return
            found = reference(proto)
            origin: Literal["file", "added", "external"] = "external"
            if found.location == EMBEDDED:
                origin = "added" if self._store.is_added(proto) else "file"
            payload = Later(*self._store.later(proto))
            self.items[start] = Item(kind, proto, payload, origin, found.location, found.offset)

    def decide(self, external: External, limit: int) -> None:
        """Choose for every item whether it goes out.

        "auto": as it was; new values as most bytes of the model are; and as many as needed when the
        model file would be larger than `limit` bytes, initializers first. Raises OverLimit when
        that does not help, or is not allowed ("never").
        """
        items = list(self.items.values())
        large = [item for item in items if item.size >= LARGE]
        if external == "always":
            _send(large)
        if external != "never":
            _send([item for item in items if item.origin == "external" and item.size])
            outside = sum(item.size for item in items if item.origin == "external")
            if outside > sum(item.size for item in items if item.origin in ("file", "inline")):
                _send([item for item in large if item.origin == "added"])
            if self._embedded_bytes() > limit:
                _send([item for item in large if item.kind is INITIALIZER])
            if self._embedded_bytes() > limit:
                _send(large)
        if self._embedded_bytes() > limit:
            advice = "allow external data" if external == "never" else "nothing more of it can be external data"
            raise OverLimit(
                f"the model file would have {self._embedded_bytes()} bytes, more than the {limit} that can be "
                f"read back; {advice}"
            )

    def _embedded_bytes(self) -> int:
        """The size of the model file, with about 100 bytes too many for every payload put back."""
        size = len(self.skeleton)
        for item in self.items.values():
            if item.origin == "inline":
                size -= item.size if item.goes_out else 0
            else:
                size += 0 if item.goes_out else item.size
        return size

    def place(self) -> dict[Key, int]:
        """Where in the external file each payload that goes out begins; empty when none does."""
        offsets: dict[Key, int] = {}
        end = 0
        for item in self.items.values():
            if item.goes_out and item.key not in offsets:
                offsets[item.key] = align(end, item.size)
                end = offsets[item.key] + item.size
        return offsets

    def size(self, offsets: dict[Key, int]) -> int:
        """About the bytes of model file and external file together, with what goes out at `offsets`."""
        return self._embedded_bytes() + max((offset + key[2] for key, offset in offsets.items()), default=0)

    def external_file(self) -> Iterator[Piece]:
        """The bytes of the external file, as `place` lays them out."""
        end = 0
        written: set[Key] = set()
        for item in self.items.values():
            if item.goes_out and item.key not in written:
                written.add(item.key)
                start = align(end, item.size)
                yield bytes(start - end)
                yield item.payload.fetch()
                end = start + item.size

    def model_file(self, name: str, offsets: dict[Key, int]) -> Pieces:
        """The pieces of the model file; what goes out is at `offsets` in the external file `name`."""

        def replace(kind: Kind, start: int, stop: int) -> Pieces | None:
            item = self.items.get(start)
            if item is None or (item.origin == "inline" and not item.goes_out):
                return None
            if not item.goes_out:
                return embedded(item.proto, item.payload)
            refer(item.proto, name, offsets[item.key], item.size)
            return [item.proto.SerializeToString()]

        return rewrite(self.skeleton, replace, marks=self._marks) or [self.skeleton]


def _send(items: list[Item]) -> None:
    for item in items:
        item.goes_out = True


def align(offset: int, size: int) -> int:
    """The next place at or after `offset` for `size` bytes.

    Large tensors begin where a file can be mapped (64 KiB everywhere, 4 KiB on most systems; the
    same choice as onnxruntime's), small ones on a cache line so that padding stays small.
    """
    step = 65536 if size >= 1 << 20 else 4096 if size >= 65536 else 64
    return -(-offset // step) * step
