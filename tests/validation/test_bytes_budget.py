"""The budget on bytes: of the file that comes out, as it is written."""

from __future__ import annotations

import numpy as np
import pytest

import graphopt
from graphopt.errors import UsageError
from graphopt.testing import model
from graphopt.validation.verdict import Outcome

PROTO = model(
    "g (float[N,64] x) => (float[N,64] y) { y = MatMul(x, w) }",
    w=np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32),
)
SIZE = len(PROTO.SerializeToString())


@pytest.mark.parametrize(
    ("limit", "kept"), [("0.3", True), ("0.2", False), ("5KB", True), ("4KB", False), ("5KiB", True)]
)
def test_a_result_is_held_to_it(limit: str, kept: bool) -> None:
    result = graphopt.optimize(PROTO, pipeline="weight-int8", budget=["sqnr_db>=10", f"bytes<={limit}"])
    assert 4096 < result.report.after.bytes < 5000
    assert result.verdict.outcome is (Outcome.WITHIN_BUDGET if kept else Outcome.DIFFERENT)
    (found,) = [one for one in result.verdict.budgets if one.budget.metric == "bytes"]
    reached = result.report.after.bytes / (SIZE if found.budget.is_fraction else 1)
    assert found.reached == pytest.approx(reached)
    assert found.off == found.on


def test_over_the_budget_it_says_so() -> None:
    result = graphopt.optimize(PROTO, pipeline="weight-int8", budget=["sqnr_db>=10", "bytes<=0.2"])
    assert result.verdict.reasons[0].startswith("over budget: bytes reached 0.2")


def test_it_says_nothing_of_outputs() -> None:
    with pytest.raises(UsageError, match="is LOSSY and needs a budget"):
        graphopt.optimize(PROTO, pipeline="weight-int8", budget=["bytes<=0.3"])
    with pytest.raises(UsageError, match="lossy passes need a budget"):
        graphopt.validate(PROTO, PROTO, contract=graphopt.Contract.LOSSY, budget=["bytes<=1"])


def test_steps_on_the_way_are_not_held_to_it() -> None:
    result = graphopt.optimize(
        PROTO, pipeline="identities,weight-int8", budget=["sqnr_db>=10", "bytes<=0.3"], validate="each"
    )
    assert result.verdict.passed
