"""A result in onnxruntime's own format: what is written, what it computes, and what keeps it from being written."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest

from graphopt import Context, Contract, Graph, Pass, Pipeline
from graphopt.errors import CouldNotTell, NotEquivalent, UsageError
from graphopt.runtime.client import Worker
from graphopt.runtime.ort_format import OrtFiles, to_ort
from graphopt.session import ort_format
from graphopt.session.job import Job, Target
from graphopt.session.ort_format import check_ort, make_ort, put_ort
from graphopt.session.result import Result
from graphopt.session.run import run
from graphopt.storage.read import read
from graphopt.testing import model
from graphopt.validation.budget import parse_budgets
from graphopt.validation.verdict import Outcome, Verdict, not_validated
from passes.eliminate.identities import Identities
from passes.quantize.weight_int8 import WeightInt8

TEXT = "g (float[N, 64] x) => (float[N, 48] y) { a = Identity(x)  b = MatMul(a, w)  y = Relu(b) }"
WEIGHT = np.random.default_rng(0).standard_normal((64, 48)).astype(np.float32)
X = np.random.default_rng(1).standard_normal((5, 64)).astype(np.float32)


@dataclass(frozen=True)
class Negate(Pass):
    """A wrong rewrite with an honest face."""

    name = "negate"
    contract = Contract.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        for constant in graph.initializers:
            if ctx.rewrite("negate", constant):
                graph.set_values(constant, -constant.values)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "model.onnx"
    path.parent.mkdir()
    onnx.save(model(TEXT, w=WEIGHT), path)
    return path


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker(seconds=60) as one:
        yield one


def optimized(source: Path, out: Path, *passes: Pass, keep: bool = False, **more: object) -> Result:
    job = Job(Pipeline(passes or (Identities(),)), **more)  # type: ignore[arg-type]
    return run(read(source), job, Target(out, keep=keep, ort=out.with_suffix(".ort")))


def files(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir() if one.is_file())


def test_both_files_are_written_and_compute_the_same(source: Path, tmp_path: Path, worker: Worker) -> None:
    result = optimized(source, tmp_path / "out.onnx")
    assert files(tmp_path) == ["out.onnx", "out.ort", "out.required_operators.config"]
    assert [Path(one).name for one in result.report.written] == files(tmp_path)
    made = worker.run_model(tmp_path / "out.ort", {"x": X})["y"]
    np.testing.assert_allclose(made, worker.run_model(source, {"x": X})["y"], rtol=1e-5, atol=1e-5)  # type: ignore[arg-type]
    said = (tmp_path / "out.required_operators.config").read_text()
    assert "MatMul" in said
    assert str(tmp_path.parent) not in said
    assert "#" not in said, "no comment names a temporary file"
    assert (tmp_path / "out.ort").read_bytes()[4:8] == b"ORTM"


def test_a_copy_of_the_input_is_converted_too(tmp_path: Path) -> None:
    path = tmp_path / "in.onnx"
    onnx.save(model("g (float[2] x) => (float[2] y) { y = Relu(x) }"), path)
    result = optimized(path, tmp_path / "out.onnx")
    assert not result.report.changed
    assert "out.ort" in files(tmp_path)


def test_nothing_is_written_where_the_result_does_not_hold(source: Path, tmp_path: Path) -> None:
    assert optimized(source, tmp_path / "out.onnx", Negate()).exit_code == 1
    assert files(tmp_path) == []


def test_keep_writes_both_whatever_the_verdict(source: Path, tmp_path: Path) -> None:
    result = optimized(source, tmp_path / "out.onnx", Negate(), keep=True)
    assert "out.ort" in files(tmp_path)
    assert any("format does not hold" in one for one in result.report.warnings)


@pytest.mark.parametrize("keep", [False, True])
def test_a_converted_model_that_computes_something_else_is_not_kept(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: bool
) -> None:
    other = tmp_path / "in" / "other.onnx"
    onnx.save(model(TEXT, w=WEIGHT * 1.01), other)
    monkeypatch.setattr(ort_format, "to_ort", lambda worker, path, folder: to_ort(worker, other, folder))
    if keep:
        result = optimized(source, tmp_path / "out.onnx", keep=True)
        assert any("format does not hold" in one for one in result.report.warnings)
        assert "out.ort" in files(tmp_path)
        return
    with pytest.raises(NotEquivalent, match=r"the model in onnxruntime's format does not hold: .*'y'"):
        optimized(source, tmp_path / "out.onnx")
    assert files(tmp_path) == []


def test_where_it_cannot_be_told_nothing_is_kept(source: Path, tmp_path: Path, worker: Worker) -> None:
    untold = Verdict(Outcome.COULD_NOT_TELL, Contract.EXACT, reasons=("there are no feeds",))
    with pytest.raises(CouldNotTell, match="no feeds"):
        make_ort(source, tmp_path / "made", worker, lambda path: untold)


def test_without_validation_it_is_loaded(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(worker: Worker, path: Path, folder: Path) -> OrtFiles:
        made = to_ort(worker, path, folder)
        made.model.write_bytes(made.model.read_bytes()[:100])
        return made

    optimized(source, tmp_path / "out.onnx", Negate(), validate="none")
    monkeypatch.setattr(ort_format, "to_ort", broken)
    with pytest.raises(UsageError, match=r"cannot load .*; without --ort the model is written as ONNX alone$"):
        optimized(source, tmp_path / "other.onnx", validate="none")
    assert "other.onnx" not in files(tmp_path)


def test_what_cannot_be_converted_is_said_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "in.onnx"
    onnx.save(model("g (float[2] x) => (float[2] y) { a = Identity(x)  y = example.Wild(a) }"), path)
    with pytest.raises(
        UsageError, match=r"^onnxruntime cannot convert 'out.onnx' to its .ort format: .*Wild.*; without"
    ) as it:
        optimized(path, tmp_path / "out.onnx", validate="none", check=False)
    assert str(tmp_path) not in str(it.value)
    assert files(tmp_path) == ["in.onnx"]


@pytest.mark.parametrize("name", ["model", "model.bin", "model.optimized.onnx", "MODEL.ONNX"])
def test_any_name_will_do(source: Path, tmp_path: Path, name: str, worker: Worker) -> None:
    path = source.with_name(name)
    shutil.copy(source, path)
    before = files(path.parent)
    made = to_ort(worker, path, made_folder(tmp_path))
    assert made.model.stat().st_size
    assert made.operators.stat().st_size
    assert files(path.parent) == before


def test_external_data_are_found(tmp_path: Path, worker: Worker) -> None:
    path = tmp_path / "big"
    onnx.save(model(TEXT, w=WEIGHT), path, save_as_external_data=True, location="big.data", size_threshold=0)
    made = to_ort(worker, path, made_folder(tmp_path))
    assert made.model.stat().st_size > WEIGHT.nbytes
    assert files(tmp_path) == ["big", "big.data"]


def test_shared_external_data_are_found(tmp_path: Path, worker: Worker) -> None:
    """The unchanged model is staged beside its data, under a hidden name."""
    onnx.save(model("g (float[1, 64] x) => (float[1, 48] y) { y = MatMul(x, w) }", w=WEIGHT), tmp_path / "in.onnx",
              save_as_external_data=True, location="w.data", size_threshold=0)  # fmt: skip
    optimized(tmp_path / "in.onnx", tmp_path / "out.onnx")
    assert files(tmp_path) == ["in.onnx", "out.onnx", "out.ort", "out.required_operators.config", "w.data"]


def test_a_lossy_result_is_held_to_its_budgets(source: Path, tmp_path: Path) -> None:
    """Those about outputs: its bytes are another matter."""
    budgets = parse_budgets(["sqnr_db>=20", "bytes<=9KB"])
    result = optimized(source, tmp_path / "out.onnx", WeightInt8(), budgets=budgets)
    assert result.exit_code == 0
    assert "out.ort" in files(tmp_path)


def test_old_files_are_replaced_whole(tmp_path: Path) -> None:
    made = OrtFiles.at(tmp_path / "made.ort")
    made.model.write_bytes(b"new")
    made.operators.write_bytes(b"new operators")
    old = tmp_path / "out.ort"
    old.write_bytes(b"old")
    old.chmod(0o640)
    assert put_ort(made, old) == (old, tmp_path / "out.required_operators.config")
    assert old.read_bytes() == b"new"
    assert stat.S_IMODE(old.stat().st_mode) == 0o640
    assert (tmp_path / "out.required_operators.config").read_bytes() == b"new operators"


def test_an_old_file_stays_where_the_new_one_cannot_be_written(tmp_path: Path) -> None:
    made = OrtFiles.at(tmp_path / "made.ort")
    made.operators.write_bytes(b"new operators")
    (tmp_path / "out.ort").write_bytes(b"old")
    with pytest.raises(UsageError, match="cannot write the model in onnxruntime's format"):
        put_ort(made, tmp_path / "out.ort")
    assert (tmp_path / "out.ort").read_bytes() == b"old"


def test_places_are_seen_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--ort '.*model.onnx': .*let it end in .ort"):
        check_ort(tmp_path / "model.onnx")
    with pytest.raises(UsageError, match="there is no folder"):
        check_ort(tmp_path / "nowhere" / "model.ort")
    with pytest.raises(UsageError, match="this is the output"):
        check_ort(tmp_path / "a.ort", [("the output", tmp_path / "a.ort")])
    with pytest.raises(UsageError, match=r"this is the report; .* the list of its operators"):
        check_ort(tmp_path / "a.ort", [("the report", tmp_path / "a.required_operators.config")])
    assert [path.name for _, path in check_ort(tmp_path / "a.ort")] == ["a.ort", "a.required_operators.config"]


def test_a_verdict_that_was_not_asked_for_stands_in_no_way(source: Path, tmp_path: Path, worker: Worker) -> None:
    why, made = make_ort(source, tmp_path / "made", worker, lambda path: not_validated())
    assert not why
    assert made.model.exists()


def made_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "made"
    folder.mkdir()
    return folder
