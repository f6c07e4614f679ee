"""What carries out tasks: a function and its arguments in, results in the order in which they are done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Protocol

Work = Callable[[Any], Any]
"""A function at the top of a module, so that another process can find it; its argument and result are plain data."""


OUT_OF_TIME: Final = "its time was up"
"""The fault of tasks that an executor's `deadline` ended."""


@dataclass(frozen=True)
class Done:
    """One task that ended: its place among those given, and its result, or in a clause why there is none.

    attempts: how often it was begun; more than once where a worker died over it. seconds: of the last attempt.
    """

    place: int
    value: Any
    fault: str | None
    attempts: int
    seconds: float


class Executor(Protocol):
    """Carries out tasks. A worker that dies costs its own task an attempt, and nothing else.

    `deadline` is the time, by `time.monotonic`, after which tasks that are not done have the fault `OUT_OF_TIME`;
    None where there is none.
    """

    deadline: float | None

    def each(self, work: Work, tasks: Sequence[Any]) -> Iterator[Done]:
        """Do `work` on every task; what is done is given at once, whatever the order.

        An exception of `work` is the fault of its task, and is not tried again. A consumer that stops early ends
        what is running.
        """
        ...

    def close(self) -> None:
        """End all workers."""
        ...

    def __enter__(self) -> Executor: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...


def executor_of(workers: int, cluster: str | None, *, retries: int = 1, seconds: float | None = None) -> Executor:
    """Processes of this machine, or the Dask cluster at an address such as `tcp://host:8786` (`local` starts one).

    `retries` are the attempts more that a task has when workers die over it, `seconds` the clock of each attempt.
    Raises UsageError where the extra `cluster` is not installed, or nobody answers at the address.
    """
    if cluster is None:
        from graphopt.scale.processes import Processes

        return Processes(workers, retries=retries, seconds=seconds)
    from graphopt.scale.cluster import Cluster

    return Cluster(cluster, workers, retries=retries, seconds=seconds)
