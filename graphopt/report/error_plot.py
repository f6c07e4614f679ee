"""The plot of `graphopt profile-error`: SQNR along the graph as one SVG file, written without any library."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from graphopt.debug.profile import Profile
from graphopt.debug.readings import Reading
from graphopt.errors import UsageError
from graphopt.report.plain import printable
from graphopt.report.profiled import shares
from graphopt.storage.files import replacing
from graphopt.validation.compare import Difference

_TOP, _LEFT, _HEIGHT, _RIGHT = 48, 56, 320, 24
_CEILING, _FLOOR = 140.0, -20.0  # dB that are drawn; what lies beyond is drawn at the edge
_LINES = (
    ("total", "#1f2937", "SQNR of the value"),
    ("weight", "#2563eb", "born, of weights"),
    ("activation", "#d97706", "born, beside weights"),
    ("pruning", "#7c3aed", "born, of pruning"),
    ("inherited", "#9ca3af", "inherited"),
)


def check_plot(path: Path, inputs: Iterable[Path]) -> None:
    """See before a run that a plot can be written to `path`, which is none of `inputs`. Raises UsageError."""
    shown = f"--plot {printable(str(path))}"
    if path.suffix.lower() != ".svg":
        raise UsageError(f"{shown}: plots are SVG; name a file that ends in .svg")
    if path.is_dir() or (path.exists() and not path.is_file()):
        raise UsageError(f"{shown}: this is no regular file; name a file for the plot")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"{shown}: there is no folder {printable(str(path.parent))!r}; create it first")
    if any(path.exists() and one.exists() and path.samefile(one) for one in inputs):
        raise UsageError(f"{shown}: this is one of the models; name another file for the plot")


def save_plot(path: Path, found: Profile) -> None:
    """Write the plot, atomically. Raises UsageError or OverLimit when it cannot be written."""
    with replacing(path, "the plot") as stream:
        stream.write(plot(found).encode("utf-8"))


def plot(found: Profile) -> str:
    """The SVG: values of floating point in graph order from left to right, decibels upwards."""
    drawn = [one for one in found.readings if one.total.kind == "float"]
    width = min(1600, max(480, 6 * len(drawn)))
    step = width / max(1, len(drawn) - 1)
    total = _LEFT + width + _RIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total} {_TOP + _HEIGHT + 60}" '
        'font-family="system-ui, sans-serif" font-size="11">',
        f"<title>SQNR along the graph, {len(drawn)} values</title>",
        f'<rect width="{total}" height="{_TOP + _HEIGHT + 60}" fill="#ffffff"/>',
        *_grid(width),
    ]
    for key, colour, _ in _LINES:
        series = [one.total if key == "total" else shares(one)[key] for one in drawn]
        parts += _line(series, colour, step)
    parts += [_mark(number * step, one) for number, one in enumerate(drawn)]
    for number, (_, colour, words) in enumerate(_LINES):
        x = _LEFT + number * 150
        parts.append(f'<rect x="{x}" y="16" width="12" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{x + 18}" y="22" fill="#374151">{escape(words)}</text>')
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _grid(width: int) -> list[str]:
    parts = []
    for level in range(int(_FLOOR), int(_CEILING) + 1, 20):
        y = _height(float(level))
        parts.append(f'<line x1="{_LEFT}" x2="{_LEFT + width}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e5e7eb"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#6b7280">{level} dB</text>')
    y = _TOP + _HEIGHT + 24
    parts.append(f'<text x="{_LEFT}" y="{y}" fill="#6b7280">values in graph order; higher is closer</text>')
    return parts


def _line(series: Sequence[Difference | None], colour: str, step: float) -> list[str]:
    """Stretches of a line; where a share is none there is a gap."""
    parts: list[str] = []
    points: list[str] = []
    for number, one in enumerate([*series, None]):
        if one is not None and not one.problem and one.differing:
            points.append(f"{_LEFT + number * step:.1f},{_height(one.sqnr_db):.1f}")
            continue
        if len(points) > 1:
            joined = " ".join(points)
            parts.append(f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts += [f'<circle cx="{x}" cy="{y}" r="2" fill="{colour}"/>' for x, y in (one.split(",") for one in points)]
        points = []
    return parts


def _mark(x: float, one: Reading) -> str:
    """An invisible strip that says which value this is when pointed at."""
    words = f"{printable(one.match.reference)}: {one.total.sqnr_db:.1f} dB, {printable(one.op)}"
    return (
        f'<rect x="{_LEFT + x - 3:.1f}" y="{_TOP}" width="6" height="{_HEIGHT}" fill="transparent">'
        f"<title>{escape(words)}</title></rect>"
    )


def _height(decibels: float) -> float:
    held = _CEILING if math.isnan(decibels) else min(_CEILING, max(_FLOOR, decibels))
    return _TOP + _HEIGHT * (_CEILING - held) / (_CEILING - _FLOOR)
