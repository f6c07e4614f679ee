"""The remarks that somebody asks about, grouped by what was done, or not done and why."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from rich.console import Console

from graphopt.pipeline.protocol import Remark
from graphopt.report.brief import brief
from graphopt.report.plain import plain

_NODES = 6
_TITLES = {"applied": "applied", "disabled": "switched off", "missed": "missed"}


def fitting(remarks: Iterable[Remark], pattern: str) -> list[Remark]:
    """The remarks whose pass, rule, node (with or without its scope) or operator fits a pattern such as
    `batchnorm*`, in which `*`, `?` and `[...]` have their usual meaning and case does not count."""
    wanted = pattern.casefold()
    return [one for one in remarks if any(fnmatchcase(name.casefold(), wanted) for name in _names(one))]


def print_remarks(remarks: list[Remark], pattern: str, console: Console, verbose: int = 0) -> None:
    """Print the remarks that fit; those of one pass, rule and reason on one line, with `verbose` all nodes."""
    found = fitting(remarks, pattern)
    console.print()
    console.print(f"  [bold]remarks for {plain(pattern)}[/bold]")
    if not found:
        console.print(f"    none: of {len(remarks)} remarks no pass, rule, node or operator fits")
    for kind, title in _TITLES.items():
        groups: dict[tuple[str, str, str], list[Remark]] = {}
        for one in found:
            if one.kind == kind:
                groups.setdefault((one.pass_name, one.rule, one.why if kind == "missed" else ""), []).append(one)
        for (name, rule, why), group in sorted(groups.items(), key=lambda item: -len(item[1])):
            because = f" because {plain(why)}" if why else ""
            console.print(f"    {title} {plain(name)} [dim]{plain(rule)} on[/dim] {_joined(group, verbose)}{because}")


def _names(one: Remark) -> Iterable[str]:
    yield from (one.pass_name, one.rule, one.node, one.op)
    if one.scope:
        yield f"{one.scope}/{one.node}"


def _joined(group: list[Remark], verbose: int) -> str:
    shown = group if verbose or len(group) <= _NODES else group[: _NODES - 1]
    rest = f" and {len(group) - len(shown)} more" if len(shown) < len(group) else ""
    return ", ".join(_place(one) for one in shown) + rest


def _place(one: Remark) -> str:
    place = plain(brief(f"{one.scope}/{one.node}" if one.scope else one.node))
    return place if one.number is None else f"{place} [dim]({one.number})[/dim]"
