"""One validator, many candidates: each step against the one before it, the end against the original."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from graphopt.contract import Contract
from graphopt.errors import BadModel
from graphopt.runtime.client import Session, Worker
from graphopt.runtime.failure import WorkerFailure
from graphopt.testing import model
from graphopt.validation import Outcome, parse_budgets
from graphopt.validation.plan import FeedPlan
from graphopt.validation.validate import Validator, validate
from graphopt.validation.verdict import Verdict, not_validated

RNG = np.random.default_rng(0)
W = RNG.standard_normal((8, 8)).astype(np.float32)
HALF = parse_budgets(["sqnr_db>=19.9"])


def linear(factor: float = 1.0) -> onnx.ModelProto:
    return model("g (float[N, 8] x) => (float[N, 8] y) { y = MatMul(x, w) }", w=(W * factor).astype(np.float32))


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that the worker was asked to load, by file name."""
    asked: list[str] = []
    load = Worker.load

    def counted(self: Worker, path: Any, *more: Any, **named: Any) -> Session:
        asked.append(Path(path).name)
        return load(self, path, *more, **named)

    monkeypatch.setattr(Worker, "load", counted)
    return asked


def test_a_reference_is_run_once_for_many_candidates(worker: Worker, save: Any, loads: list[str]) -> None:
    original, same = save(linear()), [save(linear()) for _ in range(3)]
    with Validator(original, worker=worker) as validator:
        for path in same:
            assert validator.check(path, Contract.EXACT).outcome is Outcome.EQUIVALENT
    assert loads.count(original.name) == 3  # trying feeds, optimizations off, on
    assert all(loads.count(path.name) == 2 for path in same)


def test_noise_is_measured_only_when_something_moved_and_only_once(worker: Worker, save: Any, loads: list[str]) -> None:
    original, moved = save(linear()), [save(linear(1 + 2.0**-20)) for _ in range(2)]
    with Validator(original, worker=worker) as validator:
        for path in moved:
            assert validator.check(path, Contract.ROUNDING).outputs[0].noise is not None
    assert loads.count("nudged.onnx") == 1
    assert loads.count(original.name) == 3 + 3  # prepacking on, optimizations without it, nudged inputs


def test_steps_are_held_to_the_step_before(worker: Worker, save: Any) -> None:
    """Ten per cent twice is 20 dB each, but 13.6 dB together."""
    first, second = save(linear(1.1)), save(linear(1.21))
    with Validator(save(linear()), worker=worker) as validator:
        assert validator.step(first, Contract.LOSSY, HALF).outcome is Outcome.WITHIN_BUDGET
        step = validator.step(second, Contract.LOSSY, HALF)
        assert step.outcome is Outcome.WITHIN_BUDGET
        assert step.budgets[0].reached == pytest.approx(20.0, abs=0.1)
        end = validator.check(second, Contract.LOSSY, HALF)
        assert end.outcome is Outcome.DIFFERENT
        assert end.budgets[0].reached == pytest.approx(13.6, abs=0.1)


def test_a_step_that_failed_is_not_what_the_next_is_held_to(worker: Worker, save: Any) -> None:
    with Validator(save(linear()), worker=worker) as validator:
        assert validator.step(save(linear(2.0)), Contract.EXACT).outcome is Outcome.DIFFERENT
        assert validator.step(save(linear()), Contract.EXACT).outcome is Outcome.EQUIVALENT


def test_each_step_has_its_own_contract(worker: Worker, save: Any) -> None:
    with Validator(save(linear()), worker=worker) as validator:
        assert validator.step(save(linear(1.1)), Contract.LOSSY, HALF).passed
        assert validator.step(save(linear(1.1)), Contract.EXACT).passed
        assert not validator.step(save(linear()), Contract.EXACT).passed
        assert validator.step(save(linear(1.1 * (1 + 2.0**-21))), Contract.ROUNDING).passed


def test_nothing_is_left_in_temporary_folders(
    worker: Worker, save: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = tmp_path / "tmp"
    private.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(private))
    with Validator(save(linear()), worker=worker) as validator:
        validator.step(save(linear(1 + 2.0**-20)), Contract.ROUNDING)
        assert list(private.iterdir())
    assert list(private.iterdir()) == []


