"""Whether the front of a search has, for every point of every other tool, one that is at least as good in all axes.

usage: python -m benchmarks.dominance FRONT RESULTS --model NAME [--axes bytes,sqnr_db] [--drop 0.005] [--slack X]
       python -m benchmarks.dominance FRONT --recipes DIR

FRONT is what `graphopt tune --json` wrote, or JSON lines of a benchmark, whose contenders of graphopt are then the
points. RESULTS are JSON lines of a benchmark: its other contenders are the points that must be covered. The first axis
is `bytes` or `latency` (less is better; a latency counts as equal within the noise that two runs differ by), the second
`sqnr_db`, `agreement` or `metric` (more is better; within --slack counts as equal). The metric counts as its change,
and a gain, which is chance, as none. The original belongs to the front. A point of a tool whose metric drops by more
than --drop keeps no budget, and is left out. Ends with 1 where a point is not covered.

What a search measured and what a benchmark measured are of different samples. So --recipes writes each model of a
search's front as a recipe, `DIR/front-1.toml` and on, which the quantization suite takes as a contender
(`graphopt:DIR/front-1.toml`): its results file can then be both FRONT and RESULTS.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.judged import LOSSLESS_DB
from benchmarks.record import Record
from benchmarks.steady import LIMIT
from graphopt.errors import GraphoptError, UsageError
from graphopt.tune.trial import FAILED, Trial

COSTS: Final = ("bytes", "latency")
QUALITIES: Final = ("sqnr_db", "agreement", "metric")
OURS: Final = "graphopt:"


@dataclass(frozen=True)
class Point:
    """One model that was made: what it costs (less is better), how good it is (more is better), and by how much its
    metric fell, None where that was not measured."""

    name: str
    cost: float
    quality: float
    drop: float | None = None


@dataclass(frozen=True)
class Covered:
    """A point of another tool: the point of the front that is at least as good in both axes, None where there is none;
    `beats`: points of the front that it is at least as good as in both, and better than beyond what counts as equal.
    """

    point: Point
    by: Point | None
    beats: tuple[Point, ...]


def covered(
    front: Sequence[Point], points: Iterable[Point], *, ratio: float = 0.0, slack: float = 0.0
) -> list[Covered]:
    """Each of `points` against `front`. Costs are equal within `ratio` of them, qualities within `slack`."""

    def no_worse(a: Point, b: Point) -> bool:
        return a.cost <= b.cost * (1 + ratio) and a.quality >= b.quality - slack

    def better(a: Point, b: Point) -> bool:
        apart = a.cost < b.cost / (1 + ratio) or a.quality > b.quality + slack
        return a.cost <= b.cost and a.quality >= b.quality and apart

    found = []
    for point in points:
        # of those that do, the one that costs least is named
        by = min((one for one in front if no_worse(one, point)), key=lambda one: one.cost, default=None)
        found.append(Covered(point, by, tuple(one for one in front if better(point, one))))
    return found


def point_of_record(record: Record, axes: tuple[str, str]) -> Point | None:
    """A benchmark's record as a point; None where it failed or lacks an axis."""
    figures = dict(record.figures)
    drop = figures["metric_before"] - figures["metric_after"] if "metric_after" in figures else None
    if drop is not None:
        figures["metric"] = _change(drop)
    cost = figures.get({"bytes": "bytes", "latency": "latency_ratio"}[axes[0]])
    quality = figures.get(axes[1])
    if record.failure or cost is None or quality is None:
        return None
    return Point(record.contender, cost, quality, drop)


def point_of_trial(trial: Trial, axes: tuple[str, str]) -> Point | None:
    """A trial of a search as a point; None where it failed or lacks an axis."""
    if trial.status == FAILED:
        return None
    cost = trial.bytes if axes[0] == "bytes" else None if trial.latency is None else trial.latency.ratio
    drop = next((value for name, value in trial.reached.items() if name.endswith("_drop")), None)
    quality = trial.reached.get(axes[1])
    if axes[1] == "metric" and drop is not None:
        quality = _change(drop)
    return None if cost is None or quality is None else Point(trial.candidate.name, cost, quality, drop)


def unbeaten(points: Sequence[Point]) -> list[Point]:
    """Those of the points that no other is better than in one axis and no worse in the other; of equals the first."""
    found: list[Point] = []
    for point in sorted(points, key=lambda one: (one.cost, -one.quality)):
        if not found or point.quality > found[-1].quality:
            found.append(point)
    return found


def _change(drop: float) -> float:
    return 0.0 if drop <= 0 else -drop


def _original(size: float, axes: tuple[str, str]) -> Point:
    """The model as it came."""
    best = {"sqnr_db": LOSSLESS_DB, "agreement": 1.0, "metric": 0.0}[axes[1]]
    return Point("the original", size if axes[0] == "bytes" else 1.0, best, 0.0)


