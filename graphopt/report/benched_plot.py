"""The plot of `graphopt bench`: size against latency, one dot a model, as one SVG file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from graphopt.errors import UsageError
from graphopt.report.benchmark import Benchmark, Contestant
from graphopt.report.plain import cut, printable
from graphopt.report.text import duration, file_size
from graphopt.storage.files import check_place, replacing

_LEFT, _TOP, _WIDTH, _HEIGHT = 84, 40, 640, 380
_COLOURS = ("#1f2937", "#2563eb", "#d97706", "#7c3aed", "#059669", "#dc2626", "#0891b2", "#9333ea")


def check_bench_plot(path: Path, models: Sequence[str]) -> None:
    """See before a run that the plot can be written to `path`, which is none of the models. Raises UsageError."""
    if path.suffix.lower() != ".svg":
        raise UsageError(f"--plot {printable(str(path))}: plots are SVG; name a file that ends in .svg")
    check_place(path, [("one of the models", Path(one)) for one in models], flag="--plot", what="the plot")


def save_bench_plot(path: Path, found: Benchmark) -> None:
    """Write the plot, atomically. Raises UsageError or OverLimit when it cannot be written."""
    with replacing(path, "the plot") as stream:
        stream.write((bench_plot(found) + "\n").encode("utf-8", "backslashreplace"))


def bench_plot(found: Benchmark) -> str:
    """The SVG: latency to the right, bytes upwards, both from zero, with the 95 % interval of the ratio as a bar."""
    drawn = [one for one in found.contestants if one.entry.seconds is not None]
    widest = max((_right(one) for one in drawn), default=1.0)
    tallest = max((one.row.bytes for one in drawn), default=1)
    width, height = _LEFT + _WIDTH + 200, _TOP + _HEIGHT + 56
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="11">',
        f"<title>File size against latency, {len(drawn)} models</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for step in range(5):
        x, y = _LEFT + _WIDTH * step / 4, _TOP + _HEIGHT * (1 - step / 4)
        latency, size = duration(widest * step / 4), file_size(int(tallest * step / 4))
        parts += [
            f'<line x1="{_LEFT}" x2="{_LEFT + _WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e5e7eb"/>',
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_TOP + _HEIGHT}" stroke="#e5e7eb"/>',
            f'<text x="{x:.1f}" y="{_TOP + _HEIGHT + 18}" text-anchor="middle" fill="#6b7280">{latency}</text>',
            f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#6b7280">{size}</text>',
        ]
    parts.append(
        f'<text x="{_LEFT}" y="{_TOP + _HEIGHT + 40}" fill="#6b7280">latency of a run; upwards the file</text>'
    )
    for number, one in enumerate(drawn):
        seconds, against = one.entry.seconds or 0.0, one.entry.against
        x, y = _LEFT + _WIDTH * seconds / widest, _TOP + _HEIGHT * (1 - one.row.bytes / tallest)
        colour = _COLOURS[number % len(_COLOURS)]
        if against is not None and math.isfinite(against.high):
            low, high = (_LEFT + _WIDTH * against.a * bound / widest for bound in (against.low, against.high))
            parts.append(f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="{colour}"/>')
        name = escape(cut(Path(one.path).name, 32))
        parts += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"><title>{name}</title></circle>',
            f'<text x="{x + 9:.1f}" y="{y - 6:.1f}" fill="{colour}">{name}</text>',
        ]
    parts.append("</svg>")
    return "\n".join(parts)


def _right(one: Contestant) -> float:
    """Where the drawing of a model ends on the right, in seconds."""
    seconds, against = one.entry.seconds or 0.0, one.entry.against
    return max(seconds, against.a * against.high) if against is not None else seconds
