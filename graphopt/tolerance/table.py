"""What a sensitivity study found: a row for each layer, which can be kept as JSON and read back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from graphopt.errors import UsageError
from graphopt.tolerance.curve import Curve, Point, decibels

FORMAT: Final = 1


@dataclass(frozen=True)
class Row:
    """One layer. `weights` is the curve of noise on single weights, `channels` that of whole channels gone.

    `shares` has for each compression the energy of what it changes relative to the layer's own, and `errors` the
    error that it is predicted to bring to the worst output (relative energy); compressions that a layer has no
    way for are in neither. `measured` has the errors of those that were really tried. `energy` is
    the share of each channel in what the layer gives, where that was seen.
    """

    name: str
    op: str
    nodes: tuple[str, ...]
    shape: tuple[int, ...]
    weights: Curve
    channels: Curve
    shares: Mapping[str, float]
    errors: Mapping[str, float]
    measured: Mapping[str, float] = field(default_factory=dict)
    by_data: bool = False
    note: str = ""

    @property
    def elements(self) -> int:
        """How many weights it has."""
        return math.prod(self.shape)

    def predicted_db(self, compression: str) -> float | None:
        """The SQNR that the worst output is predicted to keep; None where the layer has no such compression."""
        error = self.errors.get(compression)
        return None if error is None else decibels(error)

    def bits_for(self, sqnr_db: float) -> int | None:
        """The fewest bits (a scale for each channel, 2 to 8) that are predicted to keep this SQNR."""
        for bits in range(2, 9):
            found = self.predicted_db(f"int{bits}-channel")
            if found is not None and found >= sqnr_db:
                return bits
        return None

    def eps_for(self, sqnr_db: float) -> float:
        """The largest relative noise (a deviation) on the weights that keeps this SQNR."""
        return math.sqrt(self.weights.reach(10.0 ** (-sqnr_db / 10.0)))


@dataclass(frozen=True)
class Checked:
    """How a prediction compares with what was measured: over `count` layers, the rank correlation (NaN for fewer than
    three), and by how much the prediction is off in decibels (median of magnitudes)."""

    compression: str
    count: int
    spearman: float
    off_db: float


@dataclass(frozen=True)
class Sensitivity:
    """All layers in the order of the model, what was left out, and how the study was made."""

    model: str
    rows: tuple[Row, ...]
    left: tuple[tuple[str, str], ...]
    feeds: str
    ladder: tuple[float, ...]
    seeds: int
    checks: tuple[Checked, ...] = ()
    warnings: tuple[str, ...] = ()
    runs: int = 0
    work: float = 0.0
    seconds: float = 0.0

    def __getitem__(self, name: str) -> Row:
        """The row of a layer by the name of its weight, or of one of its nodes. Raises KeyError."""
        for row in self.rows:
            if name == row.name or name in row.nodes:
                return row
        raise KeyError(name)

    def ranked(self, compression: str) -> list[Row]:
        """The rows that have a prediction for a compression, the least tolerant first."""
        return sorted((row for row in self.rows if compression in row.errors), key=lambda row: -row.errors[compression])

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`; `from_json` reads it."""
        return {
            "format": FORMAT,
            "model": self.model,
            "feeds": self.feeds,
            "ladder": list(self.ladder),
            "seeds": self.seeds,
            "layers": [row_json(row) for row in self.rows],
            "left": [list(one) for one in self.left],
            "checks": [
                {"compression": one.compression, "layers": one.count, "spearman": _number(one.spearman),
                 "off_db": _number(one.off_db)}
                for one in self.checks
            ],
            "warnings": list(self.warnings),
            "runs": self.runs,
            "work": round(self.work, 2),
            "seconds": round(self.seconds, 3),
        }  # fmt: skip

    @classmethod
    def from_json(cls, facts: Any) -> Sensitivity:
        """The study that `to_json` gave. Raises UsageError for anything else."""
        if not isinstance(facts, dict) or facts.get("format") != FORMAT:
            raise UsageError("this is no table of sensitivities as `graphopt sensitivity --json` writes it")
        try:
            return cls(
                str(facts["model"]),
                tuple(row_of(one) for one in facts["layers"]),
                tuple((str(name), str(why)) for name, why in facts["left"]),
                str(facts["feeds"]),
                tuple(float(one) for one in facts["ladder"]),
                int(facts["seeds"]),
                tuple(
                    Checked(str(one["compression"]), int(one["layers"]), _float(one["spearman"]), _float(one["off_db"]))
                    for one in facts["checks"]
                ),
                tuple(str(one) for one in facts["warnings"]),
                int(facts["runs"]),
                float(facts["work"]),
                float(facts["seconds"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise UsageError(f"the table of sensitivities cannot be read ({type(error).__name__}: {error})") from None


def row_json(row: Row) -> dict[str, Any]:
    """A row as plain data for `json.dumps`; `row_of` reads it."""
    return {
        "name": row.name,
        "op": row.op,
        "nodes": list(row.nodes),
        "shape": list(row.shape),
        "gain": _number(row.weights.gain),
        "slope": _number(row.weights.slope),
        "fit": _number(row.weights.fit),
        "saturates_at": row.weights.saturates_at,
        "by_data": row.by_data,
        "noise": [[one.perturbation, _number(one.error)] for one in row.weights.points],
        "channels": [[one.perturbation, _number(one.error)] for one in row.channels.points],
        "shares": {name: _number(value) for name, value in row.shares.items()},
        "errors": {name: _number(value) for name, value in row.errors.items()},
        "predicted_db": {name: _number(decibels(value)) for name, value in row.errors.items()},
        "measured": {name: _number(value) for name, value in row.measured.items()},
        "note": row.note,
    }


def row_of(facts: Mapping[str, Any]) -> Row:
    """The row that `row_json` gave. Raises KeyError, TypeError, ValueError or AttributeError for anything else."""
    return Row(
        str(facts["name"]),
        str(facts["op"]),
        tuple(map(str, facts["nodes"])),
        tuple(map(int, facts["shape"])),
        _curve_of(facts["noise"]),
        _curve_of(facts["channels"]),
        _numbers_of(facts["shares"]),
        _numbers_of(facts["errors"]),
        _numbers_of(facts["measured"]),
        bool(facts["by_data"]),
        str(facts["note"]),
    )


def _curve_of(points: Any) -> Curve:
    return Curve(tuple(Point(_float(x), _float(y)) for x, y in points))


def _numbers_of(facts: Mapping[str, Any]) -> dict[str, float]:
    return {str(name): _float(value) for name, value in facts.items()}


def _number(value: float) -> float | str | None:
    """A number that JSON has: NaN is null, infinities are words."""
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else str(value)


def _float(value: Any) -> float:
    return math.nan if value is None else float(value)
