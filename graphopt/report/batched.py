"""The page of a batch: a line for each model, those that failed first, and the sums."""

from __future__ import annotations

import dataclasses
from typing import Any

from rich.console import Console
from rich.table import Table

from graphopt.report.plain import cut, plain
from graphopt.report.text import count, duration, file_size
from graphopt.scale.batch import Summary, ordered

_FEW = 30  # models that are shown unless all are asked for


def batch_json(found: Summary) -> dict[str, Any]:
    """Plain data for `json.dumps`."""
    return {
        "models": len(found.rows),
        "done": sum(row.exit_code == 0 for row in found.rows),
        "kept": found.kept,
        "seconds": round(found.seconds, 3),
        "workers": found.workers,
        "manifest": found.manifest,
        "exit_code": found.exit_code,
        "rows": [dataclasses.asdict(row) for row in found.rows],
    }


def print_batch(found: Summary, console: Console, verbose: int = 0) -> None:
    """Print what became of each model; of many only the first, with `verbose` all."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("  model", "before", "after", "nodes", "after", "time", ""):
        table.add_column(title, justify="left" if title in ("  model", "") else "right")
    rows = list(ordered(found))
    for row in rows if verbose else rows[:_FEW]:
        mark = "[green]✓[/green]" if row.exit_code == 0 else "[red]✗[/red]"
        sizes = [(row.bytes_before, file_size), (row.bytes_after, file_size)]
        sizes += [(row.nodes_before, count), (row.nodes_after, count)]
        said = row.sentence if row.exit_code == 0 else f"{row.sentence} ({row.exit_code})"
        said += f"; {row.attempts} attempts" if row.attempts > 1 else ""
        table.add_row(
            f"{mark} {plain(cut(row.model, 44))}",
            *("" if value is None else show(value) for value, show in sizes),
            duration(row.seconds),
            plain(said),
        )
    console.print(table)
    if len(rows) > _FEW and not verbose:
        console.print(f"  [dim]and {len(rows) - _FEW} more (-v shows all)[/dim]")
    console.print()
    good = [row for row in found.rows if row.exit_code == 0]
    before = sum(row.bytes_before or 0 for row in good)
    after = sum(row.bytes_after or 0 for row in good)
    console.print(f"  {len(good)} of {len(found.rows)} models done, {file_size(before)} to {file_size(after)}")
    if found.kept:
        console.print(f"  {found.kept} of them were done before, with the same options, and were left")
    workers = "1 worker" if found.workers == 1 else f"{found.workers} workers"
    console.print(f"  in {duration(found.seconds)} with {workers}; the record is {plain(found.manifest)}")
