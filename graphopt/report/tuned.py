"""The calm screen of a search: what was tried, the front, and the model that was taken."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from graphopt.report.plain import cut, plain
from graphopt.report.text import duration
from graphopt.report.tuned_figures import (
    MINIMIZED,
    budgets_of,
    figures_shown,
    head,
    model_name,
    ordered,
    times_smaller,
    title,
    tried,
    value_of,
    written,
)
from graphopt.tune.trial import FAILED, KEPT, MISSED, Trial, Tuned

_FRONT = 10  # points of a front that are shown unless all are asked for
_MARKS = {KEPT: "[green]✓[/green]", MISSED: "[red]✗[/red]", FAILED: "[yellow]?[/yellow]"}


def print_tuned(found: Tuned, console: Console, verbose: int = 0) -> None:
    """Print a search; with `verbose` every candidate and why it was left, and what a preset assumes."""
    asked = f"{MINIMIZED.get(found.minimize, found.minimize)} within {', '.join(found.budgets) or 'no budget'}"
    wanted = asked + (f", for {found.preset}" if found.preset else "")
    console.print(f"[bold]{plain(model_name(found))}[/bold]  {plain(wanted)}  [dim]{plain(found.feeds)}[/dim]")
    by = f" by {found.workers} processes" if found.workers > 1 else ""
    console.print(f"  {tried(found)}, in {duration(found.seconds)}{by}")
    if found.stopped:
        console.print(f"  [yellow]note[/yellow] the search ended early: {plain(found.stopped)}")
    console.print()
    _front(found, console, verbose)
    _taken(found, console)
    for warning in found.warnings:
        console.print(f"  [yellow]note[/yellow] {plain(warning)}")
    if found.assumptions and verbose:
        console.print(f"  assumed for {plain(found.preset)}:")
        for sentence in found.assumptions:
            console.print(f"    {plain(sentence)}")
    elif found.assumptions:
        console.print(
            f"  [dim]{len(found.assumptions)} things are assumed for {plain(found.preset)} (-v says them)[/dim]"
        )
    if found.written:
        console.print(f"  wrote {plain(', '.join(found.written))}")
    elif found.chosen is None:
        console.print("  nothing was written")


def _front(found: Tuned, console: Console, verbose: int) -> None:
    """The table: the original, the front, and with `verbose` all the others behind it."""
    fields = figures_shown(found)
    shown = ordered(found.front, found)
    if not verbose and len(shown) > _FRONT:
        # The chosen one, and of the others as many of each end as fit.
        near = sorted(shown, key=lambda place: abs(shown.index(place) - _place(found, shown)))[:_FRONT]
        shown = [place for place in shown if place in near]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("  candidate", "technique"):
        table.add_column(name)
    for field in fields:
        table.add_column(head(field), justify="right")
    table.add_column("rows", justify="right")
    table.add_row("  the original", "", *(written(field, value_of(found.original, field)) for field in fields), "")
    for place in shown:
        table.add_row(
            *_cells(found, found.trials[place], fields, place == found.chosen),
            style="bold" if place == found.chosen else "",
        )
    others = [place for place in range(len(found.trials)) if place not in shown] if verbose else []
    if others:
        table.add_section()
    for place in ordered(others, found):
        table.add_row(*_cells(found, found.trials[place], fields, False), style="dim")
    console.print(table)
    if len(shown) < len(found.front) and not verbose:
        console.print(f"  [dim]{len(shown)} of the {len(found.front)} points of the front (-v shows all)[/dim]")
    if shown:
        first, second = (title(axis).partition(",")[0] for axis in found.axes)
        console.print(f"  [dim]the front: no other is better in both, {first} and {second}[/dim]")
    for place in others:
        one = found.trials[place]
        if one.why and one.status == FAILED:
            console.print(f"  [dim]{plain(one.candidate.name)}: {plain(one.why)}[/dim]")
    console.print()


def _place(found: Tuned, shown: list[int]) -> int:
    """Where the chosen one stands on the front, else its beginning."""
    return shown.index(found.chosen) if found.chosen in shown else 0


def _cells(found: Tuned, trial: Trial, fields: list[str], chosen: bool) -> list[str]:
    mark = "[green]▸[/green]" if chosen else _MARKS[trial.status]
    candidate = trial.candidate
    figures = [written(field, value_of(trial, field)) for field in fields]
    rows = str(trial.rows) if trial.rows else ""
    return [f"{mark} {plain(cut(candidate.name, 36))}", plain(cut(candidate.technique, 28)), *figures, rows]


def _taken(found: Tuned, console: Console) -> None:
    """The model that was taken, with its figures on what the search never saw."""
    if found.chosen is None:
        console.print("  [red]✗[/red] nothing that was tried keeps the budgets")
        return
    trial = found.trials[found.chosen]
    field = found.axes[0]
    before, after = value_of(found.original, field), value_of(trial, field)
    of = f" of {written(field, before)}" if field in ("bytes", "compressed", "macs") and before is not None else ""
    less = times_smaller(found, field) if of else ""
    console.print(
        f"  [green]✓[/green] took [bold]{plain(trial.candidate.name)}[/bold]: {title(field).partition(',')[0]} "
        f"{written(field, after)}{of}{f' ({less})' if less else ''}"
    )
    limits = budgets_of(found)
    said = [
        f"{metric} {limits[metric].shown(value)}" if metric in limits else f"{head(metric)} {written(metric, value)}"
        for metric, value in found.held_out.items()
    ]
    if said:
        console.print(f"    on samples that the search never saw: {plain(', '.join(said))}")
