"""Which models in a folder name a file in it."""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path

from graphopt.storage.external import open_regular

_MODELS = (".onnx", ".ort", ".pb", ".onnxtxt", ".textproto", ".json")


def mentioned(file: Path, besides: Path | None = None) -> bool:
    """Whether a model in the folder of `file`, other than `besides`, has its name in it.

    Raises OSError where that cannot be told: then nothing may be removed.
    """
    name = os.fsencode(file.name)
    with os.scandir(file.parent) as entries:
        others = [Path(entry.path) for entry in entries if entry.name.lower().endswith(_MODELS)]
    return any(_contains(other, name) for other in others if other not in (besides, file))


def _contains(path: Path, text: bytes) -> bool:
    try:
        descriptor = open_regular(Path(os.path.realpath(path)))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINVAL):  # no file, or no regular one
            return False
        raise
    try:
        size = os.fstat(descriptor).st_size
        if not size:
            return False
        with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as view:
            return view.find(text) >= 0
    finally:
        os.close(descriptor)
