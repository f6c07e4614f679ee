"""A model's own rounding noise: how far its outputs move when only rounding changes.

Measured on the original, per output: onnxruntime's optimizations off and on, prepacking off and
on, float inputs nudged by one ulp in two random directions, float weights nudged by one ulp, and
both. What a rewrite may move an output by is a small multiple of this.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from graphopt.runtime.failure import WorkerFailure
from graphopt.runtime.options import Options
from graphopt.storage.scratch import Scratch
from graphopt.validation.compare import compare, unsettled
from graphopt.validation.feed_files import Feed
from graphopt.validation.nudge import binary, can_nudge, nudge
from graphopt.validation.running import Key, Outputs
from graphopt.validation.runs import OFF, ON, Runs
from graphopt.validation.values import Array
from graphopt.validation.variant import nudged_variant

if TYPE_CHECKING:
    from graphopt.runtime.options import Value
    from graphopt.storage.source import Source

FACTOR: Final = 8.0  # a rewrite may move an output by this many times its noise
FLOOR: Final = 2.0**-20  # of the output's RMS: noise is never taken to be less
NARROW: Final = {"float16": 2.0**-11, "bfloat16": 2.0**-8}
"""The same for outputs of few bits: half an ulp at the RMS, because rounding to them is noise too."""
FEEDS: Final = 8  # feeds that noise is measured on
_DIRECTIONS: Final = 2


@dataclass(frozen=True)
class OutputNoise:
    """The noise of one output on one feed.

    `scaled` is the largest |difference| over the RMS of the reference (0 where the reference is
    all zero), `peak` the same in absolute terms, `unsettled` the positions (as
    `compare.unsettled` counts them) of elements whose value or finiteness some probe changed,
    `reshaped` whether some probe changed type, shape or structure.
    """

    scaled: float = 0.0
    peak: float = 0.0
    unsettled: Array = field(default_factory=lambda: np.zeros(0, np.int64), repr=False)
    reshaped: bool = False

    def seen(self, reference: Value, probe: Value) -> OutputNoise:
        """This noise with one more probe taken in."""
        positions = unsettled(reference, probe)
        if positions is None:
            return replace(self, reshaped=True)
        difference = compare(reference, probe)
        scaled = difference.scaled if math.isfinite(difference.scaled) else 0.0
        return replace(
            self,
            scaled=max(self.scaled, scaled),
            peak=max(self.peak, difference.peak),
            unsettled=np.union1d(self.unsettled, positions) if positions.size else self.unsettled,
        )


def floor_of(value: Value) -> float:
    """The least noise of an output like `value`, of its RMS."""
    return NARROW.get(value.dtype.name, FLOOR) if isinstance(value, np.ndarray) else FLOOR


@dataclass(frozen=True)
class _Probe:
    """A run of the model in which only rounding differs: `directions` are those that inputs are nudged in."""

    what: str
    mode: Options
    directions: Sequence[int]


class Noise:
    """The noise of one model, measured feed by feed when it is asked for."""

    def __init__(self, runs: Runs, source: Source | None, seed: int) -> None:
        self._runs, self._source, self._seed = runs, source, seed
        self._measured: dict[int, dict[str, OutputNoise]] = {}
        self.warnings: list[str] = []

    def measure(self, indices: Sequence[int]) -> None:
        """Measure the feeds with these numbers, all in one go: each probe loads the model once.

        A probe that fails is left out with a warning; the original itself has to run, or
        `WorkerFailure` is raised.
        """
        reference = self._runs.outputs(OFF)
        new = [index for index in indices if index not in self._measured]
        if not new:
            return
        for index in new:
            self._measured[index] = {name: OutputNoise() for name in reference[index]}
        feeds = {index: feed for index, feed in enumerate(self._runs.feeds) if index in set(new)}
        for what, probes in self._probes(feeds):
            try:
                for index, outputs in probes:
                    noise = self._measured[index]
                    for name, value in outputs.items():
                        if name in noise:
                            noise[name] = noise[name].seen(reference[index][name], value)
            except WorkerFailure as failure:
                self.warnings.append(f"rounding noise was measured without {what}: {failure}")

    def of(self, index: int, name: str) -> OutputNoise:
        """The noise of one output on one measured feed; none where it was not measured."""
        return self._measured.get(index, {}).get(name, OutputNoise())

    def scaled(self, name: str) -> float:
        """The noise of an output over all measured feeds, at least that of its type (see `floor_of`)."""
        outputs = self._runs.outputs(OFF)
        floor = max(
            (floor_of(outputs[index][name]) for index in self._measured if name in outputs[index]), default=FLOOR
        )
        return max([floor, *(each[name].scaled for each in self._measured.values() if name in each)])

    def measured(self, index: int) -> bool:
        """Whether the feed with this number was measured."""
        return index in self._measured

    def _probes(self, feeds: Mapping[int, Feed]) -> Iterator[tuple[str, Iterator[tuple[int, Outputs]]]]:
        yield "onnxruntime's optimizations", self._kept(feeds)
        probes = [
            _Probe("prepacking", replace(OFF, prepack=True), (0,)),
            _Probe("optimizations without prepacking", replace(ON, prepack=False), (0,)),
            _Probe("nudged inputs", OFF, range(1, _DIRECTIONS + 1)),
        ]
        yield from self._several(self._runs.path, probes if any(map(_nudges, feeds.values())) else probes[:2], feeds)
        if self._source is not None:
            yield "nudged weights", self._run_variant(feeds)

    def _kept(self, feeds: Mapping[int, Feed]) -> Iterator[tuple[int, Outputs]]:
        outputs = self._runs.outputs(ON)
        for index in feeds:
            yield index, outputs[index]

    def _several(
        self, path: Path, probes: Sequence[_Probe], feeds: Mapping[int, Feed]
    ) -> Iterator[tuple[str, Iterator[tuple[int, Outputs]]]]:
        """Run a model under several probes, together where that takes less."""
        asked = [(one.mode, partial(self._given, feeds, one.directions)) for one in probes]
        done = 0
        while done < len(probes):
            began = done
            try:
                with self._runs.runner.open(path, probes[done].mode) as model:
                    for results in model.several(asked[done:]):
                        done += 1
                        yield probes[done - 1].what, ((index, outputs) for (index, _), outputs in results)
            except WorkerFailure as failure:
                if done > began:
                    raise
                done += 1
                yield probes[done - 1].what, _raised(failure)

    def _given(self, feeds: Mapping[int, Feed], directions: Sequence[int]) -> Iterator[tuple[Key, Mapping[str, Any]]]:
        """The feeds as they are (direction 0) or nudged in some directions."""
        for index, feed in feeds.items():
            for direction in directions:
                yield (index, direction), self._nudged(feed, index, direction)

    def _run_variant(self, feeds: Mapping[int, Feed]) -> Iterator[tuple[int, Outputs]]:
        assert self._source is not None
        with Scratch("noise") as folder:
            variant = nudged_variant(self._source, Path(folder), self._seed)
            if variant is not None:
                probe = _Probe("nudged weights", OFF, (0, _DIRECTIONS + 1))
                for _, results in self._several(variant, [probe], feeds):
                    yield from results

    def _nudged(self, feed: Feed, index: int, direction: int) -> Mapping[str, Any]:
        if not direction:
            return feed.values
        rng = np.random.default_rng((self._seed, index, direction))
        values: Mapping[str, Any] = feed.values
        return {name: nudge(value, rng) if _nudgeable(value) else value for name, value in values.items()}


def _raised(failure: WorkerFailure) -> Iterator[tuple[int, Outputs]]:
    """What raises when it is read."""
    yield from ()
    raise failure


def _nudgeable(value: Value) -> bool:
    """Float tensors, other than masks of zeros and ones."""
    return isinstance(value, np.ndarray) and can_nudge(value.dtype) and not binary(value)


def _nudges(feed: Feed) -> bool:
    return any(_nudgeable(value) for value in feed.values.values())
