"""Two runs of the benchmarks beside each other, as ratios with what noise allows to say of them.

usage: python -m benchmarks compare OLD.jsonl NEW.jsonl [--limit 0.03] [--all] [--json]

Ends with 1 where something got worse beyond noise, with 2 where a file is no results file.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.cells import plain
from benchmarks.compared import COARSE, DIFFERS, SAME, VERDICTS, Row, compared, warnings
from benchmarks.results import latest, read
from benchmarks.steady import LIMIT, NOISE
from graphopt.errors import GraphoptError, UsageError
from graphopt.report.plain import printable

HELP: Final = "two runs as ratios: what is the same, what differs, what is too noisy to tell"
_LONGEST: Final = 160  # characters of a note


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `compare`."""
    parser.add_argument("old", type=Path, metavar="OLD.jsonl", help="results of the first run")
    parser.add_argument("new", type=Path, metavar="NEW.jsonl", help="results of the second run")
    parser.add_argument(
        "--limit", type=float, default=LIMIT, help="by how much ratios may differ (default %(default)s)"
    )
    parser.add_argument("--all", action="store_true", help="also print what is the same")
    parser.add_argument("--json", action="store_true", help="print everything as one JSON object")


def main(options: argparse.Namespace) -> int:
    """Print the comparison; 1 where something got worse, 2 where it cannot be made."""
    try:
        return _compare(options)
    except GraphoptError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return error.exit_code


def _compare(options: argparse.Namespace) -> int:
    if not 0 < options.limit < math.inf:
        raise UsageError(f"--limit {options.limit} is no ratio; 0.03 allows 3 %")
    old, new = read(options.old), read(options.new)
    rows = compared(latest(old), latest(new), options.limit)
    said = warnings(old, new)
    worse = any(row.worse for row in rows)
    if options.json:
        counts = {verdict: sum(row.verdict == verdict for row in rows) for verdict in VERDICTS}
        found = {"limit": options.limit, "warnings": said, "counts": counts, "worse": worse}
        print(json.dumps({**found, "rows": [row.to_json() for row in rows]}, indent=1))
        return int(worse)
    for one in said:
        print(f"warning: {one}")
    shown = [row for row in rows if options.all or row.verdict != SAME]
    if shown:
        print(*([""] if said else []), *_table(shown), "", sep="\n")
    print(summary(rows, options.limit))
    return int(worse)


def _table(rows: Sequence[Row]) -> list[str]:
    """A Markdown table, its columns padded so that a terminal shows them as such."""
    cells = [["suite", "model", "contender", "figure", "old", "new", "ratio", "intervals", "verdict"]]
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.3f}"
        if ratio == "1.000" and row.old != row.new:
            ratio = f"{row.ratio:.6g}"
        overlap = "" if row.overlap is None else "overlap" if row.overlap else "apart"
        values = _value(row.old, row.old_interval), _value(row.new, row.new_interval)
        names = (row.suite, row.model, row.contender, row.figure)
        cells.append([*(plain(printable(one)) for one in names), *values, ratio, overlap, verdict(row)])
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    widths[-1] = len(cells[0][-1])  # so that one long reason does not stretch every line
    cells.insert(1, ["-" * width for width in widths])
    return [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in cells
    ]


def verdict(row: Row) -> str:
    """What is said of a row."""
    way = "" if row.worse is None or row.verdict != DIFFERS else ", worse" if row.worse else ", better"
    note = plain(printable(row.note))
    note = note if len(note) <= _LONGEST else f"{note[:_LONGEST]}..."
    return f"{row.verdict}{way}" + (f": {note}" if note else "")


def _value(value: float | str | None, interval: tuple[float, float] | None) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return plain(printable(value))
    said = f"{value:,.0f}" if value == int(value) and abs(value) >= 1 else f"{value:.4g}"
    return said if interval is None else f"{said} ({interval[0]:.4g} to {interval[1]:.4g})"


def summary(rows: Sequence[Row], limit: float) -> str:
    """All of it in two or three sentences."""
    figures = [row for row in rows if row.figure]
    counts = {name: sum(row.verdict == name for row in figures) for name in (SAME, DIFFERS, NOISE)}
    ways = [sum(row.worse is way for row in figures) for way in (True, False)]
    said = (
        f"Of {len(figures)} figures {counts[SAME]} are the same (ratios at most {100 * limit:.3g} % apart), "
        f"{counts[DIFFERS]} differ ({ways[0]} got worse, {ways[1]} better), {counts[NOISE]} are {NOISE} to tell."
    )
    whole = [row for row in rows if not row.figure]
    others = [
        f"{count} {'fail now' if name == 'failed' else 'work now' if name == 'works' else f'are {name}'}"
        for name in VERDICTS[3:]
        if (count := sum(row.verdict == name for row in whole))
    ]
    if others:
        said += f" Of contenders {', '.join(others)}."
    if any(row.verdict == NOISE and row.overlap is None for row in figures):
        said += f" Times and memory of single processes count as different from a ratio of {COARSE} on."
    return said
