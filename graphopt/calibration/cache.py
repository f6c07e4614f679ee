"""Statistics that were computed before: in memory for the runs of this process, and in a folder if one is named.

What was computed is named by a hash of all that it depends on: the model that was run and its weights, the feeds, the
values, the accumulator and what it had seen before, and the versions of what computes. Files are complete or not
there, so that a folder may be shared, and anything in it deleted, at any time.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Final

import numpy as np

from graphopt.analysis.activations import Array, Observation
from graphopt.errors import UsageError
from graphopt.storage.hidden import Partial

State = Mapping[str, Array]

MEMORY: Final = 256 << 20
"""Bytes of statistics that are kept in memory."""

_FORMAT: Final = 1  # raised where an accumulator of the same key comes to compute something else


class Statistics:
    """States of accumulators by key; the ones used last are kept in memory."""

    def __init__(self, most: int = MEMORY) -> None:
        self._most, self._held = most, 0
        self._known: OrderedDict[str, State] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: str) -> State | None:
        """The state of that key, if it is known."""
        if key in self._known:
            self._known.move_to_end(key)
        return self._known.get(key)

    def put(self, key: str, state: State) -> None:
        """Keep a state, which must not change any more."""
        self.drop(key)
        self._known[key] = state
        self._held += _size(state)
        while self._held > self._most:
            self.drop(next(iter(self._known)))

    def drop(self, key: str) -> None:
        """Forget the state of a key."""
        self._held -= _size(self._known.pop(key, {}))

    def clear(self) -> None:
        """Forget everything."""
        self._known.clear()
        self._held = 0


SHARED: Final = Statistics()
"""What the runs of this process know."""


class Cache:
    """What is known of one run of feeds through models: `of` are the hashes that it depends on.

    With a `folder` it is kept there, too. `complain` is told once, in a sentence, when that cannot be done.
    """

    def __init__(
        self,
        of: Iterable[str],
        folder: Path | None = None,
        complain: Callable[[str], None] = lambda _: None,
        memory: Statistics = SHARED,
    ) -> None:
        self._of, self._folder, self._complain, self._memory = tuple(of), folder, complain, memory

    def key(self, one: Observation, places: Iterable[tuple[bool, str]]) -> str | None:
        """What names the answer to a question; None for an accumulator that cannot be written down."""
        state = _state(one)
        if state is None:
            return None
        digest = hashlib.sha256(repr((_FORMAT, versions(), self._of, list(places), one.accumulator.key)).encode())
        for name, array in sorted(state.items()):
            digest.update(f"\0{name}\0{array.dtype.str}\0{array.shape}\0".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def recall(self, one: Observation, key: str) -> bool:
        """Bring an accumulator to the state of that key; False when it is not known."""
        state = self._memory.get(key)
        found = state is not None
        if state is None and self._folder is not None:
            state = read_state(self._folder / f"{key}.npz")
        if state is None:
            return False
        try:
            _restore(one, {name: array.copy() for name, array in state.items()})
        except Exception:  # noqa: BLE001 - a file that somebody has changed
            return False
        if not found:
            self._memory.put(key, state)
        return True

    def keep(self, one: Observation, key: str) -> None:
        """Remember the state of an accumulator."""
        state = _state(one)
        assert state is not None, "it has a key"
        kept = {name: array.copy() for name, array in state.items()}
        self._memory.put(key, kept)
        if self._folder is not None:
            try:
                write_state(self._folder / f"{key}.npz", kept)
            except OSError as error:
                reason = os.strerror(error.errno or 0).lower()
                self._complain(f"statistics could not be kept in {str(self._folder)!r} ({reason})")
                self._folder = None


def check_folder(folder: Path) -> None:
    """Make the folder of a cache. Raises UsageError where there can be none."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = "it is a file" if folder.exists() else getattr(error, "strerror", None) or str(error)
        raise UsageError(f"--cache-dir {str(folder)!r} cannot be used ({reason.lower()}); name a folder") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"--cache-dir {str(folder)!r} cannot be written to; name a folder that can")


def default_folder() -> Path:
    """The folder in which `--resume` keeps statistics: in the user's folder of caches."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(home) if home.startswith("/") else Path.home() / ".cache") / "graphopt" / "calibration"


def _state(one: Observation) -> State | None:
    states = getattr(one.accumulator, "state", None)
    if states is None or not hasattr(one.accumulator, "restore"):
        return None
    found: Mapping[str, Array] = states()
    return {name: np.asarray(array) for name, array in found.items()}


def _restore(one: Observation, state: State) -> None:
    getattr(one.accumulator, "restore")(state)  # noqa: B009 - it has one, or it had no key


@cache
def versions() -> tuple[str, ...]:
    """Of all that decides what comes out; what another version has kept is not used."""
    return tuple(map(_version, ("graphopt", "onnxruntime", "numpy")))


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # another build of it
        return "unknown"


def _size(state: State) -> int:
    return sum(array.nbytes for array in state.values())


def read_state(path: Path) -> State | None:
    """The arrays of a file; None when it is not there, or not whole."""
    if not path.is_file():  # a pipe of that name would be waited for
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except Exception:  # noqa: BLE001 - there may be anything in the folder, and it may make numpy fail in any way
        return None


def write_state(path: Path, state: State) -> None:
    """A file that is complete, or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        partial = Partial(path)
    except FileNotFoundError:  # somebody removes the folder at this very moment
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = Partial(path)
    try:
        np.savez(partial.stream, **state)  # type: ignore[arg-type]
        partial.settle(0o600, durable=False)
    finally:
        partial.remove()
