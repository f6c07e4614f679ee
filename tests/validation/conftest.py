"""What the tests of this room share: one worker, models written to files, and a validator of two of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import pytest

from graphopt.contract import Contract
from graphopt.runtime.client import Worker
from graphopt.validation import Verdict
from graphopt.validation.validate import validate

Save = Callable[..., Path]
Judge = Callable[..., Verdict]


@pytest.fixture(scope="session")
def worker() -> Iterator[Worker]:
    with Worker(seconds=60) as shared:
        yield shared


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Write a model to a file of its own and give the path."""
    count = iter(range(1000))

    def saved(proto: onnx.ModelProto) -> Path:
        path = tmp_path / f"model{next(count)}.onnx"
        path.write_bytes(proto.SerializeToString())
        return path

    return saved


@pytest.fixture
def judge(worker: Worker, save: Save) -> Judge:
    """The verdict on two models, EXACT unless said otherwise."""

    def judged(
        reference: onnx.ModelProto, candidate: onnx.ModelProto, contract: Contract = Contract.EXACT, **more: object
    ) -> Verdict:
        return validate(save(reference), save(candidate), contract=contract, worker=worker, **more)  # type: ignore[arg-type]

    return judged
