"""Scripts written for graphsurgeon work on these objects: what they make is valid and runs.

These are the idioms of graphsurgeon's own examples.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from ir_models import from_text, shown
from ir_running import EXPECTED, MODEL, SCALED, X, is_close, ran

from graphopt.ir import Constant, Function, Graph, Node, Variable, encode


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
    middle.dtype, middle.shape = np.float32, ["N", 4]
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
        graph.outputs[0].dtype, graph.outputs[0].shape = np.float32, [2, 4]
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
        again[0].dtype, again[0].shape = np.float32, ["N", 4]
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
