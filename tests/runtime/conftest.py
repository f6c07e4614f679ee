"""Little models, and a worker that the tests of this room share (it comes back after each death)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from graphopt.runtime.client import Worker


@pytest.fixture(scope="session")
def worker() -> Iterator[Worker]:
    with Worker(seconds=60) as shared:
        yield shared
