"""initializers-from-inputs and inputs-from-initializers: there, and back again."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, TensorProto

from graphopt.pipeline import Pipeline
from graphopt.testing import apply, assert_missed, model
from graphopt.testing.samples import samples
from passes.convert.overridable_inputs import InitializersFromInputs, InputsFromInitializers
from passes.fold.constants import FoldConstants

W, V = np.ones(2, np.float32), np.full(2, 3, np.float32)
DEFAULTS = "g (float[2] x, float[2] w, float[2] v) => (float[2] y) { a = Add(x, w)  y = Mul(a, v) }"
PLAIN = "g (float[2] x) => (float[2] y) { a = Add(x, w)  y = Mul(a, v) }"
FEEDS = [{"x": np.array([1, -2], np.float32)}]


def inputs(proto: ModelProto) -> list[str]:
    return [one.name for one in proto.graph.input]


def test_defaults_become_constants() -> None:
    done = apply(InitializersFromInputs(), model(DEFAULTS, w=W, v=V), feeds=FEEDS)
    assert inputs(done.after) == ["x"]
    assert [one.name for one in done.after.graph.initializer] == ["w", "v"]
    assert done.body == "a = Add(x, w)\ny = Mul(a, v)"


def test_some_of_them() -> None:
    done = apply(InitializersFromInputs(only=("v",)), model(DEFAULTS, w=W, v=V), feeds=FEEDS)
    assert inputs(done.after) == ["x", "w"]


def test_a_model_of_ir_version_3_becomes_one_of_version_4() -> None:
    text = f'<ir_version: 3, opset_import: ["": 8]> {DEFAULTS}'
    done = apply(InitializersFromInputs(), model(text, w=W, v=V), feeds=FEEDS)
    assert done.after.ir_version == 4 and inputs(done.after) == ["x"]


def test_an_input_that_is_an_output_stays() -> None:
    text = "g (float[2] x, float[2] w) => (float[2] y, float[2] w) { y = Add(x, w) }"
    done = apply(InitializersFromInputs(), model(text, w=W), feeds=FEEDS)
    assert not done.applied
    assert_missed(done, "fix", "'w' is an output too")


def test_bodies_read_the_constant() -> None:
    text = """g (bool c, float[2] x, float[2] w) => (float[2] y) {
        y = If(c)<then_branch = t () => (float[2] o) { o = Add(x, w) },
                  else_branch = e () => (float[2] o) { o = Neg(w) }>
    }"""
    done = apply(InitializersFromInputs(), model(text, w=W), feeds=[{**FEEDS[0], "c": np.array(True)}])
    assert inputs(done.after) == ["c", "x"]


def test_initializers_are_offered() -> None:
    done = apply(InputsFromInitializers(only=("v",)), model(PLAIN, w=W, v=V), feeds=FEEDS)
    assert inputs(done.after) == ["x", "v"]
    declared = done.after.graph.input[1].type.tensor_type
    assert declared.elem_type == TensorProto.FLOAT and [dim.dim_value for dim in declared.shape.dim] == [2]
    assert sorted(one.name for one in done.after.graph.initializer) == ["v", "w"]


def test_there_and_back() -> None:
    both = Pipeline((InputsFromInitializers(), InitializersFromInputs()))
    before = model(PLAIN, w=W, v=V)
    after = apply(both, before, feeds=FEEDS, laws=False).after
    assert inputs(after) == ["x"] and list(after.graph.initializer) == list(before.graph.initializer)


@pytest.mark.parametrize(("name", "why"), [("sparse", "it is stored sparse"), ("annotations", "quantization")])
def test_initializers_that_stay(name: str, why: str) -> None:
    proto = next(one.proto for one in samples() if one.name == name)
    done = apply(InputsFromInitializers(), proto)
    assert_missed(done, "offer", why)
    assert not done.applied


def test_what_comes_after_in_the_pipeline_sees_a_constant() -> None:
    text = "g (float[2] x, float[2] w) => (float[2] y) { a = Neg(w)  y = Add(x, a) }"
    both = Pipeline((InitializersFromInputs(), FoldConstants()))
    assert apply(both, model(text, w=W), feeds=FEEDS).body == "y = Add(x, a)"


def test_what_comes_after_in_the_pipeline_sees_an_input() -> None:
    text = "g (float[2] x) => (float[2] y) { a = Neg(w)  y = Add(x, a) }"
    both = Pipeline((InputsFromInitializers(), FoldConstants()))
    done = apply(both, model(text, w=W), feeds=FEEDS)
    assert done.body == "a = Neg(w)\ny = Add(x, a)" and inputs(done.after) == ["x", "w"]


def test_a_default_that_nobody_reads_stays() -> None:
    done = apply(InitializersFromInputs(), _unread(), feeds=FEEDS)
    assert [one.name for one in done.after.graph.initializer] == ["w"] and inputs(done.after) == ["x"]


def _unread() -> ModelProto:
    return model("g (float[2] x, float[2] w) => (float[2] y) { y = Neg(x) }", w=W)
