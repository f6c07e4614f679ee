"""What a report says, in Markdown: machines, versions of the tools, and every suite's tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.cells import plain
from benchmarks.record import Record
from benchmarks.results import Run, facts, flagged, key, lasting, latest, machines, versions
from benchmarks.steady import Agreement, agreements, repeated
from benchmarks.suites import SUITES, suite
from graphopt.errors import UsageError
from graphopt.report.plain import cut, printable

TITLE: Final = "Benchmarks"
UNNOTED: Final = "The results do not say on which machine they were measured."
GENERATED: Final = "made up"
"""The word of a record about data that are none."""
_GROUP: Final = "versions "  # of facts of a machine
AGAIN: Final = "What was measured twice on the same machine"


@dataclass(frozen=True)
class Section:
    """A suite that results have records of: what it measures, and its tables by title."""

    suite: str
    about: str
    records: tuple[Record, ...]
    tables: tuple[tuple[str, str], ...]

    @property
    def failures(self) -> list[Record]:
        return [one for one in self.records if one.failure]


@dataclass(frozen=True)
class Told:
    """All that a report is made of."""

    machines: tuple[Mapping[str, str], ...]
    versions: Mapping[str, str]
    sections: tuple[Section, ...]
    again: tuple[Agreement, ...]

    def section(self, name: str) -> Section | None:
        return next((one for one in self.sections if one.suite == name), None)


def told(runs: Sequence[Run]) -> Told:
    """What runs say together; of what was measured more than once the last counts.

    Raises UsageError where they have records of a suite that there is not.
    """
    records = flagged(latest(runs))
    for record in records:
        if record.suite not in SUITES:
            name = cut(record.suite, 60)
            raise UsageError(f"the results have records of a suite {name!r}; there are {', '.join(SUITES)}")
    sections = []
    for name in SUITES:
        own = tuple(one for one in records if one.suite == name)
        if own:
            module = suite(name)
            sections.append(Section(name, module.HELP, own, tuple(_with_notes(module.tables(own), own))))
    noted = [facts(one) for one in machines(runs)]
    libraries = {
        name.removeprefix(_GROUP): value for one in noted for name, value in one.items() if name.startswith(_GROUP)
    }
    shown = _machines(noted)
    return Told(shown, {**libraries, **versions(records)}, tuple(sections), tuple(_again(runs)))


def _machines(noted: Sequence[Mapping[str, str]]) -> tuple[Mapping[str, str], ...]:
    """Each machine once, with the days on which it measured."""
    found: dict[tuple[tuple[str, str], ...], dict[str, None]] = {}
    for one in noted:
        lasts = {k: v for k, v in one.items() if not k.startswith((_GROUP, "settings ")) and k not in ("load", "date")}
        days = found.setdefault(tuple(lasts.items()), {})
        if "date" in one:
            days[one["date"].partition("T")[0]] = None
    return tuple({**dict(lasts), **({"date": ", ".join(days)} if days else {})} for lasts, days in found.items())


def _with_notes(tables: Sequence[tuple[str, str]], records: Sequence[Record]) -> Iterator[tuple[str, str]]:
    """Tables that say which models had no real data: the first one of all models, others of their own."""
    generated = list(dict.fromkeys(one.model for one in records if one.words.get("data") == GENERATED))
    for number, (title, table) in enumerate(tables):
        own = [plain(printable(one)) for one in generated if number == 0 or title.endswith(f" of {one}")]
        yield title, f"{table}\n\nOn generated inputs, not on real data: {', '.join(own)}." if own else table


def _again(runs: Sequence[Run]) -> list[Agreement]:
    """The ratios that two runs on the same machine have, the last run of each against the one before."""
    found = []
    for number, run in enumerate(runs):
        later = {key(one) for other in runs[number + 1 :] for one in other.records}
        before = [one for one in runs[:number] if one.machine and lasting(one.machine) == lasting(run.machine)]
        last = [one for one in run.records if key(one) not in later]
        found += agreements(latest(before), last)
    return found


def markdown(one: Told) -> str:
    """The whole report."""
    parts = [f"# {TITLE}", machine_text(one)]
    for section in one.sections:
        parts += [f"## {section.suite.capitalize()}", f"{_sentence(section.about)}"]
        for title, table in section.tables:
            parts += [f"### {title}", table]
    if one.again:
        parts += [f"## {AGAIN}", repeated(one.again)]
    return "\n\n".join(parts) + "\n"


def machine_text(one: Told) -> str:
    """The machines and the versions of the tools, a sentence each."""
    said = [f"Measured on: {'; '.join(f'{name} {plain(value)}' for name, value in each.items())}."
            for each in one.machines] or [UNNOTED]  # fmt: skip
    tools = ", ".join(f"{plain(printable(name))} {plain(printable(value))}" for name, value in one.versions.items())
    return "\n\n".join([*said, *([f"Versions: {tools}."] if tools else [])])


def tables_text(tables: Sequence[tuple[str, str]]) -> str:
    """Tables with their titles; one alone needs none."""
    if len(tables) == 1:
        return tables[0][1]
    return "\n\n".join(f"**{title}**\n\n{table}" for title, table in tables)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
