"""Distillation on the command line: a student of one's own, its mistakes, and what Ctrl-C leaves behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from command_lines import Cli
from onnx import numpy_helper

from graphopt.testing import model
from graphopt.training import trainer
from graphopt.training.child import answer

BUDGET = ("--budget", "sqnr_db>=-20")


def saved(path: Path, width: int, output: str = "y") -> Path:
    nodes = f"m = MatMul(x, w)  r = Relu(m)  {output} = MatMul(r, v)"
    made = model(f"agraph (float[B, 16] x) => (float[B, 4] {output}) {{ {nodes} }}")
    draw = np.random.default_rng(width)
    for name, shape in (("w", (16, width)), ("v", (width, 4))):
        made.graph.initializer.append(numpy_helper.from_array((draw.normal(size=shape) / 4).astype(np.float32), name))
    onnx.save(made, path)
    return path


@pytest.fixture
def large(tmp_path: Path) -> Path:
    return saved(tmp_path / "large.onnx", 32)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return saved(tmp_path / "small.onnx", 8)


@pytest.fixture
def feeds(tmp_path: Path) -> Path:
    np.savez(tmp_path / "feeds.npz", x=np.random.default_rng(0).normal(size=(200, 16)).astype(np.float32))
    return tmp_path / "feeds.npz"


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")

    def told(folder: Path) -> Iterator[dict[str, Any]]:
        said: list[dict[str, Any]] = []
        answer(folder, said.append)
        yield from said

    monkeypatch.setattr(trainer, "told", told)


@pytest.mark.usefixtures("in_this_process")
def test_a_student_learns_from_the_model(cli: Cli, large: Path, small: Path, feeds: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    line = ("optimize", large, "--student", small, "--feeds", feeds, "-o", out, *BUDGET, "--json")
    before = json.loads(cli(*line, "-p", "identities").out)
    assert out.read_bytes() == small.read_bytes()
    ran = cli(*line, "-p", "distill{steps=60}")
    plain = json.loads(ran.out)
    assert ran.code == 0 and plain["student"] == str(small)
    figures = plain["calibration"]["training"][0]["figures"]
    assert figures["after"] < figures["before"]
    assert out.stat().st_size == pytest.approx(small.stat().st_size, abs=64)
    assert out.read_bytes() != small.read_bytes() and before["changed"]
    names = [[one.name for one in onnx.load(path).graph.initializer] for path in (out, small)]
    assert names[0] == names[1]


def test_mistakes_have_a_sentence_and_an_exit_code(cli: Cli, large: Path, small: Path, tmp_path: Path) -> None:
    other, broken = saved(tmp_path / "other.onnx", 8, "z"), tmp_path / "broken.onnx"
    broken.write_bytes(b"no model at all")

    def failed(student: Path, *more: object, out: Path = tmp_path / "out.onnx") -> tuple[int, str]:
        ran = cli("optimize", large, "--student", student, "-p", "identities", "-o", out, *BUDGET, *more)
        assert not (tmp_path / "out.onnx").exists()
        return ran.code, ran.err

    code, said = failed(other)
    assert code == 2 and "it has not the interface of the model: its outputs are 'z', and the model's are 'y'" in said
    code, said = failed(large)
    assert code == 2 and "this is the model itself" in said
    code, said = failed(broken)
    assert code == 3 and "broken.onnx" in said
    code, said = failed(tmp_path / "none.onnx")
    assert code in (2, 3) and "none.onnx" in said
    code, said = failed(small, out=small)
    assert code == 2 and "this is the student" in said
    code, said = failed(small, "--bundle", tmp_path / "run.zip")
    assert code == 2 and "a run from a student has two" in said
    code, said = failed(small, "--validate", "each")
    assert code == 2 and "--validate end" in said


def test_a_student_that_is_as_it_was_is_no_change(cli: Cli, large: Path, small: Path, tmp_path: Path) -> None:
    line = ("optimize", large, "--student", small, "-p", "identities", *BUDGET)
    ran = cli(*line, "-o", tmp_path / "out.onnx")
    assert ran.code == 0 and "the result is the student as it came" in ran.out
    assert cli(*line, "-o", tmp_path / "again.onnx", "--require-change").code == 1
    assert not (tmp_path / "again.onnx").exists()


def test_ctrl_c_while_it_trains_leaves_the_output(
    cli: Cli, large: Path, feeds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(folder: Path) -> Iterator[dict[str, Any]]:
        yield {"step": 1, "loss": 1.0, "held": 1.0}
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "told", told)
    monkeypatch.setattr(trainer, "find_spec", lambda name: name)
    out = tmp_path / "out.onnx"
    out.write_bytes(b"what was there")
    pipeline = "magnitude{min-elements=8},distill"
    ran = cli("optimize", large, "-o", out, "--feeds", feeds, "-p", pipeline, *BUDGET)
    assert ran.code == 130 and "is unchanged" in ran.err
    assert out.read_bytes() == b"what was there"


def test_without_pytorch(cli: Cli, large: Path, feeds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "find_spec", lambda name: None)
    line = ("optimize", large, "-o", tmp_path / "out.onnx", "--feeds", feeds, *BUDGET)
    ran = cli(*line, "-p", "distill")
    assert ran.code == 0 and "nothing was trained: training needs PyTorch" in ran.out
    assert "pip install 'graphopt[distill]'" in ran.out
    assert cli(*line, "-p", "distill", "--require-change").code == 1
