"""Errors that were predicted before spare measurements, and are trusted for their proportions only."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any

import onnx
import pytest
from known_losses import Fine, chain  # type: ignore[import-not-found]

from graphopt.pipeline.pipeline import Pipeline
from graphopt.tune.bench import Bench, kept
from graphopt.tune.fit import Fit, Limits
from graphopt.tune.sensitivity import predicted
from graphopt.tune.variants import Workshop

NODES = ("MatMul0", "MatMul2", "MatMul4", "MatMul5")


class Adding:
    """Energies that add up, and what was asked."""

    def __init__(self, **energies: float) -> None:
        self.energies = energies
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, some: Collection[str]) -> float:
        self.asked.append(tuple(some))
        return sum(self.energies[one] for one in some)


def test_predictions_are_scaled_to_what_is_measured_at_once() -> None:
    measure = Adding(a=1.0, b=4.0, c=5.0, d=7.0)
    found = predicted(["a", "b", "c", "d"], {"a": 10.0, "b": 40.0, "c": 50.0}, measure)
    assert found == pytest.approx({"a": 1.0, "b": 4.0, "c": 5.0, "d": 7.0})
    assert measure.asked == [("a", "b", "c"), ("d",)]


def test_where_few_are_known_all_are_measured() -> None:
    measure = Adding(a=1.0, b=4.0)
    assert predicted(["a", "b"], {"a": 10.0}, measure) == {"a": 1.0, "b": 4.0}
    assert measure.asked == [("a",), ("b",)]


@pytest.mark.parametrize("known", [0.0, math.inf])
def test_predictions_that_have_no_proportions_are_left_as_they_are(known: float) -> None:
    assert predicted(["a"], {"a": known}, Adding(a=1.0)) == {"a": known}


def fit(workshop: Any, bench: Any, proto: onnx.ModelProto, known: dict[str, float]) -> tuple[Fit, Bench, Any]:
    measuring = bench(proto, "sqnr_db>=25")
    made = Fit(workshop(proto), measuring, Pipeline((Fine(),)), Limits(timed=False), 1, known)
    return made, measuring, made.run()


def test_right_predictions_give_the_same_with_fewer_runs(
    workshop: Callable[[onnx.ModelProto], Workshop], bench: Callable[..., Bench]
) -> None:
    proto = chain(2)
    *_, measured = fit(workshop, bench, proto, {})
    *_, told = fit(workshop, bench, proto, dict(zip(NODES, (1e-5, 1e-5, 1.0, 1e-5), strict=True)))
    assert str(told.pipeline) == str(measured.pipeline) == 'fine{skip=["MatMul4"]}'
    assert told.runs == measured.runs - 3
    assert told.stayed[0].why.startswith("quantized alone it is predicted to bring the outputs to ")


def test_wrong_predictions_cost_nodes_and_not_the_budget(
    workshop: Callable[[onnx.ModelProto], Workshop], bench: Callable[..., Bench]
) -> None:
    proto = chain(2)
    made, measuring, told = fit(workshop, bench, proto, dict(zip(NODES, (1.0, 1e-1, 1e-9, 1e-2), strict=True)))
    assert told.pipeline is not None
    assert "MatMul4" in [name for one in told.stayed for name in one.nodes]
    assert kept(measuring.figures(made.workshop.run(told.pipeline)[1], both=True))
