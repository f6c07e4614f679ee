"""The page of a bisection: what is wrong, which rewrite it is, and how to go on without it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from graphopt.debug.bisect import Answer
from graphopt.debug.finding import Finding
from graphopt.pipeline.protocol import Remark
from graphopt.pipeline.tokens import shorten
from graphopt.report.plain import plain
from graphopt.report.text import duration

_LINES = 12  # of the model's text that are shown on each side
_COLUMNS = 400  # of one of them
_NAMES = 8


def print_finding(found: Finding, console: Console, verbose: int = 0) -> None:
    """Print a finding; with `verbose` every try and every line that differs."""
    console.print(f"[bold]{plain(Path(found.model).name)}[/bold]  [dim]{plain(shorten(found.pipeline, 100))}[/dim]")
    if verbose:
        console.print()
        for one in found.tries:
            cached = " (judged before)" if one.cached else ""
            console.print(f"  [dim]{one.answer!s:4}[/dim] {plain(one.what)}{cached}: {plain(one.why)}")
    console.print()
    if found.outcome == "nothing":
        count = _counted(found.rewrites, "rewrite")
        console.print(f"  [green]✓[/green] nothing is wrong with the whole pipeline ({count}): {plain(found.why)}")
    elif found.outcome == "pass":
        name = plain(found.pass_name or "a pass")
        console.print(f"  [red]✗[/red] [bold]{name}[/bold] fails whatever is rewritten before it: {plain(found.why)}")
    elif found.outcome == "range":
        _range(found, console)
    else:
        _rewrite(found, console, verbose)
    for warning in found.warnings:
        console.print(f"  [yellow]note[/yellow] {plain(warning)}")
    if found.bundle is not None:
        console.print(f"  wrote {plain(found.bundle)}, which `graphopt replay` runs again")
    _cost(found, console)


def _range(found: Finding, console: Console) -> None:
    console.print(
        f"  [red]✗[/red] one of {len(found.suspects)} rewrites, between which nothing could be told: {plain(found.why)}"
    )
    for one in found.suspects:
        console.print(f"    {_named(one)}")


def _rewrite(found: Finding, console: Console, verbose: int) -> None:
    guilty = found.guilty
    assert guilty is not None, "a rewrite was found"
    console.print(f"  [red]✗[/red] pass [bold]{plain(guilty.pass_name)}[/bold], rewrite [bold]{found.handle}[/bold]")
    console.print(f"    {_named(guilty)}, number {found.position} of {found.rewrites} in all")
    console.print(f"    with it  {plain(found.why)}")
    if guilty.before:
        console.print(f"    [dim]before[/dim]   {_joined(guilty.before, verbose)}")
    if guilty.after:
        console.print(f"    [dim]after[/dim]    {_joined(guilty.after, verbose)}")
    if found.origins and set(found.origins) != set(guilty.before):
        console.print(f"    [dim]in the input[/dim] {_joined(found.origins, verbose)}")
    for sign, colour, lines in (("-", "red", found.before), ("+", "green", found.after)):
        shown = lines if verbose else lines[:_LINES]
        for line in shown:
            text = line if verbose or len(line) <= _COLUMNS else f"{line[:_COLUMNS]}..."
            console.print(f"    [{colour}]{sign}[/{colour}] {plain(text)}")
        if len(shown) < len(lines):
            console.print(f"    {sign} and {len(lines) - len(shown)} more lines; -v shows them")
    console.print()
    _company(found, console)
    if found.rest is Answer.GOOD:
        console.print(f"  without it the rest holds: {plain(found.rest_why)}")
    elif found.rest is Answer.BAD:
        console.print("  without it the rest is wrong too; this finds the next:")
        console.print(f"    {plain(found.again)}")
    console.print("  go on without it:")
    console.print(f"    {plain(found.go_on)}")


def _company(found: Finding, console: Console) -> None:
    if found.alone or found.alone is None:
        if found.alone:
            console.print("  it is wrong alone, with everything else switched off")
        return
    if not found.together:
        console.print("  it is not wrong alone; with which others it is could not be found out")
        return
    size = len(found.together)
    least = "no fewer are" if found.smallest else "perhaps fewer are, the tries ran out"
    console.print(f"  no single rewrite is wrong alone; these {size} together are, and {least}:")
    for one in found.together:
        console.print(f"    {_named(one)}")


def _cost(found: Finding, console: Console) -> None:
    models = _counted(found.evaluations, "model")
    console.print(
        f"  [dim]{models} judged, {_counted(found.runs, 'run')} of the pipeline, in {duration(found.seconds)}[/dim]"
    )


def _named(one: Remark) -> str:
    place = f"{one.scope}/{one.node}" if one.scope else one.node
    why = f" ({plain(one.why)})" if one.why else ""
    return f"{plain(one.pass_name)}:{one.number} [dim]{plain(one.rule)} on[/dim] {plain(place)}{why}"


def _joined(names: Sequence[str], verbose: int) -> str:
    shown = names if verbose or len(names) <= _NAMES else names[: _NAMES - 1]
    rest = f" and {len(names) - len(shown)} more" if len(shown) < len(names) else ""
    return ", ".join(plain(name) for name in shown) + rest


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
