"""Inside a stretch in which no names are shared: which value is wrong, told by what comes right without it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from graphopt.debug.readings import Reading, difference
from graphopt.debug.replaced import constant_values
from graphopt.debug.sketches import closeness, sketch
from graphopt.debug.survey import Pairing
from graphopt.debug.taps import Model
from graphopt.errors import OverLimit
from graphopt.runtime.elements import dtype_of
from graphopt.runtime.failure import WorkerFailure
from graphopt.validation.likes import Like
from graphopt.validation.values import is_float

_CANDIDATES: Final = 16  # values of the candidate that are tried in turn
_STAND_INS: Final = 16  # values of the reference tried in the place of each
_WITNESSES: Final = 64  # values behind it that are looked at
_RIGHT_DB: Final = 60.0


@dataclass(frozen=True)
class Site:
    """A value of the reference and the candidate's value for it."""

    reference: str
    candidate: str


def narrowed(pairing: Pairing, site: Site) -> Site | None:
    """The first value inside the stretch before `site` that is wrong; None where the stretch has no inside.

    A value of the candidate is wrong, and stands for a value of the reference, when with the
    reference's in its place the values behind it come right.
    """
    old, new = pairing.old.wiring, pairing.new.wiring
    agreed = {name for name in pairing.given if name != site.candidate}
    known = {pairing.given[name] for name in agreed}
    inside = new.inside(new.region([site.candidate], agreed), agreed)
    theirs = [name for name in computed(pairing.new, inside) if name != site.candidate]
    mine = computed(pairing.old, old.inside(old.region([site.reference], known), known))
    for name in theirs[:_CANDIDATES]:
        shape = pairing.shapes[1][name]
        fitting = [one for one in mine if pairing.shapes[0][one] == shape and one != site.reference][:_STAND_INS]
        behind = [one for one in theirs if new.place[one] > new.place[name]][:_WITNESSES]
        best = _best(pairing, name, fitting, [*behind, site.candidate], mine)
        if best is not None:
            return Site(best, name)
    return None


def computed(model: Model, names: Iterable[str]) -> list[str]:
    """The tensors of floating point among some values that depend on inputs: not shapes, not constants."""
    fixed = constant_values(model.wiring)
    kinds = {name: model.tensors[name] for name in names if name in model.tensors and name not in fixed}
    return [name for name, element in kinds.items() if is_float(dtype_of(element))]


def reused(pairing: Pairing, one: Reading, readings: Mapping[str, Reading], limit_db: float | None) -> bool:
    """Whether a pair only shares a name: the candidate's own value makes what follows it right.

    A rewrite that folds something into a node may keep the name of the node's output.
    """
    name = one.match.candidate
    if one.match.why in ("output", "value") or name not in pairing.given:
        return False
    likes = {other: like for other, like in pairing.likes().items() if other != name}
    following = pairing.new.wiring.next_after(name, likes)[:_WITNESSES]
    reads = pairing.new.wiring.region(following, likes).reads
    wanted = dict.fromkeys(pairing.given[other] for other in (*following, *reads))
    if not following:
        return False
    try:
        with pairing.old.tap(wanted) as reference, pairing.new.tap(following, likes) as alone:
            for feed in pairing.feeds:
                values = reference.run(feed)
                made = alone.run(feed, {other: pairing.put(other, values[pairing.given[other]]) for other in reads})
                for other in following:
                    apart = difference(values[pairing.given[other]], made[other])
                    if readings[other].differs(limit_db, apart):
                        return False
    except (WorkerFailure, OverLimit):
        return False
    return True


def lost_value(pairing: Pairing, site: Site, reading: Reading, limit_db: float | None) -> tuple[str, str] | None:
    """A value of the reference that the candidate leaves out, and what it reads in its place.

    Found where the candidate's nodes give the right result with that value instead.
    """
    old, new = pairing.old.wiring, pairing.new.wiring
    likes = {name: like for name, like in pairing.likes().items() if name != site.candidate}
    reads = new.region([site.candidate], likes).reads
    known = {pairing.given[name] for name in likes}
    ours = old.inside(old.region([site.reference], known), known)
    lost = [name for name in ours if name in pairing.old.tensors and name != site.reference]
    tries = [
        (name, one) for name in lost[:_STAND_INS] for one in reads if pairing.shapes[0][name] == pairing.shapes[1][one]
    ]
    if not tries:
        return None
    wanted = dict.fromkeys((site.reference, *lost[:_STAND_INS], *(pairing.given[one] for one in reads)))
    right = [True] * len(tries)
    try:
        with pairing.old.tap(wanted) as reference, pairing.new.tap([site.candidate], likes) as alone:
            for feed in pairing.feeds:
                values = reference.run(feed)
                given = {one: pairing.put(one, values[pairing.given[one]]) for one in reads}
                for number, (name, one) in enumerate(tries):
                    if right[number]:
                        made = alone.run(feed, {**given, one: pairing.put(one, values[name])})[site.candidate]
                        right[number] = not reading.differs(limit_db, difference(values[site.reference], made))
    except (WorkerFailure, OverLimit):
        return None
    return next((one for one, fits in zip(tries, right, strict=True) if fits), None)


def _best(
    pairing: Pairing, name: str, fitting: Sequence[str], behind: Sequence[str], mine: Sequence[str]
) -> str | None:
    """The stand-in with which most of the values behind `name` are values of the reference; None for none."""
    if not fitting:
        return None
    likes = {one: like for one, like in pairing.likes().items() if one not in behind}
    ranks = {len(shape) for shape in pairing.shapes[1][name]}
    likes[name] = Like(pairing.new.tensors[name], ranks.pop() if len(ranks) == 1 else None)
    reads = [one for one in pairing.new.wiring.region(behind, likes).reads if one != name]
    wanted = dict.fromkeys((*mine, *(pairing.given[one] for one in reads)))
    feed = pairing.feeds[0]
    try:
        with pairing.old.tap(wanted) as reference, pairing.new.tap(behind, likes) as after:
            values = reference.run(feed)
            given = {one: pairing.put(one, values[pairing.given[one]]) for one in reads}
            known = [sketch([np.asarray(values[one])]) for one in mine]
            scores = [
                _right(after.run(feed, {**given, name: pairing.put(name, values[one])}), known) for one in fitting
            ]
    except (WorkerFailure, OverLimit):
        return None
    best = max(scores)
    return fitting[scores.index(best)] if best > 0 else None


def _right(made: dict[str, Any], known: Sequence[Any]) -> int:
    found = (sketch([np.asarray(value)]) for value in made.values())
    return sum(1 for one in found if one.telling and any(closeness(other, one) >= _RIGHT_DB for other in known))
