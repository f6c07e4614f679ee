"""Every matched pair of two models, read in one pass over each: groups of values, let go after they are compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from graphopt.debug.matching import CLOSE_DB, Match, match
from graphopt.debug.readings import Reading, as_element, difference
from graphopt.debug.replaced import Replaced, replaced_weights
from graphopt.debug.sketches import sketches
from graphopt.debug.taps import ALL_BYTES, GROUP_BYTES, Model, Shape, Tap, Values, groups
from graphopt.debug.wiring import label
from graphopt.errors import CouldNotTell, OverLimit
from graphopt.limits import size_text
from graphopt.runtime.failure import WorkerFailure
from graphopt.validation.likes import Like
from graphopt.validation.nudge import binary, can_nudge, nudge
from graphopt.validation.runs import OFF, ON

_SEED: Final = 20

Shapes = dict[str, tuple[Shape, ...]]


@dataclass(eq=False)
class Pairing:
    """Two models on the same feeds, and which values of theirs belong together.

    `given` are the candidate's values that can be replaced by the reference's: pairs of the same shape. `warnings` are
    sentences on what was not looked at.
    """

    old: Model
    new: Model
    feeds: Sequence[Values]
    shapes: tuple[Shapes, Shapes]
    matches: list[Match]
    to_old: dict[str, str] = field(default_factory=dict)
    given: dict[str, str] = field(default_factory=dict)
    group_bytes: int = GROUP_BYTES
    warnings: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls, old: Model, new: Model, feeds: Sequence[Values], *, origins: Mapping[str, Sequence[str]] | None = None,
        close_db: float = CLOSE_DB, group_bytes: int = GROUP_BYTES,
    ) -> Pairing:  # fmt: skip
        """Look at both models and pair their values. Raises CouldNotTell where one cannot be looked into."""
        shapes = _shapes(old, new, feeds)
        left = [said for one, sizes in zip((old, new), shapes, strict=True) if (said := one.pass_over(sizes))]
        few = min((len(several) for one in shapes for several in one.values()), default=len(feeds))
        if few < len(feeds):
            left.append(
                f"compared on {few} of the {len(feeds)} feeds, because the values take more than "
                f"{size_text(ALL_BYTES)} on all of them"
            )
            feeds = feeds[:few]
        known = sketches(old, feeds, shapes[0]), sketches(new, feeds, shapes[1])
        outputs = old.wiring.outputs, new.wiring.outputs
        found = match(*known, outputs=outputs, origins=origins, close_db=close_db)
        made = cls(old, new, feeds, shapes, found, group_bytes=group_bytes, warnings=left)
        for one in found:
            made.to_old[one.candidate] = one.reference
            if known[0][one.reference].bucket == known[1][one.candidate].bucket:
                made.given[one.candidate] = one.reference
        return made

    def size(self, reference: str) -> int:
        """Most bytes that a value of the reference takes on one feed."""
        return self.old.size(reference, self.shapes[0][reference])

    def like(self, candidate: str) -> Like:
        """Type and rank of a value of the candidate."""
        ranks = {len(shape) for shape in self.shapes[1][candidate]}
        return Like(self.new.tensors[candidate], ranks.pop() if len(ranks) == 1 else None)

    def pair(self, reference: str, candidate: str, why: str) -> Match:
        """A pair that was found later."""
        return Match(reference, candidate, why)

    def op(self, reference: str) -> str:
        """The node that makes a value of the reference, in words."""
        node = self.old.wiring.node(reference)
        return "" if node is None else label(node)

    def likes(self) -> dict[str, Like]:
        """All values that can be given."""
        return {name: self.like(name) for name in self.given}

    def put(self, candidate: str, value: Any) -> Any:
        """A value of the reference, in the type that the candidate's value has."""
        return as_element(np.asarray(value), self.new.tensors[candidate])


def _shapes(old: Model, new: Model, feeds: Sequence[Values]) -> tuple[Shapes, Shapes]:
    """The shapes of all tensors of both models, on as many of the feeds as both are looked at on."""
    mine = old.shapes(feeds)
    theirs = new.shapes(feeds[: min(map(len, mine.values()), default=len(feeds))])
    few = min(map(len, theirs.values()), default=len(feeds))
    return {name: several[:few] for name, several in mine.items()}, theirs


def survey(pairing: Pairing, *, weights: bool = False) -> Iterator[list[Reading]]:
    """Read all pairs, a group at a time, in the reference's graph order.

    With `weights` what is born is split into what goes with the reference's weights and what stays.
    Raises CouldNotTell where a model that could be looked into fails now.
    """
    by_old = {one.reference: one for one in pairing.matches}
    sizes = {name: pairing.size(name) for name in by_old}
    likes = pairing.likes()
    for group in groups(by_old, sizes, pairing.group_bytes):
        try:
            yield _group(pairing, [by_old[name] for name in group], likes, weights)
        except WorkerFailure as failure:
            raise CouldNotTell(f"the models cannot be looked into: {failure}") from None


