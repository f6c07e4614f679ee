"""Runs of one pipeline with some of its rewrites, judged, and never twice for the same model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from graphopt.calibration.source import CalibrationData
from graphopt.contract import Contract
from graphopt.debug.bisect import Answer, Spent
from graphopt.debug.command import Command, Judged
from graphopt.debug.finding import Try
from graphopt.debug.selection import Selected, Selection
from graphopt.errors import GraphoptError, OverLimit
from graphopt.instruments.check import Check
from graphopt.ir import Graph, decode, encode
from graphopt.pipeline import manager
from graphopt.pipeline.instrument import Instrument
from graphopt.runtime.client import Worker
from graphopt.session.job import Job
from graphopt.session.services import WorkerServices
from graphopt.storage.hidden import remove_tree
from graphopt.storage.source import Source
from graphopt.storage.write import stage
from graphopt.validation.validate import Validator
from graphopt.validation.verdict import Outcome

Judge = Callable[[Path, Contract], Judged]


@dataclass(frozen=True)
class Ran:
    """One run: the gate that saw it, and its outcome or why it failed.

    A run that ran out of memory or time `told` nothing; any other failure is a wrong result.
    """

    gate: Selected
    outcome: manager.Outcome | None
    failure: str = ""
    told: bool = True


def by_contract(validating: Validator, job: Job) -> Judge:
    """The judge that holds a model against the input, under the contract that it is given."""

    def judge(path: Path, contract: Contract) -> Judged:
        verdict = validating.check(path, contract, job.budgets)
        if verdict.outcome is Outcome.COULD_NOT_TELL:
            return Judged(Answer.SKIP, verdict.sentence())
        return Judged(Answer.GOOD if verdict.passed else Answer.BAD, verdict.sentence())

    return judge


def by_command(command: Command) -> Judge:
    """The judge that asks the user's command, whatever the contract."""
    return lambda path, contract: command.judge(path)


class Trials:
    """What is known about the runs of a job on a model.

    Answers are kept by selection, and by the hash of the model that came out, so what two selections
    make alike is judged once. With `most`, judging more models than that raises `Spent`.
    """

    def __init__(
        self, source: Source, job: Job, worker: Worker, work: Path, judge: Judge,
        check: Check | None, watch: tuple[Instrument, ...] = (), data: CalibrationData | None = None,
    ) -> None:  # fmt: skip
        self._source, self._job, self._worker, self._work = source, job, worker, work
        self._judge, self._check, self._watch, self._data = judge, check, watch, data
        self._answers: dict[Selection, Judged] = {}
        self._known: dict[tuple[str, Contract], Judged] = {}
        self.original: Judged | None = None  # what is said of the input itself
        self.tries: list[Try] = []
        self.evaluations = 0
        self.runs = 0
        self.most: int | None = None
        self._hits = 0

    def run(self, selection: Selection, checked: bool = True) -> Ran:
        """Run the pipeline with a selection of its rewrites; unless `checked`, what is no valid model is no failure."""
        gate = Selected(selection, self._job.gate)
        instruments = [*self._watch, *([self._check] if self._check is not None and checked else [])]
        self.runs += 1
        try:
            outcome = manager.run(
                lambda: decode(self._source.proto, self._source.store),
                self._job.pipeline,
                services=WorkerServices(self._worker, data=self._data),
                gate=gate,
                instruments=instruments,
            )
        except GraphoptError as error:
            return Ran(gate, None, str(error).rstrip("."), not isinstance(error, OverLimit))
        return Ran(gate, outcome)

    def judge(self, selection: Selection, what: str, ran: Ran | None = None) -> Judged:
        """The answer for a selection, whose run may be at hand; `what` names it in `tries`."""
        known = self._answers.get(selection)
        if known is not None:
            return known
        ran = self.run(selection) if ran is None else ran
        hits = self._hits
        judged = self._judged(ran)
        self._answers[selection] = judged
        self.tries.append(Try(what, judged.answer, judged.why, cached=self._hits > hits))
        return judged

    def judge_input(self, path: Path) -> Judged:
        """The answer for the input itself, which every run without a rewrite shares."""
        self.evaluations += 1
        self.original = self._judge(path, Contract.EXACT)
        self.tries.append(Try("the input", self.original.answer, self.original.why))
        return self.original

    def _judged(self, ran: Ran) -> Judged:
        if ran.outcome is None:
            return Judged(Answer.BAD if ran.told else Answer.SKIP, ran.failure)
        if ran.outcome.rewrites == 0:
            return self.original or Judged(Answer.GOOD, "nothing was changed")
        return self._of(ran.outcome.graph, ran.outcome.contract)

    def _of(self, graph: Graph, contract: Contract) -> Judged:
        encoded = encode(graph)
        key = (Source(None, encoded.proto, encoded.store).sha256(), contract)
        if key in self._known:
            self._hits += 1
            return self._known[key]
        if self.most is not None and self.evaluations >= self.most:
            raise Spent
        self.evaluations += 1
        folder = self._work / f"tried-{self.evaluations}"
        folder.mkdir()
        try:
            with stage(folder / "model.onnx", source=None) as staged:
                staged.put(encoded.proto, encoded.store)
                path = staged.commit().path
            self._known[key] = self._judge(path, contract)
        finally:
            remove_tree(folder)
        return self._known[key]
