"""The plot of a search: what was made small to the right, how near the outputs stayed upwards, each technique a mark.

Colours are those of the page's style, which has them for light and dark; the plot is part of the page, not a file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from graphopt.report.plain import cut, printable
from graphopt.report.tuned_figures import budgets_of, less_is_better, techniques, title, value_of, written
from graphopt.tune.trial import FAILED, KEPT, Trial, Tuned

WIDTH, HEIGHT = 1180, 520
_LEFT, _TOP, _RIGHT, _BOTTOM = 78, 30, 30, 54
_COLOURS: Final = 8  # of the style: --tech-0 ...
_SHAPES: Final = ("circle", "square", "up", "diamond", "down", "hexagon", "cross", "star")
_CORNERS: Final[dict[str, tuple[int, float, float]]] = {  # how many, from which angle, how far
    "square": (4, 45, 1.25), "up": (3, -90, 1.3), "diamond": (4, 0, 1.25), "down": (3, 90, 1.3),
    "hexagon": (6, 0, 1.1), "star": (10, -90, 1.35),
}  # fmt: skip
_CEILING_DB, _REACH_DB = 100.0, 45.0
_NINES: Final = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)
_SPAN: Final = 6.0  # from the least to the most, beyond which places are logarithms
_LABEL: Final = 5.8  # pixels of a character


@dataclass(frozen=True)
class Scale:
    """How figures become places: `low` and `high` are what is drawn at both ends, in the terms of `turn`."""

    low: float
    high: float
    ticks: tuple[float, ...]
    turn: Callable[[float], float]
    start: float
    end: float

    def at(self, value: float) -> float:
        """The place of a figure; what lies beyond an end is drawn at the end."""
        turned = min(max(self.turn(value), min(self.low, self.high)), max(self.low, self.high))
        return self.start + (self.end - self.start) * (turned - self.low) / (self.high - self.low)

    def is_beyond(self, value: float) -> bool:
        """Whether a figure lies beyond an end."""
        return not min(self.low, self.high) <= self.turn(value) <= max(self.low, self.high)


def tuned_plot(found: Tuned) -> str:
    """The SVG, with a mark for every trial that has both figures."""
    drawn = [place for place, one in enumerate(found.trials) if _point(one, found) is not None]
    if not drawn:
        return ""
    x, y = _scales(found, drawn)
    kinds = {name: number for number, name in enumerate(techniques(found))}
    on_front = set(found.front)
    parts = [
        f'<svg class="front" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title(found.axes[0]))} against {escape(title(found.axes[1]))}">',
        *_grid(found, x, y),
        *_limits(found, x, y),
        *_original(found, x, y),
        _line(found, x, y),
    ]
    order = sorted(drawn, key=lambda place: (place == found.chosen, place in on_front, found.trials[place].status))
    parts += [_mark(place, found, x, y, kinds) for place in order]
    parts += _labels(found, [place for place in found.front if place in drawn], x, y)
    return "\n".join([*parts, "</svg>"])


def legend_mark(number: int) -> str:
    """The mark of a technique, by its place among them, as a little picture beside its name."""
    shape = _shape(_SHAPES[_shape_of(number)], 8, 8, 5.5)
    return f'<svg class="key t{number % _COLOURS}" viewBox="0 0 16 16" aria-hidden="true">{shape}</svg>'


def _shape_of(number: int) -> int:
    """Its shape: not only colours tell techniques apart, and no two of 64 have both alike."""
    return (number + number // _COLOURS) % len(_SHAPES)


def _point(trial: Trial, found: Tuned) -> tuple[float, float] | None:
    x, y = (value_of(trial, axis) for axis in found.axes)
    return None if x is None or y is None or math.isinf(x) or trial.status == FAILED else (x, y)


def _scales(found: Tuned, drawn: Sequence[int]) -> tuple[Scale, Scale]:
    points = [point for place in drawn if (point := _point(found.trials[place], found)) is not None]
    first = [one for one, _ in points]
    original = value_of(found.original, found.axes[0])
    first += [original] if original is not None else []
    x = _sizes(first, _LEFT, WIDTH - _RIGHT)
    budget = budgets_of(found).get(found.axes[1])
    return x, _nearness(found.axes[1], [one for _, one in points], None if budget is None else budget.limit)


def _sizes(values: Sequence[float], start: float, end: float) -> Scale:
    """Logarithmic where the figures span much, else from zero."""
    least, most = min(values), max(values)
    if least > 0 and most / least > _SPAN:
        low, high = math.log10(least) - 0.08, math.log10(most) + 0.08
        powers = range(math.floor(low), math.ceil(high) + 1)
        ticks = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
        return Scale(low, high, tuple(one for one in ticks if low <= math.log10(one) <= high), _log, start, end)
    high = most * 1.06 or 1.0
    return Scale(0.0, high, _steps(0.0, high, 8), float, start, end)


def _nearness(axis: str, values: Sequence[float], limit: float | None) -> Scale:
    """The second axis, its better end upwards."""
    top, bottom = float(_TOP), float(HEIGHT - _BOTTOM)
    finite = [one for one in values if math.isfinite(one)] + ([limit] if limit is not None else [])
    if axis == "cosine":
        turned = [_nines(one) for one in finite] or [0.0]
        low, high = min(turned) - 0.1, max(turned) + 0.3
        return Scale(low, high, tuple(one for one in _NINES if low <= _nines(one) <= high), _nines, bottom, top)
    if not finite:
        finite = [0.0]
    least, most = min(finite), max(finite)
    if axis == "sqnr_db":
        # A few that are far off must not squeeze all the others together.
        least = max(least, (limit if limit is not None else most) - _REACH_DB)
        most = min(most, max(_CEILING_DB, limit or 0.0))
    room = 0.07 * (most - least) or max(abs(most), 1.0) * 0.1
    low, high = least - room, most + 1.6 * room
    if less_is_better(axis):
        return Scale(high, low, _steps(low, high, 6), float, bottom, top)
    return Scale(low, high, _steps(low, high, 6), float, bottom, top)


def _steps(low: float, high: float, most: int) -> tuple[float, ...]:
    """Round figures between two, at most so many."""
    raw = (high - low) / most
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * each for each in (1, 2, 5, 10) if unit * each >= raw)
    return tuple(step * number for number in range(math.ceil(low / step), math.floor(high / step) + 1))


def _log(value: float) -> float:
    return math.log10(max(value, 1e-300))


def _nines(value: float) -> float:
    return -math.log10(max(1.0 - value, 1e-7)) if value < 1.0 else 7.0


def _grid(found: Tuned, x: Scale, y: Scale) -> list[str]:
    left, right, top, bottom = _LEFT, WIDTH - _RIGHT, _TOP, HEIGHT - _BOTTOM
    parts = []
    for tick in x.ticks:
        place = x.at(tick)
        parts.append(f'<line class="grid" x1="{place:.1f}" x2="{place:.1f}" y1="{top}" y2="{bottom}"/>')
        parts.append(f'<text class="tick" x="{place:.1f}" y="{bottom + 18}" text-anchor="middle">'
                     f"{written(found.axes[0], tick) if tick else '0'}</text>")  # fmt: skip
    for tick in (one for one in y.ticks if abs(y.at(one) - top) > 12):
        place = y.at(tick)
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{place:.1f}" y2="{place:.1f}"/>')
        parts.append(f'<text class="tick" x="{left - 8}" y="{place + 4:.1f}" text-anchor="end">'
                     f"{_tick(found.axes[1], tick)}</text>")  # fmt: skip
    if any(math.isinf(point[1]) for one in found.trials if (point := _point(one, found)) is not None):
        parts.append(f'<text class="tick" x="{left - 8}" y="{top + 4}" text-anchor="end">exact</text>')
    middle = (left + right) / 2
    parts.append(
        f'<text class="axis" x="{middle}" y="{bottom + 42}" text-anchor="middle">{title(found.axes[0])}</text>'
    )
    parts.append(f'<text class="axis" x="{left}" y="{top - 12}">{escape(title(found.axes[1]))}</text>')
    return parts


def _tick(axis: str, value: float) -> str:
    return f"{value:g}" if axis != "agreement" else f"{100 * value:g} %"


def _limits(found: Tuned, x: Scale, y: Scale) -> list[str]:
    """What a budget forbids, as a shade; its edge is the budget."""
    parts = []
    limits = budgets_of(found)
    left, right, top, bottom = _LEFT, WIDTH - _RIGHT, _TOP, HEIGHT - _BOTTOM
    if (budget := limits.get(found.axes[1])) is not None:
        place = y.at(budget.limit)
        parts += [
            f'<rect class="forbidden" x="{left}" y="{place:.1f}" width="{right - left}" '
            f'height="{max(0.0, bottom - place):.1f}"/>',
            f'<line class="limit" x1="{left}" x2="{right}" y1="{place:.1f}" y2="{place:.1f}"/>',
            f'<text class="limit" x="{right - 6}" y="{place + 15:.1f}" text-anchor="end">{escape(str(budget))}</text>',
        ]
    if found.axes[0] == "bytes" and (budget := limits.get("bytes")) is not None:
        bytes_ = budget.limit * found.original.bytes if budget.is_fraction else budget.limit
        place = x.at(bytes_)
        parts.append(f'<rect class="forbidden" x="{place:.1f}" y="{top}" width="{max(0.0, right - place):.1f}" '
                     f'height="{bottom - top}"/>')  # fmt: skip
    return parts


def _original(found: Tuned, x: Scale, y: Scale) -> list[str]:
    """The original as a line across, since its outputs are its own: exact, whatever the axis."""
    value = value_of(found.original, found.axes[0])
    if value is None:
        return []
    place, top, bottom = x.at(value), _TOP, HEIGHT - _BOTTOM
    return [
        f'<line class="original" x1="{place:.1f}" x2="{place:.1f}" y1="{top}" y2="{bottom}"/>',
        f'<text class="original" x="{min(place, WIDTH - 74):.1f}" y="{top - 12}" text-anchor="middle">'
        f"original, {written(found.axes[0], value)}</text>",
    ]


def _line(found: Tuned, x: Scale, y: Scale) -> str:
    """The front as steps: up to the next point, all is reached that the point before it reaches."""
    points = [point for place in found.front if (point := _point(found.trials[place], found)) is not None]
    places = sorted((x.at(one), y.at(other)) for one, other in points)
    if not places:
        return ""
    path = f"M{places[0][0]:.1f},{places[0][1]:.1f}"
    path += "".join(f" H{one:.1f} V{other:.1f}" for one, other in places[1:])
    return f'<path class="frontline" d="{path} H{WIDTH - _RIGHT}"/>'


def _mark(place: int, found: Tuned, x: Scale, y: Scale, kinds: dict[str, int]) -> str:
    trial = found.trials[place]
    point = _point(trial, found)
    assert point is not None, "only those are drawn"
    one, other = x.at(point[0]), y.at(point[1])
    last = found.original.rung or max((each.rung for each in found.trials), default=0)
    number = kinds[trial.candidate.technique]
    on_front, chosen = place in found.front, place == found.chosen
    size = 7.5 if chosen else 6.5 if on_front else 5.0 if trial.rung == last else 3.8
    classes = ["mark", f"t{number % _COLOURS}", trial.status, *(["onfront"] if on_front else [])]
    ring = f'<circle class="ring" cx="{one:.1f}" cy="{other:.1f}" r="14"/>' if chosen else ""
    beyond = " (beyond the plot)" if y.is_beyond(point[1]) and math.isfinite(point[1]) else ""
    said = (
        f"{printable(trial.candidate.name)}: {printable(trial.candidate.technique)}, "
        f"{written(found.axes[0], point[0])}, {written(found.axes[1], point[1])}{beyond}, on {trial.rows} rows, "
        f"{'kept' if trial.status == KEPT else 'missed'}"
    )
    shape = _shape(_SHAPES[_shape_of(number)], one, other, size)
    return f'<a href="#trial-{place}" class="{" ".join(classes)}">{ring}{shape}<title>{escape(said)}</title></a>'


def _shape(kind: str, x: float, y: float, size: float) -> str:
    if kind == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size:.1f}"/>'
    if kind == "cross":
        half, arm = 1.15 * size, 0.42 * size
        right = [(arm, -arm), (half, -arm), (half, arm)]  # and the same turned by a quarter, three times
        corners = [each for turned in range(4) for each in (_quarters(one, turned) for one in right)]
    else:
        several, angle, far = _CORNERS[kind]
        reaches = [far * size * (0.5 if kind == "star" and number % 2 else 1.0) for number in range(several)]
        turns = [math.radians(angle + 360 * number / several) for number in range(several)]
        corners = [(far * math.cos(turn), far * math.sin(turn)) for far, turn in zip(reaches, turns, strict=True)]
    return f'<polygon points="{" ".join(f"{x + one:.1f},{y + other:.1f}" for one, other in corners)}"/>'


def _quarters(point: tuple[float, float], several: int) -> tuple[float, float]:
    for _ in range(several):
        point = (-point[1], point[0])
    return point


def _labels(found: Tuned, places: Sequence[int], x: Scale, y: Scale) -> list[str]:
    """Names of points on the front, the chosen one first, each where it covers no other name."""
    marks = [
        (x.at(one), y.at(other)) for place in places for one, other in [_point(found.trials[place], found) or (0, 0)]
    ]
    taken = [(one - 8, other - 8, one + 8, other + 8) for one, other in marks]
    parts = []
    for place in sorted(places, key=lambda place: place != found.chosen):
        trial, point = found.trials[place], _point(found.trials[place], found)
        assert point is not None, "only those are drawn"
        name = cut(trial.candidate.name, 34)
        width, one, other = _LABEL * len(name), x.at(point[0]), y.at(point[1])
        gap = 18 if place == found.chosen else 11
        for left, top in (
            (one + gap, other - 5),
            (one + gap, other + 14),
            (one - gap - width, other - 5),
            (one - gap - width, other + 14),
        ):
            box = (left, top - 11, left + width, top + 3)
            inside = box[0] >= _LEFT and box[2] <= WIDTH - 4 and box[1] >= _TOP - 8
            if inside and not any(_overlap(box, each) for each in taken):
                taken.append(box)
                kind = "label chosen" if place == found.chosen else "label"
                parts.append(f'<text class="{kind}" x="{left:.1f}" y="{top:.1f}">{escape(name)}</text>')
                break
    return parts


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
