"""Is B faster than A? Interleaved pairs, and an interval for their ratio instead of two averages.

Two sessions run in turn in one worker, so that a clock change or a busy neighbour hits both. Each
pair gives a ratio; their median is the answer. Its confidence interval comes from order
statistics: for n independent pairs the median lies between the k-th smallest and the k-th largest
ratio with a probability that the binomial distribution gives, whatever the ratios' distribution
(H. A. David and H. N. Nagaraja, Order Statistics, 2003, section 7.1). Nothing is resampled, so
the same times give the same interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from statistics import median
from typing import Any, Final

from graphopt.runtime.client import Options, Race, Session, Worker

CONFIDENCE: Final = 0.95
WIDEST: Final = 0.05  # of an interval, relative to the ratio, before it is called noisy
# Two sessions of one and the same model were measured up to 2 % apart, each time with an interval
# that excluded 1: where their memory happens to lie is part of a session, and no pairing cancels it.
MARGIN: Final = 0.03


@dataclass(frozen=True)
class Latency:
    """How long two sessions take on the same feeds.

    a, b: median seconds per run. ratio: median of b / a over the pairs, under 1 when b is faster;
    low and high bound it with 95 % confidence. pairs: how many were measured. noisy: the interval
    is wider than 5 % of the ratio, or there are too few pairs (under 6) for one at all; low and
    high are then the smallest and largest ratio seen.
    """

    a: float
    b: float
    ratio: float
    low: float
    high: float
    pairs: int
    noisy: bool

    @property
    def faster(self) -> bool | None:
        """True when b is faster than a by over 3 %, False when slower by that; None when neither is sure."""
        if self.high < 1.0 - MARGIN:
            return True
        return False if self.low > 1.0 + MARGIN else None


def compare_latency(
    worker: Worker,
    a: Session,
    b: Session,
    feeds: Mapping[str, Any],
    *,
    rounds: int = 101,
    warmup: int = 3,
    budget: float | None = 10.0,
) -> Latency:
    """Measure `b` against `a`, both loaded in `worker` (with `timed`).

    rounds: pairs at most. budget: seconds after which no further pair starts. Errors as of
    `Worker.race`.
    """
    return summarize(worker.race(a, b, feeds, rounds=rounds, warmup=warmup, budget=budget))


def timed(options: Options) -> Options:
    """These options as one times them: with the memory arena that users' sessions have."""
    return replace(options, arena=True)


def summarize(race: Race) -> Latency:
    """Medians, ratio and interval of a race. Raises ValueError when it has no pairs."""
    ratios = [second / first for first, second in zip(race.a, race.b, strict=True)]
    if not ratios:
        raise ValueError("a race without pairs has no latency")
    ratio = median(ratios)
    interval = median_interval(ratios)
    low, high = interval or (min(ratios), max(ratios))
    noisy = interval is None or high - low > WIDEST * ratio
    return Latency(median(race.a), median(race.b), ratio, low, high, len(ratios), noisy)


def median_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """The narrowest pair (k-th smallest, k-th largest) that holds the median with that confidence.

    The chance that the median is below the k-th smallest of n values is that of fewer than k
    heads in n throws, and the same above. None when even the smallest and the largest do not do.
    """
    count = len(values)
    allowed = int(Fraction((1.0 - confidence) / 2.0) * 2**count)  # outcomes of the throws, of 2**count
    rank, below, outcomes = 0, 0, 1
    while rank <= count // 2 and below + outcomes <= allowed:
        below += outcomes
        outcomes = outcomes * (count - rank) // (rank + 1)
        rank += 1
    if rank == 0:
        return None
    ordered = sorted(values)
    return ordered[rank - 1], ordered[count - rank]
