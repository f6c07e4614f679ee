"""What scripts leave loose is settled when the model is written: it is complete, and means the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from ir_models import floats, from_text, info, model, node, shown, value
from onnx import ModelProto, numpy_helper

from graphopt.ir import Constant, Encoded, Graph, Node, Variable, decode, encode
from graphopt.ir.store import Store
from graphopt.storage.read import read
from graphopt.storage.wire import join
from graphopt.testing.links import check_links

CHOICE = """
<ir_version: 10, opset_import: ["" : 21, "f" : 1]>
main (float[1] x, bool c) => (float[1] y) {
    b = If(c) <then_branch = t () => (float[1] p) { p = Neg(x) }, else_branch = e () => (float[1] q) { q = Abs(x) }>
    y = f.F(b)
}
<opset_import: ["" : 21], domain: "f">
F (arg) => (res) { res = Neg(arg) }
"""


def loose(name: str = "loose", number: float = 1.0) -> Constant:
    return Constant(name, np.array([number], np.float32))


def add_to(one: Node, constant: object) -> None:
    """Let what `one` reads first be added to first."""
    scope = one.graph
    assert scope is not None
    total = scope.variable("total")
    scope.insert(Node("Add", "", None, [one.inputs[0], constant], [total]), before=one)  # type: ignore[list-item]
    one.inputs[0] = total


def checked(graph: Graph) -> ModelProto:
    proto = encode(graph).proto
    onnx.checker.check_model(proto, full_check=True)
    return proto


class TestConstants:
    def test_one_that_bodies_read_is_declared_outside_of_them(self) -> None:
        graph = from_text(CHOICE)
        constant = loose()
        for body in graph.nodes[0].bodies:
            add_to(body.nodes[0], constant)
        proto = checked(graph)
        assert [one.name for one in proto.graph.initializer] == ["loose"]
        assert list(graph.initializers) == [constant]

    def test_in_a_function_it_becomes_a_node(self) -> None:
        graph = from_text(CHOICE)
        function = graph.functions[0]
        constant = loose("arg")  # a name that is taken
        add_to(function.nodes[0], constant)
        function.outputs.append(constant)
        graph.nodes[1].outputs.append(graph.variable("second"))
        proto = checked(graph)
        assert [one.op_type for one in proto.functions[0].node] == ["Constant", "Add", "Neg"]
        assert list(proto.functions[0].output) == ["res", "arg_1"] and not proto.graph.initializer

    def test_one_that_a_function_and_the_main_graph_read(self) -> None:
        graph = from_text(CHOICE)
        constant = loose("shared")
        add_to(graph.nodes[1], constant)
        add_to(graph.functions[0].nodes[0], constant)
        proto = checked(graph)
        assert [one.name for one in proto.graph.initializer] == ["shared"]
        assert proto.functions[0].node[0].op_type == "Constant"
        check_links(graph)

    def test_names_of_others_are_not_taken(self) -> None:
        graph = from_text(CHOICE)
        for constant in (loose("x", 1), loose("same", 2), loose("same", 3), loose("", 4), loose("q", 5)):
            add_to(graph.nodes[1], constant)
        names = [one.name for one in checked(graph).graph.initializer]
        assert names == ["q_1", "constant", "same", "same_1", "x_1"]

    def test_one_that_only_an_output_names(self) -> None:
        graph = from_text(CHOICE)
        graph.outputs.append(loose("answer"))
        proto = checked(graph)
        assert proto.graph.output[1].type.tensor_type.elem_type == 1 and proto.graph.initializer[0].name == "answer"

    def test_one_that_a_body_declares_and_its_sibling_reads(self) -> None:
        graph = from_text(CHOICE)
        then, other = graph.nodes[0].bodies
        constant = then.constant(np.ones(1, np.float32), "lent")
        add_to(then.nodes[0], constant)
        checked(graph)
        assert constant in then.initializers
        add_to(other.nodes[0], constant)
        proto = checked(graph)
        assert [one.name for one in proto.graph.initializer] == [constant.name] and len(then.initializers) == 0

    def test_a_body_that_is_moved_into_its_surroundings(self) -> None:
        """What a pass does that knows the condition of an If."""
        graph = from_text("""main (float[1] x) => (float[1] y) <bool c = {1}> {
            b = If(c) <then_branch = t () => (float[1] p) <float[1] own = {2.0}> { p = Add(x, own) },
                       else_branch = e () => (float[1] q) { q = Abs(x) }>
            y = Neg(b)
        }""")
        choice = graph.nodes[0]
        then = choice.bodies[0]
        for one in then.nodes:
            then.nodes.discard(one)
            graph.insert(one, before=choice)
        graph.replace_uses(choice.outputs[0], then.outputs[0])
        graph.remove(choice)
        proto = checked(graph.cleanup())
        assert shown(graph) == ["p = Add(x, own)", "y = Neg(p)"]
        assert [one.name for one in proto.graph.initializer] == ["own"]


class TestStock:
    def test_inputs_functions_and_bodies(self) -> None:
        graph = from_text("main (float[1] x, bool c) => (float[1] y) { y = Neg(x) }")
        a, b = gs.Variable("a"), gs.Variable("b")
        inner = gs.Node(op="Add", inputs=[a, gs.Constant("one", np.ones(1, np.float32))], outputs=[b])
        function = gs.Function("Inc", domain="fun", nodes=[inner], inputs=[a], outputs=[b], opset=21, attrs={"k": 1})
        graph.functions.append(function)
        extra = gs.Variable("extra", np.float32, [1])
        graph.inputs.append(extra)
        called, out = gs.Variable("called", np.float32, [1]), gs.Variable("out", np.float32, [1])
        then = gs.Graph([gs.Node(op="Inc", domain="fun", inputs=[extra], outputs=[called])], outputs=[called])
        other = gs.Graph([gs.Node(op="Neg", inputs=[graph.inputs[0]], outputs=[gs.Variable("n")])], name="other")
        other.outputs = other.nodes[0].outputs
        branches = {"then_branch": then, "else_branch": other}
        graph.nodes.append(gs.Node(op="If", attrs=branches, inputs=[graph.inputs[1]], outputs=[out]))
        graph.outputs.append(out)
        proto = checked(graph)
        assert type(graph.functions[0]) is type(function) and function.unique_id == ("fun", "Inc")
        assert then.parent is graph.nodes[1] and other.opset == 21 and type(extra) is Variable
        assert [one.op_type for one in proto.functions[0].node] == ["Constant", "Add"]
        assert {one.domain: one.version for one in proto.opset_import} == {"": 21, "fun": 1}
        assert encode(graph.copy()).proto == proto

    def test_functions_that_come_with_a_body(self) -> None:
        graph = from_text(CHOICE)
        function = gs.Function("G", domain="g", nodes=[], inputs=[], outputs=[])
        branch = gs.Graph([], functions=[function])
        graph.nodes.append(gs.Node(op="If", attrs={"then_branch": branch}, inputs=[graph.inputs[1]]))
        assert [one.name for one in encode(graph).proto.functions] == ["F", "G"]

    def test_lazy_values_of_stock_graphsurgeon(self) -> None:
        proto = model([node("Add", "x w", "y")], weights=[floats("w")])
        stock = gs.import_onnx(proto)
        graph = from_text(CHOICE)
        weight = stock.nodes[0].inputs[1]
        add_to(graph.nodes[1], weight)
        add_to(graph.functions[0].nodes[0], weight)
        made = encode(graph).proto
        assert list(numpy_helper.to_array(made.graph.initializer[0])) == [1, 2]
        assert list(numpy_helper.to_array(made.functions[0].node[0].attribute[0].t)) == [1, 2]


def test_new_domains_are_imported_once_and_old_ones_left_alone() -> None:
    graph = decode(model([node("Foo", "x", "y", domain="unknown")], domains={"known": 7}), Store())
    assert [one.domain for one in encode(graph).proto.opset_import] == ["", "known"]
    for domain in ("known", "new", "new", "ai.onnx", None):
        graph.nodes.append(Node("Bar", "", None, [], [Variable("")], domain=domain))
    proto = encode(graph).proto
    assert [(one.domain, one.version) for one in proto.opset_import] == [("", 21), ("known", 7), ("new", 1)]


def test_a_graph_from_scratch() -> None:
    x, y = Variable("x", np.float32, ["N"]), Variable("y", np.float32, ["N"])
    graph = Graph([Node("Relu", inputs=[x], outputs=[y])], [x], [y], opset=17, producer_name="me")
    proto = checked(graph)
    assert proto.ir_version == 8 and proto.producer_name == "me" and proto.opset_import[0].version == 17


def weighty(path: Path, name: str) -> Graph:
    """y = x + w with w too large for a skeleton, also as a Constant node's tensor, read from a file."""
    weight = numpy_helper.from_array(np.full(1024, ord(name[0]), np.float32), f"{name}_w")
    nodes = [node("Constant", "", f"{name}_c", value=weight), node("Sum", f"x {name}_w {name}_c", f"{name}_y")]
    long = (1024,)
    proto = model(nodes, [info("x", shape=long)], [info(f"{name}_y", shape=long)], [weight])
    (path / f"{name}.onnx").write_bytes(proto.SerializeToString())
    source = read(path / f"{name}.onnx")
    return decode(source.proto, source.store)


def joined(encoded: Encoded) -> ModelProto:
    return ModelProto.FromString(b"".join(bytes(piece) for piece in join(encoded.proto, encoded.store)))


@pytest.mark.parametrize("by_copy", [False, True])
def test_nodes_of_another_model_bring_their_weights(tmp_path: Path, by_copy: bool) -> None:
    one, other = weighty(tmp_path, "a"), weighty(tmp_path, "b")
    giver = other.copy() if by_copy else other
    value(giver, "x").outputs[0].inputs[0] = one.outputs[0]
    for moved in list(giver.nodes):
        giver.nodes.remove(moved)
        one.nodes.append(moved)
    one.outputs = giver.outputs[:]
    made = joined(encode(one))
    onnx.checker.check_model(made, full_check=True)
    from onnx.reference import ReferenceEvaluator

    (result,) = ReferenceEvaluator(made).run(None, {"x": np.zeros(1024, np.float32)})
    assert np.all(result == 2 * ord("a") + 2 * ord("b"))
