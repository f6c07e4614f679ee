"""What a run of the fuzzer has counted, as one counter of words: parts add up, and a file keeps it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from graphopt.testing.fuzz.holding import Failure

State = dict[str, Any]
UNSURE = "unsure"
"""The law of what says nothing about a pass, because of what the model itself does. It is told, and no failure."""

_LISTED = 12


class Tally:
    """Counts by words such as `models`, `pass dead-nodes changed`, `op Conv`; failures; the next seed."""

    def __init__(self, first: int) -> None:
        self.first = self.next = first
        self.counts: Counter[str] = Counter()
        self.failures: list[Failure] = []
        self.seconds = 0.0

    def add(self, counts: dict[str, int], failures: Iterable[dict[str, Any]] = ()) -> list[Failure]:
        """Add what one seed gave; the failures among it, and what is unsure."""
        self.counts.update(counts)
        found = [Failure(**one) for one in failures]
        self.failures += [one for one in found if one.law != UNSURE]
        return found

    def of(self, kind: str) -> dict[str, int]:
        """The counts of words that begin with `kind`, by what follows it."""
        start = f"{kind} "
        return {word[len(start) :]: count for word, count in self.counts.items() if word.startswith(start)}

    def save(self, path: Path) -> None:
        """Keep it; a run that is given the file goes on where this one stopped."""
        kept = {
            "first": self.first, "next": self.next, "seconds": round(self.seconds, 1), "counts": dict(self.counts),
            "failures": [one.as_dict() for one in self.failures],
        }  # fmt: skip
        fresh = path.with_name(path.name + ".partial")
        fresh.write_text(json.dumps(kept), encoding="utf-8")
        fresh.replace(path)

    @classmethod
    def load(cls, path: Path) -> Tally:
        """What `save` wrote."""
        kept: State = json.loads(path.read_text(encoding="utf-8"))
        made = cls(kept["first"])
        made.next, made.seconds = kept["next"], kept["seconds"]
        made.add(kept["counts"], kept["failures"])
        return made

    def progress(self) -> str:
        """One line."""
        c = self.counts
        return (
            f"{c['models']} graphs, {c['pipelines']} pipelines, {len(self.of('pair'))} pairs, next seed {self.next}, "
            f"{len(self.failures)} failures, {c['models'] / max(self.seconds, 1e-9):.1f} graphs a second"
        )

    def table(self, pairs: int, passes: Iterable[str]) -> str:
        """The closing table. `pairs` is how many there are; `passes` those that should have run."""
        c, ran = self.counts, self.of("ran")
        discards, unsure = self.of("discard"), self.of("unsure")
        tried = c["models"] + sum(discards.values())
        changed = self.of("changed")
        kinds, broken = self.of("kind"), Counter(f"{one.law} by {one.blamed[:60]}" for one in self.failures)
        rows = [
            ("graphs", f"{c['models']}, seeds {self.first} to {self.next - 1}"),
            ("discarded", f"{sum(discards.values())} ({_share(sum(discards.values()), tried)}): {_top(discards)}"),
            ("pipelines", f"{c['pipelines']}, of which {c['changed pipelines']} changed a graph: {_top(kinds)}"),
            ("passes run", f"{len(ran)}, of which {len(changed)} changed a graph"),
            ("never changed one", ", ".join(sorted(set(passes) - set(changed))) or "none"),
            ("ordered pairs", f"{len(self.of('pair'))} of {pairs}"),
            ("operators", f"{len(self.of('op'))}: {_top(self.of('op'))}"),
            ("second opinions", f"{c['opinions']}, of which {sum(unsure.values())} unsure: {_top(unsure)}"),
            ("throughput", f"{c['models'] / max(self.seconds, 1e-9):.2f} graphs a second over {self.seconds:.0f} s"),
            ("failures", f"{len(self.failures)}: {_top(broken)}"),
        ]  # fmt: skip
        return "\n".join(f"{name:18} {text}" for name, text in rows) + "\n"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / max(whole, 1):.1f} %"


def _top(counts: dict[str, int]) -> str:
    listed = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    more = f", {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    return ", ".join(f"{word} {count}" for word, count in listed[:_LISTED]) + more or "none"
