"""Warmed processes, one of each kind for all tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import interposer
import pytest
from invariant import Baseline, undisturbed
from scenes import SCENES
from warmed import Warmed

Known = Callable[[str], Baseline]


@pytest.fixture(scope="session")
def warmed() -> Iterator[Warmed]:
    """With the interposer."""
    why = interposer.why_not()
    if why is not None:
        pytest.skip(why)
    one = Warmed()
    yield one
    one.close()


@pytest.fixture(scope="session")
def patched() -> Iterator[Warmed]:
    """With faults that are made in Python."""
    one = Warmed(compiled=False)
    yield one
    one.close()


@pytest.fixture(scope="session")
def baselines(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Warmed, str], Baseline]:
    """How a scene ends undisturbed, found once for each kind of process."""
    known: dict[tuple[int, str], Baseline] = {}

    def of(process: Warmed, name: str) -> Baseline:
        key = id(process), name
        if key not in known:
            known[key] = undisturbed(SCENES[name], tmp_path_factory.mktemp("scene") / "root", process)
        return known[key]

    return of


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"
