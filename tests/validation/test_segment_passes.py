"""How often segments are gone over: several runs of a model share one way through its weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from graphopt.contract import Contract
from graphopt.errors import UsageError
from graphopt.runtime.client import Worker
from graphopt.runtime.failure import WorkerFailure
from graphopt.testing import model
from graphopt.validation import Outcome
from graphopt.validation.compare import same_bits
from graphopt.validation.plan import FeedPlan
from graphopt.validation.running import Key, Values, Whole
from graphopt.validation.runs import OFF, ON, Runs
from graphopt.validation.segments import chain
from graphopt.validation.segments.runner import Segmented
from graphopt.validation.trial import ModelTrial
from graphopt.validation.validate import Validator

RNG = np.random.default_rng(2)
LAYERS = 4
WEIGHTS = {f"w{n}": (RNG.standard_normal((16, 16)) / 4).astype(np.float32) for n in range(LAYERS)}
X = [RNG.standard_normal((rows, 16)).astype(np.float32) for rows in (2, 3)]
TEXT = "g (float[N, 16] x) => (float[N, 16] h4) {{ {} }}"
STEPS = " ".join(f"m{n} = MatMul({f'h{n}' if n else 'x'}, w{n}) h{n + 1} = Tanh(m{n})" for n in range(LAYERS))
Loads = list[tuple[str, bool]]


def deep(**changed: np.ndarray) -> onnx.ModelProto:
    return model(TEXT.format(STEPS), **{**WEIGHTS, **changed})


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Loads:
    """What is loaded: the segment in words, and whether it is optimized."""
    found: Loads = []

    @contextmanager
    def loaded(net: Any, segment: Any, likes: Any, worker: Any, mode: Any, folder: Any, name: str) -> Iterator[Any]:
        found.append((name, mode.optimize))
        with real(net, segment, likes, worker, mode, folder, name) as session:
            yield session

    real = chain.loaded
    monkeypatch.setattr(chain, "loaded", loaded)
    return found


def passes(loads: Loads) -> list[str]:
    """Each way through the segments of a model, in the order of loads: whose segments."""
    names = [name for place, (name, _) in enumerate(loads) if not place or loads[place - 1][0] != name]
    return [name.removeprefix("segment 1 of 4 of ") for name in names if name.startswith("segment 1 ")]


def test_each_model_is_gone_over_once_for_all_modes(worker: Worker, save: Any, loads: Loads) -> None:
    one, other = save(deep()), save(deep())
    with Validator(one, worker=worker, how="segments", segment_bytes=1100, plan=FeedPlan({"x": X[0]})) as validator:
        assert validator.check(other, Contract.EXACT).outcome is Outcome.EQUIVALENT
    assert passes(loads) == ["the original", "the result"]
    assert len(loads) == 4 * 2 * 2


def test_probes_of_noise_share_one_way(worker: Worker, save: Any, loads: Loads) -> None:
    changed = deep(w3=np.nextafter(WEIGHTS["w3"], np.float32(9)))
    with Validator(
        save(deep()), worker=worker, how="segments", segment_bytes=1100, plan=FeedPlan({"x": X[0]})
    ) as judge:
        verdict = judge.check(save(changed), Contract.ROUNDING)
    assert verdict.outcome is Outcome.EQUIVALENT
    assert not [one for one in verdict.warnings if "noise" in one]
    assert passes(loads) == ["the original", "the result", "the original", "the model"]  # the last with nudged weights


def test_generated_feeds_are_tried_in_one_way(worker: Worker, save: Any, loads: Loads) -> None:
    with Validator(save(deep()), worker=worker, how="segments", segment_bytes=1100) as validator:
        parted = [feed.values for feed in validator.feeds()]
        assert passes(loads) == ["the original"]
    with Validator(save(deep()), worker=worker, how="whole") as validator:
        whole = [feed.values for feed in validator.feeds()]
    assert len(parted) == len(whole) == 3
    assert all(same_bits(one["x"], other["x"]) for one, other in zip(parted, whole, strict=True))


def test_a_feed_that_is_refused_is_asked_for_as_before(worker: Worker, save: Any) -> None:
    """Only 5 rows are taken, which is not among the first sizes: what was run ahead is of no use, and does no harm."""
    text = TEXT.format(f"{STEPS.replace('h4', 'last')} h4 = Add(last, five)")
    proto = model(text, **WEIGHTS, five=np.zeros((3, 16), np.float32))
    found = []
    for how in ("segments", "whole"):
        with Validator(save(proto), worker=worker, how=how, segment_bytes=1100) as validator:  # type: ignore[arg-type]
            found.append([feed.values["x"] for feed in validator.feeds()])
    assert all(same_bits(one, other) for one, other in zip(*found, strict=True))
    assert {one.shape[0] for one in found[0]} <= {1, 3}


def given(*feeds: Any) -> Iterator[tuple[Key, Values]]:
    for number, feed in enumerate(feeds):
        yield (number, 0), {"x": feed}


def test_several_runs_give_what_each_gives(worker: Worker, save: Any, tmp_path: Path) -> None:
    path = save(deep())
    asked = [(OFF, partial(given, *X)), (ON, partial(given, *X[::-1])), (OFF, partial(given, X[1]))]
    segmented = Segmented(worker, tmp_path / "scratch", path, most=1100)
    with segmented.open(path, OFF) as running:
        several = [list(one) for one in running.several(asked)]
    for (mode, feeds), found in zip(asked, several, strict=True):
        with segmented.open(path, mode) as running:
            alone = list(running.each(feeds))
        assert [key for key, _ in found] == [key for key, _ in alone]
        assert all(same_bits(one["h4"], other["h4"]) for (_, one), (_, other) in zip(found, alone, strict=True))
    with Whole(worker).open(path, OFF) as running:
        assert len([list(one) for one in running.several(asked)]) == 1, "a session is for one mode"
    assert not list((tmp_path / "scratch").rglob("*.bin"))


def test_a_run_that_fails_leaves_the_others(worker: Worker, save: Any, tmp_path: Path) -> None:
    path = save(deep())
    bad = np.zeros((2, 15), np.float32)
    asked = [(OFF, partial(given, bad)), (ON, partial(given, X[0]))]
    with Segmented(worker, tmp_path / "scratch", path, most=1100).open(path, OFF) as running:
        first, second = running.several(asked), None
        with pytest.raises((UsageError, WorkerFailure)):
            list(next(first))
        second = list(next(first))
    assert second[0][1]["h4"].shape == (2, 16)


def test_a_run_that_hangs_ends_those_after_it(
    worker: Worker, save: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain.Chain, "_run", _fails("hang"))
    path = save(deep())
    with Segmented(worker, tmp_path / "scratch", path, most=1100).open(path, OFF) as running:
        for results in running.several([(OFF, partial(given, X[0])), (ON, partial(given, X[0]))]):
            with pytest.raises(WorkerFailure, match="not now"):
                list(results)


def test_what_failed_beside_is_raised_when_it_is_asked_for(
    worker: Worker, save: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(deep())
    runner = Segmented(worker, tmp_path / "scratch", path, most=1100)
    real = chain.Chain._run
    fails = _fails("rejected")
    monkeypatch.setattr(chain.Chain, "_run", lambda *all_: (fails if all_[2].mode == ON else real)(*all_))
    with Validator(path, worker=worker, plan=FeedPlan({"x": X[0]})) as validator:
        runs = Runs(path, worker, validator.feeds(), tmp_path / "kept", runner=runner)
        assert len(runs.outputs(OFF, also=[ON])) == 1
        with pytest.raises(WorkerFailure, match="not now"):
            runs.outputs(ON)
        monkeypatch.setattr(chain.Chain, "_run", real)
        assert len(runs.outputs(ON)) == 1, "it is tried again"


def test_a_trial_knows_what_was_run_ahead(worker: Worker, save: Any, tmp_path: Path, loads: Loads) -> None:
    path = save(deep())
    trial = ModelTrial(path, worker, runner=Segmented(worker, tmp_path / "scratch", path, most=1100))
    trial.ahead([{"x": X[0]}, {"x": np.zeros((2, 15), np.float32)}, {"x": X[1] * np.float32(np.nan)}])
    count = len(loads)
    assert trial({"x": X[0].copy()}) == ""
    assert "15" in trial({"x": np.zeros((2, 15), np.float32)})
    assert trial({"x": X[1] * np.float32(np.nan)}) == "every floating-point output is NaN"
    assert len(loads) == count
    assert trial({"x": X[1]}) == ""
    assert len(loads) == count + 4
    trial.close()


def _fails(kind: str) -> Callable[..., bool]:
    def fails(*_: object) -> bool:
        raise WorkerFailure(kind, "not now")

    return fails
