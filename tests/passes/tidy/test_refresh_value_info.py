"""refresh-value-info: wrong declarations go, right ones stay, missing ones come on request."""

from __future__ import annotations

import pytest
from onnx import ModelProto, TensorProto, helper

from graphopt.testing import apply, model
from passes.tidy.refresh_value_info import RefreshValueInfo

TEXT = "g (float[N, 4] x) => (float[N, 4] y) { a = Relu(x)  b = Neg(a)  y = Exp(b) }"


def declaring(name: str, dtype: int, shape: list[object] | None) -> ModelProto:
    proto = model(TEXT)
    proto.graph.value_info.append(helper.make_tensor_value_info(name, dtype, shape))  # type: ignore[arg-type]
    return proto


@pytest.mark.parametrize(
    ("name", "dtype", "shape", "why"),
    [
        ("a", TensorProto.FLOAT, ["N", 7], "axis 1 has the size 4, not 7"),
        ("a", TensorProto.FLOAT, ["N", 4, 1], "it has 2 axes, not 3"),
        ("a", TensorProto.INT64, ["N", 4], "it has elements of type 1, not 7"),
        ("gone", TensorProto.FLOAT, [3], "no value is called 'gone'"),
    ],
)
def test_what_is_wrong_goes(name: str, dtype: int, shape: list[object], why: str) -> None:
    """The laws would not let such a model in, since it is not valid."""
    done = apply(RefreshValueInfo(), declaring(name, dtype, shape), laws=False)
    assert not done.after.graph.value_info
    assert [(one.rule, one.why) for one in done.applied] == [("stale", why)]
    assert done.body == model_body()


def model_body() -> str:
    return "a = Relu(x)\nb = Neg(a)\ny = Exp(b)"


@pytest.mark.parametrize("shape", [["N", 4], ["M", 4], [None, 4], None, [2, 4]])
def test_what_may_be_right_stays(shape: list[object] | None) -> None:
    before = declaring("a", TensorProto.FLOAT, shape)
    done = apply(RefreshValueInfo(), before, laws=False)
    assert not done.applied and done.after == before


def test_values_are_declared_on_request() -> None:
    done = apply(RefreshValueInfo(add=True), declaring("a", TensorProto.FLOAT, ["N", 4]))
    assert [one.name for one in done.after.graph.value_info] == ["a", "b"]
    assert done.after.graph.value_info[1] == helper.make_tensor_value_info("b", 1, ["N", 4])
    assert [(one.rule, one.node) for one in done.applied] == [("add", "b")]


def test_in_a_body() -> None:
    proto = model(
        """g (bool c, float[N] x) => (float[N] y) {
            y = If(c)<then_branch = t () => (float[N] o) { p = Exp(x)  o = Neg(p) },
                      else_branch = e () => (float[N] o) { o = Neg(x) }>
        }"""
    )
    body = next(one.g for one in proto.graph.node[0].attribute if one.name == "then_branch")
    body.value_info.append(helper.make_tensor_value_info("p", 1, [3, 3]))
    done = apply(RefreshValueInfo(), proto, laws=False)
    assert [one.scope for one in done.applied] == [""] or len(done.applied) == 1
    assert not next(one.g for one in done.after.graph.node[0].attribute if one.name == "then_branch").value_info