def test_outputs_of_candidates_are_not_kept(worker: Worker, save: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphopt.validation.runs.LARGE", 0)
    with Validator(save(linear()), worker=worker) as validator:
        counts = []
        for _ in range(3):
            validator.check(save(linear()), Contract.EXACT)
            counts.append(len([each for each in validator._folder.rglob("*") if each.is_file()]))
    assert counts == [6, 6, 6]  # those of the reference: three feeds in two modes


def test_a_reference_that_is_no_model_is_the_callers_mistake(worker: Worker, tmp_path: Path) -> None:
    path = tmp_path / "notes.onnx"
    path.write_text("not a model")
    with pytest.raises(BadModel):
        validate(path, path, contract=Contract.EXACT, worker=worker)


class Failing(Worker):
    """A worker that fails as told when a named model is run."""

    def __init__(self, name: str, kind: Any, optimize: bool | None = None) -> None:
        super().__init__(seconds=60)
        self._name, self._kind, self._optimize = name, kind, optimize

    def load(self, model: Any, options: Any = None, *, label: str = "") -> Session:
        if Path(model).name == self._name and (self._optimize is None or options.optimize is self._optimize):
            raise WorkerFailure(self._kind, "it went wrong.")
        return super().load(model, options, label=label)


def verdict_of(save: Any, who: str, kind: str, optimize: bool | None = None) -> Verdict:
    paths = {"original": save(linear()), "result": save(linear())}
    with Failing(paths[who].name, kind, optimize) as worker:
        return validate(paths["original"], paths["result"], contract=Contract.EXACT, worker=worker)


@pytest.mark.parametrize(
    ("who", "kind", "outcome", "reason"),
    [
        ("original", "crash", Outcome.COULD_NOT_TELL, "the original could not be run: it went wrong"),
        ("original", "rejected", Outcome.COULD_NOT_TELL, "the original could not be run: it went wrong"),
        ("original", "hang", Outcome.COULD_NOT_TELL, "the original could not be run: it went wrong"),
        ("result", "rejected", Outcome.DIFFERENT, "the original runs and the result does not: it went wrong"),
        ("result", "failed", Outcome.DIFFERENT, "the original runs and the result does not: it went wrong"),
        ("result", "crash", Outcome.DIFFERENT, "the original runs and the result does not: it went wrong"),
        ("result", "hang", Outcome.COULD_NOT_TELL, "the result could not be run: it went wrong"),
        (
            "result",
            "memory",
            Outcome.COULD_NOT_TELL,
            "the result could not be run: it went wrong; it takes less by segments: --validate segments of optimize, "
            "--segments of validate",
        ),
    ],
)
def test_failures_of_the_worker_are_verdicts(save: Any, who: str, kind: str, outcome: Outcome, reason: str) -> None:
    verdict = verdict_of(save, who, kind)
    assert (verdict.outcome, verdict.reasons) == (outcome, (reason,))


def test_an_original_that_only_runs_unoptimized_is_compared_so(save: Any) -> None:
    verdict = verdict_of(save, "original", "rejected", optimize=True)
    assert verdict.outcome is Outcome.EQUIVALENT
    assert [report.optimized for report in verdict.outputs] == [False]
    assert verdict.warnings[0] == (
        "compared with onnxruntime's optimizations off only: with them on the original does not run (it went wrong)"
    )
    assert verdict_of(save, "original", "hang", optimize=True).outcome is Outcome.COULD_NOT_TELL
    assert verdict_of(save, "result", "rejected", optimize=True).outcome is Outcome.DIFFERENT


def test_a_run_without_validation_says_so() -> None:
    verdict = not_validated()
    assert (verdict.outcome, verdict.exit_code, verdict.passed) == (Outcome.NOT_VALIDATED, 0, False)
    assert verdict.sentence() == "not validated: validation was switched off"
    assert verdict.to_json()["feeds"] is None


def test_the_users_feeds_are_told_in_the_verdict(worker: Worker, save: Any, tmp_path: Path) -> None:
    np.savez(tmp_path / "real.npz", x=RNG.standard_normal((3, 8)), extra=np.zeros(2))
    verdict = validate(
        save(linear()),
        save(linear()),
        contract=Contract.EXACT,
        worker=worker,
        feeds=FeedPlan(tmp_path / "real.npz"),
    )
    assert verdict.feeds is not None
    assert (verdict.feeds.source, verdict.feeds.count, verdict.feeds.shapes) == ("real.npz", 1, ("x[3,8]",))
    assert verdict.warnings == ("the array 'extra' of real.npz is no input and was not fed",)
    assert verdict.sentence() == "equivalent (EXACT): all outputs bit for bit the same, 1 feed"
