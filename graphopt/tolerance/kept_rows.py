"""Rows of a study that was stopped, so that the next one measures the other layers only."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from graphopt.calibration.source import digest_of
from graphopt.storage.hidden import Partial
from graphopt.storage.source import Source
from graphopt.tolerance.table import Row, row_json, row_of

_FORMAT: Final = 1  # raised where the same study comes to give something else


class KeptRows:
    """A folder of rows, each in a file that is whole or not there, named by a hash of all that it depends on.

    `complain` is told once, in a sentence, when rows cannot be kept.
    """

    def __init__(self, folder: Path, source: Source, feeds: list[Any], plan: str, complain: Callable[[str], None]):
        model = Source(None, source.proto, source.store).sha256()  # of external data, too
        versions = [_version(one) for one in ("graphopt", "onnxruntime", "numpy")]
        self._of = repr((_FORMAT, versions, model, digest_of(feeds), plan))
        self._folder: Path | None = folder
        self._complain = complain

    def get(self, name: str) -> Row | None:
        """The row of a layer, if it was measured before."""
        if self._folder is None:
            return None
        try:
            row = row_of(json.loads(self._path(self._folder, name).read_text(encoding="utf-8")))
        except Exception:  # noqa: BLE001 - there may be anything in the folder
            return None
        return row if row.name == name else None

    def put(self, row: Row) -> None:
        """Keep a row."""
        if self._folder is None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            partial = Partial(self._path(self._folder, row.name))
            try:
                partial.stream.write(json.dumps(row_json(row)).encode())
                partial.settle(0o600, durable=False)
            finally:
                partial.remove()
        except OSError as error:
            why = os.strerror(error.errno or 0).lower()
            self._complain(f"what was measured could not be kept in {str(self._folder)!r} ({why})")
            self._folder = None

    def _path(self, folder: Path, name: str) -> Path:
        return folder / f"{hashlib.sha256(f'{self._of} {name}'.encode()).hexdigest()}.row.json"


def _version(package: str) -> str:
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return "unknown"
