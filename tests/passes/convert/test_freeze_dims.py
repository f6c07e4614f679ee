"""freeze-dims: a symbol becomes a number wherever it is declared."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, helper

from graphopt.testing import apply, assert_missed, model
from passes.convert.freeze_dims import FreezeDims

TEXT = "g (float[N, M] x, float[N] z) => (float[N, M] y, float[K] w) { y = Relu(x)  w = Neg(z) }"


def shapes(proto: ModelProto) -> dict[str, list[object]]:
    infos = [*proto.graph.input, *proto.graph.output, *proto.graph.value_info]
    return {
        one.name: [
            dim.dim_param or (dim.dim_value if dim.HasField("dim_value") else None)
            for dim in one.type.tensor_type.shape.dim
        ]
        for one in infos
    }


def feeds(n: int, m: int) -> list[dict[str, object]]:
    return [{"x": np.ones((n, m), np.float32), "z": np.ones(n, np.float32)}]


def test_a_symbol_in_inputs_and_outputs() -> None:
    done = apply(FreezeDims(dims=("N=2",)), model(TEXT), feeds=feeds(2, 3))
    assert shapes(done.after) == {"x": [2, "M"], "z": [2], "y": [2, "M"], "w": ["K"]}
    assert [(one.node, one.why) for one in done.applied] == [("x", "N = 2")]


def test_several_at_once() -> None:
    done = apply(FreezeDims(dims=("N=2", "M = 3")), model(TEXT), feeds=feeds(2, 3))
    assert shapes(done.after)["y"] == [2, 3]


def test_what_is_said_of_values_between_and_in_bodies() -> None:
    before = model(
        """g (bool c, float[N] x) => (float[N] y) {
            a = Neg(x)
            y = If(c)<then_branch = t () => (float[N] o) { p = Exp(a)  o = Neg(p) },
                      else_branch = e () => (float[N] o) { o = Abs(a) }>
        }"""
    )
    before.graph.value_info.append(helper.make_tensor_value_info("a", 1, ["N"]))
    done = apply(FreezeDims(dims=("N=4",)), before, feeds=[{"c": np.array(True), "x": np.ones(4, np.float32)}])
    assert shapes(done.after) == {"c": [], "x": [4], "y": [4], "a": [4]}
    assert b"N" not in done.after.graph.node[1].attribute[0].g.output[0].SerializeToString()[4:]


def test_an_axis_without_a_name() -> None:
    before = model("g (float[?, 3] x) => (float[?, 3] y) { y = Relu(x) }")
    done = apply(FreezeDims(dims=("x[0]=5",)), before, feeds=[{"x": np.ones((5, 3), np.float32)}])
    assert shapes(done.after)["x"] == [5, 3]


def test_an_axis_with_a_name_is_the_symbol() -> None:
    done = apply(FreezeDims(dims=("z[0]=2",)), model(TEXT), feeds=feeds(2, 3))
    assert shapes(done.after)["x"] == [2, "M"]


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ("Q=2", "no input has a dim called 'Q'"),
        ("K=2", "no input has a dim called 'K'"),
        ("q[0]=2", "there is no input 'q' with an axis 0"),
        ("x[7]=2", "there is no input 'x' with an axis 7"),
    ],
)
def test_entries_that_fit_nothing(entry: str, why: str) -> None:
    done = apply(FreezeDims(dims=(entry,)), model(TEXT))
    assert not done.applied
    assert_missed(done, "freeze", why)


def test_an_axis_that_is_fixed() -> None:
    done = apply(FreezeDims(dims=("x[0]=2",)), model("g (float[3] x) => (float[3] y) { y = Relu(x) }"))
    assert_missed(done, "freeze", "axis 0 of 'x' is 3 already")


@pytest.mark.parametrize("entry", ["N", "N=", "N=x", "N=-1", "=3"])
def test_entries_that_say_nothing(entry: str) -> None:
    with pytest.raises(ValueError, match="dims are written as"):
        FreezeDims(dims=(entry,))


def test_from_pipeline_text() -> None:
    from graphopt.pipeline import Registry
    from graphopt.pipeline.spec import parse

    assert str(parse('freeze-dims{dims=["N=1"]}', Registry.load())) == 'freeze-dims{dims=["N=1"]}'


def test_models_that_say_little_of_their_inputs() -> None:
    unknown = model("g (float[M] x, float[N] z) => (float[A] y) { y = Add(x, z) }")
    unknown.graph.input[0].type.tensor_type.ClearField("shape")
    assert apply(FreezeDims(dims=("N=2",)), unknown, feeds=(), laws=False).applied
    none = model("g () => (float[A] y) { y = Neg(k) }", k=np.ones(3, np.float32))
    assert apply(FreezeDims(dims=("N=2",)), none, feeds=()).remarks == ()
    assert apply(FreezeDims(dims=("x[0]=2",)), none, feeds=()).remarks == ()
