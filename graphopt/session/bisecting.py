"""Bisection of a run: which of its rewrites makes the result wrong."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from graphopt.contract import Contract
from graphopt.debug.bisect import Answer, Spent, first_bad, smallest_failing
from graphopt.debug.command import Command, Judged
from graphopt.debug.finding import Finding, changed_lines
from graphopt.debug.selection import Handle, Selection
from graphopt.errors import CouldNotTell, UsageError
from graphopt.instruments.check import Check
from graphopt.instruments.progress import Progress
from graphopt.ir.text import to_text
from graphopt.pipeline.gate import Candidate
from graphopt.pipeline.instrument import Instrument
from graphopt.pipeline.protocol import Remark
from graphopt.runtime.client import Worker
from graphopt.session.again import bisect_line, optimize_line
from graphopt.session.calibrating import Calibrating
from graphopt.session.evidence import on_disk, refuse_invalid, validator
from graphopt.session.job import Job
from graphopt.session.planning import settled
from graphopt.session.trials import Judge, Ran, Trials, by_command, by_contract
from graphopt.storage.scratch import Scratch
from graphopt.storage.source import Source

MOST = 100  # models that are judged at most
_RUNS = 10  # of the pipeline, for each of them: a run that makes the guilty rewrite impossible is not judged
_ALL = Selection()


def bisect(source: Source, job: Job, *, check: Command | None = None, most: int = MOST) -> Finding:
    """Find the rewrite of a job that makes its result wrong on a model.

    A result is judged by `check`, or else as `optimize` would: held against the input under the
    loosest contract that ran, and LOSSY ones under the budgets. At most `most` models are judged, more
    than the search itself needs only where no single rewrite is wrong alone.

    Raises CouldNotTell when nothing can be said of the whole pipeline's result or the input, UsageError
    when `check` finds the input itself bad, and what `run` raises for the model and the feeds.
    """
    start = time.perf_counter()
    if job.student is not None:
        raise UsageError("a run from a student cannot be bisected: give the student as the model, without the other")
    job = settled(source, job)
    with ExitStack() as stack:
        work = stack.enter_context(Scratch())
        worker = stack.enter_context(
            Worker(seconds=job.worker_seconds, memory=job.worker_memory, custom_ops=job.custom_ops)
        )
        progress = Progress()
        stack.callback(progress.stop)
        watch: tuple[Instrument, ...] = (progress,) if job.progress else ()
        reference = on_disk(source, work / "input")
        checker, judge = None, None
        if check is None:
            checker = Check(source.proto, each=False)
            validating = stack.enter_context(validator(source, reference, job, worker))
            validating.prepare(job.pipeline.contract, job.budgets)
            refuse_invalid(checker, reference, worker, True)
            judge = by_contract(validating, job)
        else:
            judge = by_command(check)
        calibrating = Calibrating(source, reference, job, worker)
        calibrating.prepare()
        said = _said(judge, progress, job.progress)
        trials = Trials(source, job, worker, work, said, checker, watch, calibrating.data)
        if check is not None:
            _good_input(trials, reference)
        found = _Search(
            trials, job, str(source.path or "the model"), None if check is None else check.text, most
        ).find()
    return dataclasses.replace(
        found,
        warnings=calibrating.warnings,
        tries=tuple(trials.tries),
        evaluations=trials.evaluations,
        runs=trials.runs,
        seconds=time.perf_counter() - start,
    )


def asked(check: str | None, seconds: float, evidence: Mapping[str, object]) -> Command | None:
    """The command of `--check`, if there is one. Raises UsageError when there is and other `evidence` (by
    flag) is given, which would not be looked at."""
    if check is None:
        return None
    for flag, given in evidence.items():
        if given:
            raise UsageError(
                f"with --check the command alone judges, and {flag} says nothing to it; leave one of them out"
            )
    return Command(check, seconds)


def _said(judge: Judge, progress: Progress, shown: bool) -> Judge:
    """The judge, with a line on the terminal while it judges."""
    if not shown:
        return judge
    numbers = itertools.count(1)

    def judged(path: Path, contract: Contract) -> Judged:
        progress.say(f"judging model {next(numbers)}")
        return judge(path, contract)

    return judged


def _good_input(trials: Trials, reference: Path) -> None:
    """See that the command calls the input good, or there is nothing to search for."""
    judged = trials.judge_input(reference)
    if judged.answer is Answer.SKIP:
        raise CouldNotTell(f"the check could not tell about the input itself: {judged.why}")
    if judged.answer is Answer.BAD:
        hint = (
            "see that the command can be run"
            if not judged.started
            else "it has to exit with 0 on the input, so that what is wrong is the passes' doing"
        )
        raise UsageError(f"--check finds the input itself bad ({judged.why}); {hint}")


class _Search:
    """One search. Whatever runs are made of, a rewrite is named as it is in the run of everything."""

    def __init__(self, trials: Trials, job: Job, model: str, check: str | None, most: int) -> None:
        self.trials, self.job, self.most = trials, job, most
        self.check = check
        self.base = Finding("nothing", model, str(job.pipeline), 0, "")

    def find(self) -> Finding:
        ran = self.trials.run(_ALL)
        judged = self.trials.judge(_ALL, "everything", ran)
        carried = ran.gate.carried
        self.base = dataclasses.replace(self.base, rewrites=len(carried), why=judged.why)
        if judged.answer is Answer.GOOD:
            return self.base
        if judged.answer is Answer.SKIP:
            raise CouldNotTell(f"nothing can be said of the whole pipeline's result: {judged.why}")
        if ran.outcome is None and self.trials.run(Selection(limit=0)).outcome is None:
            return dataclasses.replace(self.base, outcome="pass", pass_name=_failing(ran.failure, self.job))
        seams = [at for at in range(1, len(carried)) if carried[at][0].pass_name != carried[at - 1][0].pass_name]
        answers = {len(carried): judged.why}

        def ask(count: int) -> Answer:
            said = self.trials.judge(Selection(limit=count), f"the first {count}")
            answers[count] = said.why
            return said.answer

        interval = first_bad(len(carried), ask, seams)
        self.base = dataclasses.replace(self.base, why=answers[interval.bad])
        if not interval.exact:
            suspects = tuple(_plain(*one) for one in carried[interval.good : interval.bad])
            return dataclasses.replace(self.base, outcome="range", suspects=suspects)
        return self.told(carried, interval.bad)

    def told(self, carried: list[tuple[Handle, Candidate]], position: int) -> Finding:
        """Everything there is to say of the guilty rewrite."""
        handle, candidate = carried[position - 1]
        alone, together, smallest = self.company(carried, position)
        after = self.trials.run(Selection(limit=position), checked=False)
        before = self.trials.run(Selection(limit=position - 1), checked=False)
        guilty = _remark(after, candidate) or _plain(handle, candidate)
        went, came = _texts(before, after)
        rest, rest_why = self.rest(handle)
        number = f"{handle.pass_name}:{candidate.number}"
        return dataclasses.replace(
            self.base,
            outcome="rewrite",
            position=position,
            guilty=guilty,
            pass_name=guilty.pass_name,
            alone=alone,
            together=tuple(_plain(*one) for one in together),
            smallest=smallest,
            rest=rest,
            rest_why=rest_why,
            origins=_origins(before, guilty),
            before=went,
            after=came,
            go_on=optimize_line(self.base.model, self.job, number),
            again=bisect_line(self.base.model, self.job, number, self.check),
        )

    def company(
        self, carried: list[tuple[Handle, Candidate]], position: int
    ) -> tuple[bool | None, list[tuple[Handle, Candidate]], bool]:
        """Whether the rewrite at `position` is wrong alone; if not, with which of those before it it is."""
        handle = carried[position - 1][0]
        if position == 1:
            return True, [], True
        alone = self.answer((), handle, "it alone")
        if alone is not Answer.GOOD:
            return (True if alone is Answer.BAD else None), [], True
        earlier = [one for one, _ in carried[: position - 1]]
        self.trials.most = self.most
        try:
            if self.answer(tuple(earlier), handle, f"it and the {len(earlier)} before it") is not Answer.BAD:
                return False, [], True
            found, smallest = smallest_failing(earlier, lambda some: self.fails(some, handle))
        except Spent:
            found, smallest = tuple(earlier), False
        finally:
            self.trials.most = None
        wanted = {*found, handle}
        return False, [one for one in carried[:position] if one[0] in wanted], smallest

    def fails(self, some: tuple[Handle, ...], handle: Handle) -> bool:
        return self.answer(some, handle, f"it and {len(some)} others") is Answer.BAD

    def answer(self, some: tuple[Handle, ...], handle: Handle, what: str) -> Answer:
        """The answer for the guilty rewrite with some others; good where that makes it impossible."""
        if self.trials.most is not None and self.trials.runs >= _RUNS * self.trials.most:
            raise Spent
        selection = Selection(only=frozenset((*some, handle)))
        ran = self.trials.run(selection)
        if all(one != handle for one, _ in ran.gate.carried):
            return Answer.GOOD
        return self.trials.judge(selection, what, ran).answer

    def rest(self, handle: Handle) -> tuple[Answer | None, str]:
        """What the whole pipeline without the rewrite makes; a command of the user's is not asked."""
        if self.check is not None:
            return None, ""
        said = self.trials.judge(Selection(without=frozenset({handle})), "everything else")
        return said.answer, said.why


