"""What all tests share: one onnxruntime worker, ended with the session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _one_worker() -> Iterator[None]:
    """End the worker that `graphopt.testing` started, if it did."""
    yield
    from graphopt.testing.running import shared_worker

    if shared_worker.cache_info().currsize:
        shared_worker().close()
