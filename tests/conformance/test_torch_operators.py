"""ONNX's backend tests, computed for training: what is not refused by name is what onnxruntime computes.

All of them take minutes, so a run takes every so manieth; GRAPHOPT_CONFORMANCE=all takes all.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from backend_models import Case, cases

from graphopt.training.agreement import distance
from graphopt.training.program import Program
from graphopt.training.refusal import Unsupported

pytest.importorskip("torch", reason="needs the extra: pip install 'graphopt[distill]'")

PARTS = 8
EVERY = 1 if os.environ.get("GRAPHOPT_CONFORMANCE") == "all" else 6
TOLERANCES = {"float16": 2e-3, "bfloat16": 2e-2}
OTHERWISE = {
    # tests that ask for the scores of positions that nobody may see, which onnxruntime fills with a large number
    "test_attention_4d_with_past_and_present_qk_matmul_bias_3d_mask_causal",
    "test_attention_4d_with_past_and_present_qk_matmul_bias_4d_mask_causal",
}


def reference(model: onnx.ModelProto, inputs: dict[str, Any]) -> list[Any] | None:
    """What onnxruntime computes; None where it does not run the model."""
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    settings.intra_op_num_threads = 1
    try:
        found: list[Any] = ort.InferenceSession(model.SerializeToString(), settings).run(None, inputs)
    except Exception:  # noqa: BLE001  (its errors have no common class, and mean one thing here)
        return None
    return found


def tensors(value: Any) -> Any:
    from graphopt.training.tensors import to_torch

    return [to_torch(np.asarray(one)) for one in value] if isinstance(value, list) else to_torch(np.asarray(value))


def arrays(value: Any) -> list[Any]:
    from graphopt.training.tensors import to_numpy

    return [to_numpy(one) for one in value] if isinstance(value, list) else [to_numpy(value)]


def fault(case: Case) -> str | None:
    """In which way a program is not what onnxruntime runs; "refused" where it is not accepted."""
    names = [info.name for info in case.model.graph.input if info.name]
    inputs = dict(zip(names, case.inputs, strict=False))
    try:
        program = Program.of(case.model)
        feeds = {name: tensors(value) for name, value in inputs.items()}
    except Unsupported:
        return "refused"
    expected = reference(case.model, inputs)
    if expected is None or case.name in OTHERWISE:
        return None
    try:
        made = program(feeds)
    except Unsupported:
        return "refused"
    for info, wanted in zip(case.model.graph.output, expected, strict=True):
        pairs = zip(arrays(made[info.name]), wanted if isinstance(wanted, list) else [wanted], strict=True)
        for found, exact in pairs:
            allowed = TOLERANCES.get(exact.dtype.name, 2e-5 if exact.dtype.kind == "f" else 0.0)
            error = distance(found, exact)
            if not error <= allowed:
                return f"{case.name}: {info.name} is {error:.2g} away"
    return None


@pytest.mark.parametrize("part", range(PARTS))
def test_what_is_accepted_is_computed_right(part: int) -> None:
    faults, accepted = [], 0
    for case in cases()[part::PARTS][::EVERY]:
        found = fault(case)
        accepted += found != "refused"
        if found not in (None, "refused"):
            faults.append(found)
    assert not faults
    assert accepted
