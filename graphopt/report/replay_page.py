"""The page of a replay: the same to the last bit, or where it first differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from graphopt.report.plain import plain


def print_replay(facts: dict[str, Any], console: Console) -> None:
    """Print what `Replay.to_json` says."""
    console.print(f"[bold]{plain(Path(facts['bundle']).name)}[/bold]")
    console.print()
    count = facts["passes"]
    passes = f"after {count} run{'' if count == 1 else 's'} of passes" if count else "and no pass changes anything"
    if facts["identical"]:
        console.print(f"  [green]✓[/green] bit-identical {passes}")
    else:
        console.print(f"  [red]✗[/red] {plain(facts['difference'])}")
        if count:
            console.print(f"    bit-identical {passes} before that")
    if facts["failure"] is not None:
        console.print(f"  it fails{' as it did' if facts['identical'] else ''}: {plain(facts['failure'])}")
    elif facts["verdict"] is not None:
        console.print(f"  outputs {plain(facts['verdict'])}")
    for name, (then, now) in facts["versions"].items():
        console.print(f"  [yellow]note[/yellow] {plain(name)} is {plain(now)} and was {plain(then)}")
    for note in facts["notes"]:
        console.print(f"  [yellow]note[/yellow] {plain(note)}")
