"""The one calm screen: what changed pass by pass, what the outputs did, where the file is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from graphopt.contract import Contract
from graphopt.pipeline.protocol import Remark
from graphopt.pipeline.tokens import shorten
from graphopt.report.plain import plain as escape
from graphopt.report.summary import ModelRow, Report
from graphopt.validation.verdict import Outcome

if TYPE_CHECKING:
    from graphopt.measure.latency import Latency

_PASSES_SHOWN = 8  # passes of which every one gets a row
_NODES_SHOWN = 4

_MARKS = {
    Outcome.EQUIVALENT: "[green]✓[/green]",
    Outcome.WITHIN_BUDGET: "[green]✓[/green]",
    Outcome.DIFFERENT: "[red]✗[/red]",
    Outcome.COULD_NOT_TELL: "[yellow]?[/yellow]",
    Outcome.NOT_VALIDATED: "[yellow]-[/yellow]",
}


def print_report(report: Report, console: Console, verbose: int = 0) -> None:
    """Print a run's report; with `verbose` 1 the reasons why rewrites were missed, with 2 every remark."""
    name = Path(report.before.path).name if report.before.path else "model"
    recipe = f"recipe {report.recipe}" if report.recipe else report.pipeline
    console.print(f"[bold]{escape(name)}[/bold]  [dim]{escape(recipe)}[/dim]", highlight=False)
    console.print()
    if report.plan is not None:
        from graphopt.report.planned import print_plan

        print_plan(report.plan, console, verbose)
    if report.passes:
        console.print(_passes(report, every=verbose > 0))
    console.print(_sizes(report))
    console.print()
    _verdict(report, console, verbose)
    _calibration(report, console)
    for one in report.skipped:
        console.print(f"  [yellow]left out[/yellow] {escape(one.pass_name)}: {escape(one.why)}", highlight=False)
    for warning in report.warnings:
        console.print(f"  [yellow]note[/yellow] {escape(warning)}", highlight=False)
    _idle(report, console)
    if verbose:
        _remarks(report.remarks, console, verbose)
    _where(report, console)


