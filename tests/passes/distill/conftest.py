"""Training in this process, so that PyTorch is imported once for all tests."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from graphopt.training import trainer
from graphopt.training.child import answer


def told_here(folder: Path) -> Generator[dict[str, Any], None, None]:
    """As `graphopt.training.process.told`, without a process."""
    said: list[dict[str, Any]] = []
    answer(folder, said.append)
    yield from said


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setattr(trainer, "told", told_here)
