"""Places where two models can be cut alike: what crosses there in the one stands for what crosses in the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from graphopt.validation.segments.net import Net
from graphopt.validation.segments.plan import Cuts

Origins = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Joint:
    """A cut of the original that is one of the result, too: `pairs` gives the result's name of what crosses it."""

    cut: int
    pairs: dict[str, str]


@dataclass
class Standing:
    """Which value of the result stands for one of the original.

    The one that has its name, or else the only new one that the record of the run says to stand for it alone. A value
    that a rewrite has moved or merged has none. What is wrong here puts blame in the wrong place, no more: `Blame`
    sees most of it.
    """

    old: Net
    new: Net
    origins: Origins | None
    _renamed: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, olds in (self.origins or {}).items():
            if len(olds) == 1 and name in self.new.makers and name not in self.old.makers:
                self._renamed.setdefault(olds[0], []).append(name)

    def of(self, name: str) -> str | None:
        """The name in the result; None where there is none, or what has it follows from weights alone."""
        found: str | None = name
        if name not in self.new.makers:
            renamed = self._renamed.get(name, ())
            found = renamed[0] if len(renamed) == 1 else None
        return None if found is None or self.new.is_fixed(found) else found


def joints(old: Net, cuts: Cuts, chosen: Sequence[int], standing: Standing) -> tuple[list[Joint], list[list[int]]]:
    """Those of the original's chosen cuts at which the result can be cut, and the result's live nodes between them.

    At a cut nothing may cross in the result but what stands for a value that crosses there in the original.
    """
    new = standing.new
    before = _outputs_before(old, cuts, chosen)
    crossing = cuts.crossing(chosen)
    live = set(new.live)
    stage: dict[int, int] = {}
    pairs: list[dict[str, str]] = []
    for number, names in enumerate(crossing):
        found = {name: other for name in names if (other := standing.of(name)) is not None}
        if len(set(found.values())) < len(found):
            found = {}
        pairs.append(found)
        wanted = (*found.values(), *(name for name in before[number] if name in new.makers))
        for at in new.behind(wanted, stage):
            if at in live:
                stage[at] = number
    for at in new.live:
        stage.setdefault(at, len(chosen))
    good = _separating(new, stage, [set(found.values()) for found in pairs])
    kept = [number for number, found in enumerate(pairs) if found and good[number]]
    groups: list[list[int]] = [[] for _ in range(len(kept) + 1)]
    place = _places(kept, len(chosen))
    for at in new.live:  # which is an order in which makers come first
        groups[place[stage[at]]].append(at)
    # a stage in which the result does nothing of its own makes no segment of it
    return _without_empty([Joint(chosen[number], pairs[number]) for number in kept], groups)


def _outputs_before(net: Net, cuts: Cuts, chosen: Sequence[int]) -> list[list[str]]:
    """The model's outputs that are made before each cut."""
    place = {name: number for number, at in enumerate(cuts.order) for name in net.nodes[at].output}
    return [[name for name in net.outputs if place.get(name, len(cuts.order)) < cut] for cut in chosen]


def _separating(net: Net, stage: Mapping[int, int], allowed: Sequence[set[str]]) -> list[bool]:
    """For each cut whether only what is allowed crosses it."""
    good = [True] * len(allowed)
    last: dict[str, int] = {}
    for at, number in stage.items():
        for name in net.reads[at]:
            last[name] = max(last.get(name, 0), number)
    for name, until in last.items():
        maker = net.makers.get(name)
        if maker is None or maker not in stage:
            continue
        for number in range(stage[maker], until):
            good[number] &= name in allowed[number]
    return good


def _places(kept: Sequence[int], stages: int) -> list[int]:
    """To which group each stage belongs when only the kept cuts are made."""
    found, group = [], 0
    for number in range(stages + 1):
        found.append(group)
        group += number in kept
    return found


def _without_empty(found: list[Joint], groups: list[list[int]]) -> tuple[list[Joint], list[list[int]]]:
    joints_, stages = list[Joint](), [groups[0]]
    for joint, group in zip(found, groups[1:], strict=True):
        if not stages[-1] or not group:
            stages[-1] = stages[-1] + group
        else:
            joints_.append(joint)
            stages.append(group)
    return joints_, stages
