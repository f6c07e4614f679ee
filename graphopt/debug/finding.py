"""What a bisection found, as plain facts: the one source of its page and its JSON."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from graphopt.debug.bisect import Answer
from graphopt.pipeline.protocol import Remark

Outcome = Literal["nothing", "rewrite", "range", "pass"]


@dataclass(frozen=True)
class Try:
    """One result that was judged: what was carried out, the answer and why. `cached` tells that an
    equal model had been judged before, so that nothing was computed."""

    what: str
    answer: Answer
    why: str
    cached: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        return dataclasses.asdict(self) | {"answer": str(self.answer)}


@dataclass(frozen=True)
class Finding:
    """How a bisection ended.

    `outcome`: "nothing" is wrong with the whole pipeline; a "rewrite" was found; what was found could
    only be narrowed to a "range" of rewrites, because the tries in between could not be told; a
    "pass" fails whatever is rewritten before it.

    `rewrites` counts those of the whole pipeline, `position` the guilty one among them, from 1, `why`
    says what is wrong with the result that has it. `alone` tells whether it is also wrong with
    everything else switched off, None where that was not or could not be told; when not, `together`
    is a smallest set that is, itself included, in which nothing can be left out if `smallest`.
    `rest` is the answer for the whole pipeline without the guilty rewrite, None where not asked.
    `go_on` is the command line that optimizes without it, `again` the one that looks for the next.
    `origins` are the names of the input that the names in its remark stand for, `before` and `after`
    the lines of the model's text that differ, `evaluations` how often a model was judged.
    """

    outcome: Outcome
    model: str
    pipeline: str
    rewrites: int
    why: str
    position: int | None = None
    guilty: Remark | None = None
    pass_name: str | None = None
    suspects: tuple[Remark, ...] = ()
    alone: bool | None = None
    together: tuple[Remark, ...] = ()
    smallest: bool = True
    rest: Answer | None = None
    rest_why: str = ""
    origins: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    tries: tuple[Try, ...] = ()
    evaluations: int = 0
    runs: int = 0
    seconds: float = 0.0
    go_on: str = ""
    again: str = ""
    bundle: str | None = None
    warnings: tuple[str, ...] = field(default=())

    @property
    def exit_code(self) -> int:
        """0 when nothing is wrong, else 1."""
        return 0 if self.outcome == "nothing" else 1

    @property
    def handle(self) -> str:
        """The guilty rewrite as `--disable` takes it, such as `identities:3`; "" when there is none."""
        return "" if self.guilty is None else f"{self.guilty.pass_name}:{self.guilty.number}"

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        plain: dict[str, Any] = dataclasses.asdict(self)
        plain["rest"] = None if self.rest is None else str(self.rest)
        plain["tries"] = [one.to_json() for one in self.tries]
        return {"exit_code": self.exit_code, "disable": self.handle or None, **plain}


def changed_lines(before: str, after: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The lines of two texts of a model that the other has not, in order: what went and what came.

    Order does not count, nor how deep a body stands: a node that only moved is not among them.
    """
    old, new = [line.strip() for line in before.splitlines()], [line.strip() for line in after.splitlines()]
    return _beyond(old, new), _beyond(new, old)


def _beyond(lines: list[str], others: Iterable[str]) -> tuple[str, ...]:
    there = Counter(others)
    found = []
    for line in lines:
        if there[line]:
            there[line] -= 1
        else:
            found.append(line)
    return tuple(found)
