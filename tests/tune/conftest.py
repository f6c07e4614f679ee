"""What the tests of planners share: a worker, a place to run pipelines, and one to measure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import onnx
import pytest
from known_losses import feeds_of  # type: ignore[import-not-found]

from graphopt.calibration.source import CalibrationData
from graphopt.runtime.client import Worker
from graphopt.session.services import WorkerServices
from graphopt.storage.read import from_proto
from graphopt.tune.bench import Bench, Evidence
from graphopt.tune.variants import Workshop
from graphopt.validation.budget import parse_budgets


@pytest.fixture(scope="session")
def worker() -> Iterator[Worker]:
    with Worker(seconds=60) as shared:
        yield shared


@pytest.fixture
def workshop(worker: Worker) -> Callable[[onnx.ModelProto], Workshop]:
    def made(proto: onnx.ModelProto) -> Workshop:
        source = from_proto(proto)
        return Workshop(source, lambda: WorkerServices(worker, data=CalibrationData(feeds_of, source)))

    return made


@pytest.fixture
def bench(worker: Worker) -> Callable[..., Bench]:
    def made(proto: onnx.ModelProto, *budgets: str, feeds: Sequence[Mapping[str, Any]] | None = None) -> Bench:
        evidence = Evidence(feeds_of() if feeds is None else feeds)
        return Bench(worker, proto.SerializeToString(), evidence, parse_budgets(budgets))

    return made
