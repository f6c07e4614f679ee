"""What a search tries and what came of it: plain facts that are kept line by line, and that reports are made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

KEPT: Final = "kept"
"""A trial whose result keeps every budget on the feeds it was measured on."""
MISSED: Final = "missed"
"""A trial whose result runs and does not keep a budget."""
FAILED: Final = "failed"
"""A trial that has no result: a pass refused, onnxruntime failed, the clock ended it."""


@dataclass(frozen=True)
class Candidate:
    """A pipeline to be tried.

    pipeline: the text of it, as `--pipeline` takes it. technique: what kind of thing it is, in a word or two for
    people (`int8 static`, `2:4`). parent: the name of the candidate that it was made from, None for one of the first.
    fit: whether nodes are taken out of it, one by one, until what comes of it keeps the budgets. slow: whether it takes
    so long that others are tried before it. unless: the name of a candidate that makes it
    worth nothing where it keeps the budgets.
    """

    name: str
    pipeline: str
    technique: str
    parent: str | None = None
    fit: bool = False
    slow: bool = False
    unless: str = ""


@dataclass(frozen=True)
class Ratio:
    """A latency against the original's: the median of paired ratios, and its 95 % interval."""

    ratio: float
    low: float
    high: float
    noisy: bool = False


@dataclass(frozen=True)
class Trial:
    """One candidate, tried on some rows of the feeds.

    rung: 0 for the fewest rows, one more each time that a candidate was promoted to more of them.
    rows: on how many rows it was measured. status: `kept`, `missed` or `failed`; why: a clause for the last two.
    bytes: of the whole file, weights in files of their own included; compressed: of the file packed with deflate.
    macs: multiply-accumulates of one run with the first feed's shapes, None where they cannot be told.
    energy: the proxy of the energy of one run against the original's (see `objective`), None where not asked for.
    reached: each budget's figure and each figure of accuracy that was measured, by the metric's name.
    pipeline: the text of the pipeline that it came to, where fitting changed it (nodes left alone), else the
    candidate's.
    """

    candidate: Candidate
    rung: int
    rows: int
    status: str
    why: str = ""
    pipeline: str = ""
    bytes: int = 0
    compressed: int = 0
    macs: int | None = None
    latency: Ratio | None = None
    energy: float | None = None
    reached: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Trial:
        """The trial that `to_json` gave. Raises KeyError and TypeError for what is none."""
        facts = dict(data)
        facts["candidate"] = Candidate(**facts["candidate"])
        facts["latency"] = None if facts["latency"] is None else Ratio(**facts["latency"])
        return cls(**facts)


@dataclass(frozen=True)
class Tuned:
    """How a search went.

    original: the model as it was read, measured as the trials were (its pipeline is empty). trials: the last trial of
    every candidate, in the order in which they were made. front: places among `trials` of those that keep the budgets
    on all samples (of all where none does) and that no other is better than in both `axes`, best in the first axis
    first. chosen: the place of the one that was taken, None
    where nothing keeps the budgets. minimize: `size`, `latency` or `energy-proxy`; axes: two fields that the front is
    about, such as `bytes` and `sqnr_db`. held_out: the chosen model's figures on rows that the search never saw.
    recipe: the text of a recipe file that makes the chosen model again without a search. assumptions: sentences about
    what a preset takes for granted. stopped: in a clause why the search ended before it was through, or empty.
    """

    model: str
    minimize: str
    budgets: tuple[str, ...]
    original: Trial
    trials: tuple[Trial, ...]
    front: tuple[int, ...]
    chosen: int | None
    axes: tuple[str, str]
    held_out: Mapping[str, float] = field(default_factory=dict)
    recipe: str = ""
    feeds: str = ""
    preset: str = ""
    assumptions: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    stopped: str = ""
    workers: int = 1
    seconds: float = 0.0
    written: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        return {"format": 1, **dataclasses.asdict(self)}
