"""Executors: every task once, whatever the workers do, and the same results from any number of them."""

from __future__ import annotations

import contextlib
import importlib.util
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import scale_work as work

from graphopt.errors import UsageError
from graphopt.scale.executor import Done, Executor, executor_of
from graphopt.scale.processes import Processes

needs_dask = pytest.mark.skipif(
    importlib.util.find_spec("distributed") is None, reason="the extra cluster (distributed) is not installed"
)


def by_place(found: Iterator[Done]) -> list[Done]:
    return sorted(found, key=lambda one: one.place)


@pytest.mark.parametrize("workers", [1, 3])
def test_results_are_the_same_whatever_the_number_of_workers(workers: int) -> None:
    with Processes(workers) as executor:
        for _ in range(2):  # the processes stay for more
            found = by_place(executor.each(work.double, range(10)))
            assert [one.value for one in found] == [2 * number for number in range(10)]
            assert all(one.fault is None and one.attempts == 1 for one in found)
        assert list(executor.each(work.double, [])) == []


def test_what_raises_is_the_fault_of_its_task_alone() -> None:
    with Processes(2) as executor:
        found = by_place(executor.each(work.fail, [1, 2]))
    assert [one.fault for one in found] == ["ValueError: no 1", "ValueError: no 2"]
    assert all(one.attempts == 1 for one in found)


def test_a_task_whose_worker_dies_is_done_by_another(tmp_path: Path) -> None:
    with Processes(2) as executor:
        found = by_place(executor.each(work.die_once, [(str(tmp_path), number) for number in range(4)]))
    assert [one.value for one in found] == [0, 1, 2, 3]
    assert [one.attempts for one in found] == [1, 2, 1, 1]


def test_a_task_that_kills_every_worker_is_given_up_and_the_others_are_done() -> None:
    with Processes(1, retries=2) as executor:
        found = by_place(executor.each(work.die, [0, 1, 2]))
    assert [one.value for one in found] == [0, None, 2]
    assert found[1].fault == "its process ended by itself with code 3" and found[1].attempts == 3


def test_a_worker_that_is_killed_from_outside_loses_nothing(tmp_path: Path) -> None:
    tasks = [str(tmp_path / f"{number}") for number in range(3)]
    with Processes(3, retries=1) as executor:
        running = executor.each(work.say_pid, tasks)
        import threading

        def kill_one() -> None:
            while not all(Path(one).exists() and Path(one).read_text() for one in tasks):
                time.sleep(0.01)
            victim = int(Path(tasks[1]).read_text())
            Path(tasks[1]).unlink()
            os.kill(victim, signal.SIGKILL)
            for one in tasks:
                Path(f"{one}.go").touch()

        killer = threading.Thread(target=kill_one)
        killer.start()
        found = by_place(running)
        killer.join()
    assert [one.fault for one in found] == [None] * 3
    assert sorted(one.attempts for one in found) == [1, 1, 2]


def test_a_clock_ends_one_task_and_not_the_others() -> None:
    with Processes(2, seconds=2.0) as executor:
        found = by_place(executor.each(work.sleep, [0.0, 60.0, 0.0]))
    assert [one.value for one in found] == [0.0, None, 0.0]
    assert found[1].fault == "it took longer than 2 s"


def test_who_stops_early_leaves_no_process() -> None:
    executor = Processes(2)
    found = executor.each(work.sleep, [0.0, 60.0, 60.0])
    assert next(found).place == 0
    found.close()  # type: ignore[attr-defined]
    executor.close()
    assert not multiprocessing.active_children()


def test_less_than_one_worker_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one worker, not 0"):
        executor_of(0, None)


@needs_dask
def test_a_cluster_gives_the_same_and_survives_deaths(tmp_path: Path) -> None:
    with executor_of(2, "local", retries=1) as executor:
        assert [one.value for one in by_place(executor.each(work.double, range(6)))] == [0, 2, 4, 6, 8, 10]
        found = by_place(executor.each(work.die_once, [(str(tmp_path), number) for number in range(3)]))
        assert [one.value for one in found] == [0, 1, 2]
        assert by_place(executor.each(work.fail, [7]))[0].fault == "ValueError: no 7"


@needs_dask
def test_a_cluster_that_is_not_there_is_a_sentence() -> None:
    with pytest.raises(UsageError, match=r"there is no Dask scheduler at 'tcp://127\.0\.0\.1:1'"):
        executor_of(1, "tcp://127.0.0.1:1")
    with pytest.raises(UsageError, match="there is no Dask scheduler at 'nonsense://x'"):
        executor_of(1, "nonsense://x")


def test_without_dask_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    real = builtins.__import__

    def refuse(name: str, *rest: object, **more: object) -> object:
        if name in ("distributed", "dask"):
            raise ImportError(name)
        return real(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UsageError, match=r"pip install 'graphopt\[cluster\]'"):
        executor_of(1, "local")


def test_every_executor_is_closed_by_its_block() -> None:
    kept: Executor
    with executor_of(1, None) as kept:
        assert by_place(kept.each(work.double, [1]))[0].value == 2
    with contextlib.suppress(OSError):
        assert not multiprocessing.active_children()
