"""Real models, and passes that are wrong in one of their rewrites: bisection names that one each time.

The folder that GRAPHOPT_CORPUS names has `models/*.onnx`; without it these tests are skipped.
"""

from __future__ import annotations

import os
from pathlib import Path

import faulty_passes as faulty
import pytest

from graphopt.contract import Contract
from graphopt.debug.bisect import Answer
from graphopt.ir import decode
from graphopt.pipeline import manager
from graphopt.pipeline.pipeline import Pipeline
from graphopt.session.bisecting import bisect
from graphopt.session.job import Job
from graphopt.storage.read import read
from graphopt.storage.source import Source
from graphopt.validation.budget import parse_budgets

_FOLDER = os.environ.get("GRAPHOPT_CORPUS")

pytestmark = [
    pytest.mark.corpus,
    pytest.mark.slow,
    pytest.mark.skipif(_FOLDER is None, reason="GRAPHOPT_CORPUS does not name a folder of real models"),
]

EVALUATIONS = 12

# A pass, a model, and which of the pass's rewrites there is wrong: a part of the way through them.
PLANTED: list[tuple[type[faulty.Planted], str, float]] = []


def _source(name: str) -> Source:
    assert _FOLDER is not None
    path = Path(_FOLDER) / "models" / f"{name}.onnx"
    if not path.is_file():
        pytest.skip(f"the corpus that GRAPHOPT_CORPUS names has no {name}.onnx")
    return read(path)


def _pipeline(planted: type[faulty.Planted], at: str) -> Pipeline:
    """The faulty pass among others that have much to do."""
    before = Pipeline.parse("identities,dead-nodes,common-subexpressions").steps
    after = Pipeline.parse("duplicate-initializers,dead-nodes,unused-initializers").steps
    return Pipeline((*before, planted(at=at), *after))
