"""Two runs of the benchmarks, figure by figure: the same, different, or too noisy to tell.

Ratios that were measured in pairs have intervals, and those decide: narrow ones differ where they are further apart
than the limit, wide ones only where there is a gap between them that is wider than both. What is counted (bytes, nodes)
is compared exactly, errors and scores within what another build of a runtime changes in the last digits, and times and
memory of single processes, which have no interval, count as different from half as much again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.record import Record
from benchmarks.results import Key, Run, intervals, key, lasting, latest, tool_of, versions
from benchmarks.steady import LIMIT, NOISE, Agreement, agreements

SAME, DIFFERS, NEW, GONE, FAILED, WORKS = "same", "differs", "new", "gone", "failed", "works"
VERDICTS: Final = (SAME, DIFFERS, NOISE, NEW, GONE, FAILED, WORKS)
COARSE: Final = 1.5
"""From which ratio on times and memory without an interval count as different."""
AGAINST_OURS: Final = "cpu_ratio"
"""What a tool spends as a multiple of what graphopt spends in the same rounds."""
_MORE: Final = frozenset({"db", "cosine", "agreement", "metric", "throughput", "speedup"})
_SINGLE: Final = frozenset({"seconds", "cpu", "time", "load", "latency", "mb", "memory", "peak", "own"})
_LESS: Final = _SINGLE | {"nodes", "bytes", "macs", "failures"}
_NEAR: Final[Mapping[str, float]] = {"sqnr_db": 0.1, "cosine": 1e-4, "agreement": 1e-3, "metric_after": 1e-3}
_RIGHT: Final = frozenset({"equivalent", "within budget", "passed", "right", "yes"})
_VERDICT_WORDS: Final = frozenset({"verdict", "right", "outcome", "correct"})


@dataclass(frozen=True)
class Row:
    """One figure in two runs, or what became of a contender where `figure` is empty.

    ratio: new to old. overlap: whether the intervals do, None where there are none. worse: True where it got worse
    beyond noise, False where it got better, None where it did neither or nobody can say which way is better.
    """

    suite: str
    model: str
    contender: str
    figure: str
    old: float | str | None
    new: float | str | None
    verdict: str
    worse: bool | None = None
    old_interval: tuple[float, float] | None = None
    new_interval: tuple[float, float] | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        if isinstance(self.old, str) or isinstance(self.new, str) or self.new is None or not self.old:
            return None
        return self.new / self.old

    @property
    def overlap(self) -> bool | None:
        if self.old_interval is None or self.new_interval is None:
            return None
        return self.old_interval[0] <= self.new_interval[1] and self.new_interval[0] <= self.old_interval[1]

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        return {
            "suite": self.suite, "model": self.model, "contender": self.contender, "figure": self.figure,
            "old": self.old, "new": self.new, "ratio": self.ratio, "verdict": self.verdict, "worse": self.worse,
            "old_interval": self.old_interval, "new_interval": self.new_interval, "overlap": self.overlap,
            "note": self.note,
        }  # fmt: skip


def compared(old: Sequence[Record], new: Sequence[Record], limit: float = LIMIT) -> list[Row]:
    """Every figure of both runs, in the order of the first; what only the second has comes last."""
    before, after = ({key(one): one for one in records} for records in (old, new))
    measured: dict[tuple[Key, str], Agreement] = {}
    for one in agreements(list(before.values()), list(after.values()), limit):
        measured[(one.suite, one.model, one.contender), one.name] = one
    rows: list[Row] = []
    for name, record in before.items():
        rows += _rows(record, after[name], measured) if name in after else [_bare(record, GONE, record.failure)]
    rows += [_bare(record, NEW, record.failure) for name, record in after.items() if name not in before]
    return rows


def _bare(record: Record, verdict: str, note: str = "", worse: bool | None = None) -> Row:
    return Row(record.suite, record.model, record.contender, "", None, None, verdict, worse, note=note)


def _rows(old: Record, new: Record, measured: Mapping[tuple[Key, str], Agreement]) -> Iterator[Row]:
    if new.failure and not old.failure:
        yield _bare(new, FAILED, new.failure, True)
    elif old.failure and not new.failure:
        yield _bare(new, WORKS, old.failure, False)
    elif new.failure:
        same = old.failure == new.failure
        yield _bare(new, SAME if same else DIFFERS, new.failure if same else f"{new.failure} (before: {old.failure})")
    else:
        yield from _figures(old, new, measured)
        yield from _words(old, new)


def _figures(old: Record, new: Record, measured: Mapping[tuple[Key, str], Agreement]) -> Iterator[Row]:
    spans = intervals(old), intervals(new)
    ends = {f"{name}_{end}" for span in spans for name in span for end in ("low", "high")}
    for name in dict.fromkeys([*old.figures, *new.figures]):
        if name in ends:
            continue
        values = old.figures.get(name), new.figures.get(name)
        verdict, worse = (NEW if values[0] is None else GONE), None
        if values[0] is not None and values[1] is not None:
            agreement = measured.get((key(new), name))
            differ = _told(name, values[0], values[1]) if agreement is None else _raced(agreement, spans, name)
            verdict = SAME if differ is False else NOISE if differ is None else DIFFERS
            worse = _worse(name, old, new) if differ else None
        row = spans[0].get(name), spans[1].get(name)
        yield Row(old.suite, old.model, old.contender, name, *values, verdict, worse, *row)


def _raced(agreement: Agreement, spans: tuple[Mapping[str, tuple[float, float]], ...], name: str) -> bool | None:
    """Whether two ratios with intervals differ, None where nobody can tell."""
    if not agreement.noisy and agreement.difference <= agreement.limit:
        return False
    first, second = (span.get(name) for span in spans)
    if first is None or second is None:
        return None
    gap = max(second[0] - first[1], first[0] - second[1])
    if not agreement.noisy:
        return True if gap > 0 else None
    width, limit = max(first[1] - first[0], second[1] - second[0]), agreement.limit * abs(agreement.first)
    if width <= limit:  # noisy all the same: of so few rounds that the interval says nothing
        return True if _many_times(agreement.first, agreement.second) else None
    return True if gap > max(width, limit) else None


def _told(name: str, old: float, new: float) -> bool | None:
    """Whether two figures without intervals differ, None where nobody can tell."""
    if name in _NEAR:
        return abs(new - old) > _NEAR[name]
    if _parts(name) & _SINGLE:
        low, high = sorted((abs(old), abs(new)))
        return True if _many_times(low, high) else False if high <= (1 + LIMIT) * low else None
    return new != old


def _many_times(old: float, new: float) -> bool:
    low, high = sorted((abs(old), abs(new)))
    return high > COARSE * low


def _worse(name: str, old: Record, new: Record) -> bool | None:
    """Whether the second figure is the worse one, None where nobody can say."""
    before, after, parts = old.figures[name], new.figures[name], _parts(name)
    if name == AGAINST_OURS:  # of a tool that is still the same, it is ours that changed
        same = old.version == new.version and tool_of(new) != "graphopt"
        return after < before if same else None
    if name.endswith("_before") or not parts & (_LESS | _MORE):
        return None
    return after < before if parts & _MORE else after > before


def _parts(name: str) -> set[str]:
    return set(re.split(r"[_\s]+", name.lower()))


def _words(old: Record, new: Record) -> Iterator[Row]:
    """Words that changed, and verdicts."""
    for name in dict.fromkeys([*old.words, *new.words]):
        before, after = old.words.get(name), new.words.get(name)
        if name == "noise" or (before == after and name not in _VERDICT_WORDS):
            continue
        verdict = SAME if before == after else NEW if before is None else GONE if after is None else DIFFERS
        worse = None
        if verdict == DIFFERS and name in _VERDICT_WORDS and (before in _RIGHT) != (after in _RIGHT):
            worse = before in _RIGHT
        yield Row(old.suite, old.model, old.contender, name, before, after, verdict, worse)


def warnings(old: Sequence[Run], new: Sequence[Run]) -> list[str]:
    """In sentences what keeps two runs from being compared as they are: other machines, other versions of tools."""
    found = []
    sides = [lasting(runs[-1].machine) for runs in (old, new)]
    for name, side in zip(("first", "second"), sides, strict=True):
        if not side:
            found.append(f"the {name} run does not say on which machine it was measured")
    if all(sides):
        for name in dict.fromkeys([*sides[0], *sides[1]]):
            before, after = (side.get(name, "not noted") for side in sides)
            if before != after:
                found.append(f"the machine differs in {name}: {before}, then {after}")
    tools = [versions(latest(runs)) for runs in (old, new)]
    both = [tool for tool in tools[0] if tool in tools[1] and tools[0][tool] != tools[1][tool]]
    return found + [f"{tool} has another version: {tools[0][tool]}, then {tools[1][tool]}" for tool in both]
