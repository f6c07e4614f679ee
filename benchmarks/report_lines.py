"""The plot of what size costs: a line for each contender, both axes in equal ratios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

from benchmarks.record import Record
from benchmarks.report_plots import BOTTOM, LEFT, RIGHT_EDGE, TOP, WIDTH, Axis, across, mark, opened, upwards
from graphopt.report.plain import cut

_HEIGHT: Final = 340
_NAMES: Final = 190  # pixels at the right for the names of lines
_STEP: Final = 14  # pixels between two of them


def line_plot(
    records: Sequence[Record], tools: Mapping[str, int], x_figure: str, x_said: str, y_figure: str, y_said: str
) -> str:
    """One figure against another, "" where no contender has both of two models."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for one in records:
        place = one.figures.get(x_figure, 0.0), one.figures.get(y_figure, 0.0)
        if not one.failure and min(place) > 0:
            lines.setdefault(one.contender, []).append(place)
    if not any(len(places) > 1 for places in lines.values()):
        return ""
    every = [place for places in lines.values() for place in places]
    bottom = _HEIGHT - BOTTOM
    x = _scale([one for one, _ in every], LEFT, WIDTH - RIGHT_EDGE - _NAMES)
    y = _scale([other for _, other in every], bottom, TOP)
    parts = [opened(_HEIGHT, f"{y_said}, by {x_said}"), *across(x, TOP - 8, bottom, x_said), *upwards(y)]
    parts.append(f'<text class="axis" x="{LEFT}" y="{TOP - 14}">{escape(y_said)}</text>')
    names = []
    for name, places in lines.items():
        kind = tools[name.partition(":")[0]]
        order = sorted(places)
        drawn = [(x.at(size), y.at(cost)) for size, cost in order]
        path = " L".join(f"{at:.1f},{up:.1f}" for at, up in drawn)
        parts.append(f'<path class="run t{kind % 8}" d="M{path}"/>')
        for spot, (size, cost) in zip(drawn, order, strict=True):
            parts.append(mark(spot, kind, "onfront", f"{name}: {size:,.6g}, {cost:,.4g}"))
        names.append((drawn[-1][1], drawn[-1][0], name))
    below = float("-inf")
    for height, end, name in sorted(names):
        below = max(height + 4, below + _STEP)
        parts.append(f'<text class="label" x="{end + 12:.1f}" y="{below:.1f}">{escape(cut(name, 30))}</text>')
    return "\n".join([*parts, "</svg>"])


def _scale(values: Sequence[float], start: float, end: float) -> Axis:
    return Axis(min(values) / 1.3, max(values) * 1.3, start, end, True)