def _group(pairing: Pairing, pairs: Sequence[Match], likes: Mapping[str, Like], weights: bool) -> list[Reading]:
    old, new = pairing.old, pairing.new
    readings = [Reading(one, pairing.op(one.reference), old.tensors[one.reference]) for one in pairs]
    olds, news = [one.reference for one in pairs], [one.candidate for one in pairs]
    reads = new.wiring.region(news, set(pairing.given)).reads
    with ExitStack() as stack:
        known = stack.enter_context(old.tap(dict.fromkeys((*olds, *(pairing.given[name] for name in reads)))))
        found = stack.enter_context(new.tap(news))
        noisy = forced = perfect = None
        instead, loaded = Replaced({}, {}), False
        for number, feed in enumerate(pairing.feeds):
            reference, candidate = known.run(feed), found.run(feed)
            apart = [one for one in readings if _total(one, reference, candidate)]
            if not apart:
                continue  # nothing to explain, and no noise to hold it against
            if not loaded:
                noisy, forced, loaded = _optional(stack, old, olds), _forced(stack, pairing, news, likes, {}), True
                instead = replaced_weights(pairing, pairs) if weights else instead
                perfect = _forced(stack, pairing, news, likes, instead.arrays) if instead.arrays else None
            for other in _noise(noisy, known, feed, number):
                for one in apart:
                    name = one.match.reference
                    worse = difference(reference[name], other[name])
                    one.noise = worse if _worse(worse, one.noise) else one.noise
            given = {name: pairing.put(name, reference[pairing.given[name]]) for name in reads}
            alone, right = _run(forced, feed, given), _run(perfect, feed, given)
            for one in apart:
                _read(one, reference[one.match.reference], candidate[one.match.candidate], alone, right)
    for one in readings:
        one.weights = instead.how.get(one.match.candidate, "")
        if weights and not one.weights:
            one.from_weights, one.beside_weights = None, one.born
    return readings


def _total(one: Reading, reference: Values, candidate: Values) -> bool:
    """Take in how far the pair lies apart on one feed; whether it does at all."""
    found = difference(reference[one.match.reference], candidate[one.match.candidate])
    one.total = one.total + found
    return bool(found.problem or found.differing)


def _read(one: Reading, reference: Any, candidate: Any, alone: Values | None, right: Values | None) -> None:
    name = one.match.candidate
    if alone is None or name not in alone:
        return
    one.born = _sum(one.born, difference(reference, alone[name]))
    one.inherited = _sum(one.inherited, difference(alone[name], candidate))
    if right is not None and name in right:
        one.from_weights = _sum(one.from_weights, difference(right[name], alone[name]))
        one.beside_weights = _sum(one.beside_weights, difference(reference, right[name]))


def _sum(one: Any, other: Any) -> Any:
    return other if one is None else one + other


def _worse(one: Any, other: Any) -> bool:
    if not other.elements:
        return True
    return (one.sqnr_db, -one.decided, -one.nonfinite) < (other.sqnr_db, -other.decided, -other.nonfinite)


def _optional(stack: ExitStack, model: Model, names: Sequence[str]) -> Tap | None:
    """The same values with onnxruntime's optimizations on; None where the model does not run so."""
    try:
        return stack.enter_context(model.tap(names, mode=ON))
    except WorkerFailure as failure:
        if failure.kind in ("hang", "memory"):
            raise
        return None


def _forced(
    stack: ExitStack, pairing: Pairing, names: Sequence[str], likes: Mapping[str, Like], weights: Mapping[str, Any]
) -> Tap | None:
    """The candidate's nodes on the reference's values; None where they do not load on their own."""
    try:
        return stack.enter_context(pairing.new.tap(names, likes, mode=OFF, weights=weights))
    except (WorkerFailure, OverLimit) as failure:
        if isinstance(failure, WorkerFailure) and failure.kind in ("hang", "memory"):
            raise
        return None


def _run(tap: Tap | None, feed: Values, given: Values) -> Values | None:
    if tap is None:
        return None
    try:
        return tap.run(feed, given)
    except WorkerFailure as failure:
        if failure.kind in ("hang", "memory"):
            raise
        return None


def _noise(on: Tap | None, off: Tap, feed: Values, number: int) -> Iterator[Values]:
    """The reference's values when only rounding differs: optimizations on, inputs an ulp off."""
    if on is not None:
        try:
            yield on.run(feed)
        except WorkerFailure as failure:
            if failure.kind in ("hang", "memory"):
                raise
    rng = np.random.default_rng((_SEED, number))
    moved = {name: nudge(value, rng) if _movable(value) else value for name, value in feed.items()}
    if any(_movable(value) for value in feed.values()):
        yield off.run(moved)


def _movable(value: Any) -> bool:
    return isinstance(value, np.ndarray) and can_nudge(value.dtype) and not binary(value)
