"""Runs models a segment at a time, and two of them so that the wrong stretch can be told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from onnx import TensorProto, TypeProto

from graphopt.runtime.elements import type_text
from graphopt.storage.read import read
from graphopt.validation.running import Feeds, Results, Running
from graphopt.validation.runs import OFF
from graphopt.validation.segments.blame import Blame, Keeping
from graphopt.validation.segments.chain import Chain, Watch
from graphopt.validation.segments.fitting import allowed
from graphopt.validation.segments.joint import Joint, Origins, Standing, joints
from graphopt.validation.segments.net import Net
from graphopt.validation.segments.plan import Cuts, segments_of
from graphopt.validation.segments.report import SegmentsReport

if TYPE_CHECKING:
    from graphopt.runtime.client import Worker
    from graphopt.runtime.options import Options
    from graphopt.storage.source import Source


class Segmented:
    """Runs models as chains of segments with at most `most` bytes of weights each, in scratch space under `folder`.

    `reference` is the file of the model that others are compared with. After `pair` it and the candidate are cut at
    the same places where that is possible, and when both have run with optimizations off `report` says of each
    stretch between two such places how wrong it is.
    """

    def __init__(
        self, worker: Worker, folder: Path, reference: Path, source: Source | None = None, most: int | None = None
    ) -> None:
        self._worker, self._folder = worker, folder
        self._most = allowed(worker) if most is None else most
        self._reference, self._source = reference, source
        self._old: Chain | None = None
        self._cuts: tuple[Cuts, list[int]] | None = None
        self._keeping: Keeping | None = None
        self._kept = False
        self._candidate: Path | None = None
        self._new: Chain | None = None
        self._blame: Blame | None = None

    @contextmanager
    def open(self, path: Path, mode: Options) -> Iterator[Running]:
        """See `Runner`."""
        watch: Watch | None = None
        if path == self._reference:
            chain, watch = self._original(), self._keeping
            self._kept |= watch is not None and mode == OFF
        elif path == self._candidate and self._new is not None:
            chain, watch = self._new, self._blame
        else:
            chain = self._chain(Net.of(read(path)), "the model")
        yield _Chained(chain, mode, watch)

    def pair(self, candidate: Path, origins: Origins | None, source: Source | None = None) -> None:
        """Let `candidate` be what is run next; `origins` are the old names that its new ones stand for."""
        old = self._original().net
        new = Net.of(read(candidate) if source is None else source)
        standing = Standing(old, new, origins)
        if self._cuts is None or not self._kept:
            cuts = Cuts(old, old.live)
            chosen = cuts.chosen(self._most, lambda name: standing.of(name) is None)
            self._cuts = cuts, chosen
            self._old = self._chain(old, "the original", chosen)
            crossing = {name for names in cuts.crossing(chosen) for name in names}
            self._keeping = Keeping({*crossing, *old.outputs}, self._folder / "kept")
        found, groups = joints(old, *self._cuts, standing)
        self._candidate = candidate
        self._new = self._joined(new, found, groups)
        assert self._keeping is not None
        self._blame = Blame(new, found, self._keeping.shelf, self._folder / "alone")

    def report(self) -> SegmentsReport:
        """What is known about the last pair."""
        chains = [one for one in (self._old, self._new) if one is not None]
        return SegmentsReport(
            len(self._old.segments) if self._old is not None else 0,
            len(self._new.segments) if self._new is not None else 0,
            self._most,
            max((one.bytes for chain in chains for one in chain.segments), default=0),
            max((chain.peak for chain in chains), default=0),
            max((chain.spilled for chain in chains), default=0),
            self._blame.rows() if self._blame is not None else (),
        )

    def _original(self) -> Chain:
        if self._old is None:
            source = read(self._reference) if self._source is None else self._source
            self._old = self._chain(Net.of(source), "the original")
        return self._old

    def _chain(self, net: Net, name: str, chosen: list[int] | None = None) -> Chain:
        if chosen is None:
            chosen = Cuts(net, net.live).chosen(self._most, lambda name: False)
        return Chain(net, segments_of(net, net.live, chosen, {}), self._worker, self._folder / "chain", name)

    def _joined(self, net: Net, found: list[Joint], groups: list[list[int]]) -> Chain:
        """The result as segments, with a cut at each joint and more of them where memory wants that."""
        order = [at for group in groups for at in group]
        ends: dict[int, int] = {}
        total = 0
        for number, group in enumerate(groups[:-1]):
            total += len(group)
            ends[total] = number
        assert len(ends) == len(found)
        chosen = Cuts(net, order).chosen(self._most, lambda name: False, ends)
        return Chain(net, segments_of(net, order, chosen, ends), self._worker, self._folder / "chain", "the result")


class _Chained:
    """A chain to be run; `watch` looks on where optimizations are off."""

    def __init__(self, chain: Chain, mode: Options, watch: Watch | None) -> None:
        self._chain, self._mode, self._watch = chain, mode, watch
        net = chain.net
        self.inputs = {name: _type(info.type) for name, info in net.inputs.items() if name not in net.weights}
        self.outputs = {name: _type(info.type) for name, info in net.outputs.items()}

    def each(self, feeds: Feeds, seconds: float | None = None) -> Results:
        for one in self._chain.run([self._watched(self._mode, feeds)], seconds):
            yield from one

    def several(self, asked: Sequence[tuple[Options, Feeds]], seconds: float | None = None) -> Iterator[Results]:
        yield from self._chain.run([self._watched(*one) for one in asked], seconds)

    def _watched(self, mode: Options, feeds: Feeds) -> tuple[Options, Feeds, Watch]:
        return mode, feeds, self._watch if self._watch is not None and mode == OFF else Watch()


def _type(kind: TypeProto) -> str:
    """The type in onnxruntime's words; "" for what is not declared, or is no tensor."""
    element = kind.tensor_type.elem_type
    return "" if element == TensorProto.UNDEFINED else type_text(element)
