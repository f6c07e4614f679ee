"""Outputs that are lent: on memory that the next run uses again."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from graphopt.runtime.client import Worker
from graphopt.runtime.failure import WorkerFailure
from graphopt.testing import model

SIZES = (3, 1000, 600_000)


def doubles() -> bytes:
    proto: onnx.ModelProto = model("g (float[N] x) => (float[N] y, float[N] z) { y = Add(x, x)  z = Neg(x) }")
    data: bytes = proto.SerializeToString()
    return data


@pytest.fixture(scope="module")
def worker() -> Any:
    with Worker(seconds=60) as one:
        yield one


def test_they_are_what_is_given_without_lending(worker: Worker) -> None:
    with worker.load(doubles()) as session:
        for size in (*SIZES, *reversed(SIZES)):
            x = np.arange(size, dtype=np.float32)
            for lent in (True, False, True):
                given = session.run({"x": x}, lent=lent)
                assert np.array_equal(given["y"], x * 2) and np.array_equal(given["z"], -x)  # type: ignore[arg-type]


def test_the_next_run_uses_their_memory_again(worker: Worker) -> None:
    with worker.load(doubles()) as session:
        first: Any = session.run({"x": np.ones(1000, np.float32)}, lent=True)["y"]
        mine: Any = session.run({"x": np.ones(1000, np.float32)})["y"]
        session.run({"x": np.full(1000, 5, np.float32)}, lent=True)
        assert (first == 10).all() and (mine == 2).all()


def test_they_outlive_their_session_and_a_failure(worker: Worker) -> None:
    with worker.load(doubles()) as session:
        kept: Any = session.run({"x": np.ones(600_000, np.float32)}, lent=True)["y"]
    assert (kept == 2).all()
    bad = model("g (float[N] x, int64[1] s) => (float[M] y) { y = Reshape(x, s) }").SerializeToString()
    with worker.load(bad) as session:
        with pytest.raises(WorkerFailure):
            session.run({"x": np.ones(4, np.float32), "s": np.array([7])}, lent=True)
        fine: Any = session.run({"x": np.ones(4, np.float32), "s": np.array([4])}, lent=True)["y"]
        assert fine.tolist() == [1, 1, 1, 1]


def test_another_process_starts_with_fresh_memory(worker: Worker) -> None:
    with worker.load(doubles()) as session:
        session.run({"x": np.ones(1000, np.float32)}, lent=True)
        worker.close()
        again: Any = session.run({"x": np.ones(1000, np.float32)}, lent=True)["y"]
        assert (again == 2).all()