def _passes(report: Report, every: bool) -> Table:
    """A row a pass; of many passes only those that did something, or nearly did, and one row for the others."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for title, justify in (
        ("  pass", "left"),
        ("contract", "left"),
        ("rewrites", "right"),
        ("missed", "right"),
        ("nodes", "right"),
        ("weights", "right"),
        ("time", "right"),
    ):
        table.add_column(title, justify=justify)  # type: ignore[arg-type]
    idle = [row for row in report.passes if not (row.applied or row.disabled or row.missed)]
    if every or len(report.passes) <= _PASSES_SHOWN:
        idle = []
    for row in report.passes:
        if row in idle:
            continue
        table.add_row(
            f"  {escape(row.name)}",
            str(row.contract),
            str(row.applied) + (f" (+{row.disabled} disabled)" if row.disabled else ""),
            str(row.missed or ""),
            _difference(row.nodes),
            _difference(row.weight_bytes, file_size),
            duration(row.seconds),
        )
    if idle:
        table.add_row(
            f"  {len(idle)} others", "", "0", "", "", "", duration(sum(row.seconds for row in idle)), style="dim"
        )
    table.add_row()
    return table


def _sizes(report: Report) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("", "before", "after", ""):
        table.add_column(title, justify="left" if not title else "right")
    for title, values in sizes(report.before, report.after, report.lossy):
        before, after, shown_before, shown_after = values
        table.add_row(f"  {title}", shown_before, shown_after, ratio(before, after))
    if report.latency is not None:
        table.add_row("  latency", *latency_cells(report.latency))
    return table


def sizes(before: ModelRow, after: ModelRow, lossy: bool = False) -> list[tuple[str, tuple[int, int, str, str]]]:
    """The rows of the size table: title, values, and both as shown."""
    pairs = [
        ("file", before.bytes, after.bytes, file_size),
        ("nodes", before.facts.nodes, after.facts.nodes, count),
        ("parameters", before.facts.parameters, after.facts.parameters, count),
    ]
    if lossy and before.compressed and after.compressed:
        pairs.insert(1, ("compressed", before.compressed, after.compressed, file_size))
    rows = [(title, (a, b, show(a), show(b))) for title, a, b, show in pairs if a or b]
    if before.macs.count or after.macs.count:
        shown = [("at least " if one.macs.unknown else "") + count(one.macs.count) for one in (before, after)]
        known = not (before.macs.unknown or after.macs.unknown)
        rows.append(("MACs", (before.macs.count if known else after.macs.count, after.macs.count, shown[0], shown[1])))
    return rows


def latency_cells(measured: Latency) -> tuple[str, str, str]:
    """Median latencies before and after, and their paired ratio with its 95 % interval."""
    doubt = " too noisy to tell" if measured.noisy else "" if measured.faster is not None else " no difference seen"
    times = f"x {measured.ratio:.2f} ({measured.low:.2f} to {measured.high:.2f}){doubt}"
    return duration(measured.a), duration(measured.b), times


def _verdict(report: Report, console: Console, verbose: int) -> None:
    for step, verdict in report.step_verdicts:
        console.print(
            f"  {_MARKS[verdict.outcome]} {escape(shorten(step))}: {escape(verdict.sentence())}", highlight=False
        )
    verdict = report.verdict
    if not report.changed:
        console.print("  [green]✓[/green] nothing to change: the output is a copy of the input", highlight=False)
        return
    console.print(f"  {_MARKS[verdict.outcome]} outputs {escape(verdict.sentence())}", highlight=False)
    for reason in verdict.reasons[1:4]:
        console.print(f"    {escape(reason)}", highlight=False)
    for warning in verdict.warnings:
        console.print(f"  [yellow]note[/yellow] {escape(warning)}", highlight=False)
    if verdict.segments is not None:
        from graphopt.report.comparison import print_segments

        print_segments(verdict.segments, console, verbose)


def _calibration(report: Report, console: Console) -> None:
    """What passes learned from, and that the outputs were compared on something else."""
    learned = report.calibration
    if learned is None:
        return
    kind = "generated feed" if learned["generated"] else "feed"
    said = f"calibrated on {learned['count']} {kind}{'' if learned['count'] == 1 else 's'}"
    if not learned["generated"]:
        said += f" of {learned['source']}"
    said += f" ({learned['part']})" if learned["part"] else ""
    feeds = report.verdict.feeds
    if feeds is not None and feeds.part and feeds.part != learned["part"]:
        said += f", validated on {feeds.part}"
    console.print(f"  [dim]{escape(said)}[/dim]", highlight=False)


def _remarks(remarks: list[Remark], console: Console, verbose: int) -> None:
    """With `verbose` 1 the reasons for what was missed, each once with its nodes; with 2 every remark."""
    console.print()
    if verbose == 1:
        for (name, rule, why), nodes in missed_reasons(remarks).items():
            shown = ", ".join(nodes[:_NODES_SHOWN]) + (
                f" and {len(nodes) - _NODES_SHOWN} more" if nodes[_NODES_SHOWN:] else ""
            )
            console.print(f"  [dim]missed[/dim] {escape(f'{name} {rule} on {shown} because {why}')}", highlight=False)
        return
    for one in remarks:
        number = f":{one.number}" if one.number is not None else ""
        place = f"{one.scope}/{one.node}" if one.scope else one.node
        because = f" because {one.why}" if one.kind == "missed" else (f" ({one.why})" if one.why else "")
        what = escape(f"{one.pass_name}{number} {one.rule} on {place}{because}")
        console.print(f"  [dim]{one.kind:8}[/dim] {what}", highlight=False)


def missed_reasons(remarks: list[Remark]) -> dict[tuple[str, str, str], list[str]]:
    """The nodes that each (pass, rule, reason) was missed on, the most frequent reason first."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for one in remarks:
        if one.kind == "missed":
            found.setdefault((one.pass_name, one.rule, one.why), []).append(one.node)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def _idle(report: Report, console: Console) -> None:
    """For each pass that did nothing but nearly did: the most frequent reason why not.

    Of many passes only for LOSSY ones, which somebody asked for.
    """
    reasons = missed_reasons(report.remarks)
    for row in report.passes:
        if row.applied or not row.missed:
            continue
        if len(report.passes) > _PASSES_SHOWN and row.contract is not Contract.LOSSY:
            continue
        why, nodes = next(((key[2], nodes) for key, nodes in reasons.items() if key[0] == row.name), ("", []))
        if nodes:
            most = "" if len(nodes) == row.missed else f", {len(nodes)} of them"
            text = f"{row.name} did nothing: it left {row.missed}{most} because {why}"
            console.print(f"  [yellow]note[/yellow] {escape(text)}", highlight=False)


def _where(report: Report, console: Console) -> None:
    if not report.written:
        console.print("  nothing was written", highlight=False)
        return
    names = ", ".join(report.written)
    despite = " despite the verdict (--keep)" if report.kept_despite else ""
    console.print(f"  wrote {escape(names)}{despite} in {duration(sum(report.seconds.values()))}", highlight=False)


def file_size(number: int) -> str:
    """Bytes for people: 1,234 B, 12.3 KB, 4.56 MB (decimal units)."""
    size = float(abs(number))
    sign = "-" if number < 0 else ""
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            digits = 0 if unit == "B" or size >= 100 else 1 if size >= 10 else 2
            return f"{sign}{size:.{digits}f} {unit}"
        size /= 1000
    return f"{number} B"


def count(number: int) -> str:
    """A count for people: 1,234 as it is, then 12.3 k, 4.56 M, 7.89 G."""
    if abs(number) < 10_000:
        return f"{number:,}"
    value = float(number)
    for unit in ("k", "M", "G", "T"):
        value /= 1000
        if abs(value) < 1000 or unit == "T":
            return f"{value:.3g} {unit}"
    return str(number)


def duration(seconds: float) -> str:
    """A time for people: 3 ms, 1.2 s, 4 min."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms"
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def ratio(before: int, after: int) -> str:
    """The change in percent, "" for none."""
    if before == after:
        return ""
    if before == 0:
        return "new"
    change = 100 * (after - before) / before
    if abs(change) < 0.05:
        return ""
    return f"{change:+.1f} %" if abs(change) < 10 else f"{change:+.0f} %"


def _difference(number: int, show: object = count) -> str:
    if number == 0:
        return ""
    text = show(abs(number))  # type: ignore[operator]
    return f"{'+' if number > 0 else '-'}{text}"
