"""The page of `graphopt bench`: one column of figures a model, ratios to the first, operators side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from graphopt.measure.contest import Entry, said
from graphopt.report.benchmark import Benchmark, Contestant
from graphopt.report.plain import cut, plain
from graphopt.report.text import count, duration, file_size

_OPERATORS = 12  # kinds that are shown unless all are asked for


def print_benchmark(found: Benchmark, console: Console, verbose: int = 0) -> None:
    """Print the table of models, then, where they were profiled, the time of their operators."""
    setting = found.setting
    threads = "1 thread" if setting.threads == 1 else f"{setting.threads} threads"
    provider = setting.provider.removesuffix("ExecutionProvider")
    spread = f"{setting.seconds:g} s of pairs each, in {setting.processes} processes"
    console.print(f"[dim]{plain(provider)}, {threads}, {spread}; {plain(found.feeds)}[/dim]")
    console.print()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    titles = [
        "  model",
        "file",
        "compressed",
        "nodes",
        "MACs",
        "load",
        "memory",
        "latency",
        "ratio",
        "95 %",
        "",
        "outputs",
    ]
    titles += [] if found.metric is None else [plain(found.metric)]
    for title in titles:
        table.add_column(title, justify="left" if title in ("  model", "", "outputs", "95 %") else "right")
    names = _names(found.contestants)
    for name, one in zip(names, found.contestants, strict=True):
        table.add_row(f"  {plain(cut(name, 40))}", *_cells(one, found))
    console.print(table)
    for name, one in zip(names, found.contestants, strict=True):
        if one.entry.fault is not None:
            console.print(f"  [red]✗[/red] {plain(name)}: {plain(one.entry.fault)}")
    for warning in found.warnings:
        console.print(f"  [yellow]note[/yellow] {plain(warning)}")
    if any(one.entry.operators for one in found.contestants):
        console.print()
        console.print(_operators(names, [one.entry for one in found.contestants], every=verbose > 0))


def _names(contestants: Sequence[Contestant]) -> list[str]:
    """File names where they tell the models apart, else whole paths."""
    short = [Path(one.path).name for one in contestants]
    return short if len(set(short)) == len(short) else [one.path for one in contestants]


def _cells(one: Contestant, found: Benchmark) -> list[str]:
    row, entry = one.row, one.entry
    macs = ("at least " if row.macs.unknown else "") + count(row.macs.count) if row.macs.count else ""
    against = entry.against
    cells = [
        file_size(row.bytes),
        "" if row.compressed is None else file_size(row.compressed),
        count(row.facts.nodes),
        macs,
        "" if entry.load is None else duration(entry.load),
        "" if entry.memory is None else file_size(entry.memory),
        "" if entry.seconds is None else duration(entry.seconds),
        "" if against is None else f"{against.ratio:.3f}",
        "" if against is None else f"{against.low:.3f} to {against.high:.3f}",
        "" if against is None else said(against),
        _outputs(one),
    ]
    return cells if found.metric is None else [*cells, _metric(one, found)]


def _outputs(one: Contestant) -> str:
    if one.verdict is None or one.entry.fault is not None:
        return ""
    if one.verdict.passed:
        return "the same"
    agreements = [
        report.agreement for report in one.verdict.outputs if report.optimized and report.agreement is not None
    ]
    parts = [] if one.sqnr_db is None else [f"{one.sqnr_db:.1f} dB"]
    parts += [f"{100 * min(agreements):.1f} % same top-1"] if agreements else []
    return ", ".join(parts) or str(one.verdict.outcome)


def _metric(one: Contestant, found: Benchmark) -> str:
    if one.verdict is not None:
        value = one.verdict.metric_after
    else:  # the first: every other's verdict has its figure
        others = [each.verdict.metric_before for each in found.contestants if each.verdict is not None]
        value = next((each for each in others if each is not None), None)
    return "" if value is None else f"{value:.4f}"


def _operators(names: Sequence[str], entries: Sequence[Entry], every: bool) -> Table:
    """Seconds of each kind of operator, the costliest first; a kind that a model lacks has no figure."""
    sums: list[dict[str, tuple[float, int]]] = []
    for entry in entries:
        kinds: dict[str, tuple[float, int]] = {}
        for node in entry.operators or ():
            seconds, nodes = kinds.get(node.op, (0.0, 0))
            kinds[node.op] = (seconds + node.seconds, nodes + 1)
        sums.append(kinds)
    ordered = sorted(
        {op for kinds in sums for op in kinds}, key=lambda op: (-max(k.get(op, (0, 0))[0] for k in sums), op)
    )
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("  operator")
    for name in names:
        table.add_column(plain(cut(name, 24)), justify="right")
        table.add_column("nodes", justify="right")
    for op in ordered if every else ordered[:_OPERATORS]:
        cells = [(duration(k[op][0]), str(k[op][1])) if op in k else ("", "") for k in sums]
        table.add_row(f"  {plain(op)}", *(cell for pair in cells for cell in pair))
    if len(ordered) > _OPERATORS and not every:
        rest = ordered[_OPERATORS:]
        cells = [
            (duration(sum(k.get(op, (0.0, 0))[0] for op in rest)), str(sum(k.get(op, (0, 0))[1] for op in rest)))
            for k in sums
        ]
        table.add_row(f"  {len(rest)} others", *(cell for pair in cells for cell in pair), style="dim")
    return table
