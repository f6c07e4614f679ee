"""Tasks in processes of this machine, each of which may die without taking anything else along."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Final

from graphopt.errors import UsageError
from graphopt.scale.executor import OUT_OF_TIME, Done, Work

_SPAWN: Final = multiprocessing.get_context("spawn")  # a fork would copy onnxruntime's threads half
_PATIENCE: Final = 10.0  # seconds that a worker has to clean up before it is killed


@dataclass
class _Task:
    """A task on its way: where it stands, its attempt, and when that began."""

    place: int
    attempt: int = 1
    begun: float = 0.0


class _Worker:
    """One process, idle or busy with one task."""

    def __init__(self) -> None:
        self.connection, other = _SPAWN.Pipe()
        self.process: BaseProcess = _SPAWN.Process(target=serve, args=(other,), daemon=True)
        self.process.start()
        other.close()
        self.task: _Task | None = None

    def give(self, work: Work, task: _Task, argument: Any) -> bool:
        """Hand over a task; False when the process is gone."""
        task.begun = time.monotonic()
        try:
            self.connection.send((work, argument))
        except OSError:
            return False
        self.task = task
        return True

    def end(self) -> None:
        """Ask the process to end, and see that it does."""
        with contextlib.suppress(OSError):
            self.connection.close()
        self.process.terminate()
        self.process.join(_PATIENCE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.process.close()


class Processes:
    """An `Executor` of some processes of this machine.

    workers: how many. retries: attempts more that a task has whose process dies. seconds: the clock of an attempt,
    after which its process is ended and the task has its fault. Raises UsageError for less than one worker.
    """

    def __init__(self, workers: int, *, retries: int = 1, seconds: float | None = None) -> None:
        if workers < 1:
            raise UsageError(f"there must be at least one worker, not {workers}")
        self.count, self.retries, self.seconds = workers, retries, seconds
        self.deadline: float | None = None
        self._workers: list[_Worker] = []

    def each(self, work: Work, tasks: Sequence[Any]) -> Iterator[Done]:
        """See `Executor.each`."""
        waiting = deque(_Task(place) for place in range(len(tasks)))
        try:
            while waiting or any(one.task is not None for one in self._workers):
                if self.deadline is not None and time.monotonic() >= self.deadline:
                    yield from self._given_up(waiting)
                    return
                self._hand_out(work, tasks, waiting)
                yield from self._collect(waiting)
        finally:
            for worker in [one for one in self._workers if one.task is not None]:
                self._drop(worker)

    def close(self) -> None:
        """End all processes."""
        while self._workers:
            self._workers.pop().end()

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _hand_out(self, work: Work, tasks: Sequence[Any], waiting: deque[_Task]) -> None:
        while waiting:
            idle = next((one for one in self._workers if one.task is None), None)
            if idle is None and len(self._workers) == self.count:
                return
            if idle is None:
                idle = _Worker()
                self._workers.append(idle)
            task = waiting.popleft()
            if not idle.give(work, task, tasks[task.place]):
                waiting.appendleft(task)
                self._drop(idle)

    def _collect(self, waiting: deque[_Task]) -> Iterator[Done]:
        """Wait until something happens: an answer, a death, or a clock that ran out."""
        busy = [one for one in self._workers if one.task is not None]
        left = None
        if self.seconds is not None:
            first = min(one.task.begun for one in busy if one.task is not None)
            left = max(0.0, first + self.seconds - time.monotonic())
        if self.deadline is not None:
            until = max(0.0, self.deadline - time.monotonic())
            left = until if left is None else min(left, until)
        ready = set(wait([place for one in busy for place in (one.connection, one.process.sentinel)], left))
        for worker in busy:
            task = worker.task
            assert task is not None
            seconds = time.monotonic() - task.begun
            if worker.connection in ready and (answer := _answer(worker.connection)) is not None:
                worker.task = None
                good, value = answer
                yield Done(task.place, value if good else None, None if good else value, task.attempt, seconds)
            elif worker.connection in ready or worker.process.sentinel in ready:
                worker.process.join(_PATIENCE)
                how = _death(worker.process.exitcode)
                self._drop(worker)
                if task.attempt <= self.retries:
                    waiting.append(_Task(task.place, task.attempt + 1))
                else:
                    yield Done(task.place, None, f"its process {how}", task.attempt, seconds)
            elif self.seconds is not None and seconds >= self.seconds:
                self._drop(worker)
                yield Done(task.place, None, f"it took longer than {self.seconds:g} s", task.attempt, seconds)

    def _given_up(self, waiting: deque[_Task]) -> Iterator[Done]:
        """What is not done when the deadline is there; those who work at it are ended."""
        for worker in [one for one in self._workers if one.task is not None]:
            assert worker.task is not None
            waiting.append(worker.task)
            self._drop(worker)
        for task in waiting:
            yield Done(task.place, None, OUT_OF_TIME, task.attempt, 0.0)

    def _drop(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.end()


def _answer(connection: Connection[Any, Any]) -> tuple[bool, Any] | None:
    """What a worker said; None when it died instead."""
    try:
        answer: tuple[bool, Any] = connection.recv()
    except (EOFError, OSError):
        return None
    return answer


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(-code).name}"
    return f"ended by itself with code {code}"


def serve(connection: Connection[Any, Any]) -> None:
    """The life of a worker: one task after the other until the other side is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends its workers
    threading.Thread(target=_follow_parent, daemon=True).start()
    while True:
        try:
            work, argument = connection.recv()
        except (EOFError, OSError):
            return
        try:
            answer = (True, work(argument))
        except Exception as error:  # noqa: BLE001 - whatever the work raises is the answer
            answer = (False, f"{type(error).__name__}: {error}")
        try:
            connection.send(answer)
        except OSError:
            return


def _follow_parent() -> None:
    """End this process when its parent has ended, however that ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
