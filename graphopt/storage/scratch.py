"""Temporary folders of a run: all in one hidden folder in the system's place for such, which goes with the last.

A run that is killed leaves it behind; the next run finds it and removes it (see `graphopt.storage.hidden`).
"""

from __future__ import annotations

import os
import tempfile
import threading
import weakref
from pathlib import Path

from graphopt.errors import GraphoptError, OverLimit, UsageError
from graphopt.ir.wording import shown_path
from graphopt.stopping import held
from graphopt.storage.hidden import Hidden, remove_tree
from graphopt.storage.refused import is_scarce, why


class _Root:
    """The hidden folder of this process, and how many scratch folders are in it."""

    def __init__(self, place: Path) -> None:
        self.place, self.hidden = place, Hidden(place)
        self.used = self.made = 0


_lock = threading.RLock()
_roots: dict[tuple[int, Path], _Root] = {}  # a fork makes its own


class Scratch:
    """An empty folder `path`, for as long as the block lasts or until `remove`.

    Raises UsageError or OverLimit where there can be none.
    """

    def __init__(self, what: str = "run") -> None:
        with held(), _lock:
            root = _root()
            root.made += 1
            self.path = root.hidden.files / f"{what}-{root.made}"
            try:
                self.path.mkdir(0o700)
            except OSError as error:
                if not root.used:
                    _forget(root)
                raise _refused(shown_path(root.place), error) from None
            root.used += 1
            self._end = weakref.finalize(self, _leave, root, self.path, os.getpid())

    def remove(self) -> None:
        """Remove the folder and all in it. What cannot be removed is left."""
        with held():
            self._end()

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.remove()


def _places() -> list[Path]:
    """Where temporary folders may be, as Python's `tempfile` has it, which writes a file to find out."""
    if tempfile.tempdir is not None:
        return [Path(os.fsdecode(tempfile.tempdir))]
    named = [place for name in ("TMPDIR", "TEMP", "TMP") if (place := os.environ.get(name))]
    found = [Path(place).absolute() for place in (*named, "/tmp", "/var/tmp", "/usr/tmp")]
    return [place for place in dict.fromkeys(found) if place.is_dir()] or found[:1]


def _root() -> _Root:
    """The folder of this process, made in the first of the places that takes it."""
    first: OSError | None = None
    places = _places()
    for place in places:
        root = _roots.get((os.getpid(), place))
        if root is None:
            try:
                root = _Root(place)
            except OSError as error:
                first = first or error
                continue
            _roots[os.getpid(), place] = root
        return root
    assert first is not None, "there is a place"
    raise _refused(shown_path(places[0]), first) from None


def _leave(root: _Root, path: Path, process: int) -> None:
    if os.getpid() != process:
        return
    with _lock:
        root.used -= 1
        if root.used:
            remove_tree(path)
        else:
            _forget(root)


def _forget(root: _Root) -> None:
    _roots.pop((os.getpid(), root.place), None)
    root.hidden.remove()


def _refused(where: str, error: OSError) -> GraphoptError:
    kind = OverLimit if is_scarce(error) else UsageError
    return kind(f"no temporary folder can be made in {where} ({why(error)}); make room, or name another with TMPDIR")
