"""Models that do not fit: run by segments within the limit, without being asked, or a sentence that says how."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from graphopt.contract import Contract
from graphopt.runtime.client import Worker
from graphopt.storage.read import read
from graphopt.testing import model
from graphopt.validation import Outcome
from graphopt.validation.plan import FeedPlan
from graphopt.validation.segments.fitting import MOST, allowed, limit_of, too_large
from graphopt.validation.validate import Validator
from graphopt.validation.verdict import Verdict

LAYERS, SIZE = 12, 1024
WEIGHTS = LAYERS * SIZE * SIZE * 4  # 50 MB
TEXT = "g (float[1, %d] x) => (float[1, %d] y) { %s y = Identity(h%d) }" % (  # noqa: UP031  (braces)
    SIZE, SIZE, " ".join(f"m{n} = MatMul({'x' if not n else f'h{n}'}, w{n}) h{n + 1} = Tanh(m{n})"
                         for n in range(LAYERS)), LAYERS,
)  # fmt: skip


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model of 50 MB in one file, with its weights outside, and one with a wrong weight in layer 9."""
    folder = tmp_path_factory.mktemp("large")
    rng = np.random.default_rng(0)
    base = (rng.standard_normal((SIZE, SIZE), np.float32) / 32).astype(np.float32)
    weights = {f"w{n}": np.roll(base, n) for n in range(LAYERS)}
    paths = {name: folder / name / "model.onnx" for name in ("one", "outside", "same", "wrong")}
    for name, path in paths.items():
        path.parent.mkdir()
        if name == "wrong":
            weights["w9"] = weights["w9"] * np.float32(1.05)
        onnx.save(model(TEXT, **weights), path, save_as_external_data=name != "one", location="model.data")
    return paths


def checked(one: Path, other: Path, memory: int, how: Any) -> Verdict:
    with Worker(seconds=60, memory=memory) as worker:
        plan = FeedPlan(generate=1)
        with Validator(one, worker=worker, plan=plan, how=how) as validator:
            return validator.check(other, Contract.EXACT)


@pytest.mark.parametrize("name", ["one", "outside"])
def test_a_model_is_validated_within_a_fraction_of_its_weights(large: dict[str, Path], name: str) -> None:
    """The limit is the kernel's: what goes beyond it fails."""
    limit = 40_000_000
    verdict = checked(large[name], large["same"], limit, "segments")
    assert verdict.outcome is Outcome.EQUIVALENT, verdict.sentence()
    assert verdict.segments is not None
    assert verdict.segments.largest <= verdict.segments.allowed == limit // 4 < WEIGHTS // 5
    assert verdict.segments.original == verdict.segments.result == 6
    assert all(row.differing == 0 and row.born_db is not None for row in verdict.segments.rows)


def test_as_a_whole_it_does_not_fit_and_the_sentence_says_what_to_do(large: dict[str, Path]) -> None:
    verdict = checked(large["one"], large["same"], 40_000_000, "whole")
    assert verdict.outcome is Outcome.COULD_NOT_TELL
    assert "out of memory while loading 'model.onnx' (limit: 0.04 GB)" in verdict.reasons[0]
    assert verdict.reasons[0].endswith(
        "; it takes less by segments: --validate segments of optimize, --segments of validate"
    )


def test_what_would_not_fit_is_run_by_segments_unasked(large: dict[str, Path]) -> None:
    verdict = checked(large["outside"], large["wrong"], 40_000_000, "auto")
    assert verdict.outcome is Outcome.DIFFERENT
    assert verdict.warnings[0] == (
        "the models were run a segment at a time: as a whole it may take 101 MB, and there are 40 MB"
    )
    assert verdict.segments is not None and verdict.segments.worst is not None
    assert "MatMul 'm8' to Tanh 'h10'" in verdict.reasons[-1]


def test_what_fits_is_run_whole(large: dict[str, Path]) -> None:
    with Worker(memory=10 * WEIGHTS) as worker, Validator(large["one"], worker=worker) as validator:
        assert validator.check(large["one"], Contract.EXACT).segments is None


def test_a_segment_that_cannot_be_parted_and_does_not_fit_could_not_be_told(tmp_path: Path) -> None:
    path = tmp_path / "wide.onnx"
    wide = np.zeros((4096, 4096), np.float32)
    onnx.save(model("g (float[1, 4096] x) => (float[1, 4096] y) { a = Tanh(x) y = MatMul(a, w) }", w=wide), path)
    verdict = checked(path, path, 40_000_000, "segments")
    assert verdict.outcome is Outcome.COULD_NOT_TELL
    assert "out of memory while loading segment 2 of 2 of the original (limit: 0.04 GB)" in verdict.reasons[0]


def test_how_much_a_segment_may_have(large: dict[str, Path]) -> None:
    assert allowed(Worker(memory=400)) == 100
    assert allowed(Worker(memory=1 << 40)) == MOST
    free = limit_of(Worker())
    assert free is None or allowed(Worker()) <= free // 4
    assert too_large(read(large["one"]), Worker(memory=2 * WEIGHTS)) == (
        "as a whole it may take 151 MB, and there are 101 MB"
    )
    assert too_large(read(large["outside"]), Worker(memory=2 * WEIGHTS + 1000)) == ""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_DATA counts what a model costs on Linux only")
def test_the_whole_command_stays_within_the_limit(large: dict[str, Path]) -> None:
    """Both processes with 60 MB of private memory over the interpreter's, for two models of 50 MB each."""
    script = (
        "import re, resource, runpy, sys\n"
        "import numpy, onnx, onnx_graphsurgeon, typer, rich.console, graphopt.session.api\n"
        "now = int(re.search(r'VmData:\\s+(\\d+)', open('/proc/self/status').read())[1]) * 1024\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (now + 60_000_000, now + 60_000_000))\n"
        "sys.argv = ['graphopt', *sys.argv[1:]]; runpy.run_module('graphopt', run_name='__main__')"
    )
    arguments = ["validate", large["outside"], large["wrong"], "--segments", "--memory", "40MB", "--contract", "exact"]
    ran = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, timeout=100, check=False,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "COLUMNS": "200"},
    )  # fmt: skip
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "MatMul 'm8' to Tanh 'h10'" in ran.stdout
