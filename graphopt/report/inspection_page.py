"""The page that shows what a model is made of, in one screen unless more is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.table import Table

from graphopt.report.inspection import Dtype, Inspection, Metadata, Part, Port, Weight
from graphopt.report.plain import cut, plain
from graphopt.report.text import count, file_size

T = TypeVar("T")

_FEW = 8  # rows of a list that are shown unless everything is asked for
_OPERATORS = 12
_NAME = 48  # characters of a name in a table


def print_inspection(found: Inspection, console: Console, verbose: int = 0) -> None:
    """Print the facts of a model; with `verbose` 1 or more every list in full."""
    name = Path(found.path).name if found.path else found.graph or "model"
    console.print(f"[bold]{plain(name)}[/bold]  [dim]{plain(found.producer)}[/dim]")
    console.print()
    console.print(_summary(found))
    console.print()
    _ports("inputs", found.inputs, console, verbose)
    _ports("outputs", found.outputs, console, verbose)
    _parts("functions", found.functions, console, verbose)
    _parts("bodies", found.bodies, console, verbose)
    _metadata(found.metadata, console, verbose)
    _operators(found.operators, console, verbose)
    if found.dtypes:
        console.print(_dtypes(found.dtypes))
        console.print()
        _weights(found.weights, console, verbose)


def _summary(found: Inspection) -> Table:
    external = f" (with {', '.join(location for location, _ in found.external)})" if found.external else ""
    sparsity = f", {_share(found.zeros, found.countable)} of them zero" if found.countable else ""
    opsets = ", ".join(f"{domain} {version}" for domain, version in found.opsets.items())
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for title, text in (
        ("  file", file_size(found.bytes + sum(size for _, size in found.external)) + external),
        ("  opsets", f"{opsets}, IR {found.ir_version}"),
        ("  nodes", count(found.nodes)),
        ("  parameters", f"{count(found.parameters)} in {count(found.initializers)} initializers{sparsity}"),
        ("  weights", file_size(found.weight_bytes)),
        ("  MACs", _macs(found)),
    ):
        table.add_row(title, plain(text))
    return table


def _ports(title: str, ports: Sequence[Port], console: Console, verbose: int) -> None:
    console.print(f"[bold]{title}[/bold]")
    for port in _some(ports, verbose):
        default = "  [dim]has a default[/dim]" if port.default else ""
        console.print(f"  {plain(port.name)}  [cyan]{plain(port.type)}[/cyan]{default}")
    _more(ports, console, verbose)
    console.print()


def _parts(title: str, parts: Sequence[Part], console: Console, verbose: int) -> None:
    if not parts:
        return
    nodes = sum(part.nodes for part in parts)
    console.print(f"[bold]{title}[/bold]  [dim]{count(len(parts))}, with {count(nodes)} nodes[/dim]")
    if verbose or len(parts) <= _FEW:
        for part in parts:
            console.print(f"  {plain(part.name)}  [dim]{count(part.nodes)} nodes[/dim]")
    console.print()


def _metadata(entries: Sequence[Metadata], console: Console, verbose: int) -> None:
    if not entries:
        return
    console.print("[bold]metadata[/bold]")
    for one in _some(entries, verbose):
        long = f"… [dim]({count(one.characters)} characters)[/dim]" if one.characters > len(one.beginning) else ""
        console.print(f"  {plain(one.key)}  [dim]{plain(one.beginning)}[/dim]{long}")
    _more(entries, console, verbose)
    console.print()


def _operators(operators: dict[str, int], console: Console, verbose: int) -> None:
    if not operators:
        return
    kinds = "1 kind" if len(operators) == 1 else f"{count(len(operators))} kinds"
    console.print(f"[bold]operators[/bold]  [dim]{kinds}[/dim]")
    shown = list(operators.items()) if verbose else list(operators.items())[:_OPERATORS]
    rest = sum(operators.values()) - sum(number for _, number in shown)
    words = [f"{plain(name)} {number}" for name, number in shown]
    console.print("  " + "  ".join([*words, f"and {rest} of other kinds"] if rest else words))
    console.print()


def _dtypes(rows: Sequence[Dtype]) -> Table:
    table = _table("weights of", "tensors", "elements", "size", "zero")
    for row in rows:
        zero = "" if row.zeros is None else _share(row.zeros, row.elements)
        table.add_row(f"  {row.name}", count(row.tensors), count(row.elements), file_size(row.bytes), zero)
    return table


def _weights(weights: Sequence[Weight], console: Console, verbose: int) -> None:
    table = _table("biggest weights", "type", "size", "zero")
    for one in _some(weights, verbose):
        place = f"{one.scope}/{one.name}" if one.scope else one.name
        kind = f"{'sparse ' if one.sparse else ''}{one.dtype}[{','.join(map(str, one.shape))}]"
        zero = "" if one.zeros is None else _share(one.zeros, one.elements)
        name = plain(place) if verbose else plain(cut(place, _NAME))
        table.add_row(f"  {name}", plain(kind), file_size(one.bytes), zero)
    console.print(table)
    _more(weights, console, verbose)


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for number, title in enumerate(titles):
        left = number == 0 or title == "type"
        table.add_column(title, justify="left" if left else "right", header_style="bold" if number == 0 else "dim",
                         overflow="fold")  # fmt: skip
    return table


def _some(rows: Sequence[T], verbose: int) -> Sequence[T]:
    return rows if verbose or len(rows) <= _FEW else rows[: _FEW - 1]


def _more(rows: Sequence[object], console: Console, verbose: int) -> None:
    left = len(rows) - len(_some(rows, verbose))
    if left:
        console.print(f"  [dim]and {count(left)} more (-v shows all)[/dim]")


def _share(part: int, whole: int) -> str:
    if whole == 0 or part == 0:
        return "0 %"
    share = 100 * part / whole
    return f"{share:.1f} %" if share >= 0.05 else "< 0.1 %"


def _macs(found: Inspection) -> str:
    if not found.nodes_of_unknown_macs:
        return count(found.macs)
    return f"at least {count(found.macs)}" if found.macs else "unknown, as shapes cannot be inferred"
