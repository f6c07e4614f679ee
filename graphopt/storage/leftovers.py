"""The external file of an output that has been replaced: removed when it was ours and nobody needs it."""

from __future__ import annotations

import mmap
import os
import re
from pathlib import Path

from graphopt.errors import GraphoptError
from graphopt.storage.external import open_regular
from graphopt.storage.read import read
from graphopt.storage.source import Source

_MODELS = (".onnx", ".ort", ".pb", ".onnxtxt", ".textproto", ".json")


def sidecar_name(model: str, digest: str = "") -> str:
    """The name of the external file beside `model`, made unique by some digits of its content's hash."""
    return f"{model}.{digest}.data" if digest else f"{model}.data"


def old_sidecars(model: Path, source: Source | None) -> list[Path]:
    """External files with names of our own pattern that the model at `model`, about to be replaced, uses.

    Those that `source` reads too are not among them, unless it is that very model.
    """
    ours = re.compile(re.escape(model.name) + r"(\.[0-9a-f]{8,64})?\.data")
    try:
        if not any(ours.fullmatch(entry.name) for entry in os.scandir(model.parent)):
            return []
        old = read(model)
    except (GraphoptError, OSError):
        return []
    kept: set[Path] = set()
    if source is not None and (source.path is None or Path(os.path.realpath(source.path)) != model):
        kept = {file.path for file in source.external}
    return [
        file.path
        for file in old.external
        if ours.fullmatch(file.location) and file.path == model.parent / file.location and file.path not in kept
    ]


def remove_unused(sidecars: list[Path], model: Path) -> None:
    """Remove `sidecars` of the model that `model` has replaced, but none that another model in the
    folder mentions. What cannot be removed is left."""
    for path in sidecars:
        try:
            if not _mentioned(path, model):
                path.unlink()
        except OSError:
            continue


def _mentioned(sidecar: Path, model: Path) -> bool:
    name = os.fsencode(sidecar.name)
    with os.scandir(sidecar.parent) as entries:
        others = [Path(entry.path) for entry in entries if entry.name.lower().endswith(_MODELS)]
    return any(_contains(other, name) for other in others if other != model)


def _contains(path: Path, text: bytes) -> bool:
    try:
        descriptor = open_regular(Path(os.path.realpath(path)))
    except OSError:
        return False
    try:
        size = os.fstat(descriptor).st_size
        if not size:
            return False
        with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as view:
            return view.find(text) >= 0
    finally:
        os.close(descriptor)
