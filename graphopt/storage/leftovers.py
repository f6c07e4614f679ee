"""The external file of an output that has been replaced: removed when it was ours and nobody needs it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from graphopt.errors import GraphoptError
from graphopt.storage.hidden import remove_file
from graphopt.storage.mentions import mentioned
from graphopt.storage.read import read
from graphopt.storage.source import Source


def sidecar_name(model: str, digest: str = "") -> str:
    """The name of the external file beside `model`, made unique by some digits of its content's hash."""
    return f"{model}.{digest}.data" if digest else f"{model}.data"


def old_sidecars(model: Path, source: Source | None) -> tuple[list[Path], list[Path]]:
    """External files with names of our own pattern that the model at `model`, about to be replaced, uses; and
    those that it may use, where it cannot be read.

    Those that `source` reads too are not among them, unless it is that very model.
    """
    ours = re.compile(re.escape(model.name) + r"(\.[0-9a-f]{8,64})?\.data")
    kept: set[Path] = set()
    if source is not None and (source.path is None or Path(os.path.realpath(source.path)) != model):
        kept = {file.path for file in source.external}
    found: list[Path] = []
    try:
        with os.scandir(model.parent) as entries:
            found = [
                path for one in entries if ours.fullmatch(one.name) and (path := model.parent / one.name) not in kept
            ]
        if not found:
            return [], []
        old = read(model)
    except (GraphoptError, OSError):
        return [], found or ([own] if (own := model.parent / sidecar_name(model.name)).exists() else [])
    used = [
        file.path
        for file in old.external
        if ours.fullmatch(file.location) and file.path == model.parent / file.location and file.path not in kept
    ]
    return used, []


def remove_unused(sidecars: list[Path], model: Path) -> list[Path]:
    """Remove `sidecars` of the model that `model` has replaced, but none that another model in the
    folder mentions. What cannot be removed is left, and returned."""
    left = []
    for path in sidecars:
        try:
            unused = not mentioned(path, model)
        except (OSError, MemoryError):
            left.append(path)
            continue
        if unused and not remove_file(path):
            left.append(path)
    return left
