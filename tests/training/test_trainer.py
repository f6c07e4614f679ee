"""Training as a session offers it: in a process of its own, kept and gone on with, and refused with a reason."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

pytest.importorskip("torch")

import graphopt
from graphopt.errors import CouldNotTell
from graphopt.pipeline.protocol import Remark
from graphopt.testing import model
from graphopt.training import process, trainer
from graphopt.training.child import answer

Words = Generator[dict[str, Any], None, None]

PIPELINE = "magnitude{sparsity=0.6 min-elements=10},distill{steps=60 batch=8 rate=0.01}"


def network() -> onnx.ModelProto:
    draw = np.random.default_rng(0)
    made = model("agraph (float[B, 32] x) => (float[B, 8] y) { m = MatMul(x, w)  r = Relu(m)  y = MatMul(r, v) }")
    for name, shape in (("w", (32, 24)), ("v", (24, 8))):
        made.graph.initializer.append(numpy_helper.from_array((draw.normal(size=shape) / 5).astype(np.float32), name))
    return made


def rows() -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(1).normal(size=(128, 32)).astype(np.float32)}


def optimized(**options: Any) -> graphopt.Result:
    given: dict[str, Any] = {"calibration": rows(), "feeds": rows(), "validate": "none"} | options
    return graphopt.optimize(network(), pipeline=given.pop("pipeline", PIPELINE), **given)


def remark(result: graphopt.Result) -> Remark:
    return next(one for one in result.report.remarks if one.pass_name == "distill")


def bytes_of(result: graphopt.Result) -> bytes:
    return bytes(result.to_proto().SerializeToString())


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    trainer.KNOWN.clear()
    yield
    trainer.KNOWN.clear()


def told_here(folder: Path) -> Words:
    said: list[dict[str, Any]] = []
    answer(folder, said.append)
    yield from said


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "told", told_here)


@pytest.mark.usefixtures("in_this_process")
def test_a_run_reports_what_was_trained() -> None:
    result = optimized()
    assert remark(result).kind == "applied"
    (trained,) = result.report.to_json()["calibration"]["training"]
    assert trained["steps"] == 60 and trained["weights"] == 2
    figures = trained["figures"]
    assert figures["after"] < figures["before"] and figures["seconds"] > 0 and figures["samples"] == 102


@pytest.mark.usefixtures("in_this_process")
def test_the_same_run_does_not_train_twice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = bytes_of(optimized(cache_dir=tmp_path))

    def never(folder: Path) -> Words:
        raise CouldNotTell("it is trained again")
        yield {}

    monkeypatch.setattr(trainer, "told", never)
    assert bytes_of(optimized(cache_dir=tmp_path)) == first  # from memory
    trainer.KNOWN.clear()
    assert bytes_of(optimized(cache_dir=tmp_path)) == first  # from the folder
    trainer.KNOWN.clear()
    with pytest.raises(CouldNotTell, match="trained again"):
        optimized(cache_dir=tmp_path, pipeline=PIPELINE.replace("steps=60", "steps=61"))


def test_a_run_that_was_killed_goes_on_and_gives_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    expected = bytes_of(optimized())
    trainer.KNOWN.clear()
    monkeypatch.setattr(trainer, "SELDOM", 0.0)
    heard: list[int] = []

    def cut_short(folder: Path) -> Words:
        for said in process.told(folder):
            yield said
            if said.get("step", 0) >= 30:
                raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "told", cut_short)
    with pytest.raises(KeyboardInterrupt):
        optimized(cache_dir=tmp_path)
    assert [one.name for one in tmp_path.iterdir() if one.name.endswith(".training.npz")]

    def listening(folder: Path) -> Words:
        for said in process.told(folder):
            heard.append(said.get("step", 0))
            yield said

    monkeypatch.setattr(trainer, "told", listening)
    assert bytes_of(optimized(cache_dir=tmp_path)) == expected
    assert heard[0] >= 30
    assert not [one.name for one in tmp_path.iterdir() if one.name.endswith(".training.npz")]  # it is done


def test_a_process_that_is_killed_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(folder: Path) -> Words:
        (folder / "lesson.json").unlink()
        return process.told(folder)

    monkeypatch.setattr(trainer, "told", killed)
    result = optimized()
    assert remark(result).kind == "missed"
    assert "the training process ended with status 1; it last said: FileNotFoundError" in remark(result).why


def test_no_process_outlives_what_listens_to_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(process, "_START", "import time; time.sleep(600)")
    before = set(_children())
    listening = process.told(tmp_path)
    ended: list[str] = []

    def listen() -> None:
        try:
            list(listening)
        except process.Ended as error:
            ended.append(str(error))

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not (mine := set(_children()) - before) and time.monotonic() < deadline:
        time.sleep(0.01)
    (child,) = mine
    os.kill(child, signal.SIGTERM)
    thread.join(10)
    assert ended == ["died of signal 15"] and child not in _children()


def _children() -> list[int]:
    return [int(one) for one in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()] + [
        int(one)
        for task in Path("/proc/self/task").iterdir()
        if task.name != str(os.getpid())
        for one in (task / "children").read_text().split()
    ]


def test_without_pytorch_a_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "find_spec", lambda name: None)
    result = optimized()
    assert remark(result).kind == "missed"
    assert remark(result).why == "training needs PyTorch, which is not installed: pip install 'graphopt[distill]'"
    assert "training" not in (result.report.calibration or {})
    assert any("pip install 'graphopt[distill]'" in one for one in result.report.warnings)
    assert optimized(pipeline="distill", calibration=None, feeds=None).report.changed is False


def test_only_training_imports_pytorch() -> None:
    import ast

    root = Path(graphopt.__file__).parents[1]
    for path in (*root.glob("graphopt/**/*.py"), *root.glob("passes/**/*.py")):
        if "training" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] == "torch"], path


@pytest.mark.usefixtures("in_this_process")
def test_labels_are_learnt_from_where_asked() -> None:
    wanted = np.random.default_rng(0).integers(0, 8, 256)
    x = np.random.default_rng(1).normal(size=(256, 32)).astype(np.float32)
    pipeline = PIPELINE.replace("rate=0.01", "rate=0.01 labels=0.5")
    result = optimized(pipeline=pipeline, calibration=None, feeds={"x": x}, labels=wanted)
    assert "cross-entropy" in remark(result).why
    plain = optimized(pipeline=PIPELINE, calibration=None, feeds={"x": x}, labels=wanted)
    assert bytes_of(plain) != bytes_of(result)
    other = optimized(pipeline=pipeline, calibration=None, feeds={"x": x}, labels=wanted[::-1].copy())
    assert bytes_of(other) != bytes_of(result)


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize(
    ("labels", "why"),
    [(None, "the calibration samples have none"), (np.full(128, 9), "the label [9] is none of the 8 classes")],
)
def test_labels_that_are_missing_or_wrong(labels: np.ndarray | None, why: str) -> None:
    pipeline = PIPELINE.replace("rate=0.01", "labels=0.5")
    result = optimized(pipeline=pipeline, calibration=None, labels=labels)
    assert remark(result).kind == "missed" and why in remark(result).why
