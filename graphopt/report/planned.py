"""What was planned before a run: the candidates with their figures, and what stayed as it was and why."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from graphopt.report.plain import plain as escape
from graphopt.report.text import file_size
from graphopt.tune.plan import Plan, Stayed, Tried

_SHOWN = 6  # reasons that are shown unless more is asked for
_NODES = 3


def print_plan(plan: Plan, console: Console, verbose: int = 0) -> None:
    """A row a candidate, then the reasons why nodes stayed as they were, each once with its nodes."""
    console.print(f"  [dim]planned ({escape(plan.planner)}): {escape(plan.feeds)}[/dim]", highlight=False)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("  candidate", "size", "latency", "reached"):
        table.add_column(title, justify="left" if title in ("  candidate", "reached") else "right")
    for number, one in enumerate(plan.tried):
        mark = "[green]✓[/green]" if number == plan.taken else "[dim]-[/dim]"
        table.add_row(f"  {mark} {escape(one.name)}", *_figures(one))
    console.print(table)
    reasons = stayed_reasons(plan.stayed)
    for why, several in reasons[: len(reasons) if verbose else _SHOWN]:
        nodes = [node for one in several for node in one.nodes]
        more = f" and {len(nodes) - _NODES} more" if len(nodes) > _NODES else ""
        instead = several[0].instead
        as_what = "stay as they are" if instead is None else f"are left to {instead}"
        text = f"{', '.join(nodes[:_NODES])}{more} {as_what}: {why}"
        console.print(f"  [dim]kept[/dim] {escape(text)}", highlight=False)
    if len(reasons) > _SHOWN and not verbose:
        console.print(f"  [dim]kept {len(reasons) - _SHOWN} more; -v shows them[/dim]", highlight=False)
    for warning in plan.warnings:
        console.print(f"  [yellow]note[/yellow] {escape(warning)}", highlight=False)
    console.print()


def stayed_reasons(stayed: tuple[Stayed, ...]) -> list[tuple[str, list[Stayed]]]:
    """What stayed, by reason and by what takes it instead, the reason with most nodes first."""
    found: dict[tuple[str, str | None], list[Stayed]] = {}
    for one in stayed:
        found.setdefault((one.why, one.instead), []).append(one)
    ordered = sorted(found.items(), key=lambda item: -sum(len(one.nodes) for one in item[1]))
    return [(why, several) for (why, _), several in ordered]


def _figures(one: Tried) -> tuple[str, str, str]:
    if one.pipeline is None:
        return "", "", escape(one.why)
    latency = "" if one.latency is None else f"x {one.latency.ratio:.2f}"
    return file_size(one.bytes), latency, escape(one.reached)
