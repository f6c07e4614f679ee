"""A ratio of latencies that a second run gives again, or the word that the machine is too noisy for it.

What differs between two runs is the machine's clock and its neighbours, which pairs cancel, and where the memory of a
session happens to lie, which is drawn anew with each process. So a process is the unit: each gives the median of its
pairs, and the answer is the median of the processes with the interval that order statistics give it, whatever the
distribution (H. A. David and H. N. Nagaraja, Order Statistics, 2003, section 7.1). Processes are added until that is
narrow. Two runs whose intervals are no wider than `LIMIT` and hold the same truth differ by less than `LIMIT`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks.record import Record
from graphopt.measure.contest import Setting, race_apart
from graphopt.measure.latency import median_interval
from graphopt.runtime.client import Race, Worker

LIMIT: Final = 0.03
"""How wide an interval may be, relative to its ratio, and by how much two runs may differ."""
LEAST: Final = 6  # processes, below which there is no interval of 95 %
MOST: Final = 18
NOISE: Final = "too noisy"


@dataclass(frozen=True)
class Steady:
    """A median ratio with its 95 % interval: over how many processes, and of how many pairs in all."""

    ratio: float
    low: float
    high: float
    processes: int
    pairs: int

    @property
    def noisy(self) -> bool:
        """Whether the interval is too wide for two runs to agree."""
        return self.processes < LEAST or self.high - self.low > LIMIT * self.ratio

    def figures(self, name: str = "latency_ratio") -> dict[str, float]:
        """As figures of a `Record`."""
        return {name: self.ratio, f"{name}_low": self.low, f"{name}_high": self.high}

    def words(self) -> dict[str, str]:
        """As words of a `Record`: `noise` where it is too noisy."""
        return {"noise": NOISE} if self.noisy else {}


def steady(race: Callable[[int], Race], least: int = LEAST, most: int = MOST) -> Steady:
    """The ratio of what `race` runs in a fresh process; it is told how many there were before.

    A third more processes each time, until the interval is narrow or there were `most`.
    """
    medians: list[float] = []
    pairs = 0
    wanted = least
    while True:
        while len(medians) < wanted:
            found = race(len(medians))
            ratios = [b / a for a, b in zip(found.a, found.b, strict=True)]
            medians.append(median(ratios))
            pairs += len(ratios)
        low, high = median_interval(medians) or (min(medians), max(medians))
        answer = Steady(median(medians), low, high, len(medians), pairs)
        if not answer.noisy or wanted >= most:
            return answer
        wanted = min(most, wanted + max(3, least // 2))


def raced(
    original: Path, made: Path, feeds: Mapping[str, Any], *, threads: int = 1, seconds: float = 6.0, most: int = MOST
) -> Steady:
    """The latency of one file against another's; `seconds` are what the first `LEAST` processes measure in all.

    Errors as of `Worker.race`.
    """
    setting = Setting(threads=threads)

    def race(turn: int) -> Race:
        with Worker() as worker:
            return race_apart(original, made, feeds, setting, worker, turn, seconds / LEAST)

    return steady(race, most=most)


@dataclass(frozen=True)
class Agreement:
    """One ratio in two runs: `difference` is relative to the first."""

    suite: str
    model: str
    contender: str
    name: str
    first: float
    second: float
    noisy: bool
    limit: float = LIMIT

    @property
    def difference(self) -> float:
        return abs(self.second / self.first - 1) if self.first else float("inf")

    @property
    def verdict(self) -> str:
        """`agree`, `too noisy`, or `differ`."""
        if self.noisy:
            return NOISE
        return "agree" if self.difference <= self.limit else "differ"


def agreements(first: Sequence[Record], second: Sequence[Record], limit: float = LIMIT) -> list[Agreement]:
    """Every ratio that was measured in pairs in either run and is in both, in the order of the first."""
    others = {(one.suite, one.model, one.contender): one for one in second}
    found = []
    for one in first:
        other = others.get((one.suite, one.model, one.contender))
        if other is None:
            continue
        for name in one.figures:
            if name in other.figures and (f"{name}_low" in one.figures or f"{name}_low" in other.figures):
                noisy = _wide(one, name, limit) or _wide(other, name, limit)
                pair = one.figures[name], other.figures[name]
                found.append(Agreement(one.suite, one.model, one.contender, name, *pair, noisy, limit))
    return found


def _wide(record: Record, name: str, limit: float) -> bool:
    """Whether a figure's interval is too wide, or there is none. What was noisy when it was measured may be narrow
    enough for a wider limit."""
    ends = record.figures.get(f"{name}_low"), record.figures.get(f"{name}_high")
    if ends[0] is None or ends[1] is None:
        return True
    marked = limit <= LIMIT and record.words.get("noise") == NOISE
    return marked or ends[1] - ends[0] > limit * abs(record.figures[name])


def repeated(found: Sequence[Agreement]) -> str:
    """A table of what two runs say of each ratio, and a sentence that sums it up."""
    lines = ["| model | contender | first | second | apart | |", "|---|---|--:|--:|--:|---|"]
    for one in found:
        cells = (
            one.model,
            one.contender,
            f"{one.first:.3f}",
            f"{one.second:.3f}",
            f"{one.difference:.1%}",
            one.verdict,
        )
        lines.append("| " + " | ".join(cells) + " |")
    counts = [sum(one.verdict == verdict for one in found) for verdict in ("agree", NOISE, "differ")]
    said = f"Of {len(found)} ratios {counts[0]} agree within {LIMIT:.0%}, {counts[1]} are {NOISE}, {counts[2]} differ."
    return "\n".join([*lines, "", said])
