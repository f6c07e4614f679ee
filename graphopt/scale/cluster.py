"""Tasks on a Dask cluster: one that runs somewhere, or one that is started here (extra `cluster`)."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

from graphopt.errors import UsageError
from graphopt.scale.executor import OUT_OF_TIME, Done, Work

LOCAL = "local"
"""The address that stands for a cluster of processes of this machine."""


class Cluster:
    """An `Executor` of Dask's workers.

    address: of the scheduler, as `tcp://host:8786`, or `local` for `workers` processes that are started here.
    retries: how many workers may die over one task, before it has its fault. seconds: the clock of a task.
    The workers need graphopt installed, and see the same files. Raises UsageError where `distributed` is not installed
    or nobody answers.
    """

    def __init__(self, address: str, workers: int, *, retries: int = 1, seconds: float | None = None) -> None:
        try:
            import dask
            import distributed
        except ImportError:
            raise UsageError(
                "a cluster needs Dask's distributed; install it with pip install 'graphopt[cluster]', "
                "or use --workers alone"
            ) from None
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # deaths of workers are said by us
        self.retries, self.seconds = retries, seconds
        self.deadline: float | None = None
        self._own: Any = None
        try:
            if address == LOCAL:
                dask.config.set({"distributed.scheduler.allowed-failures": 0})  # attempts are counted here
                self._own = distributed.LocalCluster(
                    n_workers=workers, threads_per_worker=1, dashboard_address=None, processes=True
                )
            self._client = distributed.Client(self._own if self._own is not None else address, timeout="10s")
        except (OSError, ValueError, TimeoutError) as error:
            raise UsageError(f"there is no Dask scheduler at {address!r} ({type(error).__name__})") from None

    def each(self, work: Work, tasks: Sequence[Any]) -> Iterator[Done]:
        """See `Executor.each`."""
        import distributed

        # A death that the scheduler counts is an attempt; its own setting is a cluster's, so ours is counted here.
        futures = {}
        for place, task in enumerate(tasks):
            futures[self._submit(work, task)] = (place, 1)
        left = None if self.deadline is None else max(0.0, self.deadline - time.monotonic())
        pending = distributed.as_completed(list(futures), timeout=left)
        try:
            for future in pending:
                place, attempt = futures.pop(future)
                error = future.exception() if future.status != "finished" else None
                if isinstance(error, distributed.scheduler.KilledWorker) and attempt <= self.retries:
                    again = self._submit(work, tasks[place])
                    futures[again] = (place, attempt + 1)
                    pending.add(again)
                    continue
                if error is None:
                    good, value, seconds = future.result()
                    yield Done(place, value if good else None, None if good else value, attempt, seconds)
                elif isinstance(error, distributed.scheduler.KilledWorker):
                    yield Done(place, None, "the workers that had it died", attempt, 0.0)
                else:
                    yield Done(place, None, f"{type(error).__name__}: {error}", attempt, 0.0)
        except TimeoutError:
            for place, attempt in futures.values():
                yield Done(place, None, OUT_OF_TIME, attempt, 0.0)
        finally:
            for future in futures:
                with contextlib.suppress(Exception):
                    future.cancel()

    def _submit(self, work: Work, task: Any) -> Any:
        return self._client.submit(timed, work, task, pure=False, retries=0)

    def close(self) -> None:
        """Let go of the cluster; one that was started here ends."""
        with contextlib.suppress(Exception):
            self._client.close()
        if self._own is not None:
            with contextlib.suppress(Exception):
                self._own.close()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def timed(work: Work, task: Any) -> tuple[bool, Any, float]:
    """Whether it went well, its result or what it raised in a clause, and seconds."""
    start = time.monotonic()
    try:
        return True, work(task), time.monotonic() - start
    except Exception as error:  # noqa: BLE001 - whatever the work raises is the answer
        return False, f"{type(error).__name__}: {error}", time.monotonic() - start
