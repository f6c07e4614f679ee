"""Whether a part of a model still fails: by a command, after a pipeline, or against another model."""

from __future__ import annotations

import shlex
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.lib import format as npy

from graphopt.calibration.source import CalibrationData
from graphopt.contract import Contract
from graphopt.debug.align import Alignment
from graphopt.debug.bisect import Answer
from graphopt.debug.command import Command
from graphopt.debug.extract import PLAIN, Part, Whole
from graphopt.debug.opening import rename
from graphopt.debug.record import loadable
from graphopt.errors import GraphoptError, OverLimit, UsageError
from graphopt.instruments.check import Check
from graphopt.ir import Graph, Tensor, decode, encode
from graphopt.pipeline import manager
from graphopt.pipeline.instrument import Veto
from graphopt.runtime.client import Worker, WorkerFailure
from graphopt.session.job import Job
from graphopt.session.services import WorkerServices
from graphopt.storage.source import Source
from graphopt.validation.plan import FeedPlan
from graphopt.validation.runs import OFF
from graphopt.validation.validate import Validator
from graphopt.validation.verdict import Outcome, Verdict

FEEDS = "{feeds}"
_WRONG = "the result is not what it should be"


@dataclass(frozen=True)
class Told:
    """An answer (bad: it fails), why in a clause, and in what way: only what fails in the same way as the
    whole is the same failure. `other` is the model that the part was held against, or became."""

    answer: Answer
    why: str
    way: str = ""
    other: Source | None = None


class Judge(Protocol):
    """Says whether parts fail. `how` says in words what is asked."""

    how: str
    shrinks: bool

    def judge(self, part: Part, folder: Path) -> Told:
        """The answer for a part; `folder` is free to write to."""
        ...

    def unfit(self, whole: Whole) -> frozenset[str]:
        """The values of a model that cannot be outputs of its parts."""
        ...


class ByCommand:
    """The user's command, on a part that runs."""

    shrinks = True

    def __init__(self, check: Command, worker: Worker) -> None:
        self.how = f"the command {check.text}"
        self._check, self._worker = check, worker

    def judge(self, part: Part, folder: Path) -> Told:
        with loadable(part.proto, part.source, folder / "model") as path:
            try:
                self._worker.run_model(path, part.feeds, OFF)
            except (WorkerFailure, UsageError) as error:
                return Told(Answer.SKIP, f"it does not run: {str(error).rstrip('.')}")
            feeds = folder / "feeds.npz"
            save_feeds(feeds, part.feeds)
            line = self._check.text.replace(FEEDS, shlex.quote(str(feeds)))
            judged = Command(line, self._check.seconds).judge(path)
            if not judged.started:
                return Told(Answer.SKIP, f"the command cannot be run: {judged.why}")
            return Told(judged.answer, judged.why)

    def unfit(self, whole: Whole) -> frozenset[str]:
        return frozenset()


class ByPipeline:
    """The pipeline fails on the part, or what it makes of it is not what its contract promises.

    Passes that calibrate learn from the part's own feeds: others have no values for its inputs.
    """

    shrinks = True

    def __init__(self, job: Job, worker: Worker) -> None:
        self.how = f"the pipeline {job.pipeline}"
        self._job, self._worker = job, worker

    def judge(self, part: Part, folder: Path) -> Told:
        source = part.source
        try:
            outcome = manager.run(
                lambda: decode(source.proto, source.store),
                self._job.pipeline,
                services=WorkerServices(self._worker, data=CalibrationData(lambda: [part.feeds], source)),
                gate=self._job.gate,
                instruments=[Check(source.proto, each=False)],
            )
        except OverLimit as error:
            return Told(Answer.SKIP, str(error).rstrip("."))
        except Veto as error:
            return Told(Answer.BAD, str(error).rstrip("."), _WRONG)
        except GraphoptError as error:
            return Told(Answer.BAD, str(error).rstrip("."), "the pipeline fails")
        if outcome.rewrites == 0:
            return Told(Answer.GOOD, "nothing was changed")
        encoded = encode(outcome.graph)
        made = Source(None, encoded.proto, encoded.store)
        with (
            loadable(source.proto, source, folder / "before") as before,
            loadable(made.proto, made, folder / "after") as after,
            Validator(before, worker=self._worker, plan=FeedPlan([part.feeds]), source=source) as validator,
        ):
            return _told(validator.check(after, outcome.contract, self._job.budgets), made)

    def unfit(self, whole: Whole) -> frozenset[str]:
        return frozenset()


