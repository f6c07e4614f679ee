"""Where a training was: everything that decides how it goes on, in one file that is whole or not there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.storage.hidden import Partial

Array = np.ndarray[Any, Any]

_FIGURES = "__figures"


def write(path: Path, arrays: Mapping[str, Array], figures: Mapping[str, Any]) -> None:
    """Replace the file by arrays of numpy's own types, and figures that JSON holds (floats come back as they were)."""
    held = {_FIGURES: np.array(json.dumps(figures)), **arrays}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Partial(path)
    try:
        np.savez(partial.stream, **held)  # type: ignore[arg-type]
        partial.settle(0o600, durable=False)
    finally:
        partial.remove()


def read(path: Path) -> tuple[dict[str, Array], dict[str, Any]] | None:
    """The arrays and figures of a file; None when it is not there, or not one of these."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files if name != _FIGURES}
            return arrays, json.loads(str(stored[_FIGURES]))
    except Exception:  # noqa: BLE001 - there may be anything in the folder, and it may make numpy fail in any way
        return None
