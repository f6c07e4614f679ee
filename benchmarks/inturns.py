"""Commands that take turns, and the ratio of what they spend in the same round."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from benchmarks.spent import Spent
from benchmarks.steady import LEAST, LIMIT, NOISE
from graphopt.measure.latency import median_interval


@dataclass
class Turns:
    """What one command spent in each round, and why it failed; one that fails does not run again."""

    cpu: list[float] = field(default_factory=list)
    peak: int = 0
    failure: str = ""

    def add(self, found: Spent) -> None:
        self.failure = found.failure
        self.cpu.append(found.cpu)
        self.peak = max(self.peak, found.peak)

    @property
    def seconds(self) -> float:
        return median(self.cpu) if self.cpu else 0.0


def in_turns(runs: Mapping[str, Callable[[int], Spent]], rounds: int, warmups: int = 0) -> dict[str, Turns]:
    """Let each run in turn, `rounds` times after `warmups` that do not count; each is told which round it is."""
    found = {name: Turns() for name in runs}
    for turn in range(-warmups, rounds):
        for name, run in runs.items():
            if found[name].failure:
                continue
            one = run(turn)
            if turn >= 0 or one.failure:
                found[name].add(one)
    return found


def paired(ours: Sequence[float], theirs: Sequence[float], name: str = "cpu_ratio") -> dict[str, float]:
    """Figures of how many times as much `ours` is as `theirs`, round by round; none where rounds are missing."""
    if len(ours) != len(theirs) or not ours or not all(theirs):
        return {}
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    low, high = median_interval(ratios) or (min(ratios), max(ratios))
    return {name: median(ratios), f"{name}_low": low, f"{name}_high": high}


def noise(figures: Mapping[str, float], rounds: int, name: str = "cpu_ratio") -> dict[str, str]:
    """The word `noise` where a ratio's interval is too wide, or of too few rounds, for two runs to agree."""
    if name not in figures:
        return {}
    wide = figures[f"{name}_high"] - figures[f"{name}_low"] > LIMIT * figures[name]
    return {"noise": NOISE} if wide or rounds < LEAST else {}
