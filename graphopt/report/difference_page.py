"""The page of a difference of two models, and of what the passes of a run changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from graphopt.debug.changed import Changed
from graphopt.debug.diff import Difference, Hunk
from graphopt.report.plain import plain

_HUNKS = 20  # that are shown
_LINES = 16  # of one of them, on each side
_COLUMNS = 300  # of a line


def print_difference(found: Difference, console: Console, verbose: int = 0) -> None:
    """Print a difference as `diff` does; with `verbose` all of it."""
    console.print(f"[bold]--- {plain(Path(found.a).name)}[/bold]")
    console.print(f"[bold]+++ {plain(Path(found.b).name)}[/bold]")
    shown = found.hunks if verbose else found.hunks[:_HUNKS]
    for one in shown:
        _hunk(one, console, verbose)
    if len(shown) < len(found.hunks):
        console.print(f"[dim]... and {len(found.hunks) - len(shown)} more places; -v shows them[/dim]")
    console.print()
    nodes = f"{found.same} nodes are in both, {found.removed} in the first only, {found.added} in the second only"
    renamed = f"; {found.renamed} values are called otherwise" if found.renamed else ""
    if found.hunks:
        console.print(f"  [red]✗[/red] different in {len(found.hunks)} place{_s(found.hunks)}: {nodes}{renamed}")
    else:
        console.print(f"  [green]✓[/green] the same structure: {found.same} nodes{renamed}")
    for note in found.notes:
        console.print(f"  [yellow]note[/yellow] {plain(note)}")


def _hunk(one: Hunk, console: Console, verbose: int) -> None:
    by = f" by {', '.join(one.by)}" if one.by else ""
    console.print(f"[cyan]@@ {plain(one.scope) or 'main graph'}{plain(by)} @@[/cyan]")
    for sign, colour, lines in (("-", "red", one.removed), ("+", "green", one.added)):
        few = lines if verbose else lines[:_LINES]
        for line in few:
            text = line if verbose or len(line) <= _COLUMNS else f"{line[:_COLUMNS]}..."
            console.print(f"[{colour}]{sign} {plain(text)}[/{colour}]")
        if len(few) < len(lines):
            console.print(f"[dim]{sign} ... {len(lines) - len(few)} more lines[/dim]")


def print_changed(rows: Sequence[Changed], console: Console) -> None:
    """Print a line for each pass: nodes and weights that went and came, and of which operators."""
    if not rows:
        console.print("no pass changed anything")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("turn", "pass", "nodes", "weights", "other", "operators"):
        table.add_column(title, justify="right" if title == "turn" else "left", overflow="fold")
    for one in rows:
        operators = ", ".join(f"{count:+d} {op}" for op, count in one.operators.items())
        cells = [_pair(pair) for pair in (one.nodes, one.weights, one.others)]
        table.add_row(str(one.turn), plain(one.pass_name), *cells, plain(operators) or "-")
    console.print(table)


def _pair(pair: tuple[int, int]) -> str:
    return f"-{pair[0]} +{pair[1]}" if any(pair) else "-"


def _s(items: Sequence[object]) -> str:
    return "" if len(items) == 1 else "s"
