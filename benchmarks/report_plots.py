"""The plots of a report: what was made small against how near it stayed, and ratios as dots with their intervals.

Colours are those of the page's style, which has them for light and dark; each tool has a shape, too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from benchmarks.judged import LOSSLESS_DB
from benchmarks.record import Record
from benchmarks.results import intervals, tool_of
from benchmarks.steady import NOISE
from graphopt.report.plain import cut, printable

WIDTH: Final = 1180
OURS: Final = "graphopt"
RIGHT: Final = "equivalent"
LEFT, RIGHT_EDGE, TOP, BOTTOM = 64, 24, 26, 46
_FRONT_HEIGHT: Final = 400
_ROW: Final = 26  # pixels of a line of dots
_NAMES: Final = 210  # pixels for the names of lines
_LOG_FROM: Final = 2.5  # the span from which places are logarithms
_SHAPES: Final = (
    "M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0z", "M-4.5,-4.5h9v9h-9z", "M0,-6l5.6,10h-11.2z",
    "M0,-6.2l6.2,6.2l-6.2,6.2l-6.2,-6.2z",
    "M0,6l5.6,-10h-11.2z", "M-5.5,0l2.75,-4.8h5.5l2.75,4.8l-2.75,4.8h-5.5z", "M-2,-6h4v4h4v4h-4v4h-4v-4h-4v-4h4z",
    "M0,-6.5l2,4.4l4.6,.6l-3.4,3.2l.9,4.8l-4.1,-2.4l-4.1,2.4l.9,-4.8l-3.4,-3.2l4.6,-.6z",
)  # fmt: skip


@dataclass(frozen=True)
class Axis:
    """Figures as places along a line, in equal steps or in equal ratios."""

    low: float
    high: float
    start: float
    end: float
    log: bool

    def at(self, value: float) -> float:
        low, high, at = (_turned(each, self.log) for each in (self.low, self.high, value))
        return self.start + (self.end - self.start) * (at - low) / (high - low)

    def ticks(self) -> list[float]:
        """Round figures."""
        if self.log:
            digits = (1, 2, 5) if self.high > 8 * self.low else (1, 1.5, 2, 3, 4, 5, 6, 8)
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            found = [digit * 10.0**power for power in powers for digit in digits]
        else:
            raw = (self.high - self.low) / 8
            unit = 10.0 ** math.floor(math.log10(raw))
            step = next(unit * each for each in (1, 2, 5, 10) if unit * each >= raw)
            found = [step * number for number in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]
        return [one for one in found if self.low <= one <= self.high]


def _turned(value: float, log: bool) -> float:
    return math.log10(max(value, 1e-12)) if log else value


def axis(values: Sequence[float], start: float, end: float, *, zero: bool = False) -> Axis:
    """An axis on which all values have room; `zero`: it begins there unless the values span much."""
    low, high = min(values), max(values)
    if low > 0 and high / low > _LOG_FROM:
        return Axis(low / 1.12, high * 1.12, start, end, True)
    room = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return Axis(0.0 if zero and low >= 0 else low - room, high + room, start, end, False)


def kinds(records: Sequence[Record]) -> dict[str, int]:
    """The tools that take part, by name, graphopt first, each with the number of its mark."""
    tools = dict.fromkeys(tool_of(one) for one in records)
    return {tool: number for number, tool in enumerate(sorted(tools, key=lambda tool: tool != OURS))}


def legend(tools: Mapping[str, int]) -> str:
    """Each tool with its mark."""
    items = [
        f'<li><svg class="key t{number % 8}" viewBox="-8 -8 16 16" aria-hidden="true">'
        f'<path d="{_SHAPES[number % 8]}"/></svg>{escape(cut(tool, 60))}</li>'
        for tool, number in tools.items()
    ]
    return f'<ul class="keys">{"".join(items)}</ul>'


def front_plot(records: Sequence[Record], tools: Mapping[str, int]) -> str:
    """Bytes to the right, SQNR upwards, the points that no other beats in both joined by a line; "" where no record
    has both."""
    points = [one for one in records if not one.failure and {"bytes_ratio", "sqnr_db"} <= set(one.figures)]
    if not points:
        return ""
    exact = [one for one in points if one.figures["sqnr_db"] >= LOSSLESS_DB]
    decibels = [one.figures["sqnr_db"] for one in points if one not in exact] or [0.0]
    bottom = _FRONT_HEIGHT - BOTTOM
    x = axis([one.figures["bytes_ratio"] for one in points] + [1.0], LEFT, WIDTH - RIGHT_EDGE, zero=True)
    y = Axis(min(decibels) - 3, max(decibels) + 3, bottom, TOP + (24 if exact else 0), False)
    places = [
        (x.at(one.figures["bytes_ratio"]), TOP if one in exact else y.at(one.figures["sqnr_db"])) for one in points
    ]
    parts = [opened(_FRONT_HEIGHT, "bytes, of the original's, against SQNR in dB")]
    parts += across(x, TOP - 8, bottom, "bytes, of the original's")
    parts += upwards(y)
    if exact:
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{TOP + 4}" text-anchor="end">no error</text>')
    parts.append(f'<text class="axis" x="{LEFT}" y="{TOP - 14}">SQNR, dB</text>')
    front = _unbeaten(places)
    steps = "".join(f" H{places[at][0]:.1f} V{places[at][1]:.1f}" for at in front[1:])
    first = places[front[0]]
    parts.append(f'<path class="frontline" d="M{first[0]:.1f},{first[1]:.1f}{steps} H{WIDTH - RIGHT_EDGE}"/>')
    for at in sorted(range(len(points)), key=lambda at: at in front):
        said = f"{points[at].figures['bytes_ratio']:.3f} of the bytes, " + (
            "no error" if points[at] in exact else f"{points[at].figures['sqnr_db']:.1f} dB"
        )
        style = "onfront" if at in front else ""
        parts.append(mark(places[at], tools[tool_of(points[at])], style, f"{points[at].contender}: {said}"))
    parts += _labels([points[at].contender for at in front], [places[at] for at in front], places)
    return "\n".join([*parts, "</svg>"])


def dot_plot(
    lines: Mapping[str, Sequence[Record]], figure: str, said: str, tools: Mapping[str, int], reference: str = "original"
) -> str:
    """A figure of records, a line for each name, its interval as a bar, beside a line at 1, which is `reference`;
    "" where no record has it."""
    drawn = {name: [one for one in some if not one.failure and figure in one.figures] for name, some in lines.items()}
    drawn = {name: some for name, some in drawn.items() if some}
    if not drawn:
        return ""
    every = [one for some in drawn.values() for one in some]
    values = [each for one in every for each in (one.figures[figure], *intervals(one).get(figure, ()))]
    height = TOP + _ROW * len(drawn) + BOTTOM
    bottom = height - BOTTOM
    x = axis([*values, 1.0], _NAMES, WIDTH - RIGHT_EDGE, zero=True)
    parts = [opened(height, said), *across(x, TOP - 8, bottom, said)]
    place = x.at(1.0)
    parts.append(f'<line class="original" x1="{place:.1f}" x2="{place:.1f}" y1="{TOP - 8}" y2="{bottom}"/>')
    parts.append(
        f'<text class="original" x="{place:.1f}" y="{TOP - 13}" text-anchor="middle">{escape(reference)}</text>'
    )
    for row, (name, some) in enumerate(drawn.items()):
        y = TOP + _ROW * (row + 0.5)
        parts.append(
            f'<text class="line" x="{_NAMES - 12}" y="{y + 4:.1f}" text-anchor="end">{escape(cut(name, 30))}</text>'
        )
        for one in some:
            parts += _dot(one, figure, x, y, tools[tool_of(one)])
    return "\n".join([*parts, "</svg>"])


def _dot(record: Record, figure: str, x: Axis, y: float, kind: int) -> list[str]:
    value, span = record.figures[figure], intervals(record).get(figure)
    noisy = record.words.get("noise") == NOISE and span is not None
    wrong = record.words.get("verdict", RIGHT) != RIGHT
    text = f"{record.contender}, {record.model}: {value:.4g}"
    parts = []
    if span is not None:
        text += f" ({span[0]:.4g} to {span[1]:.4g})" + (f", {NOISE}" if noisy else "")
        low, high = (x.at(each) for each in span)
        parts.append(f'<path class="span t{kind % 8}" d="M{low:.1f},{y:.1f}H{high:.1f}"/>')
    text += f", {record.words['verdict']}" if wrong else ""
    return [*parts, mark((x.at(value), y), kind, "missed" if noisy or wrong else "onfront", text)]


def opened(height: int, said: str) -> str:
    """The head of a plot, which says to those who do not see it what it shows."""
    return (
        f'<svg class="front" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(printable(said))}">'
    )


def across(x: Axis, top: int, bottom: int, said: str) -> list[str]:
    """The lines and figures of the axis below."""
    parts = []
    for tick in x.ticks():
        place = x.at(tick)
        parts.append(f'<line class="grid" x1="{place:.1f}" x2="{place:.1f}" y1="{top}" y2="{bottom}"/>')
        parts.append(f'<text class="tick" x="{place:.1f}" y="{bottom + 17}" text-anchor="middle">{tick:g}</text>')
    middle = (x.start + x.end) / 2
    return [
        *parts,
        f'<text class="axis" x="{middle:.0f}" y="{bottom + 38}" text-anchor="middle">{escape(printable(said))}</text>',
    ]


def upwards(y: Axis) -> list[str]:
    """The lines and figures of the axis on the left."""
    parts = []
    for tick in y.ticks():
        place, ends = y.at(tick), f'x1="{LEFT}" x2="{WIDTH - RIGHT_EDGE}"'
        parts.append(f'<line class="grid" {ends} y1="{place:.1f}" y2="{place:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{place + 4:.1f}" text-anchor="end">{tick:g}</text>')
    return parts


def mark(place: tuple[float, float], kind: int, style: str, said: str) -> str:
    """The mark of a tool, with words for those who point at it."""
    shape = f'<path transform="translate({place[0]:.1f},{place[1]:.1f})" d="{_SHAPES[kind % 8]}"/>'
    return f'<g class="mark t{kind % 8} {style}">{shape}<title>{escape(printable(said))}</title></g>'


def _unbeaten(places: Sequence[tuple[float, float]]) -> list[int]:
    """The points than which none is further left and at least as high; of equals the first."""
    found: list[int] = []
    for at in sorted(range(len(places)), key=lambda at: places[at]):
        if not found or places[at][1] < places[found[-1]][1]:
            found.append(at)
    return found


def _labels(
    names: Sequence[str], at: Sequence[tuple[float, float]], others: Sequence[tuple[float, float]]
) -> list[str]:
    """Names beside their points, each where it covers no point and no other name."""
    taken = [(x - 7, y - 7, x + 7, y + 7) for x, y in others]
    parts = []
    for name, (x, y) in zip(names, at, strict=True):
        text = cut(name, 40)
        width = 5.9 * len(text)
        beside = [(left, below) for left in (x + 10, x - 10 - width) for below in (y - 6, y + 14)]
        for left, below in [*beside, (x - 6, y - 12), (x - 6, y + 20)]:
            box = (left, below - 10, left + width, below + 3)
            if box[0] < LEFT or box[2] > WIDTH or box[3] > _FRONT_HEIGHT - BOTTOM:
                continue
            if not any(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in taken):
                taken.append(box)
                parts.append(f'<text class="label" x="{left:.1f}" y="{below:.1f}">{escape(text)}</text>')
                break
    return parts
