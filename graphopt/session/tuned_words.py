"""What is said of a search, beside its figures."""

from __future__ import annotations

from typing import Final

from graphopt.validation.verdict import Verdict

HAIR: Final = "on the searched samples, which is a matter of one or two of them; on the others it kept it"
OPENED: Final = (
    "the weights of this model are inputs too, so that callers could feed others; in the result they are constants"
)
UNNAMED: Final = (
    "values inside of the result have short names, and nodes none: to see the names of the original, leave the last "
    "step, strip, off the recipe"
)
GENERATED_FEEDS: Final = (
    "the search saw generated feeds, which may be unlike real ones, so expect a worse result; give some dozens of "
    "samples with --feeds"
)


def figures_of(verdict: Verdict) -> dict[str, float]:
    """What a verdict measured, by name."""
    found = {one.budget.metric: one.reached for one in verdict.budgets}
    floats = [one for one in verdict.outputs if one.kind in ("float", "mixed")]
    if floats:
        found.setdefault("sqnr_db", min(one.sqnr_db for one in floats))
        found.setdefault("cosine", min(one.cosine for one in floats))
    if verdict.metric_before is not None and verdict.metric_after is not None:
        found["metric_before"], found["metric_after"] = verdict.metric_before, verdict.metric_after
    return found


def part(text: str) -> str:
    return f", {text}" if text else ""
