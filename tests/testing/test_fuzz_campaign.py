"""A campaign counts what it runs, survives what kills a process, goes on where it stopped, and adds up."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from graphopt.pipeline import Registry
from graphopt.testing.fuzz import campaign as campaigns
from graphopt.testing.fuzz.__main__ import main
from graphopt.testing.fuzz.campaign import Plan, campaign
from graphopt.testing.fuzz.choosing import KINDS
from graphopt.testing.fuzz.holding import Failure
from graphopt.testing.fuzz.tally import Tally

REGISTRY = Registry.load()
FOREVER = float("inf")


def ran(seeds: range, plan: Plan, tally: Tally | None = None) -> Tally:
    tally = Tally(seeds.start) if tally is None else tally
    for _ in campaign(seeds, plan, tally, REGISTRY, until=FOREVER):
        pass
    return tally


@pytest.mark.parametrize("start", range(42, 42 + 5 * 21, 21))
def test_a_fixed_budget_holds(start: int) -> None:
    """What a test run can afford of `make fuzz`: every kind of pipeline, and no failure."""
    tally = ran(range(start, start + 21), Plan(KINDS))
    assert [str(one) for one in tally.failures] == []
    assert tally.counts["models"] + sum(tally.of("discard").values()) >= 21 and tally.next == start + 21
    assert set(tally.of("kind")) == set(KINDS)
    assert tally.counts["changed pipelines"] > 5


def test_what_kills_the_process_is_a_failure_of_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    held = campaigns.tried

    def deadly(ground: object, word: str, pipeline: object) -> object:
        if word == "dead-nodes" and ground.seed == 1:  # type: ignore[attr-defined]
            os.kill(os.getpid(), signal.SIGSEGV)
        return held(ground, word, pipeline)  # type: ignore[arg-type]

    monkeypatch.setattr(campaigns, "tried", deadly)
    tally = ran(range(3), Plan(("dead-nodes",), nodes=4, opinions=0))
    (failure,) = tally.failures
    assert (failure.seed, failure.pipeline, failure.law) == (1, "dead-nodes", "alive")
    assert "SIGSEGV while holding dead-nodes" in failure.sentence
    assert tally.counts["models"] == 3 and tally.next == 3


def test_what_kills_the_process_while_the_model_runs_is_tried_without(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphopt.testing.fuzz.ground import Ground

    run = Ground.run

    def deadly(self: Ground) -> None:
        if self.more:
            os.kill(os.getpid(), signal.SIGFPE)
        run(self)

    monkeypatch.setattr(Ground, "run", deadly)
    tally = ran(range(2), Plan(("dead-nodes",), nodes=4, opinions=0))
    assert not tally.failures and tally.counts["models"] == 2


def test_what_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaigns, "SECONDS", 0.5)
    monkeypatch.setattr(campaigns, "tried", lambda *_: time.sleep(60))
    tally = ran(range(1), Plan(("dead-nodes",), nodes=4, opinions=0))
    assert "more than 0.5 s" in tally.failures[0].sentence


def test_it_goes_on_where_it_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = str(tmp_path / "state.json")
    wanted = ["--pipeline", "identities", "--nodes", "4", "--state", state]
    assert main(["--seeds", "0:2", *wanted]) == 0
    assert json.loads((tmp_path / "state.json").read_text())["next"] == 2
    assert main(["--seeds", "0:3", *wanted]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-10] == "graphs             3, seeds 0 to 2"


def test_counts_add_up_and_are_kept(tmp_path: Path) -> None:
    tally = Tally(5)
    found = tally.add({"models": 2, "pair a,b": 1, "discard odd": 1, "op Add": 2}, [_failure().as_dict()])
    tally.add({"models": 1, "pair a,b": 1, "pair b,a": 1})
    tally.next, tally.seconds = 9, 2.0
    tally.save(tmp_path / "s.json")
    again = Tally.load(tmp_path / "s.json")
    assert found == again.failures == [_failure()] and again.counts == tally.counts and again.next == 9
    table = again.table(4, ["a", "b"])
    assert "graphs             3, seeds 5 to 8" in table
    assert "discarded          1 (25.0 %): odd 1" in table
    assert "ordered pairs      2 of 4" in table
    assert "failures           1: outputs by a 1" in table
    assert "3 graphs, 0 pipelines, 2 pairs, next seed 9, 1 failures, 1.5 graphs a second" in again.progress()


def _failure() -> Failure:
    return Failure(5, "a,b", "outputs", "a", "it differs")
