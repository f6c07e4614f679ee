"""The limits on what a model may make graphopt hold or do, as a table."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from graphopt.limits import described


def ceilings_json() -> dict[str, Any]:
    """Plain data for `json.dumps`."""
    return {name: {"default": default, "of": help_text} for name, default, help_text in described()}


def print_ceilings(console: Console) -> None:
    """Print every limit with its default and what it is of."""
    console.print()
    console.print("  Limits on what a model may make graphopt hold or do; --max NAME=N moves one, and is repeatable.")
    console.print()
    table = Table(box=None, padding=(0, 2), show_edge=False, pad_edge=True)
    for title in ("limit", "default", "of"):
        table.add_column(title, style="bold" if title == "limit" else "", overflow="fold")
    for name, default, help_text in described():
        table.add_row(name, default, help_text)
    console.print(table)
    console.print()
    console.print("  --memory and --timeout bound the process that runs models.")
