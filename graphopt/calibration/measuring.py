"""Tries changes of a graph on the calibration feeds, against the model as it was read.

The values in front of a change are recorded in a run of the graph as it is, as far as memory allows, and only what
lies behind it is computed anew. Outputs of the model as it was read are computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from onnx import ModelProto

from graphopt.analysis.changes import Change, Comparison, Measured
from graphopt.analysis.shapes import Shapes, infer
from graphopt.calibration.excised import behind_of, cut, declare, front_of
from graphopt.calibration.observe import Observer
from graphopt.calibration.patched import Patcher, Unpatched
from graphopt.calibration.source import CalibrationData, Feed, rows_of, some_rows
from graphopt.calibration.tapped import MODE, Tapped, reads_of
from graphopt.ir import Graph, encode
from graphopt.runtime.client import Session, Worker
from graphopt.runtime.failure import WorkerFailure
from graphopt.storage.refused import refusals
from graphopt.storage.scratch import Scratch

BOUND: Final = 256 << 20
"""Bytes of recorded values that are held at a time."""

_MODE: Final = replace(MODE, arena=True)

Outputs = Mapping[str, Any]


@dataclass
class Baseline:
    """Outputs of the model as it was read, by how many samples of the feeds they are of."""

    outputs: dict[int, list[Outputs]] = field(default_factory=dict)


class Measurer:
    """See `graphopt.pipeline.protocol.Measure`. `bound` are the bytes of recorded values that are held at a time."""

    def __init__(
        self,
        graph: Graph,
        worker: Worker,
        data: CalibrationData,
        baseline: Baseline,
        shapes: Callable[[Graph], Shapes] = infer,
        bound: int = BOUND,
    ) -> None:
        self._graph, self._worker, self._data, self._baseline = graph.root, worker, data, baseline
        self._shapes, self._bound = shapes, bound

    @property
    def why_not(self) -> str | None:
        """Why no feeds can be had, in a clause."""
        return Observer(self._graph, self._worker, self._data, self._shapes).why_not

    @refusals()
    def changes(self, changes: Sequence[Change], samples: int = 0) -> Measured:
        """Try each change by itself."""
        why = self.why_not
        if why is not None:
            return Measured(refused=dict.fromkeys(changes, why))
        with Scratch("measuring") as name:
            now = encode(self._graph)
            try:
                expected = self._expected(samples, Path(name) / "original")
                tapped = Tapped(now.proto, now.store, self._worker, Path(name) / "now")
                return _Trials(self, tapped, self._shapes(self._graph), samples, expected).run(changes)
            except WorkerFailure as failure:
                return Measured(refused=dict.fromkeys(changes, f"the model does not run: {_clause(failure)}"))

    @property
    def bound(self) -> int:
        return self._bound

    @property
    def graph(self) -> Graph:
        return self._graph

    def feeds(self, samples: int) -> Iterator[Feed]:
        """The first so many samples of the feeds (0: all)."""
        left = samples
        whole = _whole_rows(self._data.original.proto)
        for feed in self._data.feeds():
            if samples and left <= 0:
                return
            rows = rows_of(feed)
            if samples and rows > left and whole:
                feed, rows = some_rows(feed, 0, left), left
            left -= rows
            yield feed

    def _expected(self, samples: int, folder: Path) -> list[Outputs]:
        known = self._baseline.outputs
        if samples not in known:
            source = self._data.original
            tapped = Tapped(source.proto, source.store, self._worker, folder)
            with tapped.loaded(_copy(tapped.base()), _MODE) as session:
                known[samples] = [_run(session, feed) for feed in self.feeds(samples)]
        return known[samples]


@dataclass
class _Trial:
    """A change: the nodes and outputs behind it, and what they read of what is in front of it (None: all of it
    is to be computed)."""

    change: Change
    part: ModelProto
    outputs: list[str]
    front: list[str] | None


class _Trials:
    """The trials of one question."""

    def __init__(
        self, measurer: Measurer, tapped: Tapped, shapes: Shapes, samples: int, expected: list[Outputs]
    ) -> None:
        self._measurer, self._tapped, self._samples, self._expected = measurer, tapped, samples, expected
        self._patcher = Patcher(measurer.graph, shapes)
        self._tensors = {
            out.name for node in measurer.graph.nodes for out in node.outputs
            if out.name and shapes.onnx_dtype(out) and shapes.dims(out) is not None
        }  # fmt: skip
        self._answer = Measured(sum(map(rows_of, self._feeds())))

    def _feeds(self) -> Iterator[Feed]:
        return self._measurer.feeds(self._samples)

    def run(self, changes: Sequence[Change]) -> Measured:
        trials = list[_Trial]()
        for change in changes:
            try:
                trials.append(self._trial(change))
            except Unpatched as why:
                self._answer.refused[change] = str(why)
        recorded = [name for trial in trials for name in trial.front or ()]
        groups = list(self._groups(trials, self._sizes(list(dict.fromkeys(recorded))))) or [[]]
        present: list[Outputs] = []
        for group in groups:
            names = list(dict.fromkeys(name for trial in group for name in trial.front or ()))
            values = self._recorded(names, present) if names or not present else []
            for trial in group:
                try:
                    self._measure(trial, values, present)
                except WorkerFailure as failure:
                    self._answer.refused[trial.change] = f"the changed graph does not run: {_clause(failure)}"
        compared = Comparison()
        for expected, outputs in zip(self._expected, present, strict=True):
            compared.update(expected, outputs)
        self._answer.now = compared.effects
        return self._answer

    def _trial(self, change: Change) -> _Trial:
        part = _copy(self._tapped.base())
        differ = self._patcher.apply(change, part)
        graph = part.graph
        reads = [tuple(reads_of(node)) for node in graph.node]
        outputs = [one.name for one in graph.output]
        front: list[str] | None = None
        if differ is not None:
            behind = behind_of(graph, reads, differ)
            outputs = [name for name in outputs if name in behind]
            front = front_of(graph, reads, behind, outputs, self._tensors)
        cut(graph, reads, outputs, set(front or ()))
        return _Trial(change, part, outputs, front)

    def _sizes(self, names: list[str]) -> dict[str, int]:
        """The bytes of values over all feeds, from their shapes on the first one."""
        if not names:
            return {}
        rows, first = self._answer.samples, next(self._feeds())
        with suppress(WorkerFailure), self._tapped.shapes(names) as running:
            shapes = running.run(first, names)
            times = rows / max(rows_of(first), 1)
            return {name: int(sum(float(np.prod(one)) for one in shapes[name]) * 4 * times) for name in names}
        return {}

    def _groups(self, trials: Sequence[_Trial], sizes: Mapping[str, int]) -> Iterator[list[_Trial]]:
        """Trials whose recorded values are held together. Those that need too many, or alone, compute all of it."""
        bound, group, held = self._measurer.bound, list[_Trial](), set[str]()
        for trial in trials:
            front = trial.front
            if front is None or any(one not in sizes for one in front) or sum(sizes[one] for one in front) > bound:
                if front:
                    trial = self._in_full(trial)
                group.append(trial)
                continue
            if group and sum(sizes[one] for one in held.union(front)) > bound:
                yield group
                group, held = [], set()
            group.append(trial)
            held.update(front)
        if group:
            yield group

    def _in_full(self, trial: _Trial) -> _Trial:
        part = _copy(self._tapped.base())
        self._patcher.apply(trial.change, part)
        cut(part.graph, [tuple(reads_of(node)) for node in part.graph.node], trial.outputs, set())
        return _Trial(trial.change, part, trial.outputs, None)

    def _recorded(self, names: Sequence[str], present: list[Outputs]) -> list[Outputs]:
        """The values of the graph as it is, feed by feed; its outputs go to `present` the first time."""
        part = _copy(self._tapped.base())
        outputs = [one.name for one in part.graph.output]
        wanted = list(dict.fromkeys((*(() if present else outputs), *names)))
        graph = part.graph
        cut(graph, [tuple(reads_of(node)) for node in graph.node], wanted, set())
        with self._tapped.loaded(part, _MODE) as session:
            found = [_run(session, feed) for feed in self._feeds()]
        if not present:
            present += [{name: one[name] for name in outputs} for one in found]
        return [{name: one[name] for name in names} for one in found]

    def _measure(self, trial: _Trial, values: Sequence[Outputs], present: Sequence[Outputs]) -> None:
        original, now = Comparison(), Comparison()
        with ExitStack() as stack:
            session: Session | None = None
            for at, feed in enumerate(self._feeds()):
                fed = {**feed, **{name: values[at][name] for name in trial.front or ()}}
                if session is None and trial.outputs:
                    declare(trial.part.graph, {name: fed[name] for name in trial.front or ()})
                    session = stack.enter_context(self._tapped.loaded(trial.part, _MODE))
                made = {**present[at], **(_run(session, fed) if session is not None else {})}
                original.update(self._expected[at], made)
                now.update(present[at], made)
        self._answer.original[trial.change], self._answer.present[trial.change] = original.effects, now.effects


def _run(session: Session, values: Mapping[str, Any]) -> Outputs:
    fed = {port.name for port in (*session.inputs, *session.overridable)}
    return session.run({name: value for name, value in values.items() if name in fed})


def _whole_rows(proto: ModelProto) -> bool:
    """Whether all inputs that have axes share a symbolic leading dim, so that feeds may have fewer rows."""
    weights = {one.name for one in proto.graph.initializer}
    leading = set[str]()
    for one in proto.graph.input:
        if one.name in weights:
            continue
        if one.type.WhichOneof("value") != "tensor_type" or not one.type.tensor_type.HasField("shape"):
            return False
        dims = one.type.tensor_type.shape.dim
        if dims:
            leading.add(dims[0].dim_param if dims[0].WhichOneof("value") == "dim_param" else "")
    return len(leading) == 1 and "" not in leading


def _copy(proto: ModelProto) -> ModelProto:
    copied = ModelProto()
    copied.CopyFrom(proto)
    return copied


def _clause(failure: WorkerFailure) -> str:
    return str(failure).rstrip(". ")
