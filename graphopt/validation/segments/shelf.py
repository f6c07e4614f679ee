"""Values that lie between segments: small ones in memory, large ones in files of a folder, with a ceiling."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from graphopt.errors import CouldNotTell
from graphopt.validation.values import Array, nbytes

if TYPE_CHECKING:
    from graphopt.runtime.options import Value

_LARGE: Final = 1 << 18  # bytes; larger arrays are kept in files and mapped
_MOST: Final = 32 << 30


class Full(CouldNotTell):
    """What is to be kept is more than the ceiling."""


class Shelf:
    """Values by key. `ceiling` are the bytes of files that may be there at once; half of what the disk has free,
    unless given. `peak` is how many there were."""

    def __init__(self, folder: Path, ceiling: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._ceiling = min(_MOST, shutil.disk_usage(folder).free // 2) if ceiling is None else ceiling
        self._numbers = itertools.count()
        self._values: dict[Hashable, Value] = {}
        self._files: dict[Hashable, Path] = {}
        self._sizes: dict[Hashable, int] = {}
        self.bytes = self.peak = 0

    def __contains__(self, key: Hashable) -> bool:
        return key in self._values

    def __getitem__(self, key: Hashable) -> Value:
        return self._values[key]

    def held(self) -> Iterator[Any]:
        """The keys, the oldest first."""
        return iter(tuple(self._values))

    def keep(self, key: Hashable, value: Value) -> None:
        """Keep a value, independent of the memory it came in. Raises `Full`."""
        self.drop(key)
        size = nbytes(value)
        if self.bytes + size > self._ceiling:
            raise Full(
                f"the tensors between segments take more than {self._ceiling / 1e9:.3g} GB of the folder for temporary "
                "files; give fewer or smaller feeds, or let TMPDIR name a folder with more room"
            )
        self._values[key] = self._kept(key, value) if isinstance(value, np.ndarray) else value
        self._sizes[key] = size
        self.bytes += size
        self.peak = max(self.peak, self.bytes)

    def drop(self, key: Hashable) -> None:
        """Forget a value."""
        if key in self._values:
            del self._values[key]
            self.bytes -= self._sizes.pop(key)
        if key in self._files:
            self._files.pop(key).unlink(missing_ok=True)

    def clear(self) -> None:
        """Forget everything."""
        for key in list(self._values):
            self.drop(key)

    def _kept(self, key: Hashable, array: Array) -> Array:
        if array.nbytes < _LARGE or array.dtype.hasobject:
            return np.array(array, copy=True)
        file = self._folder / f"{next(self._numbers)}.bin"
        self._files[key] = file
        with file.open("wb") as stream:
            stream.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        return np.memmap(file, dtype=array.dtype, mode="r", shape=array.shape)
