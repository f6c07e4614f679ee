"""Outputs held to a contract: which of them fail, and why, output by output and mode by mode."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from graphopt.contract import Contract
from graphopt.runtime.options import Options
from graphopt.validation.compare import Difference, Summary, compare, unsettled
from graphopt.validation.noise import FACTOR, FEEDS, Noise
from graphopt.validation.running import Outputs
from graphopt.validation.runs import OFF
from graphopt.validation.verdict import OutputReport

if TYPE_CHECKING:
    from graphopt.runtime.options import Value

Differences = list[dict[str, Difference]]  # one mapping a feed, by output
LOOSE: Final = 1e-2  # a bound beyond this part of the RMS deserves a warning


@dataclass(frozen=True)
class Pair:
    """Reference and candidate on all feeds, in one mode."""

    mode: Options
    reference: Sequence[Outputs]
    candidate: Sequence[Outputs]
    differences: Differences

    @classmethod
    def of(
        cls, mode: Options, reference: Sequence[Outputs], candidate: Sequence[Outputs], without: Collection[str] = ()
    ) -> Pair:
        """Compare every output of the reference on every feed, those named in `without` left out."""
        mine = [{name: value for name, value in each.items() if name not in without} for each in reference]
        theirs = [{name: each[name] for name in first} for first, each in zip(mine, candidate, strict=True)]
        found = [
            {name: compare(value, right[name]) for name, value in left.items()}
            for left, right in zip(mine, theirs, strict=True)
        ]
        return cls(mode, mine, theirs, found)

    def summary(self, name: str) -> Summary:
        """One output over all feeds."""
        return Summary.of(each[name] for each in self.differences)

    @property
    def names(self) -> tuple[str, ...]:
        """The outputs, in the reference's order."""
        return tuple(self.differences[0]) if self.differences else ()


def held_to(contract: Contract, mode: Options) -> Contract:
    """The contract that applies in a mode: EXACT is ROUNDING once onnxruntime optimizes."""
    return Contract.ROUNDING if contract is Contract.EXACT and mode != OFF else contract


def needs_noise(pairs: Sequence[Pair], contract: Contract) -> list[int]:
    """Numbers of the feeds on which the original's noise has to be known to judge these pairs.

    All those where a decision, a shape or a NaN differs, and the `FEEDS` that differ most.
    """
    must: set[int] = set()
    scores: dict[int, float] = {}
    for pair in pairs:
        if held_to(contract, pair.mode) is not Contract.ROUNDING:
            continue
        for index, differences in enumerate(pair.differences):
            for difference in differences.values():
                if difference.problem or difference.decided or difference.nonfinite:
                    must.add(index)
                if difference.differing:
                    scores[index] = max(scores.get(index, 0.0), difference.scaled)
    worst = sorted(scores, key=lambda index: (-scores[index], index))[:FEEDS]
    return sorted(must.union(worst))


def judge(pair: Pair, contract: Contract, noise: Noise, *, tolerate_shapes: bool = False) -> list[OutputReport]:
    """A report for each output. `tolerate_shapes` lets a LOSSY result have other shapes."""
    reports = []
    for name in pair.names:
        summary = pair.summary(name)
        rule = held_to(contract, pair.mode)
        bound = noise_scale = None
        unstable = 0
        if rule is Contract.EXACT:
            problem = _exact(summary.total)
        elif rule is Contract.LOSSY:
            problem = _lossy(summary.total, tolerate_shapes)
        elif not summary.total.differing and not summary.total.problem:
            problem = ""
        else:
            noise_scale = noise.scaled(name)
            bound = FACTOR * noise_scale
            problem, unstable = _rounding(pair, name, bound, noise)
        reports.append(_report(name, pair, summary, noise_scale, bound, unstable, problem))
    return reports


def unjudged(pair: Pair, contract: Contract, noise: Noise) -> list[str]:
    """Outputs whose type or shape the original itself does not keep under rounding, on any feed."""
    if held_to(contract, pair.mode) is not Contract.ROUNDING:
        return []
    return [
        name
        for name in pair.names
        if all(each[name].problem and noise.of(i, name).reshaped for i, each in enumerate(pair.differences))
    ]


def loose(reports: Sequence[OutputReport]) -> list[str]:
    """Sentences on bounds so wide that passing says little."""
    names = {each.name: (each.noise, each.bound) for each in reports if each.bound is not None and each.bound > LOOSE}
    return [
        f"output {name!r} is very sensitive to rounding: onnxruntime's own settings and one ulp on inputs and "
        f"weights move it by {noise:.1e} of its RMS, so its bound {'says nothing' if bound >= 1 else 'is wide'}"
        for name, (noise, bound) in names.items()
    ]


def _exact(total: Difference) -> str:
    if total.problem:
        return total.problem
    if not total.differing:
        return ""
    how = f", by up to {total.peak:.3g}" if total.peak else ""
    return f"differs in {total.differing} of {total.elements} elements{how}, where the contract asks for the same bits"


def _lossy(total: Difference, tolerate_shapes: bool) -> str:
    if total.problem:
        return "" if tolerate_shapes else total.problem
    return _nonfinite(total.nonfinite) if total.nonfinite else ""


def _rounding(pair: Pair, name: str, bound: float, noise: Noise) -> tuple[str, int]:
    """Why the output fails, and how many elements the original's own noise excuses."""
    excused = 0
    for index, differences in enumerate(pair.differences):
        difference, own = differences[name], noise.of(index, name)
        if difference.problem:
            if own.reshaped:
                continue
            return difference.problem, excused
        if difference.decided or difference.nonfinite:
            positions = unsettled(pair.reference[index][name], pair.candidate[index][name])
            assert positions is not None
            left = np.setdiff1d(positions, own.unsettled, assume_unique=True).size
            excused += int(positions.size) - left
            if left:
                return _decisions(difference, left), excused
        off = difference.scaled
        within = difference.peak <= FACTOR * own.peak if math.isinf(off) else off <= bound
        if not within and difference.kind not in ("integer", "boolean", "text"):
            return (
                f"is off by {off:.2g} of its RMS, more than the {bound:.2g} that rounding explains "
                f"({FACTOR:g} times its own noise of {bound / FACTOR:.2g})"
            ), excused
    return "", excused


def _decisions(difference: Difference, left: int) -> str:
    if difference.kind == "float":
        return _nonfinite(left)
    return f"differs in {left} of {difference.elements} elements that the original decides the same way under rounding"


def _nonfinite(count: int) -> str:
    return f"has NaN or Inf in {count} element{'' if count == 1 else 's'} where the original has none, or the reverse"


def _report(
    name: str, pair: Pair, summary: Summary, noise: float | None, bound: float | None, unstable: int, problem: str
) -> OutputReport:
    total = summary.total
    return OutputReport(
        name=name,
        optimized=pair.mode.optimize,
        kind=total.kind,
        elements=total.elements,
        differing=total.differing,
        scaled_error=summary.scaled,
        sqnr_db=total.sqnr_db,
        worst_sqnr_db=summary.worst_sqnr_db,
        cosine=total.cosine,
        worst_cosine=summary.worst_cosine,
        agreement=total.agreement,
        noise=noise,
        bound=bound,
        unstable=unstable,
        problem=problem,
    )


def by_output(runs: Sequence[Outputs]) -> Mapping[str, list[Value]]:
    """Outputs by name, one value a feed."""
    return {name: [outputs[name] for outputs in runs] for name in runs[0]} if runs else {}
