"""How figures of made models are written into Markdown tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from benchmarks.judged import LOSSLESS_DB
from benchmarks.record import Record

Cell = Callable[[Record], str]


def figure(name: str, form: str) -> Cell:
    """A figure in a form, empty where it was not measured."""

    def cell(record: Record) -> str:
        value = record.figures.get(name)
        return "" if value is None else f"{value:{form}}"

    return cell


def decibels(record: Record) -> str:
    """SQNR, in a word where there is no error at all."""
    value = record.figures.get("sqnr_db")
    return "" if value is None else "no error" if value >= LOSSLESS_DB else f"{value:.2f}"


def metric(record: Record) -> str:
    """The metric before and after."""
    figures = record.figures
    if "metric_after" not in figures:
        return ""
    return f"{figures['metric_before']:.4f} -> {figures['metric_after']:.4f}"


def ratio(name: str, form: str = ".3f") -> Cell:
    """A ratio with its interval, and whether that is too wide; empty where it was not measured."""

    def cell(record: Record) -> str:
        places = [record.figures.get(each) for each in (name, f"{name}_low", f"{name}_high")]
        value, low, high = (f"{each:{form}}" if each is not None else "" for each in places)
        if not value:
            return ""
        said, noise = f"{value} ({low} to {high})" if low and high else value, record.words.get("noise", "")
        return f"{said}, {noise}" if noise else said

    return cell


latency: Final = ratio("latency_ratio")


COLUMNS: Final[Mapping[str, tuple[Cell, bool]]] = {
    "bytes": (figure("bytes", ",.0f"), True),
    "of the original": (figure("bytes_ratio", ".3f"), True),
    "MACs": (figure("macs_ratio", ".3f"), True),
    "SQNR dB": (decibels, True),
    "cosine": (figure("cosine", ".6f"), True),
    "agreement": (figure("agreement", ".4f"), True),
    "metric": (metric, False),
    "latency": (latency, False),
    "CPU s": (figure("cpu_seconds", ".1f"), True),
}
"""By heading: what a cell says, and whether it is set to the right."""


def table(records: Sequence[Record], names: Sequence[str], first: str = "contender") -> str:
    """A line for each record; where there are no figures, the reason stands in their place."""
    chosen = [COLUMNS[name] for name in names]
    lines = [f"| {first} | " + " | ".join(names) + " |"]
    lines.append("|---|" + "|".join("--:" if right else "---" for _, right in chosen) + "|")
    for record in records:
        if record.failure:
            cells = [plain(record.failure), *[""] * (len(names) - 1)]
        else:
            cells = [cell(record) for cell, _ in chosen]
        lines.append(f"| {record.contender} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plain(text: str) -> str:
    """Text that does not break a table."""
    return " ".join(text.replace("|", "/").split())


def by_model(records: Sequence[Record], suite: str) -> dict[str, list[Record]]:
    """A suite's records by model, both in the order in which they came."""
    found: dict[str, list[Record]] = {}
    for record in records:
        if record.suite == suite:
            found.setdefault(record.model, []).append(record)
    return found


def drop(record: Record) -> float | None:
    """By how much the metric fell; where there is none, the share of samples that get another class."""
    figures = record.figures
    if "metric_after" in figures:
        return figures["metric_before"] - figures["metric_after"]
    return 1 - figures["agreement"] if "agreement" in figures else None
