"""Which parts of bodies ran on the calibration feeds at all: of others a trial says nothing."""

from __future__ import annotations

from collections.abc import Iterable

from graphopt.analysis.activations import Moments, Observation
from graphopt.pipeline.protocol import Context
from passes.prune.spans import Span


def unreached(spans: Iterable[Span], ctx: Context) -> dict[Span, str]:
    """Of spans in bodies and functions those whose end was not computed on any feed, each with a clause."""
    asked = {one: Observation((one.end,), Moments()) for one in spans if one.graph is not one.graph.root}
    refused = ctx.calibration.observe(list(asked.values())).refused if asked else {}
    found: dict[Span, str] = {}
    for span, question in asked.items():
        seen = question.accumulator
        if question in refused:
            found[span] = refused[question]
        elif isinstance(seen, Moments) and not seen.count:
            found[span] = "it was not computed on any calibration feed: the branch that it is in was not taken"
    return found
