"""Where the error of a model comes from: every value's share, and which layers repair most when put right.

A layer is returned to the reference by taking its own error out of its value and leaving in what the value
inherits: the difference between the reference's value and the candidate's nodes on the reference's
inputs is added, and the outputs are measured. Putting the reference's value itself there would
credit the last layer with the errors of all before it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from onnx import TensorProto

from graphopt.debug.parts import shift_of
from graphopt.debug.readings import Reading, difference
from graphopt.debug.survey import Pairing, survey
from graphopt.debug.taps import GROUP_BYTES, Model, Values
from graphopt.errors import CouldNotTell
from graphopt.runtime.failure import WorkerFailure
from graphopt.validation.compare import Difference

_TRIED: Final = 3  # times as many values as are asked for are really put back


@dataclass(frozen=True)
class Recovery:
    """What the outputs reach (dB of the worst output) when one value, or several, have no error of their own."""

    values: tuple[str, ...]
    op: str
    born_db: float
    output_db: float


@dataclass
class Profile:
    """Every matched pair in graph order, and what returning values to the reference recovers.

    `output_db` is the SQNR of the worst output as the candidate is. `recoveries` begin with the
    value that recovers most, `together` is all of them at once (None where there are fewer than two).
    """

    readings: list[Reading]
    output_db: float
    recoveries: list[Recovery]
    together: Recovery | None
    unmatched: int
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0


def profile(
    old: Model, new: Model, feeds: Sequence[Values], *, origins: Mapping[str, Sequence[str]] | None = None,
    top: int = 5, group_bytes: int = GROUP_BYTES,
) -> Profile:  # fmt: skip
    """Measure every matched value of `new` against `old`. Raises CouldNotTell where one cannot be looked into."""
    pairing = Pairing.of(old, new, feeds, origins=origins, group_bytes=group_bytes)
    readings = [one for group in survey(pairing, weights=True) for one in group]
    found = Profile(readings, math.inf, [], None, len(old.tensors) - len(readings), pairing.warnings)
    ends = {name: pairing.to_old[name] for name in new.wiring.outputs if name in pairing.to_old}
    if not ends:
        raise CouldNotTell("the two models share no output, so that no error can be measured")
    suspects = sorted((one for one in readings if _can_return(pairing, one)), key=_born)[: max(1, top) * _TRIED]
    try:
        _recover(pairing, ends, suspects, top, found)
    except WorkerFailure as failure:
        raise CouldNotTell(f"the models cannot be looked into: {failure}") from None
    return found


def _born(one: Reading) -> float:
    return math.inf if one.born is None else one.born.sqnr_db


def _can_return(pairing: Pairing, one: Reading) -> bool:
    name = one.match.candidate
    plain = pairing.new.tensors[name] in (TensorProto.FLOAT, TensorProto.DOUBLE)
    return name in pairing.given and plain and -math.inf < _born(one) < math.inf


def _recover(pairing: Pairing, ends: Mapping[str, str], suspects: Sequence[Reading], top: int, found: Profile) -> None:
    if not suspects:
        known = {one.match.candidate: one.total for one in found.readings}
        found.output_db = min(_db(known[name]) for name in ends)
        return
    names = [one.match.candidate for one in suspects]
    gained = _outputs(pairing, ends, [(), *((name,) for name in names)])
    found.output_db = gained[0]
    ranked = sorted(zip(gained[1:], suspects, strict=True), key=lambda one: -one[0])
    found.recoveries = [
        Recovery((one.match.reference,), one.op, _born(one), output)
        for output, one in ranked[:top]
        if output > found.output_db
    ]
    if len(found.recoveries) > 1:
        to_new = {one.match.reference: one.match.candidate for one in suspects}
        values = tuple(one.values[0] for one in found.recoveries)
        (all_of_them,) = _outputs(pairing, ends, [tuple(to_new[name] for name in values)])
        found.together = Recovery(values, "", min(one.born_db for one in found.recoveries), all_of_them)


def _outputs(pairing: Pairing, ends: Mapping[str, str], sets: Sequence[tuple[str, ...]]) -> list[float]:
    """The SQNR of the worst output for each set of values without error of their own: one run a feed and set."""
    new, likes = pairing.new, pairing.likes()
    names = tuple(dict.fromkeys(name for several in sets for name in several))
    reads = new.wiring.region(names, likes).reads
    wanted = dict.fromkeys((*ends.values(), *(pairing.given[name] for name in (*names, *reads))))
    sums = [dict.fromkeys(ends, Difference()) for _ in sets]
    with pairing.old.tap(wanted) as known:
        for feed in pairing.feeds:
            reference = known.run(feed)
            shifts = _shifts(pairing, feed, reference, names, reads) if names else {}
            for several, total in zip(sets, sums, strict=True):
                with new.tap(ends, shifted={name: likes[name] for name in several}) as part:
                    made = part.run(feed, {shift_of(name): shifts[name] for name in several})
                for name in ends:
                    total[name] = total[name] + difference(reference[ends[name]], made[name])
    return [min(_db(one) for one in total.values()) for total in sums]


def _shifts(
    pairing: Pairing, feed: Values, reference: Values, names: Sequence[str], reads: Sequence[str]
) -> dict[str, Any]:
    """What is to be added to each value to take out the error that is born in its nodes."""
    given = {name: pairing.put(name, reference[pairing.given[name]]) for name in reads}
    with pairing.new.tap(names, pairing.likes()) as alone:
        made = alone.run(feed, given)
    shifts = {}
    for name in names:
        right = pairing.put(name, reference[pairing.given[name]])
        with np.errstate(all="ignore"):
            gap = right - made[name]
        shifts[name] = np.where(np.isfinite(gap), gap, 0).astype(right.dtype)
    return shifts


def _db(one: Difference) -> float:
    return -math.inf if one.problem else one.sqnr_db
