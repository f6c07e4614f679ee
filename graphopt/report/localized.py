"""The page of `graphopt localize`: the value, the nodes on either side, and what of the error is born there."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from graphopt.debug.localize import Divergence, Located
from graphopt.debug.matching import described
from graphopt.debug.readings import Histogram, Reading
from graphopt.report.plain import cut, plain
from graphopt.report.text import duration
from graphopt.validation.compare import Difference

_FEW = 6
_WIDTH = 28


def located_json(found: Located) -> dict[str, Any]:
    """What was found as plain data."""
    return {
        "diverges": found.first is not None,
        "first": None if found.first is None else _divergence_json(found.first, found.limit_db),
        "also_born": [reading_json(one, found.limit_db) for one in found.others],
        "diverging": found.diverging,
        "matched": found.matched,
        "unmatched": found.unmatched,
        "sqnr_db": found.limit_db,
        "warnings": found.warnings,
        "seconds": found.seconds,
    }


def reading_json(one: Reading, limit_db: float | None) -> dict[str, Any]:
    """A pair of values as plain data."""
    return {
        "value": one.match.reference,
        "candidate": one.match.candidate,
        "matched_by": one.match.why,
        "node": one.op,
        "total": difference_json(one.total),
        "born": difference_json(one.born),
        "inherited": difference_json(one.inherited),
        "noise_db": one.noise.sqnr_db if one.noise.elements else None,
        "limit_db": one.limit_db(limit_db),
    }


def difference_json(one: Difference | None) -> dict[str, Any] | None:
    """A difference as plain data; None stays None."""
    if one is None:
        return None
    return {
        "kind": one.kind,
        "elements": one.elements,
        "differing": one.differing,
        "sqnr_db": one.sqnr_db,
        "scaled_error": one.scaled if one.finite else 0.0,
        "nonfinite": one.nonfinite,
        "problem": one.problem,
    }


def print_located(found: Located, console: Console, verbose: int = 0) -> None:
    """Print what was found; with `verbose` every node of the stretch and all that is born elsewhere."""
    pairs = sum(found.matched.values())
    how = ", ".join(f"{count} by {why}" for why, count in found.matched.items())
    if found.first is None:
        console.print(f"[green]✓[/green] nothing diverges: {pairs} values compared ({how})")
    else:
        _print_first(found.first, found.limit_db, console, verbose)
        console.print(f"\n{found.diverging} of {pairs} values compared diverge ({how})")
    if found.unmatched:
        console.print(f"[dim]{found.unmatched} values of the first model have no counterpart[/dim]")
    if found.others:
        console.print("\n[bold]also born elsewhere[/bold]")
        for one in found.others if verbose else found.others[:_FEW]:
            assert one.born is not None
            console.print(f"  {plain(cut(one.match.reference, 60))}  {plain(cut(one.op, 60))}  {_said(one.born)}")
    for warning in found.warnings:
        console.print(f"  [yellow]note[/yellow] {plain(warning)}")
    console.print(f"[dim]in {duration(found.seconds)}[/dim]")


def _print_first(first: Divergence, limit_db: float | None, console: Console, verbose: int) -> None:
    console.print(f"[red]✗[/red] the first value that diverges: [bold]{plain(first.value)}[/bold]")
    one = first.reading
    if first.candidate is None:
        console.print(f"  lost: where the first model reads it, the second reads {plain(first.instead)}")
    elif first.candidate != first.value:
        console.print(f"  called {plain(first.candidate)} in the second model, matched by {one.match.why}")
    for title, nodes in (("first model ", first.nodes_before), ("second model", first.nodes_after)):
        shown = nodes if verbose or len(nodes) <= _FEW else nodes[:_FEW]
        rest = f" and {len(nodes) - len(shown)} more" if len(shown) < len(nodes) else ""
        console.print(f"  [dim]{title}[/dim] {plain(', '.join(shown)) or 'nothing'}{rest}")
    if first.within:
        console.print(f"  inside {plain(' > '.join(first.within))}")
    console.print(f"  [dim]apart       [/dim] {_said(one.total)}, and {one.limit_db(limit_db):.0f} dB would pass")
    if first.candidate is not None:
        if one.born is None or one.inherited is None:
            console.print("  [dim]born here   [/dim] cannot be told: its nodes do not run on their own")
        else:
            console.print(f"  [dim]born here   [/dim] {_said(one.born)}: its nodes, on the first model's values")
            console.print(f"  [dim]inherited   [/dim] {_said(one.inherited)}: what its inputs bring along")
    if first.histograms is not None:
        console.print()
        _print_histograms(first.histograms, console)


def _said(one: Difference) -> str:
    if one.problem:
        return plain(f"it {one.problem}")
    if not one.differing:
        return "equal"
    text = described(one.sqnr_db) if one.kind in ("float", "integer") else ""
    share = f"{one.differing} of {one.elements} elements differ"
    return f"{text}, {share}" if text else share


def _print_histograms(both: tuple[Histogram, Histogram], console: Console) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("  error / RMS", "born here", "", "inherited", ""):
        table.add_column(title, no_wrap=True)
    most = [max(1, *one.counts) for one in both]
    for row, name in enumerate(histogram_bins(both[0])):
        counts = [one.counts[row] for one in both]
        if not any(counts):
            continue
        bars = ["█" * -(-count * _WIDTH // top) for count, top in zip(counts, most, strict=True)]
        table.add_row(f"  {name}", bars[0], str(counts[0]), bars[1], str(counts[1]))
    console.print(table)


def histogram_bins(one: Histogram) -> list[str]:
    """What each count of a histogram counts, in words."""
    edges = one.edges
    middle = [f"1e{low} to 1e{low + 1}" for low in edges[:-1]]
    return ["none", f"below 1e{edges[0]}", *middle, f"1e{edges[-1]} and more"]


def _divergence_json(first: Divergence, limit_db: float | None) -> dict[str, Any]:
    facts = reading_json(first.reading, limit_db)
    facts |= {"value": first.value, "candidate": first.candidate, "lost": first.candidate is None}
    facts |= {"instead": first.instead or None, "within": list(first.within), "born_here": first.reading.is_born}
    facts |= {"nodes_before": list(first.nodes_before), "nodes_after": list(first.nodes_after)}
    if first.histograms is not None:
        born, inherited = first.histograms
        facts["histograms"] = {
            "bins": histogram_bins(born),
            "born": list(born.counts),
            "inherited": list(inherited.counts),
        }
    return facts
