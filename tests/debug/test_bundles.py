"""Bundles: what is in one, what a replay says, and what is refused."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from graphopt.errors import GraphoptError, InternalError, Unsafe, UsageError
from graphopt.ir import Graph
from graphopt.pipeline.code import code_of, refuse_code
from graphopt.pipeline.gate import Limits
from graphopt.pipeline.pipeline import Pipeline
from graphopt.pipeline.protocol import Context, Contract, Pass
from graphopt.session.choice import plan
from graphopt.session.job import Job
from graphopt.session.recording import Recording, write_bundle
from graphopt.session.replaying import replay
from graphopt.session.run import run
from graphopt.storage.read import read
from graphopt.testing import model
from graphopt.validation.plan import FeedPlan

TEXT = "g (float[N,4] x) => (float[N,3] y) { a = Identity(x)  b = MatMul(a, w)  c = Relu(b)  y = Abs(c)  d = Exp(b) }"
WEIGHT = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
CLEAN = Pipeline.parse("repeat(identities,dead-nodes)")


@dataclass(frozen=True)
class Runs(Pass):
    """Would run a script."""

    name = "runs"
    contract = Contract.EXACT
    script: str = "surgery.py"

    def code(self) -> str | None:
        return f"the script {self.script}"

    def run(self, graph: Graph, ctx: Context) -> None: ...


@pytest.fixture
def net(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "net.onnx"
    onnx.save(model(TEXT, w=WEIGHT), path)
    return path


def bundled(net: Path, job: Job, **options: Any) -> Path:
    """The bundle of a run, which may fail."""
    path, source, recording = net.parent.parent / "run.zip", read(net), Recording()
    try:
        options["result"] = run(source, job, None, recording)
    except GraphoptError as error:
        options["error"] = error
    write_bundle(path, source, job, recording, **options)
    return path


def manifest(path: Path) -> Any:
    return json.loads(zipfile.ZipFile(path).read("bundle.json"))


def changed(path: Path, **changes: Any) -> Path:
    """The bundle with other values in its manifest: `job__metric` is the metric of the job."""
    other = path.with_name("changed.zip")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(other, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "bundle.json":
                plain = json.loads(data)
                for key, value in changes.items():
                    outer, _, inner = key.partition("__")
                    if inner:
                        plain[outer][inner] = value
                    else:
                        plain[outer] = value
                data = json.dumps(plain).encode()
            new.writestr(name, data)
    return other


def test_a_replay_is_bit_identical_and_needs_nothing_but_the_bundle(net: Path) -> None:
    path = bundled(net, Job(CLEAN, gate=Limits(frozenset({("dead-nodes", 7)}), 40), seed=3))
    net.unlink()
    done = replay(path)
    assert (done.difference, done.exit_code, done.outcome) == (None, 0, "equivalent")
    assert done.passes == 2
    assert done.versions == {}


def test_what_is_in_a_bundle(net: Path) -> None:
    path = bundled(net, Job(CLEAN, seed=3))
    names = zipfile.ZipFile(path).namelist()
    assert names[:3] == ["bundle.json", "remarks.jsonl", "model/net.onnx"]
    assert "feeds/0000.npz" in names
    facts = manifest(path)
    assert facts["model"]["sha256"] == read(net).sha256()
    assert facts["job"]["seed"] == 3
    assert facts["job"]["pipeline"] == CLEAN.text(full=True)
    assert [one["pass_name"] for one in facts["passes"]] == ["identities", "dead-nodes"]
    assert facts["versions"]["onnx"] == onnx.__version__
    remarks = [json.loads(line) for line in zipfile.ZipFile(path).read("remarks.jsonl").splitlines()]
    assert [one["pass_name"] for one in remarks if one["kind"] == "applied"] == ["identities", "dead-nodes"]


def test_the_same_run_gives_the_same_bundle(net: Path) -> None:
    assert bundled(net, Job(CLEAN)).read_bytes() == bundled(net, Job(CLEAN)).read_bytes()


def test_feeds_and_labels_of_the_user_come_along(net: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(1).standard_normal((7, 4)).astype(np.float32)
    np.savez(tmp_path / "mine.npz", x=x)
    np.save(tmp_path / "labels.npy", np.arange(7) % 3)
    feeds = FeedPlan(str(tmp_path / "mine.npz"))
    path = bundled(net, Job(CLEAN, feeds=feeds, labels=str(tmp_path / "labels.npy"), metric="top1"))
    (tmp_path / "mine.npz").unlink()
    (tmp_path / "labels.npy").unlink()
    done = replay(path)
    assert done.difference is None
    assert done.verdict is not None and "top1" in done.verdict


def test_an_input_called_file_and_text_inputs(tmp_path: Path) -> None:
    made = model("g (string[2] file, string[2] b) => (string[2] y) { a = Identity(file)  y = StringConcat(a, b) }")
    (tmp_path / "in").mkdir()
    onnx.save(made, tmp_path / "in" / "net.onnx")
    path = bundled(tmp_path / "in" / "net.onnx", Job(CLEAN))
    assert manifest(path)["feeds"] >= 1
    assert replay(path).difference is None


def test_without_weights_the_model_is_given_and_must_be_the_one(net: Path, tmp_path: Path) -> None:
    path = bundled(net, Job(CLEAN), weights=False)
    assert "model.txt" in zipfile.ZipFile(path).namelist()
    assert b"model/" not in b"".join(name.encode() for name in zipfile.ZipFile(path).namelist())
    assert WEIGHT.tobytes() not in path.read_bytes()
    with pytest.raises(UsageError, match=r"was written without the model; give it with --model \('net.onnx', sha256"):
        replay(path)
    assert replay(path, model=net).difference is None
    other = tmp_path / "other.onnx"
    onnx.save(model(TEXT, w=WEIGHT + 1), other)
    with pytest.raises(UsageError, match="this is not the model that was run"):
        replay(path, model=other)


def test_external_data_comes_along(net: Path, tmp_path: Path) -> None:
    folder = tmp_path / "split"
    (folder / "sub").mkdir(parents=True)
    proto = onnx.load(net)
    onnx.save(proto, folder / "m.onnx", save_as_external_data=True, location="sub/w.bin", size_threshold=0)
    path = bundled(folder / "m.onnx", Job(CLEAN))
    assert "model/sub/w.bin" in zipfile.ZipFile(path).namelist()
    (folder / "sub" / "w.bin").unlink()
    assert replay(path).difference is None


def test_a_difference_is_named_by_its_pass(net: Path) -> None:
    path = bundled(net, Job(CLEAN))
    passes = manifest(path)["passes"]
    passes[1]["sha256"] = "0" * 64
    done = replay(changed(path, passes=passes))
    assert done.exit_code == 1
    assert done.passes == 1
    assert done.difference is not None
    assert done.difference.startswith("the model differs after dead-nodes (turn 2): sha256 ")
    fewer = replay(changed(path, passes=passes[:1]))
    assert fewer.difference == "dead-nodes (turn 2) changes the model now and did not then"
    more = replay(changed(path, passes=[*manifest(path)["passes"], {**passes[0], "turn": 9}]))
    assert more.difference == "identities (turn 9) changed the model then and not now"
    assert (
        replay(changed(path, outcome="different")).difference
        == "the outputs are equivalent now and were different then"
    )
    failed = replay(changed(path, failure="pass x failed", outcome=None))
    assert failed.difference == "the run ends well now and failed then: pass x failed"


def test_versions_that_differ_are_noted(net: Path) -> None:
    path = bundled(net, Job(CLEAN))
    done = replay(changed(path, versions={**manifest(path)["versions"], "onnx": "0.1"}))
    assert done.versions == {"onnx": ("0.1", onnx.__version__)}
    assert done.difference is None


def test_a_failure_replays_as_the_same_failure(net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from passes.eliminate.dead_nodes import DeadNodes

    def fail(self: DeadNodes, graph: Graph, ctx: Context) -> None:
        raise KeyError("boom")

    monkeypatch.setattr(DeadNodes, "run", fail)
    path = bundled(net, Job(CLEAN))
    assert manifest(path)["failure"] == "pass dead-nodes failed: KeyError: 'boom'"
    done = replay(path)
    assert (done.difference, done.failure) == (None, "pass dead-nodes failed: KeyError: 'boom'")
    monkeypatch.undo()
    assert replay(path).exit_code == 1


def test_what_would_run_code_is_refused_and_shown(net: Path) -> None:
    path = bundled(net, Job(CLEAN))
    for changes, shown in (
        ({"job__metric": "os:getcwd"}, "the metric os:getcwd"),
        ({"job__feeds": "evil:feeds", "feeds": 0}, "the feeds evil:feeds"),
        ({"job__custom_ops": ["/tmp/evil.so"]}, "the library of operators /tmp/evil.so"),
    ):
        with pytest.raises(Unsafe) as error:
            replay(changed(path, **changes))
        assert shown in str(error.value)
        assert "--allow-code" in str(error.value)
        assert error.value.exit_code == 4
    # With the feeds in the bundle their function is not called.
    assert replay(changed(path, job__feeds="evil:feeds")).difference is None


def test_passes_say_what_code_they_run() -> None:
    pipeline = Pipeline.of(Runs(), *CLEAN.steps)
    assert code_of(pipeline) == ("runs runs the script surgery.py",)
    with pytest.raises(
        Unsafe, match=r"the recipe x would run code: runs runs the script surgery[.]py; say --allow-code"
    ):
        refuse_code("the recipe x", code_of(pipeline), False)
    refuse_code("the recipe x", code_of(pipeline), True)
    refuse_code("the recipe x", code_of(CLEAN), False)


def test_a_recipe_that_runs_code_is_refused_and_a_pipeline_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    from passes.eliminate.dead_nodes import DeadNodes

    monkeypatch.setattr(DeadNodes, "code", lambda self: "rm -r /")
    with pytest.raises(Unsafe, match="the recipe clean would run code: dead-nodes runs rm -r /"):
        plan(recipe="clean", pipeline=None, budget=None)
    assert plan(recipe="clean", pipeline=None, budget=None, allow_code=True)[1] == "clean"
    assert plan(recipe=None, pipeline="dead-nodes", budget=None)[1] is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"kind": "else"}, "is no bundle of graphopt"),
        ({"format": 99}, "has the format 99 and this graphopt reads 1"),
        ({"job": []}, "is damaged: a PackedJob is not an object"),
        ({"job__seed": "0"}, "is damaged: 'seed' is not of the kind int"),
        ({"job__seed": True}, "is damaged: 'seed' is not of the kind int"),
        ({"job__budgets": [1]}, "is damaged: 'budgets' holds something that is no text"),
        ({"versions": {"onnx": 1}}, "is damaged: 'versions' holds something that is no text"),
        ({"job__seed": 10**30}, "is damaged: 'seed' is out of range"),
        ({"job__worker_seconds": float("nan")}, "is damaged: its bundle.json is not JSON"),
        ({"passes": {}}, "is damaged: 'passes' is not a list"),
        ({"passes": [{}]}, "is damaged: 'turn' is missing"),
        ({"model__name": "../../etc/passwd"}, "is damaged: it has no 'model/../../etc/passwd'"),
        ({"model__name": "other.onnx"}, "is damaged: it has no 'model/other.onnx'"),
        ({"model__sha256": "0" * 64}, "this is not the model that was run"),
        ({"job__pipeline": "no-such-pass"}, "no pass is called 'no-such-pass'"),
        ({"job__validate": "perhaps"}, "validate expects end, segments, each or none"),
        ({"job__disabled": ["xyz"]}, "the pipeline has no pass 'xyz'"),
        ({"job__worker_seconds": -1}, "must be greater than zero"),
    ],
)
def test_a_manifest_that_is_wrong_is_a_sentence(net: Path, changes: dict[str, Any], why: str) -> None:
    path = changed(bundled(net, Job(CLEAN, validate="none")), **changes)
    with pytest.raises(UsageError) as error:
        replay(path)
    assert why in str(error.value)
    assert "\n" not in str(error.value)


def test_what_only_this_process_has_cannot_be_packed(net: Path) -> None:
    class Mine:
        def allows(self, candidate: object) -> bool:
            return True

    with pytest.raises(UsageError, match="a gate of its own"):
        bundled(net, Job(CLEAN, gate=Mine(), validate="none"))
    with pytest.raises(UsageError, match="whose metric is a function"):
        bundled(net, Job(CLEAN, metric=lambda outputs, labels: 1.0))


def test_a_bundle_that_cannot_be_written_leaves_nothing(net: Path) -> None:
    source, job, recording = read(net), Job(CLEAN, validate="none"), Recording()
    result = run(source, job, None, recording)
    with pytest.raises(UsageError, match="cannot write the bundle"):
        write_bundle(net.parent / "no" / "b.zip", source, job, recording, result=result)
    broken = InternalError("x")
    old = net.parent / "b.zip"
    old.write_bytes(b"older")
    write_bundle(old, source, job, recording, error=broken)
    assert zipfile.is_zipfile(old)
    assert sorted(one.name for one in net.parent.iterdir()) == ["b.zip", "net.onnx"]
