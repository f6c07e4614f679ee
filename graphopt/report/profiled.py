"""The page of `graphopt profile-error`: a table of values with their errors by origin, and what to return."""

from __future__ import annotations

import math
from typing import Any

from rich.console import Console
from rich.table import Table

from graphopt.debug.matching import described
from graphopt.debug.profile import Profile, Recovery
from graphopt.debug.readings import Reading
from graphopt.report.localized import difference_json, reading_json
from graphopt.report.plain import cut, plain
from graphopt.report.text import duration
from graphopt.validation.compare import Difference

_FEW = 20


def shares(one: Reading) -> dict[str, Difference | None]:
    """The error of a value by where it comes from; None for a share that is none or cannot be told."""
    changed = one.from_weights is not None
    return {
        "weight": one.from_weights if changed and one.weights == "weights" else None,
        "pruning": one.from_weights if changed and one.weights == "pruning" else None,
        "activation": one.beside_weights if one.born is not None else None,
        "inherited": one.inherited,
    }


def profile_json(found: Profile) -> dict[str, Any]:
    """A profile as plain data."""
    values = []
    for one in found.readings:
        facts = reading_json(one, None)
        values.append(facts | {"split": {name: difference_json(part) for name, part in shares(one).items()}})
    return {
        "output_db": found.output_db,
        "recoveries": [_recovery_json(one, found.output_db) for one in found.recoveries],
        "together": None if found.together is None else _recovery_json(found.together, found.output_db),
        "values": values,
        "unmatched": found.unmatched,
        "warnings": found.warnings,
        "seconds": found.seconds,
    }


def print_profile(found: Profile, console: Console, verbose: int = 0) -> None:
    """Print a profile; with `verbose` every value that differs."""
    differing = [one for one in found.readings if one.total.differing or one.total.problem]
    console.print(
        f"[bold]outputs at {described(found.output_db)}[/bold]; {len(differing)} of {len(found.readings)} values differ"
    )
    if found.unmatched:
        console.print(f"[dim]{found.unmatched} values of the original have no counterpart[/dim]")
    if differing:
        console.print()
        _table(differing, console, verbose)
    if found.recoveries:
        console.print("\n[bold]returned to the original, what recovers most[/bold]")
        for one in found.recoveries:
            console.print(
                f"  {plain(cut(one.values[0], 50))}  [dim]{plain(cut(one.op, 50))}[/dim]  {_gain(one, found)}"
            )
        if found.together is not None:
            console.print(f"  all of them together  {_gain(found.together, found)}")
    for warning in found.warnings:
        console.print(f"  [yellow]note[/yellow] {plain(warning)}")
    console.print(f"[dim]in {duration(found.seconds)}[/dim]")


def _table(differing: list[Reading], console: Console, verbose: int) -> None:
    shown = differing
    if not verbose and len(differing) > _FEW:
        worst = sorted(differing, key=lambda one: math.inf if one.born is None else one.born.sqnr_db)[:_FEW]
        shown = [one for one in differing if any(one is other for other in worst)]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("  value", "operator", "SQNR", "born", "weight", "activation", "pruning", "inherited"):
        table.add_column(title, justify="left" if title in ("  value", "operator") else "right")
    for one in shown:
        parts = shares(one)
        columns = (one.total, one.born, parts["weight"], parts["activation"], parts["pruning"], parts["inherited"])
        table.add_row(
            f"  {plain(cut(one.match.reference, 40))}",
            plain(cut(one.op.partition(" ")[0], 24)),
            *(_decibels(part) for part in columns),
        )
    console.print(table)
    if len(shown) < len(differing):
        console.print(f"  [dim]the {len(shown)} with most error of their own, of {len(differing)} (-v shows all)[/dim]")


def _decibels(one: Difference | None) -> str:
    if one is None:
        return ""
    if one.problem:
        return "other shape"
    return f"{one.sqnr_db:.1f} dB" if math.isfinite(one.sqnr_db) else "none" if one.sqnr_db > 0 else "all"


def _gain(one: Recovery, found: Profile) -> str:
    gain = one.output_db - found.output_db
    return f"outputs at {described(one.output_db)}" + (f" (+{gain:.1f})" if math.isfinite(gain) else "")


def _recovery_json(one: Recovery, before: float) -> dict[str, Any]:
    return {
        "values": list(one.values),
        "node": one.op or None,
        "born_db": one.born_db,
        "output_db": one.output_db,
        "gain_db": one.output_db - before if math.isfinite(before) else 0.0,
    }