class Against:
    """The part of another model between the same values gives something else.

    Which values are the same ones is told by content, names and provenance (see `graphopt.debug.align`).
    """

    shrinks = False

    def __init__(self, a: Source, b: Source, job: Job, worker: Worker, origins: Any = None) -> None:
        self.how = f"comparing with {b.path or 'the other model'}"
        self._budgets, self._worker = job.budgets, worker
        self._contract = Contract.LOSSY if job.budgets else Contract.ROUNDING
        self._other = Whole(b, {})
        graphs = [decode(one.proto, one.store) for one in (a, b)]
        values = Alignment(graphs[0], graphs[1], origins).values
        known = [_names(one) for one in graphs]
        pairs = ((one.name, other.name) for one, other in values.items() if one.name and other.name)
        self._names = {one: other for one, other in pairs if one in known[0] and other in known[1]}

    def judge(self, part: Part, folder: Path) -> Told:
        made = self._counterpart(part)
        if made is None:
            return Told(Answer.SKIP, "the other model has no such part")
        with (
            loadable(part.proto, part.source, folder / "a") as a,
            loadable(made.proto, made, folder / "b") as b,
            Validator(a, worker=self._worker, plan=FeedPlan([part.feeds]), source=part.source) as validator,
        ):
            return _told(validator.check(b, self._contract, self._budgets), made)

    def unfit(self, whole: Whole) -> frozenset[str]:
        return frozenset(name for name in whole.maker if self._names.get(name) not in self._other.maker)

    def _counterpart(self, part: Part) -> Source | None:
        """The part of the other model with the same inputs and outputs, under the names of this one."""
        proto = part.proto
        borders = [one.name for one in (*proto.graph.input, *proto.graph.initializer)]
        ends = [self._names.get(name, "") for name in part.outputs]
        partners = {self._names[name]: name for name in borders if name in self._names}
        kept = self._other.between(partners, ends)
        if kept is None:
            return None
        constants = {one.name for one in proto.graph.initializer}
        self._other.recorded = {
            other: _constant(part, name) if name in constants else part.feeds.get(name)
            for other, name in partners.items()
        }
        self._other.feeds = {other: part.feeds[name] for other, name in partners.items() if name in part.feeds}
        self._other.outputs = dict(zip(ends, proto.graph.output, strict=True))
        cut = self._other.cut(kept, ends=ends)
        if cut is None:
            return None
        names = partners | dict(zip(ends, part.outputs, strict=True))
        made = _under(cut, names)
        declared = {one.name for one in proto.graph.input}
        return made if {one.name for one in made.proto.graph.input} == declared else None


def save_feeds(path: Path, feeds: dict[str, Any]) -> None:
    """Write feeds as an `.npz` file that numpy reads without pickles.

    Raises UsageError for a sequence or map, and for a dtype that numpy does not have.
    """
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for name, value in feeds.items():
        if not isinstance(value, np.ndarray) or value.dtype.kind not in PLAIN:
            kind = str(value.dtype) if isinstance(value, np.ndarray) else "no tensor"
            raise UsageError(f"the input {name!r} is {kind}, which an .npz file cannot hold, so nothing can be reduced")
        arrays[name] = value
    with zipfile.ZipFile(path, "w") as archive:  # numpy.savez takes no array that is called `file`
        for name, one in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                npy.write_array(member, one.astype(str) if one.dtype.kind == "O" else one, allow_pickle=False)


def _told(verdict: Verdict, other: Source) -> Told:
    if verdict.outcome is Outcome.COULD_NOT_TELL:
        return Told(Answer.SKIP, verdict.sentence())
    if verdict.passed:
        return Told(Answer.GOOD, verdict.sentence())
    return Told(Answer.BAD, verdict.sentence(), _WRONG, other)


def _names(graph: Graph) -> set[str]:
    """The values of a main graph."""
    values: list[Tensor] = [*graph.inputs, *graph.initializers]
    values += [one for node in graph.nodes for one in node.outputs]
    return {one.name for one in values}


def _constant(part: Part, name: str) -> Any:
    from graphopt.ir.tensors import Stored

    tensor = next(one for one in part.proto.graph.initializer if one.name == name)
    return Stored(tensor, part.source.store).load()


def _under(part: Part, names: dict[str, str]) -> Source:
    """A part with other names for some of its values; what else has one of these gets one of its own."""
    taken = set(names.values())

    def name(old: str) -> str:
        return names.get(old) or (f"{old}__" if old in taken else old)

    graph = part.proto.graph
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        rename(graph.node.add(), node, name)
    for one in (*graph.input, *graph.output, *graph.initializer):
        one.name = name(one.name)
    for sparse in graph.sparse_initializer:
        sparse.values.name = name(sparse.values.name)
    return part.source
