"""A verdict on models that were run in segments, with what the segments say about it."""

from __future__ import annotations

from dataclasses import replace

from graphopt.contract import Contract
from graphopt.validation.segments.report import SegmentsReport, sized
from graphopt.validation.verdict import Outcome, Verdict


def explained(verdict: Verdict, report: SegmentsReport, crowded: str = "") -> Verdict:
    """The verdict with the report, with the stretch that is to blame where it is `different`, and a note on segments
    that came out larger than allowed; `crowded` says why segments were chosen where nobody asked for them."""
    reasons, notes = verdict.reasons, []
    if verdict.outcome is Outcome.DIFFERENT:
        guilty = report.first if verdict.contract is Contract.EXACT else report.worst
        if guilty is not None:
            reasons = (*reasons, f"of the stretches between common cuts it is {guilty.sentence()}")
    if crowded:
        notes.append(f"the models were run a segment at a time: {crowded}")
    if report.largest > report.allowed:
        notes.append(
            f"a segment has {sized(report.largest)} of weights where {sized(report.allowed)} were wanted: "
            "nodes that read so much, or that pass on what is no tensor, cannot be parted"
        )
    return replace(verdict, reasons=reasons, warnings=(*notes, *verdict.warnings), segments=report)
