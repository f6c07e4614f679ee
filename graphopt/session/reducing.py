"""Reduction: the smallest part of a model on which something still goes wrong."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphopt.debug.bisect import Answer, Spent
from graphopt.debug.command import Command
from graphopt.debug.extract import Part, Whole
from graphopt.debug.opening import opened
from graphopt.debug.record import record
from graphopt.debug.reduce import Kept, smallest
from graphopt.debug.reduced import Reduced
from graphopt.debug.shrink import sizes, smaller
from graphopt.errors import CouldNotTell, UsageError
from graphopt.instruments.progress import Progress
from graphopt.ir import decode
from graphopt.ir.text import to_text
from graphopt.report.saved import read_report
from graphopt.runtime.client import Worker, WorkerFailure
from graphopt.session.evidence import on_disk, validator
from graphopt.session.failing import Against, ByCommand, ByPipeline, Judge, Told, save_feeds
from graphopt.session.job import Job
from graphopt.session.reproducer import check_folder, write
from graphopt.storage.read import read
from graphopt.storage.scratch import Scratch
from graphopt.storage.source import Source
from graphopt.storage.wire import join

MOST = 1000  # parts that are judged at most
_FEEDS = 8  # of which one is looked for that shows the failure


def reduce(
    source: Source, job: Job, *, check: Command | None = None, against: Source | None = None,
    origins: Any = None, folder: Path | None = None, most: int = MOST,
    judge: Callable[[Worker], Judge] | None = None, feeds: Iterable[Mapping[str, Any]] | None = None,
) -> Reduced:  # fmt: skip
    """Find the smallest part of a model that still fails, and write it to `folder`.

    It fails by `judge` on one of `feeds`, by `check`, by giving something else than the model `against` (within the
    job's budgets, or what rounding explains), or else because the pipeline breaks it. Values of a real run are the
    inputs of the part.
    Raises CouldNotTell when nothing can be said of the whole model, UsageError for feeds that do not
    fit and a folder that cannot be written.
    """
    start = time.perf_counter()
    if most < 1:  # the whole model is the first part
        raise UsageError(f"the number of parts to judge at most must be 1 or more, and {most} is not")
    if folder is not None:
        check_folder(folder)
    with ExitStack() as stack:
        work = stack.enter_context(Scratch())
        worker = stack.enter_context(
            Worker(seconds=job.worker_seconds, memory=job.worker_memory, custom_ops=job.custom_ops)
        )
        progress = Progress()
        stack.callback(progress.stop)
        asked: Judge
        if judge is not None:
            asked = judge(worker)
        elif check is not None:
            asked = ByCommand(check, worker)
        elif against is not None:
            asked = Against(source, against, job, worker, origins)
        else:
            asked = ByPipeline(job, worker)
        if feeds is None:
            validating = stack.enter_context(validator(source, on_disk(source, work / "input"), job, worker))
            feeds = itertools.islice((one.values for one in validating.feeds()), _FEEDS)
        search = _Search(asked, worker, work, most, progress.say if job.progress else lambda _: None)
        found = search.run(source, iter(feeds))
        if found.outcome == "reduced" and folder is not None and search.part is not None:
            files = write(folder, search.part, f"{found.why} ({asked.how})", search.other(check, against))
            found = dataclasses.replace(found, folder=str(folder), files=files)
    return dataclasses.replace(found, model=str(source.path or "the model"), seconds=time.perf_counter() - start)


@dataclass(frozen=True)
class Failing:
    """What fails, as the command line says it: a command, or another model with the report of its making."""

    check: Command | None = None
    against: Path | None = None
    report: Path | None = None

    @property
    def alone(self) -> bool:
        """Whether no pipeline has anything to do with it."""
        return self.check is not None or self.against is not None


def asked(
    check: str | None, against: str | None, report: str | None, seconds: float, others: Mapping[str, object]
) -> Failing:
    """What fails, from the options. Raises UsageError where they do not go together."""
    if check is not None and against is not None:
        raise UsageError("give either --check or --against, not both")
    if report is not None and against is None:
        raise UsageError("--report belongs to --against, the model that the run made")
    for flag, given in others.items():
        if given and (check is not None or against is not None):
            used = "--check" if check is not None else "--against"
            raise UsageError(f"with {used} no pipeline is run, and {flag} says nothing to it; leave one of them out")
    return Failing(
        None if check is None else Command(check, seconds),
        None if against is None else Path(against),
        None if report is None else Path(report),
    )


def reduced(model: Path, job: Job, failing: Failing, folder: Path, most: int = MOST) -> Reduced:
    """`reduce` of a model file. Raises what it and reading the files raise."""
    saved = None if failing.report is None else read_report(failing.report)
    return reduce(
        read(model),
        job,
        check=failing.check,
        against=None if failing.against is None else read(failing.against),
        origins=None if saved is None else saved.origins,
        folder=folder,
        most=most,
    )


class _Search:
    """One reduction."""

    def __init__(self, judge: Judge, worker: Worker, work: Path, most: int, say: Callable[[str], None]) -> None:
        self.judge, self.worker, self.work, self.most, self.say = judge, worker, work, most, say
        self.evaluations = 0
        self.smallest = True
        self.way = ""
        self.part: Part | None = None
        self.told: Told | None = None
        self.steps: list[str] = []

    def run(self, source: Source, feeds: Iterator[Any]) -> Reduced:
        answers: list[Told] = []
        for one in feeds:
            part = Part(source, dict(one))
            save_feeds(self.folder() / "feeds.npz", part.feeds)  # refuses now what could not be written in the end
            told = self.ask(part)
            answers.append(told)
            if told.answer is Answer.BAD:
                self.accept(part, told, "as it is")
                return self.reduced(part)
        skipped = next((one for one in answers if one.answer is Answer.SKIP), None)
        if skipped is not None:
            raise CouldNotTell(f"nothing can be said of the whole model: {skipped.why}")
        why = answers[-1].why if answers else "there are no feeds"
        before = Part(source, {}).nodes
        return Reduced("nothing", "", self.judge.how, why, before, before, evaluations=self.evaluations)

    def reduced(self, original: Part) -> Reduced:
        try:
            self.cut(original)
            self.open()
            self.fewer_outputs()
            self.shrink()
        except Spent:
            self.smallest = False
        assert self.part is not None and self.told is not None, "the whole model fails"
        part = self.part
        text = to_text(decode(part.proto, part.source.store)).splitlines()
        return Reduced(
            "reduced",
            "",
            self.judge.how,
            self.told.why,
            original.nodes,
            part.nodes,
            _size(original),
            _size(part),
            self.smallest,
            self.evaluations,
            text=tuple(text),
            steps=tuple(self.steps),
        )

    def cut(self, part: Part) -> None:
        """Leave out what can be left out of a part that fails, which becomes the part that is known."""
        whole = self.whole(part)
        unfit = self.judge.unfit(whole)

        def fails(kept: Kept) -> bool:
            made = whole.cut(kept, unfit)
            return made is not None and self.fails(made, f"{len(kept)} of {len(whole.nodes)} nodes")

        everything = tuple(range(len(whole.nodes)))
        if len(everything) > 1 and fails(everything):
            _, known = smallest(len(everything), fails)
            self.smallest = self.smallest and known
            if not known:
                raise Spent

    def open(self) -> None:
        """Go into bodies: the branch that an If takes, the first round of a Loop or Scan, as far as they fail."""
        while self.part is not None:
            whole = self.whole(self.part)
            for inside in opened(whole):
                if self.fails(inside, "what is in a body"):
                    self.cut(inside)
                    break
            else:
                return

    def fewer_outputs(self) -> None:
        """Leave out outputs, one at a time, with what only they need."""
        assert self.part is not None
        for name in list(self.part.outputs):
            if len(self.part.outputs) > 1:
                whole = self.whole(self.part, recording=False)
                ends = [one for one in self.part.outputs if one != name]
                kept = whole.between((), ends)
                made = None if kept is None else whole.cut(kept, ends=ends)
                if made is not None:
                    self.fails(made, f"without the output {name}")

    def shrink(self) -> None:
        """Make sizes smaller, as far as it goes on failing: to one, else by halves."""
        if not self.judge.shrinks or self.part is None:
            return
        for size in sizes(self.part):
            for new in dict.fromkeys((1, 2, *(size >> shift for shift in range(3, 0, -1)))):
                if 0 < new < size and any(self.fails(one, f"{new} of {size}") for one in smaller(self.part, size, new)):
                    break

    def whole(self, part: Part, recording: bool = True) -> Whole:
        """A part as something to cut from, with the values of its run."""
        whole = Whole(part.source, part.feeds)
        if recording:
            self.say("recording values")
            try:
                whole.recorded = record(part.source, part.feeds, whole.taps(), self.worker, self.folder())
            except WorkerFailure as failure:
                raise CouldNotTell(f"the model does not run, so nothing is known of its values: {failure}") from None
        return whole

    def fails(self, part: Part, what: str) -> bool:
        """Whether a part fails in the way that the whole does; if so it is the smallest that is known."""
        self.say(f"judging {what}")
        told = self.ask(part)
        if told.answer is Answer.BAD and told.way == self.way:
            self.accept(part, told, what)
            return True
        return False

    def ask(self, part: Part) -> Told:
        if self.evaluations >= self.most:
            raise Spent
        self.evaluations += 1
        return self.judge.judge(part, self.folder())

    def accept(self, part: Part, told: Told, what: str) -> None:
        self.part, self.told, self.way = part, told, told.way
        self.steps.append(f"{what}: {part.nodes} nodes")

    def folder(self) -> Path:
        """A folder of its own."""
        made = self.work / str(self.evaluations)
        made.mkdir(exist_ok=True)
        return made

    def other(self, check: Command | None, against: Source | None) -> tuple[str, Source] | None:
        """The second model that belongs to the part, and what its file is called."""
        if check is not None or self.told is None or self.told.other is None:
            return None
        return ("other.onnx" if against is not None else "result.onnx", self.told.other)


def _size(part: Part) -> int:
    return sum(len(piece) for piece in join(part.proto, part.source.store))
