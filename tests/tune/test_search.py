"""The search itself, where trying a candidate costs nothing: what goes on, what is made of it, and when it ends."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from graphopt.tune.journal import Entry, Journal, Subject
from graphopt.tune.objective import Objective
from graphopt.tune.search import FITTED, Search, Task
from graphopt.tune.trial import FAILED, KEPT, MISSED, Candidate, Trial
from graphopt.validation.budget import parse_budgets

OBJECTIVE = Objective("size", parse_budgets(("sqnr_db>=20",)))


def candidate(share: float, name: str = "") -> Candidate:
    return Candidate(name or f"c{share}", f"channels{{share={share}}}", "pruned")


@dataclass
class Pretend:
    """A model of 1000 bytes that loses 50 dB by all of its share."""

    tasks: list[Task] = field(default_factory=list)
    backwards: bool = False
    each: float = 0.0
    took: float = 0.1

    def __call__(self, tasks: Sequence[Task], seconds: float) -> Iterator[tuple[int, Entry | None]]:
        self.tasks += tasks
        end = time.monotonic() + seconds
        for place in reversed(range(len(tasks))) if self.backwards else range(len(tasks)):
            time.sleep(self.each)
            yield place, None if time.monotonic() >= end else self.entry(tasks[place])

    def entry(self, task: Task) -> Entry:
        found = re.search(r"share=([0-9.]+)", task.candidate.pipeline)
        share = 0.2 if found is None else float(found[1])
        db = 50.0 * (1.0 - share)
        if task.candidate.fit:
            db = max(db, 20.0)
        made = Trial(
            task.candidate, task.rung, task.rows, KEPT if db >= 20 else MISSED, "", task.candidate.pipeline,
            bytes=int(1000 * (1 - share)), reached={"sqnr_db": db}, seconds=self.took,
        )  # fmt: skip
        return Entry(made, f"{task.candidate.pipeline} {task.candidate.fit}")


def search(evaluate: Pretend, **more: object) -> Search:
    return Search(OBJECTIVE, (16, 32, 64), evaluate, **more)  # type: ignore[arg-type]


def test_half_of_a_rung_goes_on_to_the_next() -> None:
    pretend = Pretend()
    found = search(pretend, most=1)
    found.run([candidate(share / 10) for share in range(1, 9)])
    assert [(task.rung, task.rows) for task in pretend.tasks[:14]] == [(0, 16)] * 8 + [(1, 32)] * 4 + [(2, 64)] * 2
    assert [task.last for task in pretend.tasks[:14]] == [False] * 12 + [True] * 2
    assert len(found.trials) == 8, "the last trial of each"
    best = found.best()
    assert best is not None and best.candidate.name == "c0.6", "the smallest that keeps 20 dB"


def test_the_front_has_no_gaps_in_the_end() -> None:
    """What is larger and nearer than all that went on is measured on all samples, too."""
    pretend = Pretend()
    found = search(pretend, most=1)
    found.run([candidate(share / 10) for share in (1, 2, 3, 4, 5)])
    last = [task.candidate.name for task in pretend.tasks if task.last]
    assert last == ["c0.4", "c0.5", "c0.3", "c0.2", "c0.1"], "those that went on, then what was left of the front"
    assert all(one.rung == 2 for one in found.trials.values())


def test_later_generations_find_what_the_first_did_not_have() -> None:
    found = search(Pretend(), size=4)
    found.run([candidate(0.1), candidate(0.9)])
    best = found.best()
    assert best is not None and 370 <= best.bytes <= 500 and best.reached["sqnr_db"] >= 20
    assert best.candidate.parent is not None


def test_nothing_is_tried_twice() -> None:
    pretend = Pretend()
    search(pretend, size=6).run([candidate(0.1), candidate(0.3), candidate(0.9)])
    tried = [(task.candidate.pipeline, task.candidate.fit, task.rung) for task in pretend.tasks]
    assert len(tried) == len(set(tried))
    names = {task.candidate.name: task.candidate for task in pretend.tasks}
    assert len(names) == len({(one.pipeline, one.fit) for one in names.values()}), "and each has its own name"


def test_the_order_in_which_verdicts_come_changes_nothing() -> None:
    first, second = Pretend(), Pretend(backwards=True)
    one, other = search(first, size=5), search(second, size=5)
    for each in (one, other):
        each.run([candidate(share / 10) for share in (1, 3, 5, 9)])
    assert list(one.trials.values()) == list(other.trials.values())
    assert first.tasks == second.tasks


def test_what_makes_the_same_model_is_not_looked_at_again() -> None:
    pretend = Pretend()
    found = search(pretend, most=1)
    twin = Candidate("twin", "channels{share=0.1,multiple=8}", "pruned")
    pretend.entry = lambda task: Entry(Pretend().entry(task).trial, "same")  # type: ignore[method-assign]
    found.run([candidate(0.1), twin])
    assert found.trials["twin"].status == FAILED
    assert found.trials["twin"].why == "it makes the same model as c0.1"
    assert [task.candidate.name for task in pretend.tasks].count("twin") == 1


def test_what_is_too_strong_is_fitted_node_by_node() -> None:
    pretend = Pretend()
    text = "weight-int4{skip=[]}"
    strong = Candidate("strong", "weight-int4", "int4")
    entry = Pretend().entry

    def small(task: Task) -> Entry:
        made = entry(task)
        if task.candidate.pipeline.startswith("weight-int4"):
            kept = task.candidate.fit
            made = Entry(
                Trial(task.candidate, task.rung, task.rows, KEPT if kept else MISSED, "", task.candidate.pipeline,
                      bytes=300 if kept else 200, reached={"sqnr_db": 21.0 if kept else 10.0}),
                f"{task.candidate.pipeline} {kept}",
            )  # fmt: skip
        return made

    pretend.entry = small  # type: ignore[method-assign]
    found = search(pretend, size=4, most=3)
    found.run([candidate(0.1), strong])
    fitted = [task for task in pretend.tasks if task.candidate.fit]
    assert fitted and all(task.last for task in fitted), "on all samples at once"
    assert len({task.candidate.pipeline for task in fitted}) == len(fitted) <= 3 * FITTED
    best = found.best()
    assert best is not None and best.candidate.fit and best.candidate.parent is not None and text


def test_it_ends_when_nothing_better_comes() -> None:
    pretend = Pretend()
    found = search(pretend, most=100)
    found.run([Candidate("clean", "identities", "clean")])
    assert not found.stopped and len(pretend.tasks) == 3, "nothing can be made of a clean-up"


def test_its_time_ends_it_with_what_there_is() -> None:
    pretend = Pretend(each=0.05)
    found = search(pretend, seconds=0.3, most=100)
    start = time.monotonic()
    found.run([candidate(share / 100) for share in range(1, 50)])
    assert time.monotonic() - start < 5
    assert found.stopped == "its time was up"
    assert 3 <= len(found.trials) < 49
    assert found.best() is None, "nothing was measured on all samples"


def test_without_time_nothing_is_tried() -> None:
    pretend = Pretend()
    found = search(pretend, seconds=-1.0)
    found.run([candidate(0.1)])
    assert not pretend.tasks and found.stopped


def test_a_journal_spares_what_was_tried_and_gives_the_same(tmp_path: Path) -> None:
    def journal() -> Journal:
        return Journal(tmp_path / "j.jsonl", Subject("m", "f"), "v", resume=True)

    first = candidate(0.1), candidate(0.3), candidate(0.9)
    before, after, cut = Pretend(), Pretend(), Pretend()
    whole = search(before, size=4, journal=journal())
    whole.run(first)
    again = search(after, size=4, journal=journal())
    again.run(first)
    assert not after.tasks and again.trials == whole.trials
    lines = (tmp_path / "j.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "j.jsonl").write_text("".join(lines[:5]) + lines[5][:30])
    half = search(cut, size=4, journal=journal())
    half.run(first)
    assert half.trials == whole.trials
    assert len(cut.tasks) == len(before.tasks) - 4


def test_progress_says_the_front_so_far() -> None:
    said: list[str] = []
    search(Pretend(), most=1, say=said.append).run([candidate(0.1), candidate(0.5)])
    assert said[0] == "generation 1: 0 of 2 tried on 16 samples; nothing keeps the budgets yet"
    assert said[-1] == "the rest of the front: 1 of 1 tried on 64 samples; best 500 bytes (c0.5), 2 on the front"


@pytest.mark.parametrize("size", [1, 5])
def test_generations_have_their_size(size: int) -> None:
    pretend = Pretend()
    search(pretend, size=size, most=2).run([candidate(0.1), candidate(0.2), candidate(0.3)])
    second = [task for task in pretend.tasks if task.rung == 0][3:]
    assert 1 <= len(second) <= size


def test_what_is_slow_comes_after_what_is_made_of_the_rest() -> None:
    pretend = Pretend()
    slow = replace(candidate(0.15, "slow"), slow=True)
    search(pretend, size=4, most=2).run([slow, candidate(0.1), candidate(0.3)])
    order = list(dict.fromkeys(task.candidate.name for task in pretend.tasks))
    assert order[:2] == ["c0.1", "c0.3"]
    assert 2 < order.index("slow") <= 6, "behind the first variations"


def test_what_is_late_leaves_time_for_what_comes_after_it() -> None:
    """A slow candidate has a part of the time only; what was found before it stays, and the search goes on."""

    class Slow(Pretend):
        def __call__(self, tasks: Sequence[Task], seconds: float) -> Iterator[tuple[int, Entry | None]]:
            for place, one in enumerate(tasks):
                late = one.candidate.name == "slow"
                if late:
                    time.sleep(seconds)
                self.tasks.append(one)
                yield place, None if late else self.entry(one)

    pretend = Slow()
    found = search(pretend, seconds=0.5, size=3, most=3)
    found.run([candidate(0.1), replace(candidate(0.15, "slow"), slow=True)])
    assert found.trials["slow"].status == FAILED and found.trials["slow"].why == "there was no time for it"
    assert [one.candidate.name for one in pretend.tasks][-1] != "slow"
    assert found.best() is not None


def test_what_a_better_one_makes_needless_is_not_fitted() -> None:
    for share, fitted in ((0.2, False), (0.9, True)):
        pretend = Pretend()
        fit = Candidate("fit", "channels{share=0.8},weight-int4", "mixed", fit=True, unless="whole")
        search(pretend, most=1).run([candidate(share, "whole"), fit])
        assert any(one.candidate.name == "fit" for one in pretend.tasks) == fitted


def test_no_more_is_proposed_than_there_is_time_for() -> None:
    def proposed(seconds: float, workers: int = 1) -> int:
        pretend = Pretend(took=100.0)
        search(pretend, size=8, most=2, seconds=seconds, workers=workers).run(
            [candidate(share / 10) for share in (1, 9)]
        )
        return len({task.candidate.name for task in pretend.tasks} - {"c0.1", "c0.9"})

    assert proposed(320.0) == 1, "half of the time is enough for one of 100 seconds"
    assert proposed(320.0, workers=2) == 2 and proposed(320.0, workers=3) == 3
    assert proposed(10.0) == 1, "one is always worth trying"
    assert proposed(1e6) > 3
