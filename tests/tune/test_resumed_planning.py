"""A planner that was stopped does not measure again what it knows, and comes to the same pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from known_losses import Coarse, Fine, chain, feeds_of  # type: ignore[import-not-found]

from graphopt.calibration.answers import answered
from graphopt.pipeline.pipeline import Pipeline
from graphopt.runtime.failure import WorkerFailure
from graphopt.tune.bench import Bench, Evidence
from graphopt.tune.fit import Fit, Limits
from graphopt.tune.plan import Tried
from graphopt.tune.variants import Workshop
from graphopt.validation.budget import parse_budgets
from graphopt.validation.metrics import find_metric

Shop = Callable[[onnx.ModelProto], Workshop]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """The models whose outputs were compared."""
    found = list[bytes]()
    real = Bench._pair

    def counted(self: Bench, model: bytes, *rest: Any) -> Any:
        if found and len(found) == STOP.get("after"):
            raise KeyboardInterrupt
        found.append(model)
        return real(self, model, *rest)

    monkeypatch.setattr(Bench, "_pair", counted)
    yield found
    STOP.clear()


STOP: dict[str, int] = {}


def bench_of(worker: Any, proto: onnx.ModelProto, folder: Path | None, *budgets: str, **more: Any) -> Bench:
    keep = None if folder is None else partial(answered, folder)
    evidence = Evidence(**{"feeds": feeds_of(), **more})
    return Bench(worker, proto.SerializeToString(), evidence, parse_budgets(budgets), counts=(4, 8), keep=keep)


def fitted(shop: Shop, worker: Any, folder: Path | None) -> Tried:
    proto = chain()
    bench = bench_of(worker, proto, folder, "sqnr_db>=14")
    pipeline = Pipeline((Coarse(), Fine()))
    return Fit(shop(proto), bench, pipeline, Limits(timed=False), len(proto.SerializeToString())).run()


def test_a_planner_goes_on_where_it_was(workshop: Shop, worker: Any, tmp_path: Path, measured: list[bytes]) -> None:
    plain = fitted(workshop, worker, None)
    all_of = len(measured)
    measured.clear()
    STOP["after"] = all_of // 2
    with pytest.raises(KeyboardInterrupt):
        fitted(workshop, worker, tmp_path)
    STOP.clear()
    measured.clear()
    again = fitted(workshop, worker, tmp_path)
    assert 0 < len(measured) <= all_of - all_of // 2
    measured.clear()
    third = fitted(workshop, worker, tmp_path)
    assert measured == []
    for one in (again, third):
        assert (str(one.pipeline), one.reached, one.bytes, one.stayed) == (
            str(plain.pipeline), plain.reached, plain.bytes, plain.stayed,
        )  # fmt: skip


def test_what_it_depends_on_is_in_the_question(worker: Any, tmp_path: Path, measured: list[bytes]) -> None:
    proto, other = chain(), chain(1).SerializeToString()
    feeds = feeds_of()
    bench_of(worker, proto, tmp_path, "sqnr_db>=14").error(other)
    bench_of(worker, proto, tmp_path, "sqnr_db>=14").error(other)
    assert len(measured) == 1
    bench_of(worker, proto, tmp_path, "sqnr_db>=14").error(proto.SerializeToString())
    bench_of(worker, chain(2), tmp_path, "sqnr_db>=14").error(other)
    bench_of(worker, proto, tmp_path, "sqnr_db>=14", feeds=feeds[1:]).error(other)
    bench_of(worker, proto, tmp_path, "sqnr_db>=14", labels=np.arange(3)).error(other)
    assert len(measured) == 5
    bench_of(worker, proto, tmp_path, "sqnr_db>=14").figures(other)
    bench_of(worker, proto, tmp_path, "cosine>=0.1").figures(other)
    bench_of(worker, proto, tmp_path, "sqnr_db>=14").figures(other, both=True)
    assert len(measured) == 5 + 1 + 1 + 2
    bench_of(worker, proto, tmp_path, "cosine>=0.1").figures(other)
    assert len(measured) == 9


def test_as_many_feeds_are_looked_at_as_before(worker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many time allows is another number each time, and with it would be the plan."""
    found = []
    for count in (3, 5):
        monkeypatch.setattr(Bench, "_affordable", lambda self, total, count=count: (count, count + 1))
        for keep in (None, partial(answered, tmp_path)):
            bench = Bench(worker, chain().SerializeToString(), Evidence(feeds_of()), (), keep=keep)
            found.append((bench.few, bench.many))
    assert found == [(3, 4), (3, 4), (5, 6), (3, 4)]


def test_figures_come_back_as_they_were(worker: Any, tmp_path: Path) -> None:
    budgets, other = ("sqnr_db>=14", "cosine>=0.9", "agreement>=0.9"), chain(1).SerializeToString()
    found = [
        bench_of(worker, chain(), folder, *budgets).figures(other, both=True) for folder in (None, tmp_path, tmp_path)
    ]
    assert found[0] == found[1] == found[2]


def test_a_metric_of_the_users_is_asked_each_time(worker: Any, tmp_path: Path, measured: list[bytes]) -> None:
    metric = find_metric(lambda outputs, *_: float(np.mean(next(iter(outputs.values())))))
    for _ in range(2):
        bench_of(worker, chain(), tmp_path, "metric_drop<=1", metric=metric).figures(chain(1).SerializeToString())
    assert len(measured) == 2


def test_a_failure_is_not_kept(worker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Any:
        raise WorkerFailure("memory", "no room")

    bench, other = bench_of(worker, chain(), tmp_path, "sqnr_db>=14"), chain(1).SerializeToString()
    with monkeypatch.context() as broken:
        broken.setattr(Bench, "_pair", fails)
        assert bench.error(other) == float("inf")
    assert bench.error(other) < 10.0
