"""Which stretch of the result is wrong: each also runs on the original's own tensors, so that errors cannot pile up."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from graphopt.errors import UsageError
from graphopt.runtime.failure import WorkerFailure
from graphopt.validation.compare import Difference, compare, same_bits
from graphopt.validation.running import Key, Values
from graphopt.validation.segments.chain import Watch
from graphopt.validation.segments.joint import Joint
from graphopt.validation.segments.net import Net, label
from graphopt.validation.segments.plan import Segment
from graphopt.validation.segments.report import SegmentRow
from graphopt.validation.segments.shelf import Full, Shelf
from graphopt.validation.values import is_float

if TYPE_CHECKING:
    from graphopt.runtime.client import Session
    from graphopt.runtime.options import Value

FEEDS: Final = 4  # feeds that are looked at; more make no stretch easier to tell
_GOOD: Final = 30.0  # dB: outputs that agree less tell nothing about what is before them
_BETTER: Final = 20.0  # dB by which the outputs are better than an inner value that is then another value


class Keeping(Watch):
    """Keeps the original's values of some names, on the first feeds, as far as there is room."""

    def __init__(self, names: set[str], folder: Path) -> None:
        self.names = names
        self.shelf = Shelf(folder)

    def ran(self, key: Key, segment: Segment, given: Values, outputs: Mapping[str, Value], session: Session) -> None:
        if key[1] or key[0] >= FEEDS:
            return
        for name in self.names.intersection(outputs):
            with contextlib.suppress(Full):  # a stretch that begins there is not compared
                self.shelf.keep((key[0], name), outputs[name])


@dataclass
class _Pair:
    """One value of the original and what stands for it, made in a stretch."""

    stretch: int
    born: Difference | None = None
    carried: Difference = field(default_factory=Difference)


@dataclass
class _Stretch:
    """Segments between two joints; `begin` is the joint before it."""

    begin: Joint | None
    segments: list[Segment] = field(default_factory=list)
    why: str = ""


