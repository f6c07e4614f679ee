"""Models whose weights are default values of inputs: what is said of them, and `constant_inputs`."""

from __future__ import annotations

import onnx
import pytest

from graphopt import optimize
from graphopt.session.choice import CONSTANT_INPUTS, plan
from graphopt.testing import model as made_of

FED = "--constant-inputs"


def _model(ir_version: int = 3) -> onnx.ModelProto:
    """y = x * a * b, with both factors fed unless the caller says otherwise."""
    made = made_of(
        """
        <ir_version: 8, opset_import: ["" : 9]>
        g (float[2] x, float[2] a, float[2] b) => (float[2] y)
        <float[2] a = {2, 3}, float[2] b = {4, 5}> { ab = Mul(a, b)  y = Mul(x, ab) }
        """
    )
    made.ir_version = ir_version
    return made


def test_the_report_says_why_nothing_was_done_and_how_it_can_be() -> None:
    result = optimize(_model())
    assert not result.report.changed
    (said,) = [one for one in result.report.warnings if FED in one]
    assert "2 inputs" in said


def test_they_are_constants_when_that_is_asked_for() -> None:
    result = optimize(_model(), constant_inputs=True)
    made = result.to_proto()
    assert [one.name for one in made.graph.input] == ["x"]
    assert [node.op_type for node in made.graph.node] == ["Mul"]
    assert result.verdict.passed
    assert not [one for one in result.report.warnings if FED in one]


@pytest.mark.parametrize("recipe", ["default", "int8-auto"])
def test_every_pipeline_of_a_recipe_begins_with_it(recipe: str) -> None:
    chosen = plan(recipe=recipe, pipeline=None, budget=None, constant_inputs=True)
    pipelines = [chosen.pipeline, *(chosen.planner.candidates if chosen.planner else ())]
    assert all(next(iter(one.passes())).name == CONSTANT_INPUTS for one in pipelines)
    plain = plan(recipe=recipe, pipeline=None, budget=None)
    assert next(iter(plain.pipeline.passes())).name != CONSTANT_INPUTS


def test_a_pipeline_of_ones_own_does_too() -> None:
    chosen = plan(recipe=None, pipeline="dead-nodes", budget=None, constant_inputs=True)
    assert str(chosen.pipeline) == f"{CONSTANT_INPUTS},dead-nodes"


def test_a_model_whose_few_defaults_are_no_weights_is_not_told_so() -> None:
    made = made_of(
        """
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[2] x, float s) => (float[2] y) <float s = {2}, float[2] w = {2, 3}> { t = Mul(x, w)  y = Mul(t, s) }
        """
    )
    assert not [one for one in optimize(made).report.warnings if FED in one]
