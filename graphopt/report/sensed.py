"""The page of `graphopt sensitivity` on a terminal: what each layer tolerates, the least tolerant first."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from graphopt.report.plain import cut, plain
from graphopt.report.text import duration
from graphopt.tolerance.table import Checked, Row, Sensitivity

TARGET_DB = 30.0
_FEW = 20
_SHOWN = ("int8-tensor", "int8-channel", "int4-block", "sparse-50", "channels-25", "channels-50")
_ORDER = "int8-channel"


def print_sensitivity(found: Sensitivity, console: Console, verbose: int = 0) -> None:
    """Print a study; with `verbose` all layers, and with more all compressions and the fits."""
    console.print(f"[bold]{plain(found.model)}[/bold]  {len(found.rows)} layers  [dim]{plain(found.feeds)}[/dim]")
    console.print()
    known = [row for row in found.rows if row.errors]
    shown = sorted(known, key=lambda row: -row.errors.get(_ORDER, -1.0))
    if not verbose and len(shown) > _FEW:
        shown = shown[:_FEW]
    if shown:
        console.print(_table(shown, verbose))
        if len(shown) < len(known):
            console.print(f"  [dim]the {len(shown)} least tolerant of {len(known)} (-v shows all)[/dim]")
        console.print("  [dim]predicted SQNR of the worst output, in dB, with only that layer compressed[/dim]")
    for one in found.checks:
        console.print(f"  {sentence(one)}")
    for name, why in found.left if verbose else found.left[:3]:
        console.print(f"  [dim]left: {plain(cut(name, 60))}, {plain(why)}[/dim]")
    if not verbose and len(found.left) > 3:
        console.print(f"  [dim]and {len(found.left) - 3} more left (-v says why)[/dim]")
    for warning in found.warnings:
        console.print(f"  [yellow]note[/yellow] {plain(warning)}")
    console.print(
        f"[dim]{found.runs} runs of parts, as much as {found.work:.0f} of the whole model, "
        f"in {duration(found.seconds)}[/dim]"
    )


def sentence(one: Checked) -> str:
    """How well a compression was predicted, in words."""
    if not one.count:
        return f"{one.compression}: no layer that was verified has it"
    ranks = (
        "too few layers for a rank correlation" if math.isnan(one.spearman) else f"rank correlation {one.spearman:.2f}"
    )
    off = "" if math.isnan(one.off_db) else f", {one.off_db:.1f} dB off in the median"
    layers = "layer" if one.count == 1 else "layers"
    return f"{one.compression} verified on {one.count} {layers}: {ranks}{off}"


def _table(rows: Sequence[Row], verbose: int) -> Table:
    names = list(dict.fromkeys(name for row in rows for name in row.errors)) if verbose > 1 else list(_SHOWN)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("  layer")
    table.add_column("operator")
    for title in (*names, "bits", "eps", "gain", *(("slope", "fit") if verbose > 1 else ())):
        table.add_column(title, justify="right")
    for row in rows:
        bits = row.bits_for(TARGET_DB)
        fits = (_plainly(row.weights.slope), _plainly(row.weights.fit)) if verbose > 1 else ()
        table.add_row(
            f"  {plain(cut(row.name, 40))}",
            plain(cut(row.op, 24)),
            *(decibels_of(row, name) for name in names),
            "more" if bits is None else str(bits),
            _plainly(row.eps_for(TARGET_DB)),
            _plainly(row.weights.gain) + ("*" if row.weights.saturates_at is not None else ""),
            *fits,
        )
    return table


def decibels_of(row: Row, compression: str) -> str:
    """What a compression of a layer is predicted to keep, and, where that was tried, what it kept."""
    found = row.predicted_db(compression)
    if found is None:
        return ""
    text = f"{found:.1f}" if math.isfinite(found) else "all" if found > 0 else "none"
    measured = row.measured.get(compression)
    if measured is None:
        return text
    return f"{text} ({-10 * math.log10(measured):.1f})" if 0 < measured < math.inf else f"{text} (all)"


def _plainly(number: float) -> str:
    if math.isnan(number):
        return ""
    return f"{number:.2g}" if math.isfinite(number) else "any"
