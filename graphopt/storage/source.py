"""A model that was read: the skeleton, where its weights are, and the files it came from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from onnx import ModelProto

from graphopt.ir.store import Store
from graphopt.storage.external import ExternalFile
from graphopt.storage.wire import join


@dataclass(frozen=True, eq=False)
class Source:
    """One model as it was read; nothing writes to it.

    `path` is the model file as the user named it (None: from memory), `proto` the skeleton,
    `store` finds the payloads, `external` are the files of external data, `size` the bytes of the
    model file, `identity` its device and inode, `buffer` its bytes, mapped. `results` has the stamps of files of
    ours that have taken its place since (see `graphopt.storage.moving.stamp`).
    """

    path: Path | None
    proto: ModelProto
    store: Store
    external: tuple[ExternalFile, ...] = ()
    size: int = 0
    identity: tuple[int, int] | None = None
    buffer: memoryview | None = field(default=None, repr=False)
    results: set[tuple[int, ...]] = field(default_factory=set, repr=False)

    def sha256(self) -> str:
        """SHA-256 (hex) of the model file, or of the canonical bytes of a model from memory."""
        return _digest(self)


@cache
def _digest(source: Source) -> str:
    digest = hashlib.sha256()
    pieces = [source.buffer] if source.buffer is not None else join(source.proto, source.store)
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()
