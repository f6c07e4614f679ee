"""A search in generations: all of one are tried on few samples, the better half on more, what is left on all.

Generations have a size that does not depend on who carries them out, and candidates are compared in the order in which
they were proposed, so that the same search comes to the same result whatever the number of workers (but for latency,
which no two measurements agree on).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from graphopt.pipeline.pipeline import Pipeline
from graphopt.tune.front import Point, front
from graphopt.tune.journal import Entry, Journal
from graphopt.tune.objective import Objective, best_first
from graphopt.tune.telling import apart, kind_of, shown
from graphopt.tune.trial import FAILED, KEPT, MISSED, Candidate, Trial
from graphopt.tune.variations import fitting, proposals

SIZE: Final = 12
"""Candidates of a generation behind the first."""
FITTED: Final = 3
"""Candidates of a generation that are fitted node by node, which takes as long as many others."""
MOST: Final = 12
"""Generations at most."""
_PATIENCE: Final = 2  # generations without anything better, after which a search is through
_GAPS: Final = 8  # points of the front that are looked at again at the end
_PART: Final = 0.5  # of the time that is left, for what may take long
_SPARE: Final = 0.1  # of all the time, what is there behind the search for validation
_REST: Final = 0.01  # of all the time, too short for anything
_LATE: Final = "there was no time for it"
_BETTER: Final = 0.998  # of the best objective, under which another is better


@dataclass(frozen=True)
class Task:
    """A candidate to be tried on so many samples; `last` where that is all that there are."""

    candidate: Candidate
    rung: int
    rows: int
    last: bool


class Evaluate(Protocol):
    """Tries candidates: gives the place of each among the tasks with its verdict, as it comes.

    None stands for one that the clock ended. What is given has all figures that the objective needs.
    """

    def __call__(self, tasks: Sequence[Task], seconds: float) -> Iterator[tuple[int, Entry | None]]: ...


@dataclass
class Search:
    """One search. `rungs` are the samples that candidates are tried on, `seconds` its time from now on.

    Only candidates that `takes` agrees to are tried. What is slow, and what is made of others, has a part of the time
    that is left and no more, so that one long candidate does not keep out all that would come after it; `workers` only
    tell how many candidates fit in there.

    `trials` has the last trial of each candidate in the order in which they were proposed. `say` hears how far it is.
    """

    objective: Objective
    rungs: tuple[int, ...]
    evaluate: Evaluate
    journal: Journal | None = None
    seconds: float = math.inf
    size: int = SIZE
    most: int = MOST
    workers: int = 1
    say: Callable[[str], None] = lambda text: None
    takes: Callable[[Candidate], bool] = lambda candidate: True
    trials: dict[str, Trial] = field(default_factory=dict)
    stopped: str = ""
    _seen: dict[str, object] = field(default_factory=dict)
    _made: dict[tuple[int, str], str] = field(default_factory=dict)  # who makes a model, by its rung and hash
    _barren: set[tuple[str, str]] = field(default_factory=set)  # changes of techniques that changed nothing

    def run(self, first: Sequence[Candidate]) -> None:
        """Try the first candidates, then what can be made of the best of them; see that the front has no gaps."""
        self._end = time.monotonic() + self.seconds
        self._generations(first)
        left = self._front_left()
        if left and not self._over():
            self._try("the rest of the front", left, len(self.rungs) - 1)

    def _generations(self, first: Sequence[Candidate]) -> None:
        wanted = [one for one in first if self.takes(one)]
        slow = [one for one in wanted if one.slow and not one.fit]
        self._generation(1, [one for one in wanted if not one.slow and not one.fit])
        if slow and self.most > 1:
            self._generation(1, self._proposed(), "first variations")
        self._fit(1, [one for one in wanted if one.fit and not self._needless(one)])
        self._generation(1, slow, "slower techniques")
        idle, number = 0, 1
        while number < self.most and not self.stopped:
            before = self._least()
            fitted = self._to_fit()
            made = self._proposed() if idle < _PATIENCE else []
            if not made and not fitted:
                return
            number += 1
            self._generation(number, made)
            self._fit(number, fitted)
            idle = 0 if self._least() < before * _BETTER else idle + 1

    def best(self) -> Trial | None:
        """The trial on all samples that keeps the budgets and has the least objective."""
        found = [one for one in self._finished() if one.status == KEPT]
        return min(found, key=self.objective.value, default=None)

    def _finished(self) -> list[Trial]:
        return [one for one in self.trials.values() if one.rung == len(self.rungs) - 1 and one.status != FAILED]

    def _generation(self, number: int, candidates: Sequence[Candidate], what: str = "") -> None:
        """Successive halving: half of the candidates of a rung, the better ones, go on to the next."""
        alive = list(candidates)
        said = f"generation {number}, {what}" if what else f"generation {number}"
        share = _PART if what or number > 1 else 1.0
        for candidate in candidates:
            self._seen[candidate.pipeline] = True
        for rung in range(len(self.rungs)):
            if not alive or self._over():
                return
            tried = self._try(said, alive, rung, share)
            if self.stopped:
                return
            order = best_first(tried, self.objective)
            places = sorted(order[: -(-len(alive) // 2)])
            alive = [tried[place].candidate for place in places]

    def _front_left(self) -> list[Candidate]:
        """What kept the budgets on fewer samples and went no further: there were better ones by the objective, though
        none that is better in both figures."""
        ended = [self.objective.point(one) for one in self._finished() if one.status == KEPT]
        left = [
            one for one in self.trials.values() if one.status == KEPT and one.rung < len(self.rungs) - 1
            and not any(_covers(point, self.objective.point(one)) for point in ended)
        ]  # fmt: skip
        near = front([self.objective.point(one) for one in left])
        return [left[place].candidate for place in near[:_GAPS]]

    def _fit(self, number: int, candidates: Sequence[Candidate]) -> None:
        """Fitting looks at all samples at once: it measures with each node anew what the budgets leave."""
        if candidates and not self._over():
            self._try(f"generation {number}, node by node", candidates, len(self.rungs) - 1, _PART)

    def _needless(self, one: Candidate) -> bool:
        """Whether a candidate that is at least as good keeps the budgets."""
        return any(trial.status == KEPT and trial.candidate.name == one.unless for trial in self._finished())

    def _try(self, what: str, candidates: Sequence[Candidate], rung: int, share: float = 1.0) -> list[Trial]:
        rows, last = self.rungs[rung], rung == len(self.rungs) - 1
        tasks = [Task(one, rung, rows, last) for one in candidates]
        found: dict[int, Entry] = {}
        for place, task in enumerate(tasks):
            known = self.journal.get(task.candidate, rung, rows) if self.journal is not None else None
            if known is not None:
                found[place] = known
        left = [place for place in range(len(tasks)) if place not in found]
        self._progress(what, rung, len(found), len(tasks))
        if left:
            for at, entry in self.evaluate([tasks[place] for place in left], share * self._left()):
                if entry is None:
                    if share < 1.0 and self._left() > 0:
                        self._late(tasks[left[at]])
                    else:
                        self.stopped = "its time was up"
                    continue
                found[left[at]] = entry
                if self.journal is not None:
                    self.journal.add(entry)
                self._progress(what, rung, len(found), len(tasks))
        tried = []
        for place in sorted(found):
            trial = self._toldapart(found[place], rung)
            self.trials[trial.candidate.name] = trial
            self._seen[trial.pipeline] = True
            tried.append(trial)
        self._progress(what, rung, len(found), len(tasks))
        return tried

    def _late(self, task: Task) -> None:
        """Take down that a candidate was not done in its part of the time; what was found of it before stays."""
        failed = Trial(task.candidate, task.rung, task.rows, FAILED, _LATE, task.candidate.pipeline)
        self.trials.setdefault(task.candidate.name, failed)

    def _toldapart(self, entry: Entry, rung: int) -> Trial:
        """The trial; failed where an earlier candidate makes the very same model, which is worth no second look."""
        trial = entry.trial
        if not entry.sha256:
            return trial
        maker = self._made.setdefault((rung, entry.sha256), trial.candidate.name)
        if maker == trial.candidate.name:
            return trial
        if maker == trial.candidate.parent:
            self._barren.add(kind_of(trial.candidate))
        return replace(trial, status=FAILED, why=f"it makes the same model as {maker}")

    def _proposed(self) -> list[Candidate]:
        parents = [
            (one.candidate, one.pipeline, one.status == KEPT) for one in self._parents() if not one.candidate.fit
        ]
        taken = {one.name for one, _, _ in parents} | set(self.trials)
        made = proposals(parents, self._skips, self.size)
        return [apart(one, taken) for one in self._affordable(made)]

    def _affordable(self, made: Sequence[Candidate]) -> list[Candidate]:
        """Those that there is likely time for, taking as long as what they are made from: of what is left a part."""
        found: list[Candidate] = []
        most = _PART * self._left()
        left = most * self.workers
        for one in made:
            parent = self.trials.get(one.parent or "")
            cost = 0.0 if parent is None else parent.seconds
            if cost <= min(most, left):
                left -= cost
                found.append(one)
        return found or [*made[:1]]

    def _skips(self, one: Candidate) -> bool:
        """Whether a candidate was tried before, is of a kind that changed nothing, or cannot help."""
        return one.pipeline in self._seen or kind_of(one) in self._barren or not self.takes(one)

    def _parents(self) -> list[Trial]:
        """The trials that later generations come from: those that keep the budgets, the least objective first, each
        followed by one that does not and would be less still."""
        ended = self._finished()
        kept = sorted((one for one in ended if one.status == KEPT), key=self.objective.value)
        least = self.objective.value(kept[0]) if kept else math.inf
        near = sorted(
            (one for one in self.trials.values() if one.status == MISSED and self.objective.value(one) < least),
            key=lambda one: (self.objective.point(one)[1], self.objective.value(one)),
        )
        found: list[Trial] = []
        for place in range(max(len(kept), len(near))):
            found += kept[place : place + 1] + near[place : place + 1]
        return found[: self.size]

    def _to_fit(self) -> list[Candidate]:
        """What would be less than the best, does not keep the budgets, and might with some nodes left alone."""
        best, least = self.best(), self._least()
        strong = sorted(
            (
                one
                for one in self.trials.values()
                if one.status == MISSED and not one.candidate.fit and self.objective.value(one) < least
            ),
            key=lambda one: (-self.objective.value(one), one.candidate.name),
        )
        gentle = None if best is None else Pipeline.parse(best.pipeline)
        found: list[Candidate] = []
        for one in strong:
            made = fitting(Pipeline.parse(one.pipeline), gentle)
            if made is None or f"fit {made}" in self._seen:
                continue
            self._seen[f"fit {made}"] = True
            name = f"{one.candidate.name}, fitted"
            taken = set(self.trials) | {each.name for each in found}
            made_of = Candidate(name, str(made), one.candidate.technique, one.candidate.name, fit=True)
            if self.takes(made_of):
                found.append(apart(made_of, taken))
            if len(found) == FITTED:
                break
        return found

    def _least(self) -> float:
        best = self.best()
        return math.inf if best is None else self.objective.value(best)

    def _left(self) -> float:
        """The time until the best so far should be made once more, to be validated."""
        best = self.best()
        again = 0.0 if best is None or not math.isfinite(self.seconds) else best.seconds - _SPARE * self.seconds
        return self._end - max(again, 0.0) - time.monotonic()

    def _over(self) -> bool:
        rest = _REST * self.seconds if math.isfinite(self.seconds) else 0.0
        if not self.stopped and self._left() <= rest:
            self.stopped = "its time was up"
        return bool(self.stopped)

    def _progress(self, what: str, rung: int, done: int, count: int) -> None:
        best = self.best()
        reached = "nothing keeps the budgets yet"
        if best is not None:
            points = [self.objective.point(one) for one in self._finished()]
            reached = f"best {shown(self.objective, best)} ({best.candidate.name}), {len(front(points))} on the front"
        self.say(f"{what}: {done} of {count} tried on {self.rungs[rung]} samples; {reached}")


def _covers(one: Point, other: Point) -> bool:
    """Whether one point is at least as good as the other in both figures."""
    return one[0] <= other[0] and one[1] <= other[1]
