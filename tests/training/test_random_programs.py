"""Random models with bodies and functions, computed for training and by onnxruntime."""

from __future__ import annotations

import onnxruntime as ort
import pytest

from graphopt.testing.feeds import feeds_for
from graphopt.testing.random_models import random_model
from graphopt.training.agreement import disagreement
from graphopt.training.program import Program

pytest.importorskip("torch", reason="needs the extra: pip install 'graphopt[distill]'")


@pytest.mark.parametrize("first", range(0, 80, 10))
def test_random_models_agree(first: int) -> None:
    settings = ort.SessionOptions()
    settings.log_severity_level, settings.intra_op_num_threads = 4, 1
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    for seed in range(first, first + 10):
        proto = random_model(seed)
        program = Program.of(proto)
        session = ort.InferenceSession(proto.SerializeToString(), settings)
        feeds = feeds_for(proto)[0]
        expected = dict(zip(program.outputs, session.run(None, dict(feeds)), strict=True))
        for one in disagreement(program, feeds, expected):
            assert one.within, f"seed {seed}: {one}"
