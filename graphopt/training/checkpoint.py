"""Where a training was: everything that decides how it goes on, in one file that is whole or not there."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.calibration.cache import UNREADABLE

Array = np.ndarray[Any, Any]

_FIGURES = "__figures"


def write(path: Path, arrays: Mapping[str, Array], figures: Mapping[str, Any]) -> None:
    """Replace the file by arrays of numpy's own types, and figures that JSON holds (floats come back as they were)."""
    held = {_FIGURES: np.array(json.dumps(figures)), **arrays}
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as stream:
            np.savez(stream, **held)  # type: ignore[arg-type]
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def read(path: Path) -> tuple[dict[str, Array], dict[str, Any]] | None:
    """The arrays and figures of a file; None when it is not there, or not one of these."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files if name != _FIGURES}
            return arrays, json.loads(str(stored[_FIGURES]))
    except UNREADABLE:
        return None
