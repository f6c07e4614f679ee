"""A search from model to file: the same whatever carries it out, gone on from, held to what it never saw."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import graphopt
from graphopt import tune_model
from graphopt.errors import UsageError
from graphopt.runtime.client import Worker
from graphopt.scale.executor import Done
from graphopt.session import trying, tuning
from graphopt.session.tune_options import objective_of
from graphopt.session.tuned_words import GENERATED_FEEDS
from graphopt.testing import model
from graphopt.tune.search import Task
from graphopt.tune.space import NAMELESS
from graphopt.tune.trial import FAILED, KEPT, Candidate, Ratio, Trial, Tuned

TEXT = """
g (float[N,64] x) => (float[N,10] y) {
    a = MatMul(x, w0)  b = Relu(a)  c = MatMul(b, w1)  d = Relu(c)  y = MatMul(d, w2)
}
"""
TRIES = ("int8-weights", "opset,weight-int4{min-elements=128}", "fp16")
BUDGET = "sqnr_db>=30"


def network() -> onnx.ModelProto:
    draw = np.random.default_rng(3)
    weights = {f"w{i}": (draw.standard_normal((64, 64)) / 8).astype(np.float32) for i in range(2)}
    return model(TEXT, **weights, w2=(draw.standard_normal((64, 10)) / 8).astype(np.float32))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    onnx.save(network(), tmp_path / "model.onnx")
    draw = np.random.default_rng(5)
    np.savez(tmp_path / "feeds.npz", x=draw.standard_normal((128, 64)).astype(np.float32))
    return tmp_path


class Here:
    """Stands for processes, which take a second to start: does the work in this one."""

    deadline: float | None = None

    def __init__(self, *_: object) -> None:
        pass

    def each(self, work: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[Done]:
        for place, task in enumerate(tasks):
            yield Done(place, work(task), None, 1, 0.0)

    def close(self) -> None:
        """Nothing was started."""

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def processes() -> None:
    """For tests of what carries candidates out."""


@pytest.fixture(autouse=True)
def here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if "processes" not in request.fixturenames:
        monkeypatch.setattr("graphopt.session.tuning.executor_of", Here)
    yield
    while trying._ROOMS:
        trying._ROOMS.popitem()[1].close()


def tuned(files: Path, **more: Any) -> Tuned:
    given: dict[str, Any] = {"budget": BUDGET, "tries": TRIES, "generations": 1, "feeds": str(files / "feeds.npz")}
    return tune_model(files / "model.onnx", **{**given, **more})


def verdicts(found: Tuned) -> list[tuple[Any, ...]]:
    return [(one.candidate, one.rung, one.status, one.why, one.bytes, dict(one.reached)) for one in found.trials]


def test_the_smallest_that_keeps_the_budget_is_chosen_validated_and_written(files: Path) -> None:
    found = tuned(files, output=files / "out.onnx")
    assert found.chosen is not None
    chosen = found.trials[found.chosen]
    assert chosen.candidate.name == "int8-weights" and chosen.status == KEPT
    assert found.held_out["sqnr_db"] >= 30
    assert found.written == (str(files / "out.onnx"),)
    assert found.original.bytes == (files / "model.onnx").stat().st_size
    assert (files / "out.onnx").stat().st_size < 0.35 * found.original.bytes
    names = {one.candidate.name: one for one in found.trials}
    assert names["fp16"].bytes > chosen.bytes and names["given"].status != KEPT, "four bits lose too much"
    assert found.chosen in found.front
    assert found.axes == ("bytes", "sqnr_db") and found.feeds == "1 x feeds.npz, samples 1 to 64 of 128"
    assert json.dumps(found.to_json())


def test_the_recipe_makes_the_same_bytes_without_a_search(files: Path) -> None:
    found = tuned(files, tries=("opset,gptq{bits=8}",), output=files / "out.onnx")
    (files / "tuned.toml").write_text(found.recipe)
    graphopt.optimize(
        files / "model.onnx", recipe=files / "tuned.toml", feeds=str(files / "feeds.npz"), output=files / "again.onnx"
    ).raise_unless_passed()
    assert (files / "again.onnx").read_bytes() == (files / "out.onnx").read_bytes()
    assert "gptq" in found.recipe and f'budget = ["{BUDGET}"]' in found.recipe


@pytest.mark.usefixtures("processes")
def test_two_workers_come_to_the_same_as_one(files: Path) -> None:
    one = tuned(files, workers=1, generations=2, size=3)
    two = tuned(files, workers=2, generations=2, size=3)
    assert verdicts(one) == verdicts(two)
    assert (one.front, one.chosen, one.recipe, one.held_out) == (two.front, two.chosen, two.recipe, two.held_out)
    assert len(one.trials) > len(TRIES), "something was made of the first"


@pytest.mark.slow
@pytest.mark.usefixtures("processes")
@pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="the extra cluster is not installed")
def test_a_cluster_comes_to_the_same(files: Path) -> None:
    assert verdicts(tuned(files, cluster="local", workers=2)) == verdicts(tuned(files))


def test_a_cluster_elsewhere_needs_files(files: Path) -> None:
    with pytest.raises(UsageError, match="the workers of a cluster read files"):
        tune_model(network(), feeds=str(files / "feeds.npz"), budget=BUDGET, cluster="tcp://elsewhere:1")
    with pytest.raises(UsageError, match="the workers of a cluster read files"):
        tuned(files, feeds={"x": np.ones((4, 64), np.float32)}, cluster="tcp://elsewhere:1")


@pytest.mark.usefixtures("processes")
def test_a_worker_that_is_killed_loses_nothing(files: Path) -> None:
    killed: list[int] = []

    def kill_one() -> None:
        end = time.monotonic() + 20
        while not killed and time.monotonic() < end:
            for child in multiprocessing.active_children():
                if child.pid is not None:
                    time.sleep(0.3)
                    os.kill(child.pid, signal.SIGKILL)
                    killed.append(child.pid)
                    break
            time.sleep(0.01)

    thread = threading.Thread(target=kill_one)
    thread.start()
    found = tuned(files, workers=1)
    thread.join()
    assert killed and not any(one.status == FAILED for one in found.trials)
    assert verdicts(found) == verdicts(tuned(files))


def test_a_search_goes_on_from_its_journal(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tuned(files, journal=files / "j.jsonl")
    monkeypatch.setattr("graphopt.session.evaluating.work", None)  # nothing is tried again
    again = tuned(files, journal=files / "j.jsonl", resume=True)
    assert verdicts(first) == verdicts(again) and again.chosen == first.chosen


def test_a_journal_of_another_model_or_other_feeds_is_refused(files: Path) -> None:
    tuned(files, journal=files / "j.jsonl", tries=("fp16",))
    other = network()
    other.graph.name = "other"
    onnx.save(other, files / "other.onnx")
    with pytest.raises(UsageError, match="is of another model; name another with --journal"):
        tune_model(files / "other.onnx", feeds=str(files / "feeds.npz"), budget=BUDGET, tries=TRIES,
                   journal=files / "j.jsonl", resume=True)  # fmt: skip
    np.savez(files / "others.npz", x=np.ones((8, 64), np.float32))
    with pytest.raises(UsageError, match="is of other feeds or labels"):
        tuned(files, feeds=str(files / "others.npz"), journal=files / "j.jsonl", resume=True)
    with pytest.raises(UsageError, match="is there already; give --resume"):
        tuned(files, journal=files / "j.jsonl")


def test_another_budget_finds_nothing_in_the_journal_and_is_no_mistake(files: Path) -> None:
    tuned(files, journal=files / "j.jsonl", tries=("fp16",))
    found = tuned(files, journal=files / "j.jsonl", tries=("fp16",), budget="sqnr_db>=200", resume=True)
    assert found.chosen is None


def test_where_nothing_keeps_the_budget_nothing_is_written(files: Path) -> None:
    found = tuned(files, budget=["sqnr_db>=30", "bytes<=0.01"], output=files / "out.onnx")
    assert found.chosen is None and found.recipe == "" and not found.held_out
    assert not (files / "out.onnx").exists()
    assert all("bytes" in one.why for one in found.trials if one.status != FAILED)
    assert found.front, "what there is is shown all the same"


def test_what_only_the_searched_half_liked_is_not_taken(files: Path) -> None:
    """The second half has other data: what is best on the first does not hold there, and the next best is taken."""
    draw = np.random.default_rng(7)
    values = draw.standard_normal((128, 64)).astype(np.float32)
    values[64:] *= np.exp(draw.standard_normal((64, 64)) * 3).astype(np.float32)
    np.savez(files / "feeds.npz", x=values)
    first = tuned(files, budget="max_error<=1000")
    figures = {one.candidate.name: one.reached["max_error"] for one in first.trials}
    smallest = first.trials[first.chosen or 0].candidate.name
    assert smallest == "given"
    limit = max(figures["given"], figures["int8-weights"]) * 1.001
    assert first.held_out["max_error"] > limit, "the data are unlike"
    found = tuned(files, budget=f"max_error<={limit}")
    assert found.chosen is None or found.trials[found.chosen].candidate.name != "given"
    assert found.warnings[0].startswith("given was not taken: on the held-out samples, ")


@pytest.mark.usefixtures("processes")
def test_its_time_ends_it_cleanly(files: Path) -> None:
    found = tuned(files, minutes=1e-6, output=files / "out.onnx")
    assert found.stopped == "its time was up"
    assert found.chosen is None and found.trials == ()
    assert not (files / "out.onnx").exists()


def test_labels_and_metric_are_those_of_the_samples(files: Path) -> None:
    with np.load(files / "feeds.npz") as archive:
        rows = archive["x"]
    with Worker() as worker:
        truth = worker.run_model(files / "model.onnx", {"x": rows})["y"]
    labels = np.asarray(truth).argmax(axis=1)
    np.save(files / "y.npy", labels)
    found = tuned(files, labels=str(files / "y.npy"), budget="top1_drop<=0.05")
    assert found.original.reached["top1_drop"] == 0.0
    assert found.held_out["metric_before"] == 1.0
    assert found.axes == ("bytes", "sqnr_db")
    with pytest.raises(UsageError, match="needs labels"):
        tuned(files, budget="top1_drop<=0.05")


def test_what_is_in_memory_is_searched_as_well(files: Path) -> None:
    with np.load(files / "feeds.npz") as archive:
        found = tune_model(network(), feeds={"x": archive["x"]}, budget=BUDGET, tries=("int8-weights",), generations=1)
    assert found.model == "the model" and found.chosen == 0
    assert verdicts(found)[0][1:] == verdicts(tuned(files, tries=("int8-weights",)))[0][1:]


def test_without_feeds_the_search_says_what_it_saw(files: Path) -> None:
    found = tuned(files, feeds=None)
    assert GENERATED_FEEDS in found.warnings
    assert found.chosen is not None


def test_latency_is_measured_of_all_that_is_compared(files: Path) -> None:
    found = tuned(files, minimize="latency", tries=("default", "int8-weights"))
    ended = [one for one in found.trials if one.status != FAILED]
    assert ended and all(one.latency is not None and one.latency.ratio > 0 for one in ended)
    assert found.axes == ("latency", "sqnr_db")


def test_the_energy_proxy_is_a_share_of_the_originals(files: Path) -> None:
    found = tuned(files, minimize="energy-proxy", tries=("default", "int8-weights"))
    energies = {one.candidate.name: one.energy for one in found.trials}
    assert found.original.energy == 1.0
    assert energies["int8-weights"] is not None and energies["int8-weights"] < 0.9


def test_what_is_counted_is_of_the_first_sample(files: Path) -> None:
    """A size that the model leaves open would count as one value whatever the feeds are."""
    found = tuned(files, minimize="energy-proxy", tries=("int8-weights",))
    assert found.original.macs == found.trials[0].macs == 64 * 64 * 2 + 64 * 10


def test_for_edge_the_faster_of_two_that_are_as_small_is_taken(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def timed(room: trying.Room, one: Trial, seconds: float) -> Trial:
        assert len(room.made(one)) == one.bytes
        ratio = 0.5 if "range=mse" in one.pipeline else 0.9
        return replace(one, latency=Ratio(ratio, ratio, ratio))

    monkeypatch.setattr(tuning, "raced", timed)
    tries = ("weight-int8{min-elements=128}", "weight-int8{min-elements=128 range=mse}")
    found = tuned(files, preset="edge", tries=tries, output=files / "o.onnx")
    assert found.trials[0].bytes == found.trials[1].bytes
    assert found.chosen == 1 and found.trials[1].latency == Ratio(0.5, 0.5, 0.5)
    assert "range=mse" in found.recipe


def test_fitting_leaves_what_loses_too_much(files: Path) -> None:
    """Four bits keep no 20 dB in all layers; in some they do, and the others have eight."""
    found = tuned(files, budget="sqnr_db>=22", tries=("opset,weight-int4{min-elements=128}", "int8-weights"),
                  generations=2, size=1)  # fmt: skip
    fitted = [one for one in found.trials if one.candidate.fit]
    assert fitted and fitted[0].candidate.parent == "given"
    chosen = found.trials[found.chosen or 0]
    assert found.held_out["sqnr_db"] >= 22
    assert chosen.bytes <= {one.candidate.name: one.bytes for one in found.trials}["int8-weights"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"budget": None}, "a search needs a budget for the outputs"),
        ({"budget": "bytes<=0.5"}, "a search needs a budget for the outputs"),
        ({"minimize": "speed"}, "minimize expects size, latency or energy-proxy, not 'speed'"),
        ({"target": "phone"}, "target expects portable"),
        ({"target": "qnn", "minimize": "latency"}, "latency is measured with onnxruntime on this machine"),
        ({"preset": "phone"}, "--for expects mobile, edge, server-cpu or gpu, not 'phone'"),
        ({"tries": ("weight-int9",)}, "weight-int9"),
        ({"metric": "best"}, "there is no metric 'best'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_tried(files: Path, given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        tuned(files, **given)


def test_a_preset_says_what_it_takes_for_granted_and_leaves_out(files: Path) -> None:
    found = tuned(files, preset="mobile", tries=("int8-weights", "opset{to=25},weight-int2"), output=files / "o.onnx")
    assert found.preset == "mobile" and found.assumptions
    assert found.axes[0] == "compressed"
    assert [one.candidate.name for one in found.trials] == ["int8-weights"], "two bits are in no mobile runtime"
    assert str(files / "o.ort") in found.written


def test_names_go_off_after_what_is_fitted(files: Path) -> None:
    """Fitting tells nodes by their names; what it comes to has them off at the end, once."""
    strong = f"opset,weight-int4{{min-elements=128}},weight-int8{{min-elements=128}},{NAMELESS}"
    objective = objective_of("size", "sqnr_db>=22", None)[0]
    room = trying.Room(trying.Setting(str(files / "model.onnx"), objective, str(files / "feeds.npz")))
    try:
        made = room.tried(Task(Candidate("mixed", strong, "int4", fit=True), 0, room.rungs()[-1], last=True), give=True)
    finally:
        room.close()
    assert made.trial.status == KEPT, made.trial.why
    assert made.trial.pipeline.endswith(NAMELESS) and made.trial.pipeline.count("strip") == 1
    assert made.trial.pipeline != strong, "four bits keep no 22 dB"
    assert made.data is not None and not any(one.name for one in onnx.ModelProto.FromString(made.data).graph.node)
