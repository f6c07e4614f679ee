"""The page of `graphopt sensitivity` as one HTML file with its plot, without scripts, servers or networks."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from html import escape
from importlib import resources
from pathlib import Path

from graphopt.report.plain import cut, printable
from graphopt.report.sensed import TARGET_DB, decibels_of, sentence
from graphopt.storage.files import replacing
from graphopt.tolerance.table import Row, Sensitivity

_TOP, _LEFT, _HEIGHT, _RIGHT = 48, 56, 320, 24
_CEILING, _FLOOR = 100.0, -10.0  # dB that are drawn; what lies beyond is drawn at the edge
_LINES = (
    ("int8-channel", "#2563eb"),
    ("int4-block", "#d97706"),
    ("sparse-50", "#7c3aed"),
    ("channels-25", "#1f2937"),
)
_ABOUT = "Predicted SQNR of the worst output with only that layer compressed, from noise on its weights:"
_STYLE = """
.plot { background: var(--card); border: 1px solid var(--line); border-radius: 8px; overflow-x: auto; margin: 16px 0; }
table.sensed { border-collapse: collapse; background: var(--card); width: 100%; font-variant-numeric: tabular-nums; }
table.sensed th, table.sensed td { padding: 4px 10px; border-bottom: 1px solid var(--line); text-align: right; }
table.sensed th:first-child, table.sensed td:first-child, table.sensed th:nth-child(2), table.sensed td:nth-child(2) {
  text-align: left; }
table.sensed td.low { background: var(--gone); } table.sensed td.fair { background: var(--moved); }
.plot > svg { display: block; background: #ffffff; }
p.soft { color: var(--soft); margin: 8px 0; }
h1 { margin-top: 24px; }
"""


def save_sensitivity_page(path: Path, found: Sensitivity) -> None:
    """Write the page, atomically. Raises UsageError or OverLimit when it cannot be written."""
    with replacing(path, "the page") as stream:
        stream.write(sensitivity_page(found).encode("utf-8", "backslashreplace"))


def save_sensitivity_plot(path: Path, found: Sensitivity) -> None:
    """Write the plot alone, atomically. Raises UsageError or OverLimit when it cannot be written."""
    with replacing(path, "the plot") as stream:
        stream.write((sensitivity_plot(found.rows) + "\n").encode("utf-8", "backslashreplace"))


def sensitivity_page(found: Sensitivity) -> str:
    """The whole page."""
    css = resources.files("graphopt.report").joinpath("templates", "report.css").read_text(encoding="utf-8") + _STYLE
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    names = list(dict.fromkeys(name for row in found.rows for name in row.errors))
    title = escape(printable(found.model))
    notes = [*(sentence(one) for one in found.checks), *found.warnings]
    notes += [f"{name} was left: {why}" for name, why in found.left]
    parts = [
        '<!doctype html>\n<html lang="en" data-theme="auto"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Sensitivity of {title}</title><style>{css}</style></head><body>",
        f"<h1>What each layer of {title} tolerates</h1>",
        f'<p class="soft">{_ABOUT} {escape(printable(found.feeds))}. A number in brackets was measured.</p>',
        f'<div class="plot">{sensitivity_plot(found.rows)}</div>',
        '<div class="plot"><table class="sensed"><thead><tr><th>layer</th><th>operator</th>',
        "".join(f"<th>{escape(name)}</th>" for name in names),
        "<th>bits for 30 dB</th><th>eps for 30 dB</th><th>gain</th><th>slope</th><th>fit</th></tr></thead><tbody>",
        *(_row(row, names) for row in found.rows),
        "</tbody></table></div>",
        *(f'<p class="soft">{escape(printable(note))}</p>' for note in notes),
        "</body></html>\n",
    ]
    return "\n".join(parts)


def _row(row: Row, names: Sequence[str]) -> str:
    bits = row.bits_for(TARGET_DB)
    numbers = (row.eps_for(TARGET_DB), row.weights.gain, row.weights.slope, row.weights.fit)
    cells = [f'<td class="name" title="{escape(printable(row.name))}">{escape(cut(row.name, 48))}</td>',
             f"<td>{escape(printable(row.op))}</td>"]  # fmt: skip
    for name in names:
        found = row.predicted_db(name)
        kind = "" if found is None or found >= TARGET_DB else "fair" if found >= TARGET_DB / 2 else "low"
        cells.append(f'<td class="{kind}">{escape(decibels_of(row, name))}</td>')
    cells.append(f"<td>{'more' if bits is None or not row.errors else bits}</td>")
    cells += [f"<td>{'' if math.isnan(one) else f'{one:.2g}'}</td>" for one in numbers]
    return f"<tr>{''.join(cells)}</tr>"


def sensitivity_plot(rows: Sequence[Row]) -> str:
    """The SVG: layers in the order of the model from left to right, predicted decibels upwards."""
    width = min(1600, max(1180, 14 * len(rows)))
    step = width / max(1, len(rows) - 1)
    total, height = _LEFT + width + _RIGHT, _TOP + _HEIGHT + 48
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total} {height}" width="{total}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="11">',
        f"<title>Predicted SQNR, {len(rows)} layers</title>",
        f'<rect width="{total}" height="{height}" fill="#ffffff"/>',
    ]
    for level in range(int(_FLOOR) + 10, int(_CEILING) + 1, 20):
        y = _height(float(level))
        parts.append(f'<line x1="{_LEFT}" x2="{_LEFT + width}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e5e7eb"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#6b7280">{level} dB</text>')
    for number, (name, colour) in enumerate(_LINES):
        points = [(_LEFT + place * step, row.predicted_db(name)) for place, row in enumerate(rows)]
        known = [(x, _height(y)) for x, y in points if y is not None]
        if len(known) > 1:
            joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in known)
            parts.append(f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in known]
        x = _LEFT + number * 110
        parts.append(f'<rect x="{x}" y="16" width="12" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{x + 18}" y="22" fill="#374151">{name}</text>')
    for place, row in enumerate(rows):
        words = ", ".join(f"{name} {decibels_of(row, name)} dB" for name, _ in _LINES if name in row.errors)
        parts.append(
            f'<rect x="{_LEFT + place * step - 5:.1f}" y="{_TOP}" width="10" height="{_HEIGHT}" fill="transparent">'
            f"<title>{escape(printable(row.name))} ({escape(printable(row.op))}): {words}</title></rect>"
        )
    foot = "layers in the order of the model; higher tolerates more"
    parts.append(f'<text x="{_LEFT}" y="{_TOP + _HEIGHT + 28}" fill="#6b7280">{foot}</text>')
    return "\n".join([*parts, "</svg>"])


def _height(decibels: float) -> float:
    held = _CEILING if math.isnan(decibels) else min(_CEILING, max(_FLOOR, decibels))
    return _TOP + _HEIGHT * (_CEILING - held) / (_CEILING - _FLOOR)
