"""The page of `graphopt validate`: what the verdict rests on, output by output."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from graphopt.report.plain import cut, plain
from graphopt.report.text import duration
from graphopt.validation.segments.report import SegmentsReport
from graphopt.validation.verdict import Outcome, OutputReport, Verdict

_MARKS = {
    Outcome.EQUIVALENT: "[green]✓[/green]",
    Outcome.WITHIN_BUDGET: "[green]✓[/green]",
    Outcome.DIFFERENT: "[red]✗[/red]",
    Outcome.COULD_NOT_TELL: "[yellow]?[/yellow]",
    Outcome.NOT_VALIDATED: "[yellow]-[/yellow]",
}
_FEW = 12  # outputs, in two modes each, that are shown unless all are asked for


def print_verdict(verdict: Verdict, console: Console, verbose: int = 0) -> None:
    """Print a verdict with its figures; with `verbose` every output of a model that has many."""
    console.print(f"{_MARKS[verdict.outcome]} {plain(verdict.sentence())}")
    for reason in verdict.reasons[1:] if verbose else verdict.reasons[1:4]:
        console.print(f"  {plain(reason)}")
    for warning in verdict.warnings:
        console.print(f"  [yellow]note[/yellow] {plain(warning)}")
    if verdict.segments is not None:
        print_segments(verdict.segments, console, verbose)
    if verdict.outputs:
        console.print()
        _outputs(verdict.outputs, console, verbose)
    if verdict.feeds is not None:
        console.print()
        seed = f", seed {verdict.feeds.seed}" if verdict.feeds.generated else ""
        console.print(f"[dim]{verdict.feeds.count} x {plain(verdict.feeds.source)}{seed}[/dim]")
        for shapes in verdict.feeds.shapes if verbose else verdict.feeds.shapes[:3]:
            console.print(f"  [dim]{plain(shapes)}[/dim]")
    console.print(f"[dim]in {duration(verdict.seconds)}[/dim]")


def print_segments(segments: SegmentsReport, console: Console, verbose: int = 0) -> None:
    """Print how models were run that were not loaded whole, and which stretch is the worst; with `verbose` all."""
    console.print(f"  [dim]{plain(segments.sentence())}[/dim]", highlight=False)
    worst = [] if segments.worst is None else [segments.worst]
    for row in segments.rows if verbose else worst:
        console.print(f"  [dim]{'' if verbose else 'the worst is '}{plain(row.sentence())}[/dim]", highlight=False)


def _outputs(reports: tuple[OutputReport, ...], console: Console, verbose: int) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("  output", "optimized", "differing", "error", "allowed", "SQNR", "cosine", "same top-1"):
        table.add_column(title, justify="left" if title in ("  output", "optimized") else "right")
    # What failed comes first, so that no cut hides it.
    ordered = sorted(reports, key=lambda one: one.passed)
    shown = ordered if verbose else ordered[:_FEW]
    for one in shown:
        mark = " " if one.passed else "[red]✗[/red]"
        table.add_row(
            f"{mark} {plain(cut(one.name, 40))}",
            "yes" if one.optimized else "no",
            f"{one.differing} of {one.elements}" if one.differing else "none",
            f"{one.scaled_error:.2g}" if one.differing else "",
            "" if one.bound is None else f"{one.bound:.2g}",
            f"{one.sqnr_db:.1f} dB" if one.differing and one.kind == "float" else "",
            f"{one.cosine:.6f}" if one.differing and one.kind == "float" else "",
            "" if one.agreement is None else f"{100 * one.agreement:.2f} %",
        )
    console.print(table)
    if len(shown) < len(ordered):
        console.print(f"  [dim]and {len(ordered) - len(shown)} more (-v shows all)[/dim]")


def accuracy_json(verdict: Verdict, rows: int) -> dict[str, Any]:
    """Top-1 accuracy before and after over `rows` labelled rows, as plain data."""
    return {"accuracy": {"rows": rows, "before": verdict.metric_before, "after": verdict.metric_after}}


def print_accuracy(verdict: Verdict, rows: int, console: Console) -> None:
    """Print top-1 accuracy before and after, where the verdict has them."""
    if verdict.metric_before is None or verdict.metric_after is None:
        return
    before, after = (f"{100 * share:.2f} %" for share in (verdict.metric_before, verdict.metric_after))
    console.print(f"\n  accuracy on {rows} labelled test images: {before} before, {after} after")
    console.print("  [dim]the same for a model of yours: graphopt optimize IN -o OUT --recipe int8-weights[/dim]")
