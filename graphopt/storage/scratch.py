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
        try:
            place = Path(tempfile.gettempdir())
        except FileNotFoundError as error:  # it tried to write in all of them
            raise _refused("the system's temporary folders", error) from None
        try:
            with held(), _lock:
                root = _roots.get((os.getpid(), place))
                if root is None:
                    root = _roots[os.getpid(), place] = _Root(place)
                root.made += 1
                self.path = root.hidden.files / f"{what}-{root.made}"
                try:
                    self.path.mkdir(0o700)
                except BaseException:
                    if not root.used:
                        _forget(root)
                    raise
                root.used += 1
                self._end = weakref.finalize(self, _leave, root, self.path, os.getpid())
        except OSError as error:
            raise _refused(shown_path(place), error) from None

    def remove(self) -> None:
        """Remove the folder and all in it. What cannot be removed is left."""
        with held():
            self._end()

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.remove()


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
