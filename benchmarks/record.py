"""One figure of a benchmark, as it is kept: a line of JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Record:
    """What one contender did with one model in one suite.

    suite: such as `simplification`. contender: `graphopt:default`, `onnxslim`. version: the contender's. figures: by
    name, with the unit in it (`nodes`, `bytes`, `cpu_seconds`, `latency_ratio`, `sqnr_db`); a ratio that was measured
    in pairs has `NAME_low` and `NAME_high` beside it, its 95 % interval. failure: in a sentence why there are none.
    """

    suite: str
    model: str
    contender: str
    version: str
    figures: Mapping[str, float] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    failure: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        return {"kind": "record", **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Record:
        """The record that `to_json` gave. Raises KeyError and TypeError for what is none."""
        return cls(**{name: value for name, value in data.items() if name != "kind"})
