"""Models run by onnxruntime, in one worker that all tests of a process share."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from graphopt.runtime.client import Options, Worker

if TYPE_CHECKING:
    from graphopt.runtime.client import Value

Feeds = Mapping[str, Any]
Results = list["dict[str, Value]"]

PLAIN = Options(optimize=False, prepack=False, threads=1)
"""How outputs are compared bit for bit."""

USUAL = Options(optimize=True, prepack=True, threads=1)
"""How users run a model, on one thread."""


_INSIDE = False


@functools.cache
def shared_worker() -> Worker:
    """The worker of this process; it starts at the first use and ends with the process."""
    if _INSIDE:
        from graphopt.testing.inside import InsideWorker

        return InsideWorker()
    return Worker(seconds=120.0)


def run_inside() -> None:
    """Run models in this process from now on: ten times as fast, for a process that may die of a model."""
    global _INSIDE
    _INSIDE = True
    shared_worker.cache_clear()


def outputs_of(model: bytes, feeds: Sequence[Feeds], options: Options = PLAIN) -> Results:
    """The outputs of a model, given as the bytes of its file, on each of `feeds`.

    Raises WorkerFailure when onnxruntime rejects the model or fails, UsageError for feeds that
    are not what it wants.
    """
    with shared_worker().load(model, options) as session:
        return [session.run(one) for one in feeds]
