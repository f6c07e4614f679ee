"""The facts of a model: counted everywhere a model can hide something, and shown in one screen."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from page_text import page

from graphopt.ir import decode
from graphopt.report.inspection import Inspection, inspect, type_text
from graphopt.report.inspection_page import print_inspection
from graphopt.storage.read import from_proto
from graphopt.testing import model


def facts(made: onnx.ModelProto) -> Inspection:
    source = from_proto(made)
    return inspect(
        decode(source.proto, source.store), source.proto, path=None, size=100, external=(), sha256=source.sha256()
    )


def shown(found: Inspection, verbose: int = 0) -> str:
    return page(lambda console: print_inspection(found, console, verbose))


def test_operators_nodes_and_weights_of_the_main_graph() -> None:
    w = np.zeros((4, 4), np.float32)
    w[0] = 1
    found = facts(model("g (float[N,4] x) => (float[N,4] y) { a = MatMul(x, w)  y = Relu(a) }", w=w))
    assert (found.nodes, found.parameters, found.weight_bytes, found.macs) == (2, 16, 64, 16)
    assert found.operators == {"MatMul": 1, "Relu": 1}
    assert found.opsets == {"ai.onnx": 21}
    (weight,) = found.weights
    assert (weight.name, weight.dtype, weight.shape, weight.zeros, weight.sparse) == ("w", "float", (4, 4), 12, False)
    assert "75.0 %" in shown(found)
    assert found.to_json()["sparsity"] == 0.75


def test_bodies_functions_and_constant_nodes_count() -> None:
    made = model(
        """g (bool c, float[2] x) => (float[2] y) {
          y = If(c) <then_branch = t () => (float[2] p) { k = Constant<value = float[2] {0, 1}>()  p = Add(x, k) },
                     else_branch = e () => (float[2] q) { q = my.twice(x) }>
        }
        <domain: "my", opset_import: ["": 21]> twice (v) => (w) { w = Add(v, v) }""".replace(
            "g (bool", '<ir_version: 10, opset_import: ["": 21, "my": 1]> g (bool', 1
        )
    )
    found = facts(made)
    assert found.operators == {"Add": 2, "Constant": 1, "If": 1, "my.twice": 1}
    assert [part.nodes for part in found.bodies] == [2, 1]
    assert [(part.name, part.nodes) for part in found.functions] == [("my.twice", 1)]
    assert [(one.name, one.zeros) for one in found.weights] == [("k", 1)]
    assert found.weights[0].scope.endswith("then_branch")
    assert "functions  1, with 1 nodes" in shown(found)


def test_sub_byte_bfloat16_and_text_weights() -> None:
    found = facts(
        model(
            "g (float[1] x) => (float[1] y) { y = Relu(x) }",
            four=np.array([0, 1, -2, 0], ml_dtypes.int4),
            brain=np.array([0.0, -0.0, 1.0], ml_dtypes.bfloat16),
            words=np.array(["", "b"], object),
            flags=np.array([True, False]),
        )
    )
    rows = {one.name: (one.elements, one.bytes, one.zeros) for one in found.dtypes}
    assert rows["int4"] == (4, 2, 2)
    assert rows["bfloat16"] == (3, 6, 2)
    assert rows["bool"] == (2, 2, 1)
    assert rows["string"][2] is None
    assert found.countable == 9


def test_sparse_weights_are_counted_without_being_made_dense() -> None:
    made = model("g (float[1] x) => (float[1] y) { y = Relu(x) }")
    values = helper.make_tensor("s", TensorProto.FLOAT, [3], [1.0, 0.0, 2.0])
    indices = numpy_helper.from_array(np.array([5, 7, 1 << 40], np.int64), "s_indices")
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [1 << 41]))
    (weight,) = facts(made).weights
    assert weight.sparse
    assert weight.zeros == (1 << 41) - 2


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (helper.make_tensor_type_proto(TensorProto.FLOAT, ["batch", 3, None]), "float[batch,3,?]"),
        (helper.make_tensor_type_proto(TensorProto.INT64, []), "int64[]"),
        (helper.make_tensor_type_proto(TensorProto.BFLOAT16, None), "bfloat16"),
        (helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.STRING, [2])), "seq(string[2])"),
        (
            helper.make_optional_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, [])),
            "optional(float[])",
        ),
        (
            helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, [])),
            "map(string,float[])",
        ),
        (helper.make_sparse_tensor_type_proto(TensorProto.FLOAT, [4]), "sparse float[4]"),
        (onnx.TypeProto(), "undeclared"),
        (onnx.TypeProto(tensor_type=onnx.TypeProto.Tensor(elem_type=999)), "type 999"),
    ],
)
def test_types_in_words(kind: onnx.TypeProto, text: str) -> None:
    assert type_text(kind) == text


def test_inputs_that_may_be_left_out_metadata_and_external_files() -> None:
    made = model("g (float[2] x, float[2] b) => (float[2] y) { y = Add(x, b) }", b=np.ones(2, np.float32))
    made.metadata_props.add(key="long", value="v" * 200)
    made.producer_name, made.producer_version = "maker", "7"
    source = from_proto(made)
    found = inspect(
        decode(source.proto, source.store),
        source.proto,
        path="m.onnx",
        size=100,
        external=(("m.data", 900),),
        sha256="",
    )
    assert [(one.name, one.default) for one in found.inputs] == [("x", False), ("b", True)]
    text = shown(found)
    assert "m.onnx  maker 7" in text
    assert "1.00 KB (with m.data)" in text
    assert "b  float[2]  has a default" in text
    assert f"long  {'v' * 60}… (200 characters)" in text
    assert found.to_json()["external"] == [{"location": "m.data", "bytes": 900}]


def test_a_long_list_is_cut_and_shown_whole_when_asked() -> None:
    text = "g (float[1] x) => (float[1] y) { y = Relu(x) }"
    found = facts(model(text, **{f"w{i:02}": np.ones(100 + i, np.float32) for i in range(30)}))
    assert found.weights[0].name == "w29"
    short = shown(found)
    assert "and 23 more (-v shows all)" in short
    assert "w00" not in short
    assert "w00" in shown(found, verbose=1)
    assert len(short.splitlines()) < 40


def test_odd_names_cannot_disturb_the_page() -> None:
    made = model("g (float[1] x) => (float[1] y) { y = Relu(x) }", w=np.ones(1, np.float32))
    made.graph.initializer[0].name = "[bold]w\n\x1b[2J"
    assert r"[bold]w\n\x1b[2J" in shown(facts(made))


def test_a_model_without_weights_or_operators() -> None:
    made = model("g (float[1] x) => (float[1] x) { }")
    found = facts(made)
    assert (found.nodes, found.weights, found.to_json()["sparsity"]) == (0, (), 0.0)
    assert "inputs" in shown(found)


def test_macs_that_cannot_be_known_are_said_to_be_unknown() -> None:
    made = model("g (float x, float w) => (float y) { y = MatMul(x, w) }")
    for one in (*made.graph.input, *made.graph.output):
        one.type.tensor_type.ClearField("shape")
    assert "unknown, as shapes cannot be inferred" in shown(facts(made))
