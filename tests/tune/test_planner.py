"""Planning where the right choice is known: what ruins the outputs stays float, what is slow stays float."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import onnx
import pytest
from known_losses import Coarse, Fine, chain, feeds_of  # type: ignore[import-not-found]

from graphopt import Context, Contract, Graph, Pass
from graphopt.errors import NotEquivalent
from graphopt.measure.latency import Latency
from graphopt.pipeline.pipeline import Pipeline
from graphopt.pipeline.protocol import option
from graphopt.tune.bench import Bench, Evidence, kept, measurable, stricter
from graphopt.tune.fit import Fit, Limits
from graphopt.tune.plan import Tried
from graphopt.tune.planner import MARGIN_DB, Question, best, planned
from graphopt.tune.variants import Workshop
from graphopt.validation.budget import Budget, parse_budget, parse_budgets
from graphopt.validation.metrics import Metric

Shop = Callable[[onnx.ModelProto], Workshop]
Benches = Callable[..., Bench]


def fitted(
    shop: Shop, bench: Benches, proto: onnx.ModelProto, pipeline: Pipeline, *budgets: str, **limits: Any
) -> Tried:
    size = len(proto.SerializeToString())
    chosen = Limits(**{"timed": False, **limits})
    return Fit(shop(proto), bench(proto, *budgets), pipeline, chosen, size).run()


def test_nothing_is_put_back_within_the_budget(workshop: Shop, bench: Benches) -> None:
    found = fitted(workshop, bench, chain(), Pipeline((Fine(),)), "sqnr_db>=25")
    assert str(found.pipeline) == "fine"
    assert found.stayed == ()
    assert found.reached.startswith("sqnr_db ")
    assert found.ratio_of_bytes < 0.3


@pytest.mark.parametrize("spoiled", [0, 1, 2, 3])
def test_the_node_that_ruins_the_outputs_stays(workshop: Shop, bench: Benches, spoiled: int) -> None:
    found = fitted(workshop, bench, chain(spoiled), Pipeline((Fine(),)), "sqnr_db>=25")
    node = ("MatMul0", "MatMul2", "MatMul4", "MatMul5")[spoiled]
    assert str(found.pipeline) == f'fine{{skip=["{node}"]}}'
    (stayed,) = found.stayed
    assert (stayed.nodes, stayed.op, stayed.instead) == ((node,), "MatMul", None)
    assert stayed.why.startswith("quantized alone it brings the outputs to ")


def test_a_node_is_put_back_to_the_next_lever(workshop: Shop, bench: Benches) -> None:
    """Four bits where they do, eight where they have to be, float nowhere."""
    found = fitted(workshop, bench, chain(), Pipeline((Coarse(), Fine())), "sqnr_db>=14")
    assert found.pipeline is not None
    assert {one.instead for one in found.stayed} == {"fine"}
    assert 0 < len(found.stayed) < 4, "some keep four bits"


@pytest.mark.parametrize("limit", [15, 18, 21, 24, 27, 30, 36, 42, 60])
def test_rounds_end_at_the_budget_and_never_above_it(workshop: Shop, bench: Benches, limit: int) -> None:
    proto = chain(1)
    shop, measuring = workshop(proto), bench(proto, f"sqnr_db>={limit}")
    found = Fit(shop, measuring, Pipeline((Coarse(), Fine())), Limits(timed=False), 1).run()
    if found.pipeline is None:
        assert found.why == "nothing that it quantizes keeps the budget and is not slower than float"
        return
    assert kept(measuring.figures(shop.run(found.pipeline)[1], both=True))


def test_the_same_answer_each_time(workshop: Shop, bench: Benches) -> None:
    proto, pipeline = chain(2), Pipeline((Coarse(), Fine()))
    first, second = (fitted(workshop, bench, proto, pipeline, "sqnr_db>=24") for _ in range(2))
    assert str(first.pipeline) == str(second.pipeline)
    assert first.stayed == second.stayed
    assert first.reached == second.reached


def test_a_pipeline_without_levers(workshop: Shop, bench: Benches) -> None:
    found = fitted(workshop, bench, chain(), Pipeline.parse("identities"), "sqnr_db>=25")
    assert found.why == "it has no pass that quantizes and has the option skip"


def test_a_model_with_nothing_to_quantize(workshop: Shop, bench: Benches) -> None:
    from graphopt.testing import model

    proto = model("g (float[N,64] x) => (float[N,64] y) { y = Relu(x) }")
    found = fitted(workshop, bench, proto, Pipeline.parse("weight-int8"), "sqnr_db>=25")
    assert found.why == "its passes quantize nothing of this model"


@dataclass(frozen=True)
class Breaks(Pass):
    """Fails."""

    name = "breaks"
    contract = Contract.LOSSY
    skip: tuple[str, ...] = option((), "patterns")

    def run(self, graph: Graph, ctx: Context) -> None:
        raise KeyError("boom")


def test_a_candidate_that_fails_is_refused_with_its_reason(workshop: Shop, bench: Benches) -> None:
    found = fitted(workshop, bench, chain(), Pipeline((Breaks(),)), "sqnr_db>=25")
    assert found.pipeline is None
    assert found.why == "pass breaks failed: KeyError: 'boom'"


@dataclass
class Clock(Bench):
    """A bench whose clock counts nodes: each costs a second, and some more."""

    dear: dict[str, float] = field(default_factory=dict)

    def latency(self, one: bytes, other: bytes, seconds: float = 0.0) -> Latency:
        self.races += 1
        a, b = (self._cost(onnx.ModelProto.FromString(data)) for data in (one, other))
        return Latency(a, b, b / a, b / a, b / a, 99, False)

    def _cost(self, proto: onnx.ModelProto) -> float:
        return sum(self.dear.get(node.op_type, 1.0) for node in proto.graph.node)


def clocked(worker: Any, proto: onnx.ModelProto, dear: dict[str, float], *budgets: str) -> Clock:
    return Clock(worker, proto.SerializeToString(), Evidence(feeds_of()), parse_budgets(budgets), dear=dear)


def test_what_runs_slower_quantized_stays_float(workshop: Shop, worker: Any) -> None:
    proto = chain()
    clock = clocked(worker, proto, {"DequantizeLinear": 3.0}, "sqnr_db>=20")
    found = Fit(workshop(proto), clock, Pipeline((Fine(),)), Limits(), 1).run()
    assert found.pipeline is None
    assert found.why == "nothing that it quantizes keeps the budget and is not slower than float"


def test_what_runs_faster_quantized_is(workshop: Shop, worker: Any) -> None:
    proto = chain()
    clock = clocked(worker, proto, {"DequantizeLinear": -0.5}, "sqnr_db>=20")
    found = Fit(workshop(proto), clock, Pipeline((Fine(),)), Limits(), 1).run()
    assert str(found.pipeline) == "fine"
    assert found.latency is not None
    assert found.latency.ratio == pytest.approx(4 / 6)


def test_a_kind_of_nodes_is_switched_on_its_own(workshop: Shop, worker: Any) -> None:
    """Products with small weights are slow in integers, those with large ones fast."""
    import numpy as np

    from graphopt.testing import model

    draw = np.random.default_rng(1)
    proto = model(
        "g (float[N,64] x) => (float[N,8] y) { a = MatMul(x, w)  b = Relu(a)  y = MatMul(b, v) }",
        w=draw.standard_normal((64, 64)).astype(np.float32),
        v=draw.standard_normal((64, 8)).astype(np.float32),
    )
    for number, node in enumerate(proto.graph.node):
        node.name = f"n{number}"

    class BySize(Clock):
        def _cost(self, proto: onnx.ModelProto) -> float:
            large = any(one.name.startswith("n0_codes") for one in proto.graph.initializer)
            small = any(one.name.startswith("n2_codes") for one in proto.graph.initializer)
            return 10.0 - 4.0 * large + 3.0 * small

    clock = BySize(worker, proto.SerializeToString(), Evidence(feeds_of()), parse_budgets(["sqnr_db>=20"]))
    found = Fit(workshop(proto), clock, Pipeline((Fine(),)), Limits(), 1).run()
    assert str(found.pipeline) == 'fine{only=["n0"]}' or str(found.pipeline) == 'fine{skip=["n2"]}'
    (stayed,) = found.stayed
    assert stayed.why == "otherwise the whole model takes 1.50 times as long"


def ask(shop: Shop, bench: Benches, proto: onnx.ModelProto, *candidates: Pipeline, **more: Any) -> Any:
    question = Question(
        "auto", candidates, parse_budgets(more.pop("budgets", ["sqnr_db>=25"])), more.pop("bytes", None), False
    )
    return planned(
        question,
        shop(proto),
        Evidence(feeds_of()),
        lambda evidence, budgets: bench(proto, *map(str, budgets), feeds=evidence.feeds),
        len(proto.SerializeToString()),
        "8 feeds",
    )


def test_the_smaller_of_two_that_keep_the_budget(workshop: Shop, bench: Benches) -> None:
    found = ask(workshop, bench, chain(), Pipeline((Fine(),)), Pipeline((Coarse(),)), budgets=["sqnr_db>=5"])
    assert found.taken == 0 or found.tried[1].ratio_of_bytes < found.tried[0].ratio_of_bytes * 0.98
    assert all(one.pipeline is not None for one in found.tried)


def test_nothing_is_quantized_where_nothing_holds(workshop: Shop, bench: Benches) -> None:
    found = ask(workshop, bench, chain(), Pipeline((Coarse(),)), budgets=["sqnr_db>=200"])
    assert found.taken is None
    assert str(found.pipeline) == ""
    assert found.warnings[-1].startswith("nothing is quantized: ")


def test_a_budget_of_bytes_that_cannot_be_met(workshop: Shop, bench: Benches) -> None:
    with pytest.raises(NotEquivalent, match=r"^no candidate keeps the budget with at most 9000 bytes: ") as caught:
        ask(workshop, bench, chain(), Pipeline((Fine(),)), bytes=9000)
    assert caught.value.exit_code == 1


def test_a_budget_of_bytes_that_can(workshop: Shop, bench: Benches) -> None:
    found = ask(workshop, bench, chain(0), Pipeline((Coarse(), Fine())), bytes=40000, budgets=["sqnr_db>=15"])
    assert found.tried[0].bytes <= 40000


def test_planning_aims_a_little_above() -> None:
    assert stricter(Budget("sqnr_db", 30.0), MARGIN_DB) == Budget("sqnr_db", 31.0)
    assert stricter(Budget("cosine", 0.9), 10.0).limit == pytest.approx(0.99)
    assert stricter(Budget("max_error", 0.1), 20.0).limit == pytest.approx(0.01)
    assert stricter(Budget("agreement", 0.99), 1.0) == Budget("agreement", 0.99)


def test_labels_are_stood_in_for_by_agreement() -> None:
    """Accuracy cannot drop by more than the rows on which the two disagree."""
    assert measurable(parse_budget("top1_drop<=0.01"), Evidence([])) == Budget("agreement", 0.99)
    assert measurable(parse_budget("sqnr_db>=3"), Evidence([])) == Budget("sqnr_db", 3.0)
    assert measurable(parse_budget("metric_drop<=0.01"), Evidence([])) == Budget("sqnr_db", 30.0)
    named = Evidence([], None, Metric("top1"))
    assert measurable(parse_budget("metric_drop<=0.01"), named) == Budget("agreement", 0.99)
    own = Evidence([], None, Metric("mine", lambda outputs, labels: 1.0))
    assert measurable(parse_budget("metric_drop<=0.01"), own) == Budget("metric_drop", 0.01)


def test_the_preferred_candidate_wins_a_tie() -> None:
    pipeline = Pipeline.parse("weight-int8")

    def tried(ratio: float) -> Tried:
        return Tried(pipeline, pipeline, ratio_of_bytes=ratio)

    assert best([tried(0.300), tried(0.299)]) == 0
    assert best([tried(0.30), tried(0.25)]) == 1
    assert best([Tried(pipeline, None), tried(0.9)]) == 1
    assert best([Tried(pipeline, None)]) is None
