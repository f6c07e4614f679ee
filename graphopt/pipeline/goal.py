"""What a pipeline is to reach by being made stronger: `latency=0.7`, `macs=0.8`, `bytes=0.5`, or `budget`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from graphopt.errors import UsageError
from graphopt.pipeline.nearest import did_you_mean
from graphopt.pipeline.tokens import shorten

_MEASURES: Final = ("latency", "macs", "bytes")
_EXAMPLE: Final = "--to expects latency=0.7, macs=0.8 or bytes=0.5 (of the original), or budget"


@dataclass(frozen=True)
class Goal:
    """A figure of the result as a fraction of the original's, which must not be above `limit`.

    `measure` is latency, macs or bytes, or budget (limit 0), which asks for as much as the budget allows.
    """

    measure: str
    limit: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Goal:
        """The goal that a text spells; a percentage is taken as well. Raises UsageError."""
        name, sign, number = (part.strip() for part in text.partition("="))
        if name == "budget" and not sign:
            return cls("budget")
        if name not in _MEASURES or not sign:
            raise UsageError(f"{_EXAMPLE}, not {shorten(text)!r}{did_you_mean(name, (*_MEASURES, 'budget'))}")
        try:
            limit = float(number[:-1]) / 100 if number.endswith("%") else float(number)
        except ValueError:
            raise UsageError(f"{_EXAMPLE}, and {shorten(number)!r} is not a number") from None
        if not (math.isfinite(limit) and 0 < limit < 1):
            raise UsageError(f"{name} is to be between 0 and 1 times the original's, not {number}")
        return cls(name, limit)

    def __str__(self) -> str:
        return self.measure if self.measure == "budget" else f"{self.measure}={self.limit:g}"
