"""Dtypes and shapes inferred from inputs; what exporters claim about values is not believed."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

from graphopt.analysis.shapes import Shapes, infer
from graphopt.ir import Graph, Tensor, decode
from graphopt.ir.store import Store
from graphopt.ir.values import Dim
from graphopt.testing import model


def inferred(proto: ModelProto | str, **weights: object) -> tuple[Graph, Shapes]:
    root = decode(model(proto, **weights) if isinstance(proto, str) else proto, Store())
    return root, infer(root)


def output(root: Graph, index: int = -1) -> Tensor:
    found: Tensor = root.nodes[index].outputs[0]
    return found


def test_symbolic_dims_go_through() -> None:
    root, shapes = inferred(
        "g (float[N, 4] x) => (float[A, B] y) { a = MatMul(x, w)  y = Relu(a) }", w=np.ones((4, 7), "f")
    )
    assert shapes.shape(output(root, 0)) == ("N", 7) and shapes.rank(output(root, 0)) == 2
    assert shapes.onnx_dtype(output(root, 0)) == TensorProto.FLOAT
    assert shapes.shape(root.inputs[0]) == ("N", 4)
    (weight,) = root.initializers
    assert shapes.shape(weight) == (4, 7) and shapes.onnx_dtype(weight) == TensorProto.FLOAT


def test_claims_are_not_believed() -> None:
    """A value_info that says more than follows, or something else, changes nothing."""
    before = model("g (float[N, 4] x) => (float[N, 4] y) { a = Relu(x)  y = Neg(a) }")
    before.graph.value_info.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, [3, 4]))
    root, shapes = inferred(before)
    assert shapes.shape(output(root, 0)) == ("N", 4)


def test_shapes_that_are_computed() -> None:
    root, shapes = inferred(
        """g (float[2, 3, 4] x) => (float[A, B] y) {
            s = Shape(x)  k = Constant<value_ints = [0]>()  d = Gather(s, k)
            m = Constant<value_ints = [-1]>()  t = Concat<axis = 0>(d, m)  y = Reshape(x, t)
        }"""
    )
    assert shapes.shape(output(root)) == (2, 12)


def test_bodies() -> None:
    root, shapes = inferred(
        """g (bool c, float[N, 4] x) => (float[N, 4] y) {
            a = Relu(x)
            y = If(c)<then_branch = t () => (float[N, 4] o) { p = Cast<to = 7>(a)  o = Cast<to = 1>(p) },
                      else_branch = e () => (float[N, 4] o) { o = Neg(a) }>
        }"""
    )
    (then,) = (one for one in root.nodes[1].bodies if len(one.nodes) == 2)
    assert shapes.shape(then.nodes[0].outputs[0]) == ("N", 4)
    assert shapes.onnx_dtype(then.nodes[0].outputs[0]) == TensorProto.INT64


def test_asked_of_a_body_it_answers_for_the_model() -> None:
    root, _ = inferred(
        """g (bool c, float[N] x) => (float[N] y) {
            a = Relu(x)
            y = If(c)<then_branch = t () => (float[N] o) { o = Neg(a) },
                      else_branch = e () => (float[N] o) { o = Abs(a) }>
        }"""
    )
    assert infer(root.nodes[1].bodies[0]).shape(output(root, 0)) == ("N",)


def test_unknown_operators() -> None:
    root, shapes = inferred(
        """<ir_version: 10, opset_import: ["": 21, "acme": 1]>
        g (float[N] x) => (float[N] y) { a = acme.Odd(x)  y = Relu(a) }"""
    )
    assert shapes.onnx_dtype(output(root, 0)) == 0
    assert shapes.shape(output(root, 0)) is None and shapes.rank(output(root, 0)) is None


@pytest.mark.parametrize("nodes", ["a = Add(x, z)", "a = Reshape(x, s)"])
def test_contradictions_leave_what_is_declared(nodes: str) -> None:
    text = f"g (float[2] x, float[3] z) => (float[A] y) {{ s = Constant<value_ints = [5]>()  {nodes}  y = Relu(a) }}"
    root, shapes = inferred(text)
    assert shapes.shape(root.inputs[0]) == (2,)


def test_the_graph_stays_as_it_was() -> None:
    before = model("g (float[N] x) => (float[N] y) { a = Relu(x)  y = Neg(a) }")
    before.graph.value_info.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, ["N"]))
    data = before.SerializeToString()
    inferred(before)
    assert before.SerializeToString() == data


def test_a_dim_may_be_anything() -> None:
    root, shapes = inferred("g (float[N, ?, 3] x) => (float[A, B, C] y) { y = Relu(x) }")
    expected: tuple[Dim, ...] = ("N", None, 3)
    assert shapes.shape(root.inputs[0]) == expected
