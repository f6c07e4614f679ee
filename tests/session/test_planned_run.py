"""A recipe with a planner, from the command to the report: plan first, then an ordinary run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

import graphopt
from graphopt.cli.app import app
from graphopt.errors import NotEquivalent
from graphopt.pipeline.pipeline import Pipeline
from graphopt.pipeline.recipe import Planner, Recipe
from graphopt.session.api import source_of
from graphopt.session.bisecting import bisect
from graphopt.session.choice import plan
from graphopt.session.job import Job
from graphopt.session.planning import settled
from graphopt.session.recording import Recording, write_bundle
from graphopt.session.replaying import replay
from graphopt.session.run import run as run_job
from graphopt.testing import model
from graphopt.validation.budget import parse_budgets
from graphopt.validation.plan import FeedPlan

TEXT = """
g (float[N,64] x) => (float[N,64] y) {
    a = MatMul(x, w0)  b = Relu(a)  c = MatMul(b, w1)  d = Tanh(c)  y = MatMul(d, w2)
}
"""
DRAW = np.random.default_rng(0)
FEEDS = {"x": DRAW.standard_normal((24, 64)).astype(np.float32)}
FIT = """
name = "fitted"
planner = "fit"
pipeline = 'weight-int8{granularity="tensor",min-elements=16}'
budget = ["sqnr_db>=25"]
"""


def spoiled() -> onnx.ModelProto:
    """A model whose second weight has an outlier, so that one scale ruins it."""
    draw = np.random.default_rng(3)
    weights = {f"w{i}": (draw.standard_normal((64, 64)) / 8).astype(np.float32) for i in range(3)}
    weights["w1"][0, 0] = 30.0
    made = model(TEXT, **weights)
    for number, node in enumerate(made.graph.node):
        node.name = f"n{number}"
    return made


@pytest.fixture
def files(tmp_path: Path) -> Path:
    onnx.save(spoiled(), tmp_path / "model.onnx")
    np.savez(tmp_path / "feeds.npz", **FEEDS)
    (tmp_path / "fit.toml").write_text(FIT)
    return tmp_path


def run(files: Path, *more: str) -> tuple[int, str]:
    feeds = str(files / "feeds.npz")
    words = ["optimize", str(files / "model.onnx"), "-o", str(files / "out.onnx"), "--feeds", feeds, *more]
    done = CliRunner().invoke(app, words)
    return done.exit_code, done.output


def untimed(*candidates: str, budget: str = "sqnr_db>=25", feeds: bool = True) -> Job:
    pipelines = tuple(Pipeline.parse(text) for text in candidates)
    budgets = parse_budgets(budget.split())
    plan_ = FeedPlan(FEEDS if feeds else None)
    return Job(pipelines[0], "x", budgets, plan_, planner=Planner("auto", pipelines, timed=False))


WEIGHTS = "weight-int8{granularity=tensor,min-elements=16}"


def test_what_is_emitted_makes_the_same_model_without_planning() -> None:
    source = source_of(spoiled())
    job = settled(source, untimed(WEIGHTS))
    assert job.planner is None
    assert str(job.pipeline) == 'weight-int8{granularity=tensor min-elements=16 skip=["w1"]}'
    planned = run_job(source, untimed(WEIGHTS))
    again = graphopt.optimize(spoiled(), pipeline=str(job.pipeline), budget="sqnr_db>=25", feeds=FEEDS)
    assert planned.to_proto().SerializeToString() == again.to_proto().SerializeToString()
    assert planned.report.pipeline == str(job.pipeline)


def test_planning_twice_gives_the_same(files: Path) -> None:
    source = source_of(spoiled())
    job = untimed(WEIGHTS, "weight-int8{min-elements=16}")
    assert settled(source, job).pipeline == settled(source, job).pipeline


def test_the_report_says_what_was_planned() -> None:
    result = run_job(source_of(spoiled()), untimed(WEIGHTS))
    found = result.report.plan
    assert found is not None
    assert found.feeds == "calibrated on 6 feeds, measured on 6 others"
    (stayed,) = found.stayed
    assert stayed.nodes == ("n2",)
    plain = json.loads(json.dumps(result.report.to_json()))["plan"]
    assert plain["taken"] == 0
    assert plain["tried"][0]["stayed"][0]["nodes"] == ["n2"]
    assert plain["tried"][0]["reached"].startswith("sqnr_db ")


def test_one_command(files: Path) -> None:
    code, shown = run(files, "--recipe", str(files / "fit.toml"), "--report", str(files / "report.json"))
    assert code == 0, shown
    assert "planned (fit): calibrated on 6 feeds, measured on 6 others" in shown
    report = json.loads((files / "report.json").read_text())
    assert report["recipe"] == "fitted"
    assert report["plan"]["planner"] == "fit"


def test_generated_feeds_are_warned_of() -> None:
    result = run_job(source_of(spoiled()), untimed(WEIGHTS, feeds=False))
    assert result.report.plan is not None
    assert "it was planned on generated feeds, which may be unlike real ones" in result.report.plan.warnings[-1]


def test_bytes_that_cannot_be_had(files: Path) -> None:
    with pytest.raises(
        NotEquivalent, match=r"no candidate keeps the budget with at most 9000 bytes: within the budget"
    ):
        settled(source_of(spoiled()), untimed(WEIGHTS, budget="sqnr_db>=25 bytes<=9KB"))
    code, shown = run(files, "--recipe", str(files / "fit.toml"), "--budget", "sqnr_db>=25", "--budget", "bytes<=0.05")
    assert code == 1
    assert "no candidate keeps the budget with at most" in shown
    assert not (files / "out.onnx").exists()


def test_labels_plan_too() -> None:
    """Half of the rows with their labels; accuracy is then measured and not stood in for."""
    source = source_of(spoiled())
    worker_job = untimed(WEIGHTS, budget="top1_drop<=0.1")
    labels = np.arange(24) % 64
    result = run_job(source, replace(worker_job, labels=labels))
    assert result.report.plan is not None
    assert "top1_drop" in result.report.plan.tried[0].reached
    without = run_job(source, replace(worker_job, budgets=parse_budgets(["top1_drop<=0.1"]), validate="none"))
    assert without.report.plan is not None
    assert without.report.plan.warnings[0] == "top1_drop<=0.1 was planned for as agreement>=0.9"


def test_a_bundle_replays_what_was_planned(tmp_path: Path) -> None:
    """It holds the pipeline that came out, so that a replay does not plan."""
    source, job, recording = source_of(spoiled()), untimed(WEIGHTS), Recording()
    result = run_job(source, job, None, recording)
    write_bundle(tmp_path / "run.zip", source, job, recording, result=result)
    found = replay(tmp_path / "run.zip")
    assert found.difference is None
    assert found.passes == 1
    assert found.outcome == "within budget"


def test_bisection_looks_at_what_was_planned() -> None:
    """A budget that the planner keeps leaves nothing wrong to be found."""
    job = untimed(WEIGHTS)
    assert bisect(source_of(spoiled()), job).outcome == "nothing"


def test_the_plan_of_a_recipe_names_its_candidates(files: Path) -> None:
    (files / "auto.toml").write_text(
        'name = "a"\nplanner = "auto"\ncandidates = ["int8-weights", "weight-int8"]\nbudget = ["sqnr_db>=20"]\n'
    )
    chosen = plan(recipe=files / "auto.toml", pipeline=None, budget=None)
    assert chosen.planner is not None
    assert chosen.planner.candidates[0] == Recipe.load("int8-weights").pipeline
    assert str(chosen.planner.candidates[1]) == "weight-int8"
    assert chosen.planner.timed
    assert chosen.pipeline == chosen.planner.candidates[0]
    for_qnn = plan(recipe=files / "auto.toml", pipeline=None, budget=None, target="qnn")
    assert for_qnn.planner is not None
    assert not for_qnn.planner.timed, "latency here says nothing of another runtime's"


def test_a_table_of_sensitivities_spares_measurements(files: Path, tmp_path: Path) -> None:
    from graphopt.report.sensitivity_files import save_files

    table = tmp_path / "table.json"
    save_files({"--table": table}, graphopt.sensitivity(files / "model.onnx", feeds=FEEDS, quick=True))
    options = {"recipe": files / "fit.toml", "feeds": FEEDS}
    measured = graphopt.optimize(files / "model.onnx", **options)  # type: ignore[arg-type]
    told = graphopt.optimize(files / "model.onnx", sensitivity=table, **options)  # type: ignore[arg-type]
    assert told.report.pipeline == measured.report.pipeline
    assert told.report.plan is not None
    assert measured.report.plan is not None
    assert told.report.plan.tried[0].runs < measured.report.plan.tried[0].runs


def test_a_table_is_for_recipes_that_plan(files: Path) -> None:
    arguments = ["optimize", str(files / "model.onnx"), "-o", str(files / "o.onnx"), "--sensitivity", "none.json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    done = CliRunner().invoke(app, [*arguments, "--recipe", str(files / "fit.toml")])
    assert done.exit_code == 2
    assert not (files / "o.onnx").exists()