def records_of(path: Path) -> list[Record]:
    """The records of a file of JSON lines; lines of other kinds are passed over. Raises UsageError where it is none."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read ({getattr(error, 'strerror', 'it is no text')})") from None
    found = [record for number, line in enumerate(lines, 1) if (record := _record(path, number, line)) is not None]
    if not found:
        raise UsageError(f"{path} is no results file of a benchmark: it has no records")
    return found


def _record(path: Path, number: int, line: str) -> Record | None:
    try:
        facts = json.loads(line) if line.strip() else {}
        return Record.from_json(facts) if facts.get("kind") == "record" else None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise UsageError(f"{path} is no results file of a benchmark: line {number} is no record") from None


def front_of(path: Path, model: str, axes: tuple[str, str]) -> list[Point]:
    """The points of a search's result, or of graphopt's contenders in a results file. Raises UsageError."""
    try:
        facts = json.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror})") from None
    except ValueError:
        facts = None
    if isinstance(facts, dict) and "trials" in facts:
        points, size = _searched(path, facts, axes)
    else:
        made = [one for one in records_of(path) if one.contender.startswith(OURS) and one.model == model]
        points = [point_of_record(one, axes) for one in made]
        sizes = (one.figures["bytes"] / one.figures["bytes_ratio"] for one in made if one.figures.get("bytes_ratio"))
        size = next(sizes, float("inf"))
    kept = [one for one in points if one is not None]
    if not kept:
        raise UsageError(f"{path} has no point of {model} with {axes[0]} and {axes[1]}")
    return unbeaten([*kept, _original(round(size) if size < float("inf") else size, axes)])


def _searched(path: Path, facts: Mapping[str, Any], axes: tuple[str, str]) -> tuple[list[Point | None], float]:
    """The points of a search's front, and the bytes of the original."""
    try:
        original = Trial.from_json(facts["original"])
        trials = [Trial.from_json(one) for one in facts["trials"]]
        places = [int(one) for one in facts["front"]]
        return [point_of_trial(trials[place], axes) for place in places], float(original.bytes)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        raise UsageError(f"{path} is no result of a search that can be read") from None


def write_recipes(front: Path, folder: Path) -> list[Path]:
    """A recipe for each model of a search's front. Raises UsageError."""
    try:
        facts = json.loads(front.read_text())
        trials = [Trial.from_json(facts["trials"][int(place)]) for place in facts["front"]]
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{error.filename} cannot be used ({error.strerror})") from None
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        raise UsageError(f"{front} is no result of a search that can be read") from None
    found = []
    for number, trial in enumerate(trials, 1):
        path = folder / f"front-{number}.toml"
        lines: dict[str, object] = {
            "name": path.stem,
            "description": f"{trial.candidate.name}: {trial.candidate.technique}.",
        }
        lines["pipeline"] = trial.pipeline or trial.candidate.pipeline
        lines["budget"] = facts.get("budgets") or ["sqnr_db>=-1000"]  # it only has to be stated here
        path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in lines.items()))
        found.append(path)
    return found


def markdown(found: Sequence[Covered], axes: tuple[str, str]) -> str:
    """A table with a line for every point of another tool, and a sentence that sums it up."""
    lines = [f"| tool | {axes[0]} | {axes[1]} | covered by | {axes[0]} | {axes[1]} |", "|---|--:|--:|---|--:|--:|"]
    for one in found:
        by = (
            "**nothing** | | "
            if one.by is None
            else f"{one.by.name} | {_shown(one.by.cost)} | {_shown(one.by.quality)}"
        )
        lines.append(f"| {one.point.name} | {_shown(one.point.cost)} | {_shown(one.point.quality)} | {by} |")
    return "\n".join([*lines, "", sentence(found)])


def sentence(found: Sequence[Covered]) -> str:
    """What came of it."""
    missed = [one.point.name for one in found if one.by is None]
    beaten = sorted({point.name for one in found for point in one.beats})
    said = (
        f"The front has a point at least as good for {len(found) - len(missed)} of {len(found)} points of other tools"
    )
    said += f" (not for {', '.join(missed)})" if missed else ""
    return f"{said}; " + (f"of its own, {', '.join(beaten)} are beaten." if beaten else "none of its own is beaten.")


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def compared(
    front: Path, results: Path, model: str, axes: tuple[str, str], drop: float | None, slack: float
) -> list[Covered]:
    """Every point of another tool in `results` against the front. Raises UsageError."""
    records = [one for one in records_of(results) if one.model == model and not one.contender.startswith(OURS)]
    if not records:
        raise UsageError(f"{results} has no record of another tool for {model!r}")
    points = [point for one in records if (point := point_of_record(one, axes)) is not None]
    kept = [one for one in points if drop is None or one.drop is None or one.drop <= drop + 1e-9]
    found = front_of(front, model, axes)
    return covered(found, kept, ratio=LIMIT if axes[0] == "latency" else 0.0, slack=slack)


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("front", type=Path)
    parser.add_argument("results", type=Path, nargs="?")
    parser.add_argument("--model")
    parser.add_argument(
        "--recipes", type=Path, metavar="DIR", help="write the front's models as recipes there, and end"
    )
    parser.add_argument("--axes", default="bytes,sqnr_db", help="bytes or latency, and sqnr_db, agreement or metric")
    parser.add_argument("--drop", type=float, help="of the metric, beyond which a point of a tool is left out")
    parser.add_argument("--slack", type=float, default=0.0, help="by how much qualities may differ and count as equal")
    asked = parser.parse_args(given)
    if asked.recipes is None and (asked.results is None or asked.model is None):
        parser.error("give the results of a benchmark and --model, or --recipes")
    cost, _, quality = asked.axes.partition(",")
    if cost not in COSTS or quality not in QUALITIES:
        parser.error(f"--axes {asked.axes}: give one of {', '.join(COSTS)}, a comma, and one of {', '.join(QUALITIES)}")
    try:
        if asked.recipes is not None:
            print("\n".join(f"graphopt:{path}" for path in write_recipes(asked.front, asked.recipes)))
            return 0
        found = compared(asked.front, asked.results, asked.model, (cost, quality), asked.drop, asked.slack)
    except GraphoptError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return error.exit_code
    print(markdown(found, (cost, quality)))
    return 1 if any(one.by is None for one in found) else 0


if __name__ == "__main__":
    sys.exit(main())
