"""Every operator whose channels are understood, as ONNX's own tests have it: taking units of any axis out is
silencing them, or they stay."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backend_channels import between_layers
from backend_models import Case, cases
from onnx import ModelProto

from graphopt.analysis.channels.rules import RULES
from graphopt.errors import GraphoptError
from graphopt.testing.running import outputs_of
from graphopt.testing.validity import invalid

sys.path.insert(0, str(Path(__file__).parents[1] / "passes" / "prune"))
from narrowed_models import assert_narrowing_is_silencing, free_sizes

MOST = 3  # of the models of one operator that have something to take out, taken from here and there

UNSUPPORTED = {"Hardmax"}  # jumps from one maximum to another
_LEFT_OUT = ("_batchwise", "_expanded", "training")


def of(op: str) -> list[Case]:
    """The tests of one operator."""
    found = []
    for case in cases():
        nodes = case.model.graph.node
        if len(nodes) == 1 and nodes[0].op_type == op and not any(part in case.name for part in _LEFT_OUT):
            found.append(case)
    return found


def runs(proto: ModelProto, feeds: dict[str, Any]) -> bool:
    """Whether the model is valid, onnxruntime has the operator, and gives numbers."""
    if invalid(proto.SerializeToString()):
        return False
    try:
        found = outputs_of(proto.SerializeToString(), [feeds])[0]
    except GraphoptError:
        return False
    return all(np.isfinite(np.asarray(value)).all() for value in found.values())


@pytest.mark.parametrize("op", [op for op in RULES if op not in UNSUPPORTED])
def test_axes_of_an_operator_between_two_layers(op: str) -> None:
    wrapped = [one for case in of(op) for one in between_layers(case)]
    for proto, _ in wrapped[:60]:
        free_sizes(proto)  # raises nothing
    free = ((proto, feeds) for proto, feeds in wrapped[:: max(len(wrapped) // 25, 1)] if free_sizes(proto))
    for proto, feeds in islice(free, MOST):
        if runs(proto, feeds):
            assert_narrowing_is_silencing(proto, feeds=feeds, matters=False)
