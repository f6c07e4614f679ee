"""The page of a reduction: what is left of the model, how it fails, and where it was written."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from graphopt.debug.reduced import Reduced
from graphopt.report.plain import plain
from graphopt.report.text import duration

_LINES = 24
_COLUMNS = 300


def print_reduced(found: Reduced, console: Console, verbose: int = 0) -> None:
    """Print a reduction; with `verbose` every part that failed on the way, and all that is left."""
    console.print(f"[bold]{plain(Path(found.model).name)}[/bold]  [dim]{plain(found.how)}[/dim]")
    if verbose:
        console.print()
        for step in found.steps:
            console.print(f"  [dim]fails[/dim] {plain(step)}")
    console.print()
    if found.outcome == "nothing":
        console.print(f"  [green]✓[/green] nothing fails: {plain(found.why)}")
    else:
        console.print(f"  [red]✗[/red] {found.after} of {found.before} nodes still fail: {plain(found.why)}")
        for line in found.text if verbose else found.text[:_LINES]:
            console.print(f"    {plain(line if verbose or len(line) <= _COLUMNS else line[:_COLUMNS] + '...')}")
        if not verbose and len(found.text) > _LINES:
            console.print(f"    [dim]... {len(found.text) - _LINES} more lines; -v shows them[/dim]")
        if not found.smallest:
            console.print("  [yellow]note[/yellow] the search ended early, so perhaps more can be left out; see --most")
        if found.folder is not None:
            console.print(f"  wrote {plain(', '.join(found.files))} to {plain(found.folder)}")
    judged = f"{found.evaluations} part{'' if found.evaluations == 1 else 's'} judged"
    console.print(f"  [dim]{judged} in {duration(found.seconds)}[/dim]")
