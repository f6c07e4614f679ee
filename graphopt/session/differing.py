"""What two model files, or the passes of a run, differ in."""

from __future__ import annotations

from pathlib import Path

from graphopt.debug.diff import Difference, difference
from graphopt.ir import decode
from graphopt.report.saved import read_report
from graphopt.storage.read import read


def diff(a: Path, b: Path, report: Path | None = None) -> Difference:
    """The structural difference of two models. With the `report` of the run that made `b` of `a`, what
    belongs together is told by provenance, too, and the rewrites that did it are named.

    Raises BadModel, Unsafe or OverLimit for a model that cannot be read, UsageError for the report.
    """
    saved = None if report is None else read_report(report)
    sources = [read(one) for one in (a, b)]
    graphs = [decode(one.proto, one.store) for one in sources]
    return difference(
        graphs[0],
        graphs[1],
        named=(str(a), str(b)),
        origins=None if saved is None else saved.origins,
        remarks=() if saved is None else saved.remarks,
    )