def _remark(ran: Ran, candidate: Candidate) -> Remark | None:
    if ran.outcome is None:
        return None
    wanted = (candidate.pass_name, candidate.number)
    return next(
        (one for one in ran.outcome.remarks if one.kind == "applied" and (one.pass_name, one.number) == wanted), None
    )


def _plain(handle: Handle, candidate: Candidate) -> Remark:
    """A remark of what is known of a candidate."""
    return Remark(
        "applied", handle.pass_name, handle.rule, handle.node, "", number=candidate.number, scope=handle.scope
    )


def _texts(before: Ran, after: Ran) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The lines of the model's text that the last rewrite took away and brought."""
    if before.outcome is None or after.outcome is None:
        return (), ()
    return changed_lines(to_text(before.outcome.graph), to_text(after.outcome.graph))


def _origins(before: Ran, guilty: Remark) -> tuple[str, ...]:
    """What the names that the rewrite took away stand for in the input."""
    if before.outcome is None:
        return ()
    known = before.outcome.origins
    return tuple(dict.fromkeys(old for name in guilty.before for old in known.get(name, (name,))))


def _failing(failure: str, job: Job) -> str | None:
    """The pass that a failure is about: its sentence names it."""
    return next((one.name for one in job.pipeline.passes() if f"pass {one.name} " in failure), None)
