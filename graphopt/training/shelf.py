"""Samples on disk: written once, one after the other, and read from there while training runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  (registers its dtypes with numpy)
import numpy as np

Array = np.ndarray[Any, Any]
Arrays = Mapping[str, Array]

_DATA, _INDEX = "samples.bin", "samples.json"
_ALIGNED = 64


@dataclass(frozen=True)
class Sample:
    """What the model is fed, and what is to come out, by name."""

    inputs: Arrays
    targets: Arrays


class Writer:
    """Appends samples to a folder. `together`: samples of the same shapes may be joined along their first axis."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stream = (folder / _DATA).open("wb")
        self._index: list[dict[str, Any]] = []
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._index)

    def add(self, inputs: Arrays, targets: Arrays) -> None:
        """Append one sample."""
        self._index.append({"inputs": self._put(inputs), "targets": self._put(targets)})

    def close(self, together: bool) -> None:
        """Write what is known of the samples; nothing can be added after that."""
        self._stream.close()
        (self._folder / _INDEX).write_text(json.dumps({"together": together, "samples": self._index}))

    def _put(self, arrays: Arrays) -> dict[str, Any]:
        found = {}
        for name, array in arrays.items():
            found[name] = [self.bytes, array.dtype.name, list(array.shape)]
            data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
            self._stream.write(data)
            self._stream.write(bytes(-len(data) % _ALIGNED))
            self.bytes += len(data) + -len(data) % _ALIGNED
        return found


class Samples(Sequence[Sample]):
    """The samples of a folder; their arrays are read when they are asked for."""

    def __init__(self, folder: Path) -> None:
        told = json.loads((folder / _INDEX).read_text())
        self.together: bool = told["together"]
        self._index: list[dict[str, Any]] = told["samples"]
        size = (folder / _DATA).stat().st_size
        self._data: Array = np.memmap(folder / _DATA, np.uint8, "r") if size else np.zeros(0, np.uint8)

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: Any) -> Any:
        entry = self._index[index]
        return Sample(self._get(entry["inputs"]), self._get(entry["targets"]))

    def _get(self, entry: Mapping[str, Any]) -> Arrays:
        return {name: self._array(*place) for name, place in entry.items()}

    def _array(self, offset: int, dtype: str, shape: list[int]) -> Array:
        kind = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        array: Array = np.array(self._data[offset : offset + size]).view(kind).reshape(shape)
        return array


@dataclass(frozen=True)
class Batch:
    """Samples that are computed in one go."""

    inputs: Arrays
    targets: Arrays


def batches(samples: Sequence[Sample], indices: Sequence[int], together: bool, most: int) -> list[Batch]:
    """Some samples in order, joined where they may be: those of the same types and shapes, at most `most` at once."""
    groups: dict[tuple[Any, ...], list[Sample]] = {}
    for place, index in enumerate(indices):
        sample = samples[index]
        key: tuple[Any, ...] = (place,)
        if together:
            key = tuple(
                (name, array.dtype.name, array.shape[1:] if array.ndim else array.tobytes())
                for part in (sample.inputs, sample.targets)
                for name, array in part.items()
            )
        groups.setdefault(key, []).append(sample)
    return [
        Batch(_joined([one.inputs for one in some]), _joined([one.targets for one in some]))
        for group in groups.values()
        for some in (group[at : at + most] for at in range(0, len(group), most))
    ]


def _joined(parts: Sequence[Arrays]) -> Arrays:
    if len(parts) == 1:
        return parts[0]
    return {
        name: array if not array.ndim else np.concatenate([part[name] for part in parts])
        for name, array in parts[0].items()
    }
