"""Scripts written for graphsurgeon work on these objects: what they make is valid and runs.

The idioms are those of graphsurgeon's examples and of scripts that people publish.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime
import pytest
from ir_models import from_text, shown

from graphopt.errors import UsageError
from graphopt.ir import Constant, Function, Graph, Node, Variable, encode
from graphopt.testing.links import check_links

MODEL = """
main (float[N,4] x) => (float[N,4] y)
<float[4] w = {1.0, 2.0, 3.0, 4.0}, float[4] low = {0.0, 0.0, 0.0, 0.0}, float[4] high = {6.0, 6.0, 6.0, 6.0}>
{
    [scale] a = Mul(x, w)
    [copy] b = Identity(a)
    [min] c = Min(b, high)
    [max] d = Max(c, low)
    [last] y = Neg(d)
}
"""
X = np.array([[-1, 0.5, 1, 2], [3, 2, 1, 0]], np.float32)
SCALED = X * np.array([1, 2, 3, 4], np.float32)
EXPECTED = -np.clip(SCALED, 0, 6)


def ran(graph: Graph, **feeds: Any) -> list[Any]:
    """Outputs of the model that the graph is now, which is valid and whose links agree."""
    check_links(graph)
    proto = encode(graph).proto
    onnx.checker.check_model(proto, full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds or {"x": X}))


def is_close(result: Any, expected: Any) -> bool:
    return bool(np.allclose(result, expected, atol=1e-6)) and np.shape(result) == np.shape(expected)


def test_creating_a_model() -> None:
    x = gs.Variable(name="x", dtype=np.float32, shape=(1, 3, 8, 8))
    y = gs.Variable(name="y", dtype=np.float32, shape=(1, 5, 6, 6))
    w = gs.Constant(name="w", values=np.ones((5, 3, 3, 3), np.float32))
    conv = gs.Node(op="Conv", inputs=[x, w], outputs=[y])
    graph = Graph(nodes=[conv], inputs=[x], outputs=[y], opset=13)
    assert [type(one) for one in (x, y, w, conv)] == [Variable, Variable, Constant, Node]
    (result,) = ran(graph, x=np.ones((1, 3, 8, 8), np.float32))
    assert is_close(result, np.full((1, 5, 6, 6), 27))


def test_isolating_a_part() -> None:
    graph = from_text(MODEL)
    tensors = graph.tensors()
    graph.inputs = [tensors["b"].to_variable(dtype=np.float32, shape=("N", 4))]
    graph.outputs = [tensors["d"].to_variable(dtype=np.float32, shape=("N", 4))]
    graph.cleanup()
    assert shown(graph) == ["c = Min(b, high)", "d = Max(c, low)"]
    assert [one.name for one in graph.initializers] == ["low", "high"]
    assert is_close(ran(graph, b=SCALED)[0], np.clip(SCALED, 0, 6))


def test_isolating_one_of_the_results_of_a_node() -> None:
    graph = from_text("""main (float[4] x) => (float[2] y) {
        a, b = Split <axis = 0, num_outputs = 2> (x)
        s = Neg(b)
        y = Add(a, s)
    }""")
    graph.inputs.append(graph.tensors()["b"].to_variable(dtype=np.float32, shape=[2]))
    graph.cleanup()
    result = ran(graph, x=X[0], b=np.ones(2, np.float32))
    assert is_close(result[0], X[0][:2] - 1)  # the first result is still the first


def test_modifying() -> None:
    graph = from_text(MODEL)
    first = next(node for node in graph.nodes if node.op == "Mul")
    first.inputs = [inp for inp in first.inputs if inp.name != "w"]
    first.op = "LeakyRelu"
    first.attrs["alpha"] = 0.02
    identity_out = gs.Variable("identity_out", dtype=np.float32)
    identity = gs.Node(op="Identity", inputs=first.inputs, outputs=[identity_out])
    graph.nodes.append(identity)
    first.inputs = [identity_out]
    graph.cleanup().toposort()
    assert shown(graph)[:2] == ["identity_out = Identity(x)", "a = LeakyRelu(identity_out)"]
    leaky = np.where(X > 0, X, np.float32(0.02) * X)
    assert is_close(ran(graph)[0], -np.clip(leaky, 0, 6))


def test_removing_a_node_by_its_neighbours() -> None:
    graph = from_text(MODEL)
    fake = next(node for node in graph.nodes if node.op == "Identity")
    before = fake.i()
    assert before.o() is fake and fake.o().name == "min" and fake.i(0, 0) is before
    before.outputs = fake.outputs
    fake.outputs.clear()
    graph.cleanup()
    assert shown(graph)[:2] == ["b = Mul(x, w)", "c = Min(b, high)"]
    assert is_close(ran(graph)[0], EXPECTED)


def test_removing_a_node_by_its_reader() -> None:
    graph = from_text(MODEL)
    for node in graph.nodes:
        if node.op == "Identity":
            for reader in list(node.outputs[0].outputs):
                reader.inputs[reader.inputs.index(node.outputs[0])] = node.inputs[0]
            graph.nodes.remove(node)
    assert shown(graph)[1] == "c = Min(a, high)"
    del graph.nodes[graph.nodes.index(next(n for n in graph.nodes if n.name == "last"))]
    graph.outputs = [graph.nodes[-1].outputs[0]]
    graph.outputs[0].dtype, graph.outputs[0].shape = np.float32, ["N", 4]
    assert is_close(ran(graph.cleanup())[0], -EXPECTED)


def test_removing_a_graph_output_and_making_a_new_one() -> None:
    graph = from_text(MODEL)
    graph.outputs[0].inputs.clear()
    middle = graph.tensors()["d"]
    middle.dtype = np.float32
    graph.outputs = [middle, *graph.outputs[1:]]
    graph.cleanup()
    assert [node.name for node in graph.nodes] == ["scale", "copy", "min", "max"]
    assert is_close(ran(graph)[0], -EXPECTED)


class TestRegistered:
    """Functions that scripts register on graphs of every kind."""

    @pytest.fixture(autouse=True)
    def _forget(self) -> Any:
        known = dict(gs.Graph.GLOBAL_FUNC_MAP), {k: dict(v) for k, v in gs.Graph.OPSET_FUNC_MAP.items()}
        yield
        gs.Graph.GLOBAL_FUNC_MAP.clear()
        gs.Graph.GLOBAL_FUNC_MAP.update(known[0])
        gs.Graph.OPSET_FUNC_MAP.clear()
        gs.Graph.OPSET_FUNC_MAP.update(known[1])

    def test_building_with_layers(self) -> None:
        @gs.Graph.register()
        def add(self: Any, a: Any, b: Any) -> Any:
            return self.layer(op="Add", inputs=[a, b], outputs=["add_out_gs"])

        @gs.Graph.register(opsets=[21])
        def gemm(self: Any, a: Any, b: Any, trans: bool = False) -> Any:
            return self.layer([a, b], ["gemm_out_gs"], op="Gemm", attrs={"transB": int(trans)})

        graph = Graph(inputs=[gs.Variable("x", np.float32, (2, 4))], opset=21)
        half = graph.add(*graph.gemm(graph.inputs[0], np.eye(4, dtype=np.float32), trans=True), 0.5)
        again = graph.add(graph.add(half[0], [1.0, 2.0, 3.0, 4.0])[0], "x")
        integer = graph.layer(op="Cast", inputs=[3], outputs=["three"], attrs={"to": np.float32})
        graph.outputs = graph.add(again[0], integer[0])
        graph.outputs[0].dtype = np.float32
        assert len({one.name for one in graph.nodes}) == len(graph.nodes) == 6
        assert is_close(ran(graph)[0], 2 * X + 0.5 + [1, 2, 3, 4] + 3)
        with pytest.raises(AttributeError):
            Graph(opset=13).gemm  # noqa: B018  (registered for opset 21)

    def test_replacing_a_subgraph(self) -> None:
        @gs.Graph.register()
        def replace_with_clip(self: Any, inputs: Any, outputs: Any) -> Any:
            for one in inputs:
                one.outputs.clear()
            for one in outputs:
                one.inputs.clear()
            return self.layer(op="Clip", inputs=inputs, outputs=outputs)

        graph = from_text(MODEL)
        known = graph.tensors()
        scalars = [gs.Constant(name, np.array(value, np.float32)) for name, value in (("lo", 0), ("hi", 6))]
        graph.replace_with_clip([known["b"], *scalars], [known["d"]])
        graph.cleanup().toposort()
        assert shown(graph)[2] == "d = Clip(b, lo, hi)" and len(graph.nodes) == 4
        assert is_close(ran(graph)[0], EXPECTED)

    def test_a_local_function(self) -> None:
        function = gs.Function("Affine", domain="mine", opset=21, attrs={"alpha": None})
        function.inputs = [gs.Variable("a"), gs.Variable("b")]
        hidden, out = gs.Variable("hidden"), gs.Variable("out")
        alpha = gs.Node.AttributeRef("alpha", float)
        function.nodes.append(gs.Node("LeakyRelu", "act", {"alpha": alpha}, [function.inputs[0]], [hidden]))
        function.nodes.append(gs.Node("Add", "add", None, [hidden, function.inputs[1]], [out]))
        function.outputs = [out]
        graph = from_text(MODEL)
        graph.functions.append(function)
        called = graph.Affine(inputs=[graph.inputs[0], np.float32(1)], attrs={"alpha": 0.5})
        again = graph.functions[0](graph, inputs=[called[0], called[0]], outputs=["again"], attrs={"alpha": 2.0})
        graph.outputs = [again[0]]
        again[0].dtype = np.float32
        assert type(function) is Function and function(graph, inputs=called * 2, attrs={"alpha": 1.0})
        graph.cleanup().toposort()
        one = np.where(X > 0, X, X / 2) + 1
        assert is_close(ran(graph)[0], np.where(one > 0, one, one * 2) + one)


def test_replacing_a_subgraph_by_a_plugin() -> None:
    graph = from_text(MODEL)
    known = graph.tensors()
    plugin = gs.Node("MyPlugin", "plugin", {"low": 0.0, "names": ["a"], "table": gs.Constant("t", np.ones(2))})
    plugin.domain = "my.plugins"
    plugin.inputs = [known["b"]]
    plugin.outputs = [known["d"]]
    known["d"].inputs.remove(next(node for node in graph.nodes if node.name == "max"))
    graph.nodes.insert(2, plugin)
    graph.cleanup().toposort()
    proto = encode(graph).proto
    onnx.checker.check_model(proto, full_check=True)
    assert [node.op_type for node in proto.graph.node] == ["Mul", "Identity", "MyPlugin", "Neg"]
    assert {one.domain: one.version for one in proto.opset_import} == {"": 21, "my.plugins": 1}
    graph.import_domains.append(onnx.helper.make_opsetid("other", 2))
    assert encode(graph).proto.opset_import[1].domain == "other"


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
    graph.outputs[0].shape = None
    assert is_close(ran(graph, w=np.ones(4, np.float32))[0], -np.clip(X, 0, 12))


def test_a_result_becomes_a_constant() -> None:
    graph = from_text(MODEL)
    folded = graph.tensors()["b"]
    folded.to_constant(np.full((2, 4), 7, np.float32))
    folded.inputs.clear()
    graph.outputs[0].shape = None
    graph.cleanup().toposort()
    assert [node.name for node in graph.nodes] == ["min", "max", "last"]
    assert is_close(ran(graph)[0], np.full((2, 4), -6)) and "b" in [one.name for one in graph.initializers]


def test_export_types() -> None:
    graph = Graph(inputs=[gs.Variable("x", np.float32, [2, 4])], opset=21)
    narrow = gs.Constant("w", np.ones(4, np.float32), export_dtype=onnx.TensorProto.BFLOAT16)
    (cast,) = graph.layer(op="Cast", inputs=[narrow], outputs=["wide"], attrs={"to": np.float32})
    graph.outputs = graph.layer(op="Add", inputs=[graph.inputs[0], cast], outputs=["y"])
    graph.outputs[0].dtype = np.float32
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
    graph = from_text("""main (float[4] x) => (float[2] y) {
        a, b = Split <axis = 0, num_outputs = 2> (x)
        y, mask = Dropout(a)
    }""")
    graph.cleanup(remove_unused_node_outputs=True)
    assert shown(graph) == ["a, b = Split(x)", "y, - = Dropout(a)"]
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
    ran(graph, x=np.float32(1), c=np.array(True))


def test_nodes_that_were_never_put_in_do_not_count() -> None:
    graph = from_text(MODEL)
    gs.Node("Exp", inputs=[graph.tensors()["a"]], outputs=[gs.Variable("lost")])
    graph.outputs = [graph.tensors()["d"]]
    graph.outputs[0].dtype = np.float32
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
