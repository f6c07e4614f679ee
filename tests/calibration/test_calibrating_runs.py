"""A run whose passes learn from samples: from which, and what is said of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import graphopt
from graphopt import Constant, Context, Contract, Graph, Node, Pass, Pipeline
from graphopt.analysis.activations import Extremes, Observation
from graphopt.errors import UsageError
from graphopt.runtime.client import Worker
from graphopt.session.bisecting import bisect
from graphopt.session.calibrating import IDLE, INVENTED, SAME, Calibrating
from graphopt.session.job import Job
from graphopt.session.recording import Recording, write_bundle
from graphopt.session.replaying import replay
from graphopt.session.result import Result
from graphopt.session.run import run
from graphopt.storage.read import from_proto, read
from graphopt.testing import model
from graphopt.validation.budget import parse_budgets
from graphopt.validation.halves import ALONE
from graphopt.validation.plan import FeedPlan

TEXT = "g (float[N,4] x) => (float[N,3] y) { a = MatMul(x, w)  b = Relu(a)  c = MatMul(b, v)  y = Relu(c) }"
ROWS = np.arange(40, dtype=np.float32).reshape(10, 4) / 10
BUDGET = parse_budgets(("sqnr_db>=10",))


def proto() -> onnx.ModelProto:
    return model(TEXT, w=np.eye(4, dtype=np.float32), v=np.eye(4, 3, dtype=np.float32))


@dataclass(frozen=True)
class ClipToSeen(Pass):
    """Clips what a Relu gives to the largest value that was seen: the feeds are in the model afterwards."""

    name = "clip-to-seen"
    contract = Contract.LOSSY
    calibrates = True
    factor: float = 1.0

    def run(self, graph: Graph, ctx: Context) -> None:
        relus = [node for node in graph.nodes if node.is_op("Relu")]
        seen = {node: Extremes() for node in relus}
        asked = {node: Observation((node.outputs[0],), one) for node, one in seen.items()}
        answer = ctx.calibration.observe(list(asked.values()))
        for node in relus:
            if asked[node] in answer.refused:
                ctx.missed("clip", node, answer.refused[asked[node]])
            elif ctx.rewrite("clip", node):
                bounds = {"low": 0.0, "high": float(seen[node].high) * self.factor}
                limits = [graph.constant(np.asarray(value, np.float32), name) for name, value in bounds.items()]
                inputs = [node.inputs[0], *limits]
                made = Node("Clip", graph.fresh_name("Clip"), {}, inputs, [graph.variable("clipped")])
                graph.insert(made, before=node)
                graph.replace_uses(node.outputs[0], made.outputs[0])
                graph.remove(node)


def highs(result: Result) -> list[float]:
    """The largest values that the pass has seen."""
    clips = [node for node in result.graph.nodes if node.is_op("Clip")]
    return [round(float(node.inputs[2].values), 5) for node in clips if isinstance(node.inputs[2], Constant)]


def optimized(made: onnx.ModelProto | None = None, **given: Any) -> Result:
    options = {"budget": "sqnr_db>=0", **given}
    return graphopt.optimize(proto() if made is None else made, pipeline=Pipeline((ClipToSeen(),)), **options)


def test_the_first_half_calibrates_and_the_second_validates() -> None:
    result = optimized(feeds={"x": ROWS})
    assert highs(result) == pytest.approx([ROWS[:5].max(), ROWS[:5, :3].max()])
    assert result.report.calibration is not None and result.verdict.feeds is not None
    assert result.report.calibration["part"] == "samples 1 to 5 of 10"
    assert result.verdict.feeds.part == "samples 6 to 10 of 10"
    assert result.report.warnings == []


def test_labels_are_those_of_the_half_that_validates() -> None:
    seen = list[Any]()

    def metric(outputs: Any, labels: Any) -> float:
        seen.append((len(outputs["y"]), labels.tolist()))
        return 1.0

    optimized(feeds={"x": ROWS}, labels=np.arange(10), metric=metric)
    assert seen and all(one == (5, [5, 6, 7, 8, 9]) for one in seen)


def test_samples_of_their_own_leave_all_feeds_to_validation() -> None:
    result = optimized(feeds={"x": ROWS}, calibration={"x": ROWS[:1]})
    assert highs(result)[0] == pytest.approx(ROWS[0].max())
    assert result.verdict.feeds is not None and result.verdict.feeds.part == ""
    assert result.report.calibration is not None and result.report.calibration["count"] == 1


def test_the_same_samples_for_both_are_told(tmp_path: Path) -> None:
    rows = {"x": ROWS}
    np.savez(tmp_path / "a.npz", x=ROWS)
    assert SAME in optimized(feeds=rows, calibration=rows).report.warnings
    assert SAME in optimized(feeds=tmp_path / "a.npz", calibration=str(tmp_path / "a.npz")).report.warnings
    assert SAME not in optimized(feeds=rows, calibration={"x": ROWS[:3]}).report.warnings


def test_one_sample_is_used_twice_with_a_warning() -> None:
    result = optimized(feeds={"x": ROWS[:1]})
    assert highs(result)[0] == pytest.approx(ROWS[0].max())
    assert ALONE in result.report.warnings


def test_generated_samples_calibrate_with_a_warning_and_others_validate() -> None:
    result = optimized()
    assert INVENTED in result.report.warnings
    assert result.report.calibration is not None and result.verdict.feeds is not None
    assert result.report.calibration["generated"] and result.report.calibration["seed"] == 1
    assert result.verdict.feeds.generated and result.verdict.feeds.seed == 0
    assert highs(result) == highs(optimized())
    assert highs(result) != highs(optimized(seed=5))


def test_pinned_values_and_sizes_hold_for_generated_samples_too() -> None:
    result = optimized(feeds=FeedPlan(values={"x": np.float32(3)}, sizes={"N": 2}))
    assert highs(result) == [3, 3]


def test_without_a_pass_that_calibrates_nothing_is_divided() -> None:
    result = graphopt.optimize(proto(), pipeline="identities", feeds={"x": ROWS})
    assert result.report.calibration is None and result.report.warnings == []
    plan = FeedPlan({"x": ROWS})
    assert Job(Pipeline.parse("weight-int8"), None, BUDGET, plan).judging is plan


def test_samples_that_nobody_learns_from_are_named() -> None:
    result = graphopt.optimize(proto(), pipeline="identities", calibration={"x": ROWS})
    assert IDLE in result.report.warnings


def test_a_pass_that_does_not_say_that_it_calibrates_gets_nothing() -> None:
    @dataclass(frozen=True)
    class Silent(ClipToSeen):
        """As above."""

        name = "silent"
        calibrates = False

    result = graphopt.optimize(proto(), pipeline=Pipeline((Silent(),)), budget="sqnr_db>=0", feeds={"x": ROWS})
    assert {one.why for one in result.report.remarks} == {"no pass of the pipeline says that it calibrates"}


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"calibration": "nowhere.npz"}, "there is no file 'nowhere.npz'"),
        ({"calibration": {"x": ROWS[:, :2]}}, "the model wants float\\[N,4\\]"),
        ({"calibration": {"z": ROWS, "u": ROWS}}, "no array for the input 'x'"),
        ({"calibration": []}, "gave no feeds"),
        ({"calibration": "json:nothing"}, "nothing"),
        ({"feeds": {"x": ROWS}, "labels": np.arange(7)}, "7 labels for 10 samples"),
    ],
)
def test_samples_that_do_not_fit_are_refused_before_the_run(given: Any, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        optimized(**given)


def test_the_report_says_all_of_it_as_json_and_on_the_screen() -> None:
    from rich.console import Console

    from graphopt.report.text import print_report

    result = optimized(feeds={"x": ROWS})
    plain = json.loads(json.dumps(result.report.to_json()))
    assert plain["calibration"]["source"] == "the given feeds" and plain["calibration"]["shapes"] == ["x[5,4]"]
    assert plain["verdict"]["feeds"]["part"] == "samples 6 to 10 of 10"
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    print_report(result.report, console)
    said = "calibrated on 1 feed of the given feeds (samples 1 to 5 of 10), validated on samples 6 to 10 of 10"
    assert said in console.export_text()


def job(**given: Any) -> Job:
    return Job(Pipeline((ClipToSeen(),)), None, BUDGET, **given)


def test_bisection_learns_from_the_same_samples() -> None:
    """The second clip is what the budget does not bear; with other samples it would be the first."""
    rows = ROWS.copy()
    rows[:5, :3] *= 0.01  # what the second MatMul gives is small in the half that is learned from
    rows[:5, 3] = 100
    wrong = bisect(from_proto(proto()), job(feeds=FeedPlan({"x": rows})))
    assert wrong.outcome == "rewrite" and wrong.guilty is not None
    assert (wrong.pass_name, wrong.guilty.number) == ("clip-to-seen", 2)
    assert wrong.go_on.count("--disable") == 1


@pytest.mark.parametrize("given", [{}, {"calibration": True}, {"feeds": True}, {"feeds": True, "calibration": True}])
def test_bundles_calibrate_alike(tmp_path: Path, given: dict[str, bool]) -> None:
    """Also where the samples are gone by then."""
    onnx.save(proto(), tmp_path / "model.onnx")
    source, recording = read(tmp_path / "model.onnx"), Recording()
    plans = dict[str, Any]()
    for name in given:
        np.savez(tmp_path / f"{name}.npz", x=ROWS if name == "feeds" else ROWS * 2)
        plans[name] = FeedPlan(str(tmp_path / f"{name}.npz"))
    asked = replace(job(**plans), pipeline=Pipeline.parse("static-int8"))
    result = run(source, asked, None, recording)
    write_bundle(tmp_path / "run.zip", source, asked, recording, result=result)
    for name in given:
        (tmp_path / f"{name}.npz").unlink()
    again = replay(tmp_path / "run.zip")
    assert again.difference is None and again.passes > 0 and again.outcome is not None


def test_feeds_are_gathered_when_a_pass_asks(tmp_path: Path) -> None:
    onnx.save(proto(), tmp_path / "model.onnx")
    with Worker() as worker:
        calibrating = Calibrating(read(tmp_path / "model.onnx"), tmp_path / "model.onnx", job(), worker)
        assert calibrating.report is None and calibrating.warnings == ()
        calibrating.data.feeds()
        assert calibrating.report is not None
