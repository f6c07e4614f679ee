"""What became of the mutants: kept in a file from run to run, and told in a table."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from graphopt.testing.mutation.sites import Site

KILLERS = ("tests", "laws", "validator")


@dataclass(frozen=True)
class Fate:
    """One mutant, and what killed it: a word of `KILLERS`, "judged" where somebody found why nothing can,
    or nothing. `how` is the test or the model that did; `note` says what was tried in vain."""

    file: str
    function: str
    kind: str
    before: str
    after: str
    line: int
    by: str
    how: str
    note: str
    seconds: float

    @property
    def key(self) -> str:
        return "\n".join((self.file, self.function, self.before, self.after))

    @classmethod
    def of(cls, site: Site, by: str, how: str, note: str, seconds: float) -> Fate:
        names = (site.file, site.function, site.kind, site.before, site.after, site.lines[0])
        return cls(*names, by, how, note, round(seconds, 3))


def load(path: Path | None) -> dict[str, Fate]:
    """The fates that an earlier run wrote."""
    if path is None or not path.exists():
        return {}
    return {fate.key: fate for one in json.loads(path.read_text(encoding="utf-8")) for fate in (Fate(**one),)}


def save(path: Path, fates: Iterable[Fate]) -> None:
    """Write them, whole or not at all."""
    new = path.with_suffix(path.suffix + ".new")
    new.write_text(json.dumps([asdict(one) for one in fates], indent=0), encoding="utf-8")
    new.replace(path)


def survivors(fates: Iterable[Fate]) -> list[Fate]:
    return [one for one in fates if not one.by]


def table(fates: Sequence[Fate], found: Mapping[str, int] | None = None) -> str:
    """As Markdown: counts for each file and family, then the survivors with what they change.

    `found` says how many mutants each file has; without it, or where it says nothing, as many as were tried.
    """
    many, found = Counter(one.file for one in fates), found or {}
    head = "| file | found | tried | " + " | ".join(KILLERS) + " | judged | left | seconds |"
    lines = ["# Mutants", "", head, "|" + "---|" * (head.count("|") - 1)]
    files = sorted({*many, *found})
    families = sorted({str(Path(one).parent) for one in files})
    for family in families:
        inside = [one for one in files if str(Path(one).parent) == family]
        lines += [_row(one, [f for f in fates if f.file == one], found.get(one, many[one])) for one in inside]
        total = sum(found.get(one, many[one]) for one in inside)
        lines.append(_row(f"**{family}**", [f for f in fates if f.file in inside], total))
    lines.append(_row("**all**", fates, sum(found.get(one, many[one]) for one in files)))
    lines += ["", "## Survivors"]
    for file in files:
        left = sorted((one for one in survivors(fates) if one.file == file), key=lambda one: one.line)
        if left:
            lines += ["", f"### {file}"]
        for one in left:
            lines += ["", f"{one.function or 'at import'}, line {one.line}, {one.kind}; {one.note}", ""]
            lines += ["```diff", f"- {one.before}", f"+ {one.after}", "```"]
    return "\n".join(lines) + "\n"


def _row(name: str, fates: Sequence[Fate], found: int) -> str:
    counts = Counter(one.by for one in fates)
    numbers = [found, len(fates), *(counts[one] for one in KILLERS), counts["judged"], counts[""]]
    return f"| {name} | " + " | ".join(map(str, numbers)) + f" | {sum(one.seconds for one in fates):.0f} |"
