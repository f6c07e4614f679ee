"""Feeds and labels as other processes find them: by paths, which what is in memory gets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.errors import UsageError
from graphopt.validation.plan import Given


def filed(feeds: Given, folder: Path) -> str:
    """Feeds as another process finds them: by their path, which those in memory get here."""
    if isinstance(feeds, str | Path):
        text = str(feeds)
        return text if ":" in text and not Path(text).exists() else str(Path(text).resolve())
    folder.mkdir(parents=True)
    several = feeds() if callable(feeds) else feeds
    for number, arrays in enumerate([several] if isinstance(several, Mapping) else several):
        if not isinstance(arrays, Mapping):
            raise UsageError(
                f"the given feeds have a {type(arrays).__name__}; a feed is a dict of arrays by input name"
            )
        named: dict[str, Any] = {name: np.asarray(value) for name, value in arrays.items()}
        np.savez(folder / f"{number}.npz", **named)
    return str(folder)


def labels_filed(labels: Any, path: Path) -> str:
    """Labels as another process finds them: by their path."""
    if isinstance(labels, str | Path):
        text = str(labels)
        return str(Path(text).resolve()) if Path(text).exists() else text
    np.save(path, np.asarray(labels))
    return str(path)
