"""More of what graphsurgeon's users write: constants, bodies, copies, attributes, cleaning up."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from ir_models import from_text, shown
from ir_running import EXPECTED, MODEL, SCALED, X, is_close, ran

from graphopt.errors import UsageError
from graphopt.ir import Graph, encode


def test_constants_in_and_out() -> None:
    graph = from_text(MODEL)
    weight = next(one for one in graph.tensors().values() if isinstance(one, gs.Constant) and one.name == "w")
    weight.values = weight.values * np.float32(2)
    graph.tensors()["high"].values = np.full(4, 12, np.float32)  # type: ignore[union-attr]
    assert is_close(ran(graph)[0], -np.clip(SCALED * 2, 0, 12))
    graph.inputs.append(weight.to_variable(dtype=np.float32, shape=[4]))
    assert is_close(ran(graph, x=X, w=np.ones(4, np.float32))[0], -np.clip(X, 0, 12))
    x = graph.inputs.pop(0)
    x.to_constant(X)
    graph.outputs[0].shape = [None, 4]
    assert is_close(ran(graph, w=np.ones(4, np.float32))[0], -np.clip(X, 0, 12))


def test_a_result_becomes_a_constant() -> None:
    graph = from_text(MODEL)
    folded = graph.tensors()["b"]
    folded.to_constant(np.full((2, 4), 7, np.float32))
    folded.inputs.clear()
    graph.outputs[0].shape = [None, 4]
    graph.cleanup().toposort()
    assert [node.name for node in graph.nodes] == ["min", "max", "last"]
    assert is_close(ran(graph)[0], np.full((2, 4), -6)) and "b" in [one.name for one in graph.initializers]


def test_export_types() -> None:
    graph = Graph(inputs=[gs.Variable("x", np.float32, [2, 4])], opset=21)
    narrow = gs.Constant("w", np.ones(4, np.float32), export_dtype=onnx.TensorProto.BFLOAT16)
    (cast,) = graph.layer(op="Cast", inputs=[narrow], outputs=["wide"], attrs={"to": np.float32})
    graph.outputs = graph.layer(op="Add", inputs=[graph.inputs[0], cast], outputs=["y"])
    graph.outputs[0].dtype, graph.outputs[0].shape = np.float32, [2, 4]
    assert is_close(ran(graph)[0], X + 1)
    assert encode(graph).proto.graph.initializer[0].data_type == onnx.TensorProto.BFLOAT16


def test_dynamic_batch_and_names() -> None:
    graph = from_text(MODEL)
    for one in (*graph.inputs, *graph.outputs):
        one.shape[0] = "batch"
        one.name += "_renamed"
    for index, node in enumerate(graph.nodes):
        node.name = f"node_{index}"
    proto = encode(graph).proto
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert is_close(ran(graph, x_renamed=X)[0], EXPECTED)


def test_bodies() -> None:
    graph = from_text("""main (float[4] x, bool c) => (float[4] y) <float[4] w = {1.0, 2.0, 3.0, 4.0}> {
        a = Add(x, w)
        y = If(c) <then_branch = t () => (float[4] p) { q = Mul(a, w)  p = Neg(q) },
                   else_branch = e () => (float[4] r) { r = Identity(a) }>
    }""")
    for body in graph.subgraphs(recursive=True):
        assert body.opset == graph.opset
        for node in body.nodes:
            if node.op == "Neg":
                node.op = "Exp"
    then = graph.nodes[1].attrs["then_branch"]
    added = then.layer(op="Sqrt", inputs=[then.outputs[0]], outputs=["rooted"])
    then.outputs = added
    graph.nodes[1].attrs["else_branch"] = then.copy()
    for condition in (True, False):
        result = ran(graph, x=X[0], c=np.array(condition))
        assert is_close(result[0], np.sqrt(np.exp((X[0] + [1, 2, 3, 4]) * [1, 2, 3, 4])))
    twin = graph.copy()
    assert is_close(ran(twin, x=X[0], c=np.array(True))[0], result[0])


def test_deep_copies_and_attributes() -> None:
    graph = from_text(MODEL)
    twin = copy.deepcopy(graph)
    twin.nodes.pop()
    assert is_close(ran(graph)[0], EXPECTED)
    node = graph.nodes[0]
    node.attrs.update(copy.deepcopy(node.attrs), extra=[1, 2])
    node.attrs |= {"more": "text"}
    assert node.attrs.setdefault("more") == "text" and list(node.attrs) == ["extra", "more"]
    node.attrs = {}
    tensor = copy.deepcopy(node.inputs[1])
    assert tensor is not node.inputs[1] and not tensor.outputs and tensor.name == "w"
    assert is_close(ran(graph)[0], EXPECTED)


def test_cleanup_leaves_out_optional_results_only() -> None:
    graph = from_text("""main (float[4] x) => (float[2] y) <int64[1] k = {1}> {
        a, b = Split <axis = 0, num_outputs = 2> (x)
        y, mask = Dropout(a)
        values, places = TopK(y, k)
    }""")
    graph.outputs.append(graph.tensors()["places"])
    graph.outputs[1].dtype, graph.outputs[1].shape = np.int64, [1]
    graph.cleanup(remove_unused_node_outputs=True)
    assert shown(graph) == ["a, b = Split(x)", "y, - = Dropout(a)", "values, places = TopK(y, k)"]
    assert is_close(ran(graph, x=X[0])[0], X[0][:2])


def test_cleanup_of_what_dead_bodies_captured() -> None:
    graph = from_text("""main (float x, bool c) => (float y) {
        a = Abs(x)
        dead = If(c) <then_branch = t () => (float p) { p = Neg(a) }, else_branch = e () => (float q) { q = Exp(a) }>
        y = If(c) <then_branch = t () => (float r) { u = Exp(v)  r = Neg(x) },
                   else_branch = e () => (float s) { s = Exp(x) }>
        v = Neg(x)
    }""")
    graph.cleanup()
    assert shown(graph) == ["y = If(c)"] and shown(graph.nodes[0].bodies[0]) == ["r = Neg(x)"]
    ran(graph, x=np.array(1, np.float32), c=np.array(True))


def test_nodes_that_were_never_put_in_do_not_count() -> None:
    graph = from_text(MODEL)
    gs.Node("Exp", inputs=[graph.tensors()["a"]], outputs=[gs.Variable("lost")])
    graph.outputs = [graph.tensors()["d"]]
    graph.outputs[0].dtype, graph.outputs[0].shape = np.float32, ["N", 4]
    graph.outputs = graph.outputs
    graph.cleanup()
    assert is_close(ran(graph.copy())[0], -EXPECTED)
    graph.outputs.clear()
    assert not graph.cleanup().nodes


def test_iteration_and_membership() -> None:
    graph = from_text(MODEL)
    with graph.node_ids():
        assert len({node.id for node in graph.nodes}) == 5
    with pytest.raises(UsageError, match="two different tensors are called 'a'"):
        graph.nodes[1].outputs[0].name = "a"
        graph.tensors(check_duplicates=True)


def test_folding_is_refused_in_one_sentence() -> None:
    graph = from_text(MODEL)
    for attempt in (graph.fold_constants, lambda: graph.fold_constants(True, size_threshold=3)):
        with pytest.raises(UsageError) as caught:
            attempt()
        assert str(caught.value) == (
            "fold_constants() is not available on this graph: run folding as a pass of the pipeline"
        )
