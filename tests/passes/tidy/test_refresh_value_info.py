"""refresh-value-info: wrong declarations go, right ones stay, missing ones come on request."""

from __future__ import annotations

import numpy as np
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


def test_a_remark_names_what_it_is_about() -> None:
    (stale,) = apply(RefreshValueInfo(), declaring("a", TensorProto.FLOAT, ["N", 7]), laws=False).applied
    assert (stale.node, stale.before, stale.after) == ("a", ("a",), ("a",))
    (gone,) = apply(RefreshValueInfo(), declaring("gone", TensorProto.FLOAT, [3]), laws=False).applied
    assert (gone.node, gone.before) == ("Relu(a)", ("gone",))
    added = apply(RefreshValueInfo(add=True), model(TEXT)).applied
    assert [(one.node, one.after) for one in added] == [("a", ("a",)), ("b", ("b",))]


def test_a_graph_without_nodes() -> None:
    proto = model("g (float[N] x) => (float[N] x) { }")
    proto.graph.value_info.append(helper.make_tensor_value_info("gone", 1, [3]))
    assert apply(RefreshValueInfo(), proto, laws=False).applied == ()


def test_what_is_not_known_is_neither_wrong_nor_declared() -> None:
    """What an operator of somebody else gives, a sequence, and an output that is left out."""
    text = """<ir_version: 8, opset_import: ["": 18, "my": 1]>
        g (float[S, N, 3] x, seq(float[N]) q, float[N] z, int64[R] s)
        => (float[A] y, float[B, C, D] e, float[F, G] v, int64 l) {
            a = my.Op(z)  y = Neg(a)  , h = LSTM<hidden_size = 2>(x, w, r)  e = Neg(h)
            t = SequenceInsert(q, z)  l = SequenceLength(t)  u = Reshape(z, s)  v = Neg(u) }"""
    proto = model(text, w=np.zeros((1, 8, 3), np.float32), r=np.zeros((1, 8, 2), np.float32))
    proto.graph.value_info.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, ["P"]))
    done = apply(RefreshValueInfo(add=True), proto, feeds=())
    assert [one.node for one in done.applied] == ["h"]
    assert {one.name for one in done.after.graph.value_info} == {"a", "h"}


def test_a_symbol_where_the_size_is_known() -> None:
    proto = model("g (float[2, 4] x) => (float[2, 4] y) { a = Relu(x)  y = Neg(a) }")
    proto.graph.value_info.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, ["Q", 4]))
    assert apply(RefreshValueInfo(), proto, feeds=()).applied == ()
