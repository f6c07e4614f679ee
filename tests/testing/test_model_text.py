"""Models from text, and text from models."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, checker, numpy_helper

from graphopt.testing import body, model


def test_a_graph_gets_the_default_header() -> None:
    made = model("g (float[N] x) => (float[N] y) { y = Relu(x) }")
    checker.check_model(made, full_check=True)
    assert made.ir_version == 10
    assert [(one.domain, one.version) for one in made.opset_import] == [("", 21)]
    assert made.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"


def test_a_header_of_its_own_is_kept() -> None:
    made = model('<ir_version: 8, opset_import: ["": 11, "acme": 2]> g (float x) => (float y) { y = Relu(x) }')
    assert made.ir_version == 8
    assert [(one.domain, one.version) for one in made.opset_import] == [("", 11), ("acme", 2)]


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.array(-0.0, np.float16),
        np.array([[True, False]]),
        np.array([1, -2], ml_dtypes.int4),
        np.array([1.5], ml_dtypes.bfloat16),
        np.zeros((0, 3), np.int64),
    ],
)
def test_weights_become_initializers_of_their_dtype(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> None:
    made = model("g (float[N] x) => (float[N] y) { y = Relu(x) }", w=array)
    (tensor,) = made.graph.initializer
    found = numpy_helper.to_array(tensor)
    assert tensor.name == "w" and found.dtype == array.dtype and found.shape == array.shape
    assert found.tobytes() == array.tobytes()


def test_a_weight_of_strings() -> None:
    made = model("g (float x) => (float y) { y = Relu(x) }", w=np.array(["a", "é"], object))
    assert made.graph.initializer[0].data_type == TensorProto.STRING
    assert list(made.graph.initializer[0].string_data) == [b"a", "é".encode()]


def test_text_that_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"the text of the model cannot be parsed: .*ParseError"):
        model("g (float[N] x) => (float[N] y) { y = Relu(x }")


def test_a_weight_that_is_there_already() -> None:
    with pytest.raises(ValueError, match="the text declares the initializer 'w' already"):
        model("g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Add(x, w) }", w=np.ones(2, np.float32))


def test_nodes_slots_and_attributes() -> None:
    made = model(
        """<ir_version: 10, opset_import: ["": 21, "acme": 1]>
        g (float[N] x) => (float[N] y) {
            [named] a = Clip(x, , lo)
            b, _, c = acme.Odd<zeta = 1, alpha = 0.5, s = "t", ints = [1, 2], floats = [0.5, 2.0], strings = ["a"]>(a)
            y = Neg(b)
        }""",
        lo=np.float32(0),
    )
    made.graph.node[1].output[1] = ""
    assert body(made).splitlines() == [
        "a = Clip(x, , lo)",
        "b, , c = acme.Odd<alpha=0.5, floats=[0.5, 2], ints=[1, 2], s='t', strings=['a'], zeta=1>(a)",
        "y = Neg(b)",
    ]


def test_tensors_show_few_values() -> None:
    made = model("g (float x) => (float y) { k = Constant<value = float[2] {1, 2.5}>()  y = Relu(x) }")
    assert body(made).splitlines()[0] == "k = Constant<value=float[2] {1.0, 2.5}>()"
    long = numpy_helper.from_array(np.zeros(9, np.int64))
    made.graph.node[0].attribute[0].t.CopyFrom(long)
    assert body(made).splitlines()[0] == "k = Constant<value=int64[9]>()"


def test_bodies_and_functions() -> None:
    made = model(
        """<ir_version: 10, opset_import: ["": 21, "local": 1]>
        g (bool c, float[N] x) => (float[N] y) {
            a = If(c)<then_branch = t () => (float[N] o) { o = local.f<k = 2.0>(x) },
                      else_branch = e () => (float[N] p) { p = Neg(x) }>
            y = Abs(a)
        }
        <domain: "local", opset_import: ["": 21]>
        f <k> (u) => (v) { v = LeakyRelu<alpha: float = @k>(u) }"""
    )
    assert body(made).splitlines() == [
        "a = If(c)",
        "  else_branch: () => (p)",
        "    p = Neg(x)",
        "  then_branch: () => (o)",
        "    o = local.f<k=2>(x)",
        "y = Abs(a)",
        "function local.f<k> (u) => (v)",
        "  v = LeakyRelu<alpha=@k>(u)",
    ]


def test_a_node_of_the_spelled_out_default_domain() -> None:
    made = model("g (float x) => (float y) { y = Relu(x) }")
    made.graph.node[0].domain = "ai.onnx"
    assert body(made) == "y = Relu(x)"
