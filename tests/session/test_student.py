"""--student: the pipeline starts from a smaller model, which is held against the larger one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import graphopt
from graphopt.errors import BadModel, UsageError
from graphopt.session.student import why_not
from graphopt.testing import model

LARGE = "agraph (float[B, 8] x) => (float[B, 4] y) { m = MatMul(x, w)  r = Relu(m)  y = MatMul(r, v) }"
SMALL = "agraph (float[B, 8] x) => (float[B, 4] y) { m = MatMul(x, w)  i = Identity(m)  y = MatMul(i, v) }"


def filled(text: str, width: int) -> onnx.ModelProto:
    made = model(text)
    draw = np.random.default_rng(width)
    for name, shape in (("w", (8, width)), ("v", (width, 4))):
        made.graph.initializer.append(numpy_helper.from_array(draw.normal(size=shape).astype(np.float32), name))
    return made


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    large, small = tmp_path / "large.onnx", tmp_path / "small.onnx"
    onnx.save(filled(LARGE, 16), large)
    onnx.save(filled(SMALL, 6), small)
    return large, small


def optimized(large: Path, small: Path, pipeline: str = "identities", **options: Any) -> graphopt.Result:
    given: dict[str, Any] = {"budget": "sqnr_db>=-40", "output": large.parent / "out.onnx"} | options
    return graphopt.optimize(large, pipeline=pipeline, student=small, **given)


def test_the_pipeline_starts_from_the_student(pair: tuple[Path, Path]) -> None:
    result = optimized(*pair)
    assert result.report.student == str(pair[1])
    assert result.report.before.path == str(pair[0]) and result.report.before.facts.nodes == 3
    written = onnx.load(pair[0].parent / "out.onnx")
    assert [node.op_type for node in written.graph.node] == ["MatMul", "MatMul"]
    assert result.verdict.contract is graphopt.Contract.LOSSY and result.verdict.passed
    assert result.report.after.bytes == (pair[0].parent / "out.onnx").stat().st_size


def test_it_is_held_against_the_model(pair: tuple[Path, Path]) -> None:
    result = optimized(*pair, budget="sqnr_db>=40")
    assert result.exit_code == 1 and not (pair[0].parent / "out.onnx").exists()


def test_a_student_that_nothing_changes_is_copied_and_said_so(pair: tuple[Path, Path]) -> None:
    result = optimized(*pair, pipeline="no-op-casts")
    assert any("the result is the student as it came" in one for one in result.report.warnings)
    assert (pair[0].parent / "out.onnx").read_bytes() == pair[1].read_bytes()
    assert result.verdict.contract is graphopt.Contract.LOSSY


def test_both_files_are_only_read(pair: tuple[Path, Path]) -> None:
    before = [one.read_bytes() for one in pair]
    optimized(*pair)
    assert [one.read_bytes() for one in pair] == before
    with pytest.raises(UsageError, match="this is the student"):
        optimized(*pair, output=pair[1])


def test_the_model_itself_is_no_student(pair: tuple[Path, Path]) -> None:
    with pytest.raises(UsageError, match="this is the model itself"):
        optimized(pair[0], pair[0])
    copy = pair[0].parent / "copy.onnx"
    copy.write_bytes(pair[0].read_bytes())
    with pytest.raises(UsageError, match="the same model as the one to learn from"):
        optimized(pair[0], copy)


def test_what_cannot_be_read(pair: tuple[Path, Path]) -> None:
    broken = pair[0].parent / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(BadModel, match="broken"):
        optimized(pair[0], broken)
    with pytest.raises((BadModel, UsageError), match="missing"):
        optimized(pair[0], pair[0].parent / "missing.onnx")


def test_it_needs_a_budget_and_ends_with_one_comparison(pair: tuple[Path, Path]) -> None:
    with pytest.raises(UsageError, match="a student is another model and needs a budget"):
        optimized(*pair, budget=None)
    with pytest.raises(UsageError, match="use --validate end"):
        optimized(*pair, validate="each")
    assert optimized(*pair, budget=None, validate="none").report.written


HEAD = "agraph (float[B, 8] x) => (float[B, 4] y) "


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (HEAD, None),
        ("agraph (float[N, 8] x) => (float[N, 4] y) ", None),
        ("agraph (float[B, C] x) => (float[B, D] y) ", None),
        ("agraph (float[B, 8] z) => (float[B, 4] y) ", "it wants an input 'z', and the model has 'x'"),
        ("agraph (float[B, 8] x, float[B] k) => (float[B, 4] y) ", "it wants an input 'k'"),
        ("agraph (float16[B, 8] x) => (float[B, 4] y) ", "its input 'x' is float16[B,8], and the model's is float["),
        ("agraph (float[B, 9] x) => (float[B, 4] y) ", "its input 'x' is float[B,9]"),
        ("agraph (float[1, 8] x) => (float[B, 4] y) ", "its input 'x' is float[1,8]"),
        ("agraph (float[B, 8, 1] x) => (float[B, 4] y) ", "its input 'x' is float[B,8,1]"),
        ("agraph (float[B, 8] x) => (float[B, 4] q) ", "its outputs are 'q', and the model's are 'y'"),
        ("agraph (float[B, 8] x) => (double[B, 4] y) ", "its output 'y' is double[B,4]"),
        ("agraph (float[B, 8] x) => (float[B, 5] y) ", "its output 'y' is float[B,5], and the model's is float[B,4]"),
    ],
)
def test_interfaces(head: str, why: str | None) -> None:
    found = why_not(model(HEAD + "{ y = Relu(x) }"), model(head + "{ y = Relu(x) }"))
    assert (found is None) if why is None else (found is not None and why in found)


def test_an_input_that_is_missing() -> None:
    two = model("agraph (float[B] x, float[B] k) => (float[B] y) { y = Add(x, k) }")
    one = model("agraph (float[B] x) => (float[B] y) { y = Relu(x) }")
    assert why_not(two, one) == "it has no input 'k'; it has 'x'"
