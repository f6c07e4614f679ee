"""The first value at which two models part, whether it is born there, and what stands on either side.

All pairs are surveyed in one pass; the first that diverges is then looked at closely. Where a value was
lost (a node left out) or lies inside a stretch that was fused under fresh names, no pair has its
name: it is found by putting the reference's values into the candidate and looking at what comes right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from graphopt.debug.bodies import inside
from graphopt.debug.matching import CLOSE_DB
from graphopt.debug.narrow import Site, lost_value, narrowed, reused
from graphopt.debug.readings import Histogram, Reading, difference, histogram
from graphopt.debug.survey import Pairing, survey
from graphopt.debug.taps import GROUP_BYTES, Model, Values
from graphopt.debug.wiring import label
from graphopt.errors import CouldNotTell, OverLimit
from graphopt.runtime.failure import WorkerFailure

_LISTED: Final = 10
_DEEPEST: Final = 8  # bodies within bodies that are gone into


@dataclass
class Divergence:
    """One value at which the models part.

    `value` is the reference's name, `candidate` the name of what stands for it there (None where it was
    lost), `reading` how far they lie apart. `nodes_before` and `nodes_after` are the nodes between it and
    the nearest values that agree, in either model; `histograms` the errors born here and inherited.
    `instead` says of a lost value what the candidate reads in its place, `within` names the bodies
    around the value, the outermost first.
    """

    value: str
    candidate: str | None
    reading: Reading
    nodes_before: tuple[str, ...] = ()
    nodes_after: tuple[str, ...] = ()
    instead: str = ""
    histograms: tuple[Histogram, Histogram] | None = None
    within: tuple[str, ...] = ()


@dataclass
class Located:
    """What was found: `first` is None where nothing diverges.

    `others` are further values whose difference is born in their own nodes, `diverging` counts all
    pairs that diverge, `matched` all pairs by why they were paired, `unmatched` the reference's values
    that no value of the candidate stands for. `limit_db` is what was asked for, None for the model's own noise.
    """

    first: Divergence | None
    others: list[Reading]
    diverging: int
    matched: dict[str, int]
    unmatched: int
    limit_db: float | None
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0


def localize(
    old: Model, new: Model, feeds: Sequence[Values], *, origins: Mapping[str, Sequence[str]] | None = None,
    limit_db: float | None = None, group_bytes: int = GROUP_BYTES, depth: int = 0,
) -> Located:  # fmt: skip
    """Find where `new` parts from `old`, in the body of an If, Loop or Scan where it is born there.

    `depth` counts the bodies that are around. Raises CouldNotTell where one cannot be looked into.
    """
    close_db = CLOSE_DB if limit_db is None else min(CLOSE_DB, limit_db)
    pairing = Pairing.of(old, new, feeds, origins=origins, close_db=close_db, group_bytes=group_bytes)
    readings = {one.match.candidate: one for group in survey(pairing) for one in group}
    bad = _culprits(pairing, readings, limit_db)
    counts: dict[str, int] = {}
    for pair in pairing.matches:
        counts[pair.why] = counts.get(pair.why, 0) + 1
    unmatched = len(old.tensors) - len(pairing.matches)
    located = Located(None, [], len(bad), counts, unmatched, limit_db, pairing.warnings)
    apart = _first(pairing, bad, readings, limit_db)
    if apart:
        located.diverging = len(apart)
        located.first = _closely(pairing, apart[0], limit_db)
        if located.first.candidate is not None and depth < _DEEPEST:
            deeper = _inside(pairing, located.first, origins, limit_db, group_bytes, depth)
            located.first = deeper or located.first
        born = [
            one
            for one in apart[1:]
            if one.born is not None and one.differs(limit_db, one.born) and one.op != apart[0].op
        ]
        located.others = [one for one in born[:_LISTED] if not reused(pairing, one, readings, limit_db)]
    return located


def _inside(
    pairing: Pairing, first: Divergence, origins: Mapping[str, Sequence[str]] | None, limit_db: float | None,
    group_bytes: int, depth: int,
) -> Divergence | None:  # fmt: skip
    """The divergence inside the bodies of the nodes that make a value; None where none is found there."""
    assert first.candidate is not None
    node = pairing.old.wiring.node(first.value)
    try:
        found = inside(pairing, first.value, first.candidate)
        if found is None or node is None:
            return None
        inner = localize(
            found.old, found.new, found.feeds, origins=origins, limit_db=limit_db, group_bytes=group_bytes,
            depth=depth + 1,
        ).first  # fmt: skip
    except (CouldNotTell, WorkerFailure, OverLimit):
        return None  # the node itself is named all the same
    if inner is not None:
        inner.within = (f"{label(node)} {found.attribute}", *inner.within)
    return inner


def _culprits(pairing: Pairing, readings: Mapping[str, Reading], limit_db: float | None) -> list[Reading]:
    """The pairs that differ and from which an output that differs is reached without passing values that agree.

    Others differ by name only: a rewrite kept the name for something else, and what follows is right.
    """
    differing = {name for name, one in readings.items() if one.differs(limit_db)}
    ends = [name for name in pairing.new.wiring.outputs if name in readings]
    if not ends:
        return [readings[name] for name in readings if name in differing]
    leading = pairing.new.wiring.leading_to(
        (name for name in ends if name in differing), lambda name: name in differing or name not in readings
    )
    return [one for name, one in readings.items() if name in differing and name in leading]


def _first(
    pairing: Pairing, bad: Sequence[Reading], readings: Mapping[str, Reading], limit_db: float | None
) -> list[Reading]:
    """The pairs from the first on that really is one; the pairs before it are given up."""
    for number, one in enumerate(bad):
        if not reused(pairing, one, readings, limit_db):
            return list(bad[number:])
        pairing.given.pop(one.match.candidate, None)
    return []


def _closely(pairing: Pairing, reading: Reading, limit_db: float | None) -> Divergence:
    """The divergence at a pair, or at the value inside its stretch that explains it."""
    site = Site(reading.match.reference, reading.match.candidate)
    if reading.is_born and not reading.total.problem:
        site = narrowed(pairing, site) or site
        lost = lost_value(pairing, site, reading, limit_db)
        if lost is not None:
            value, instead = lost
            before, after = _nodes(pairing, site)
            apart = _apart(pairing, value, instead) or reading
            return Divergence(value, None, apart, before, after, instead)
    found = Divergence(site.reference, site.candidate, reading, *_nodes(pairing, site))
    _measure(pairing, site, found, reading)
    return found


def _nodes(pairing: Pairing, site: Site) -> tuple[tuple[str, ...], tuple[str, ...]]:
    old, new = pairing.old.wiring, pairing.new.wiring
    mine = old.region([site.reference], set(pairing.given.values()) - {site.reference})
    theirs = new.region([site.candidate], set(pairing.given) - {site.candidate})
    nodes = old.source.proto.graph.node, new.source.proto.graph.node
    before = tuple(label(nodes[0][one]) for one in mine.nodes)
    return before, tuple(label(nodes[1][one]) for one in theirs.nodes)


def _apart(pairing: Pairing, value: str, instead: str) -> Reading | None:
    """How far a lost value lies from what is read in its place."""
    pair = pairing.pair(value, instead, "value")
    reading = Reading(pair, pairing.op(value), pairing.old.tensors[value])
    with pairing.old.tap([value]) as known, pairing.new.tap([instead]) as found:
        for feed in pairing.feeds:
            reading.total = reading.total + difference(known.run(feed)[value], found.run(feed)[instead])
    reading.born = reading.total
    return reading


def _measure(pairing: Pairing, site: Site, found: Divergence, reading: Reading) -> None:
    """The errors of the pair, element by element: born here, and inherited."""
    name, other = site.reference, site.candidate
    measured = Reading(pairing.pair(name, other, reading.match.why), pairing.op(name), pairing.old.tensors[name])
    measured.noise = reading.noise
    likes = {one: like for one, like in pairing.likes().items() if one != other}
    reads = pairing.new.wiring.region([other], likes).reads
    wanted = dict.fromkeys((name, *(pairing.given[one] for one in reads)))
    sides: list[Histogram] = []
    tap = pairing.new.tap([other], likes)
    with pairing.old.tap(wanted) as known, pairing.new.tap([other]) as whole, tap as alone:
        for feed in pairing.feeds:
            reference: dict[str, Any] = known.run(feed)
            given = {one: pairing.put(one, reference[pairing.given[one]]) for one in reads}
            mine, theirs, forced = reference[name], whole.run(feed)[other], alone.run(feed, given)[other]
            born, inherited = difference(mine, forced), difference(forced, theirs)
            measured.total = measured.total + difference(mine, theirs)
            measured.born = born if measured.born is None else measured.born + born
            measured.inherited = inherited if measured.inherited is None else measured.inherited + inherited
            fresh = [histogram(mine, forced), histogram(forced, theirs)]
            sides = [one + more for one, more in zip(sides, fresh, strict=True)] if sides else fresh
    found.reading, found.histograms = measured, (sides[0], sides[1])
