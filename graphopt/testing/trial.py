"""One pass run on one model through the real manager, as often as its laws need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from onnx import ModelProto

from graphopt.calibration.source import CalibrationData
from graphopt.errors import InternalError
from graphopt.ir import Graph, decode, encode
from graphopt.pipeline import Pipeline
from graphopt.pipeline.gate import Candidate, Gate
from graphopt.pipeline.manager import Outcome, run
from graphopt.session.services import WorkerServices
from graphopt.storage.read import from_proto
from graphopt.storage.wire import join
from graphopt.testing.breach import LawBroken
from graphopt.testing.feeds import SPECIAL, feeds_for
from graphopt.testing.running import Results, shared_worker


@dataclass(frozen=True)
class Made:
    """What one run gave: the manager's outcome and the bytes of the file it would write."""

    outcome: Outcome
    data: bytes

    @property
    def proto(self) -> ModelProto:
        """The result, parsed anew."""
        proto: ModelProto = ModelProto.FromString(self.data)
        return proto


@dataclass(frozen=True)
class UpTo:
    """A gate that lets the first `count` rewrites of a run through and no other."""

    count: int

    def allows(self, candidate: Candidate) -> bool:
        return candidate.total <= self.count


@dataclass(frozen=True)
class Without:
    """A gate that keeps one rewrite back: the `number`-th candidate of a pass."""

    pass_name: str
    number: int

    def allows(self, candidate: Candidate) -> bool:
        return (candidate.pass_name, candidate.number) != (self.pass_name, self.number)


@dataclass(frozen=True)
class Trial:
    """A pipeline and the model it is tried on.

    `data` is the model's canonical bytes; `expected` are its outputs on `feeds`, which may be none.
    `memory` keeps what is measured of the model itself, for all pipelines that are tried on it.
    """

    pipeline: Pipeline
    before: ModelProto
    data: bytes
    feeds: Sequence[Mapping[str, Any]] | None = None
    expected: Results = field(default_factory=list)
    memory: dict[str, Any] = field(default_factory=dict, compare=False)

    def _calibration(self) -> Sequence[Mapping[str, Any]]:
        """The feeds that the pass may learn from: those that it is tried on."""
        if self.feeds is not None:
            return self.feeds
        return [feed for index, feed in enumerate(feeds_for(self.before)) if index != SPECIAL]

    def run(self, gate: Gate | None = None, data: bytes | None = None) -> Made:
        """Run the pipeline on the model (or on another one, `data`) as a session does.

        Raises LawBroken when the pass raises, edits without announcing it, or changes the model it was
        decoded from.
        """
        given = self.before if data is None else ModelProto.FromString(data)
        source = from_proto(given)

        def fresh() -> Graph:
            return decode(source.proto, source.store)

        try:
            outcome = run(
                fresh,
                self.pipeline,
                services=WorkerServices(shared_worker(), data=CalibrationData(self._calibration, source)),
                gate=gate,
            )
        except InternalError as error:
            law = "announced" if "without announcing" in str(error) else "no exceptions"
            raise LawBroken(law, str(error)) from error
        if self.before.SerializeToString() != self.data:
            raise LawBroken("input untouched", "the pass changed the model that it was given")
        encoded = encode(outcome.graph)
        made = Made(outcome, b"".join(join(encoded.proto, encoded.store)))
        if b"".join(join(source.proto, source.store)) != (self.data if data is None else data):
            raise LawBroken("input untouched", "the pass changed the message that its graph was decoded from")
        return made
