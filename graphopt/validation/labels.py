"""Labels for metrics that need them: an `.npy` file, an `.npz` file, or one array of an `.npz` file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.errors import UsageError
from graphopt.validation.npz import read_npy, read_npz
from graphopt.validation.values import Array

Labels = str | Path | Array | Sequence[Any]


def read_labels(given: Labels) -> Array:
    """The labels as one array, rows first.

    `labels.npy`; `labels.npz` (the array `y`, or the only one); `labels.npz:NAME`; or an array.
    Raises `UsageError` where there is no such file or array.
    """
    if not isinstance(given, (str, Path)):
        return _checked(np.asarray(given), "labels")
    text = str(given)
    path, name = Path(text), None
    if not path.exists() and ".npz:" in text:
        stem, _, name = text.rpartition(":")
        path = Path(stem)
    if path.suffix == ".npy":
        return _checked(read_npy(path), path.name)
    if path.suffix != ".npz":
        raise UsageError(f"labels come from an .npy or .npz file, or FILE.npz:NAME, not from {text!r}")
    arrays = read_npz(path)
    if name is None:
        name = "y" if "y" in arrays else next(iter(arrays), "y") if len(arrays) == 1 else "y"
    if name not in arrays:
        has = ", ".join(map(repr, arrays)) or "nothing"
        raise UsageError(
            f"{path.name} has no array {name!r} for the labels; it has {has}; name one as {path.name}:NAME"
        )
    return _checked(arrays[name], f"{path.name}:{name}")


def _checked(labels: Array, label: str) -> Array:
    if labels.ndim == 0 or labels.shape[0] == 0:
        raise UsageError(f"{label} holds no labels; give one row for each row of the feeds")
    if labels.dtype.hasobject and not all(isinstance(item, str) for item in labels.reshape(-1)):
        raise UsageError(f"{label} holds Python objects; give numbers or strings")
    return labels
