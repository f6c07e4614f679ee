"""Which rewrites happen, from the texts of `--disable`, `--limit`, `--only` and `--until`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from graphopt.cli import options
from graphopt.errors import UsageError

if TYPE_CHECKING:
    from graphopt.pipeline.gate import Gate
    from graphopt.pipeline.pipeline import Pipeline


def gate_of(steps: Pipeline, disable: Sequence[str] | None, limit: str | None) -> Gate:
    """The gate that `--disable` and `--limit` describe. Raises UsageError."""
    from graphopt.pipeline.gate import Limits, parse_disabled

    named("--disable", [text.partition(":")[0] for text in disable or ()], steps)
    known = frozenset(one.name for one in steps.passes())
    return Limits(
        parse_disabled(tuple(disable or ()), known), None if limit is None else options.whole("--limit", limit)
    )


def named(flag: str, names: Sequence[str] | None, steps: Pipeline) -> tuple[str, ...]:
    """Names of passes that the pipeline has; UsageError with the nearest for one that it has not."""
    known = sorted({one.name for one in steps.passes()})
    for name in names or ():
        if name not in known:
            from graphopt.pipeline.nearest import did_you_mean

            ending = did_you_mean(name, known) or f"; it has {', '.join(known) or 'none at all'}"
            raise UsageError(f"{flag} {name}: the pipeline has no such pass{ending}")
    return tuple(names or ())
