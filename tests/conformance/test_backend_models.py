"""The default recipe on ONNX's backend tests: the same outputs, a valid model, the same signature.

All of them take minutes, so a run takes every so manieth; GRAPHOPT_CONFORMANCE=all takes all.
"""

from __future__ import annotations

import os

import pytest
from backend_models import BAKES, Case, cases

from graphopt.errors import GraphoptError
from graphopt.pipeline.recipe import Recipe
from graphopt.runtime.failure import WorkerFailure
from graphopt.testing.breach import LawBroken
from graphopt.testing.equality import check_outputs
from graphopt.testing.laws import check_idempotent, check_size, check_valid
from graphopt.testing.running import Results, outputs_of
from graphopt.testing.signature import check_signature
from graphopt.testing.trial import Trial
from graphopt.testing.validity import invalid

PARTS = 8
EVERY = 1 if os.environ.get("GRAPHOPT_CONFORMANCE") == "all" else 6
RUNS = {"none": 150, "tail": 100, "all": 140}  # the least that a run has to have compared


def compare(case: Case, how: str) -> bool:
    """Hold the recipe to its promises on one model; False where onnxruntime cannot run the original."""
    baked = case.baked(how)
    if baked is None:
        return False
    proto, feeds = baked
    data = proto.SerializeToString()
    try:
        expected = outputs_of(data, [feeds])
        again = outputs_of(data, [feeds])
    except (WorkerFailure, GraphoptError):
        return False
    if not _same(expected, again):
        return False
    pipeline = Recipe.load("default").pipeline
    trial = Trial(pipeline, proto, data, [feeds], expected)
    made = trial.run()
    check_signature(proto, made.proto, {part for one in pipeline.passes() for part in one.changes})
    if made.data == data:
        return True
    if not invalid(data):
        check_valid(made.data)
    check_size(trial, made)
    check_outputs(trial, made.data)
    check_idempotent(trial, made)
    return True


def _same(one: Results, other: Results) -> bool:
    """Whether two runs gave the same, NaN included."""
    return repr(one) == repr(other)


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("how", BAKES)
def test_outputs_hold(how: str, part: int) -> None:
    ran, broken = 0, []
    for case in cases()[part * EVERY :: PARTS * EVERY]:
        try:
            ran += compare(case, how)
        except (LawBroken, GraphoptError, AssertionError) as error:
            broken.append(f"{case.name}: {error}")
    assert not broken, f"{len(broken)} of {ran + len(broken)}: " + "; ".join(broken)
    assert ran * PARTS >= RUNS[how]