class Blame(Watch):
    """Looks on while the result runs, and runs each of its segments on the tensors of the original, too."""

    def __init__(self, net: Net, joints: Sequence[Joint], kept: Shelf, folder: Path) -> None:
        self._net, self._joints, self._kept = net, joints, kept
        self._state = Shelf(folder)
        self._olds = {other: name for joint in joints for name, other in joint.pairs.items()}
        self._olds.update((name, name) for name in net.outputs)
        self._stretches = [_Stretch(None)]
        self._pairs: dict[str, _Pair] = {}

    def ran(self, key: Key, segment: Segment, given: Values, outputs: Mapping[str, Value], session: Session) -> None:
        number, again = key
        if again or number >= FEEDS:
            return
        known = self._compared(number, outputs)
        for name, old in known.items():
            pair = self._pairs.setdefault(name, _Pair(len(self._stretches) - 1))
            pair.carried = pair.carried + apart(old, outputs[name])
        alone = self._alone(number, segment, given, outputs, session)
        for name, old in known.items() if alone is not None else ():
            pair, born = self._pairs[name], apart(old, alone[name]) if alone is not None else Difference()
            pair.born = born if pair.born is None else pair.born + born

    def ended(self, number: int, segment: Segment) -> None:
        self._stretches[-1].segments.append(segment)
        if segment.joint is not None:
            self._state.clear()
            self._stretches.append(_Stretch(self._joints[segment.joint]))

    def rows(self) -> tuple[SegmentRow, ...]:
        """What is known of each stretch, once all have run."""
        false = self._false()
        found = []
        for number, stretch in enumerate(one for one in self._stretches if one.segments):
            pairs = [one for name, one in self._pairs.items() if one.stretch == number and name not in false]
            why = stretch.why
            if stretch.begin is not None and false.intersection(stretch.begin.pairs.values()):
                why = why or "what crosses into it agrees far less than the outputs do, as another value would"
            if not pairs:
                why = why or "nothing that leaves it has a counterpart"
            found.append(self._row(number, stretch, pairs, why))
        return tuple(found)

    def _row(self, number: int, stretch: _Stretch, pairs: Sequence[_Pair], why: str) -> SegmentRow:
        nodes = dict.fromkeys(at for one in stretch.segments for at in one.nodes)
        live = [at for at in nodes if not self._net.fixed[at]] or list(nodes)
        labels = [label(self._net.nodes[at]) for at in live] or ["the inputs", "the outputs"]
        born = sum((one.born for one in pairs if one.born is not None), Difference())
        problem = born.problem or _nonfinite(born)
        return SegmentRow(
            number + 1,
            labels[0],
            labels[-1],
            len(live),
            sum(one.bytes for one in stretch.segments),
            None if why else min((one.born.sqnr_db for one in pairs if one.born is not None), default=math.inf),
            min((one.carried.sqnr_db for one in pairs), default=math.inf) if pairs else None,
            0 if why else born.differing,
            "" if why else problem,
            why,
        )

    def _compared(self, number: int, outputs: Mapping[str, Value]) -> dict[str, Value]:
        """The original's values for what a segment gave."""
        olds = {name: (number, self._olds[name]) for name in outputs if name in self._olds}
        return {name: self._kept[old] for name, old in olds.items() if old in self._kept}

    def _alone(
        self, number: int, segment: Segment, given: Values, outputs: Mapping[str, Value], session: Session
    ) -> Mapping[str, Value] | None:
        """What a segment gives on the original's tensors; None where that cannot be had."""
        stretch = self._stretches[-1]
        if stretch.why:
            return None
        back = {other: name for name, other in stretch.begin.pairs.items()} if stretch.begin is not None else {}
        ports = {port.name: port.dtype for port in session.inputs}
        mine: dict[str, Any] = {name: given[name] for name in segment.inputs if name in given}
        for name in segment.takes:
            old = (number, back.get(name))
            if (number, "", name) in self._state:
                mine[name] = self._state[number, "", name]
            elif old in self._kept:
                mine[name] = _as(self._kept[old], ports[name])
            else:
                stretch.why = f"{name!r}, which crosses into it, was not kept of the original"
                return None
        try:
            same = all(same_bits(given[name], mine[name]) for name in segment.takes)
            made = outputs if same else session.run(mine)
            for name, value in made.items() if segment.joint is None else ():
                self._state.keep((number, "", name), value)
        except (UsageError, WorkerFailure, Full) as error:
            stretch.why = f"it does not run on the original's tensors: {str(error).rstrip('. ')}"
            return None
        return made

    def _false(self) -> set[str]:
        """Names that stand for something else in the original: the outputs agree far better than they do."""
        ends = [self._pairs[name].carried for name in self._net.outputs if name in self._pairs]
        reached = min((one.sqnr_db for one in ends if not one.problem), default=-math.inf)
        sound = reached >= _GOOD and not any(one.problem or one.nonfinite for one in ends)
        limit = min(reached, 2 * _GOOD) - _BETTER
        inner = {name: one.carried for name, one in self._pairs.items() if name not in self._net.outputs}
        return {name for name, one in inner.items() if sound and (one.problem or one.sqnr_db < limit)}


def apart(reference: Value, candidate: Value) -> Difference:
    """Compare two values; floats of different types are compared in the reference's."""
    if isinstance(reference, np.ndarray) and isinstance(candidate, np.ndarray) and candidate.dtype != reference.dtype:
        candidate = _as(candidate, reference.dtype)
    return compare(reference, candidate)


def _as(value: Any, dtype: np.dtype[Any] | None) -> Any:
    """A float array as another float type, everything else as it is."""
    if dtype is None or not isinstance(value, np.ndarray) or value.dtype == dtype:
        return value
    if not (is_float(value.dtype) and is_float(dtype)):
        return value
    with np.errstate(over="ignore"):
        return value.astype(dtype)


def _nonfinite(found: Difference) -> str:
    return f"NaN or Inf in {found.nonfinite} elements, or no longer," if found.nonfinite else ""
