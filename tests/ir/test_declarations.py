"""What graphs declare: outputs, initializers, defaults of inputs, constants, annotations."""

from __future__ import annotations

import random

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from ir_models import floats, from_text, info, model, node, value
from onnx import ModelProto, numpy_helper

from graphopt.errors import UsageError
from graphopt.ir import Constant, Function, Graph, Node, Variable, decode, encode
from graphopt.ir.store import Store


class TestOutputs:
    @pytest.mark.parametrize("seed", range(20))
    def test_each_tensor_knows_where_it_is_an_output(self, seed: int) -> None:
        draw = random.Random(seed)
        graph, other = Graph(), Graph()
        tensors = [Variable(f"t{i}") for i in range(4)]
        other.outputs.extend(tensors[:2])
        real, plain = graph.outputs, list[Variable]()
        for _ in range(80):
            what = draw.randrange(9)
            one, two = draw.choices(tensors, k=2)
            place = draw.randrange(len(plain)) if plain else 0
            part = slice(*sorted((place, draw.randrange(len(plain) + 1))))
            if what == 0:
                real.append(one), plain.append(one)
            elif what == 1:
                real.insert(place, one), plain.insert(place, one)
            elif what == 2:
                graph.outputs += [one, two]
                plain += [one, two]
            elif what == 3 and plain:
                assert real.pop(place) is plain.pop(place)
            elif what == 4 and one in plain:
                real.remove(one), plain.remove(one)
            elif what == 5 and plain:
                real[place] = plain[place] = one
            elif what == 6:
                real[part] = plain[part] = [one, two]
            elif what == 7:
                del real[part], plain[part]
            elif what == 8:
                graph.outputs = plain = [*plain[::-1]]
            assert real == plain and graph.outputs is real
            for tensor in tensors:
                expected = [other] * (tensor in other.outputs) + [graph] * plain.count(tensor)
                assert sorted(map(id, tensor.graph_outputs)) == sorted(map(id, expected))
                assert tensor.is_read == bool(expected)

    def test_stock_tensors_join_and_others_are_refused(self) -> None:
        graph = Graph()
        stock: list[object] = [gs.Variable("v", np.float32, [1]), gs.Constant("c", np.ones(1))]
        graph.outputs = stock
        assert [type(one) for one in graph.outputs] == [Variable, Constant]
        for wrong in ("text", None, Node("Op")):
            with pytest.raises(TypeError, match="is no tensor"):
                graph.outputs.append(wrong)
            with pytest.raises(TypeError, match="is no tensor"):
                graph.outputs[0:1] = [graph.outputs[1], wrong]
        assert len(graph.outputs) == 2 and len(graph.outputs[1].graph_outputs) == 1


class TestInitializers:
    def test_they_are_an_ordered_set(self) -> None:
        graph = from_text("main (float x) => (float y) <float w = {1.0}, float v = {2.0}> { y = Sum(x, w, v) }")
        held = graph.initializers
        w, v = held
        assert held.get("v") is v and held.get("ghost") is None and len(held) == 2 and w in held
        held.add(w)
        held.discard(w)
        held.discard(w)
        assert list(held) == [v] and w not in held and w.__dict__["home"] is None
        held.add(w)
        assert list(held) == [v, w]
        other = Graph(name="other")
        with pytest.raises(ValueError, match="'w' is an initializer of graph 'main'; discard it there first"):
            other.initializers.add(w)
        with pytest.raises(ValueError, match="'w' cannot be an initializer of a function"):
            Function("F").initializers.add(Constant("w", np.ones(1)))
        stock = gs.Constant("stock", np.ones(1))
        held.add(stock)
        assert type(stock) is Constant and held.get("stock") is stock

    def test_one_that_becomes_a_variable_is_none_any_more(self) -> None:
        graph = from_text("main (float x) => (float y) <float w = {1.0}> { y = Add(x, w) }")
        (w,) = graph.initializers
        graph.inputs.append(w.to_variable(shape=[]))
        assert len(graph.initializers) == 0
        proto = encode(graph).proto
        assert not proto.graph.initializer and [one.name for one in proto.graph.input] == ["x", "w"]
        onnx.checker.check_model(proto, full_check=True)

    def test_values(self) -> None:
        graph = from_text("main (float x) => (float y) <float w = {1.0}> { y = Add(x, w) }")
        (w,) = graph.initializers
        assert not w.values.flags.writeable and w.values is w.values and w.stored is not None
        w.forget()
        assert w.values == 1 and w.stored is not None
        graph.set_values(w, np.array([b"a", b"long"], object))
        assert w.stored is None and w.nbytes == 5 and w.onnx_dtype == onnx.TensorProto.STRING
        w.values = 3.5  # type: ignore[assignment]
        assert w.values.dtype == np.float64 and w.nbytes == 8
        with pytest.raises(TypeError, match="the values of constant 'w' are a NoneType"):
            w.values = None  # type: ignore[assignment]
        assert str(w) == "Constant (w): (shape=[], dtype=float64)" == repr(w)


def overridable() -> ModelProto:
    """y = x + w + v; callers may override w."""
    return model([node("Sum", "x w v", "y")], ["x", "w"], weights=[floats("v"), floats("w")])


class TestDefaults:
    def test_they_are_apart_from_initializers(self) -> None:
        graph = decode(overridable(), Store())
        variable = graph.inputs[1]
        assert [one.name for one in graph.initializers] == ["v"] and len(graph.initializers) == 1
        assert list(graph.defaults) == [variable] and isinstance(variable, Variable)
        default = graph.defaults[variable]
        assert list(default.values) == [1, 2] and not default.is_read and variable.is_read
        assert [one.name for one in graph.initializers.declared()] == ["v", "w"]

    def test_a_default_can_be_taken_away(self) -> None:
        for take in (
            lambda graph, default: graph.initializers.discard(default),
            lambda graph, _: graph.defaults.clear(),
        ):
            graph = decode(overridable(), Store())
            take(graph, graph.defaults[graph.inputs[1]])
            for one in (graph, graph.copy()):
                proto = encode(one).proto
                assert [tensor.name for tensor in proto.graph.initializer] == ["v"]
                assert len(one.initializers) == 1 and not one.defaults

    def test_an_input_can_become_fixed(self) -> None:
        graph = decode(overridable(), Store())
        graph.inputs.pop()
        proto = encode(graph.copy()).proto
        assert [one.name for one in proto.graph.input] == ["x"]
        assert [one.name for one in proto.graph.initializer] == ["v", "w"]
        onnx.checker.check_model(proto, full_check=True)

    def test_a_default_follows_its_input(self) -> None:
        graph = decode(overridable(), Store())
        graph.inputs[1].name = "renamed"
        proto = encode(graph).proto
        assert proto.graph.initializer[1].name == proto.graph.input[1].name == proto.graph.node[0].input[1] == "renamed"

    def test_unread_inputs_go_with_their_defaults(self) -> None:
        graph = decode(overridable(), Store())
        graph.nodes[0].inputs.pop(1)
        graph.cleanup(remove_unused_graph_inputs=True)
        proto = encode(graph).proto
        assert [one.name for one in proto.graph.input] == ["x"] and len(proto.graph.initializer) == 1


class TestConstants:
    def test_in_a_graph_and_in_a_body(self) -> None:
        graph = from_text("""main (float x, bool c) => (float y) {
            y = If(c) <then_branch = t () => (float p) { p = Neg(x) }, else_branch = e () => (float q) { q = Abs(x) }>
        }""")
        body = graph.nodes[0].bodies[0]
        outer, inner = graph.constant(np.float32(2), "two"), body.constant(np.float32(3), "two")
        assert (outer.name, inner.name) == ("two", "two_1") and outer in graph.initializers
        assert inner in body.initializers and inner.__dict__["home"] is body
        proto = encode(graph).proto
        assert proto.graph.initializer[0].name == "two"
        assert proto.graph.node[0].attribute[0].g.initializer[0].name == "two_1"

    def test_in_a_function_they_are_nodes(self) -> None:
        graph = from_text("""
            <ir_version: 10, opset_import: ["" : 21, "f" : 1]>
            main (float x) => (float y) { y = f.F(x) }
            <opset_import: ["" : 21], domain: "f"> F (a) => (b) { t = Neg(a)  b = Abs(t) }""")
        function = graph.functions[0]
        for number in (2.0, 3.0):
            made = function.constant(np.float32(number), "number")
            assert isinstance(made, Variable) and made.dtype == np.float32 and made.shape == []
            scaled = function.variable("scaled")
            function.insert(Node("Mul", "", None, [function.inputs[0], made], [scaled]), before=function.nodes[-1])
            function.rewire(function.nodes[-1], 0, scaled)
        assert [one.op for one in function.nodes] == ["Constant", "Constant", "Neg", "Mul", "Mul", "Abs"]
        function.cleanup()
        proto = encode(graph).proto
        assert [one.op_type for one in proto.functions[0].node] == ["Constant", "Mul", "Abs"]
        assert numpy_helper.to_array(proto.functions[0].node[0].attribute[0].t) == 3
        onnx.checker.check_model(proto, full_check=True)


def annotated() -> ModelProto:
    nodes = [node("Add", "x w", "t"), node("Neg", "x", "dead"), node("Relu", "t", "y")]
    weights = [floats(name) for name in ("w", "w_scale", "dead_scale", "t_scale", "unread", "unread_scale")]
    made = model(nodes, ["x", "idle"], weights=weights)
    for tensor in ("w", "t", "dead", "idle", "unread"):
        note = made.graph.quantization_annotation.add(tensor_name=tensor)
        scale = "t_scale" if tensor == "idle" else f"{tensor}_scale"
        note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value=scale)
    return made


class TestAnnotations:
    @staticmethod
    def notes(graph: Graph) -> list[tuple[str, str]]:
        notes = encode(graph).proto.graph.quantization_annotation
        return [(one.tensor_name, one.quant_parameter_tensor_names[0].value) for one in notes]

    def test_they_follow_names(self) -> None:
        graph = decode(annotated(), Store()).copy()
        for name in ("w", "w_scale", "t"):
            value(graph, name).name = name.upper()
        assert self.notes(graph)[:2] == [("W", "W_SCALE"), ("T", "t_scale")]

    def test_they_go_with_their_tensors_and_keep_what_they_name(self) -> None:
        graph = decode(annotated(), Store())
        graph.remove(graph.nodes[1])
        assert [name for name, _ in self.notes(graph)] == ["w", "t", "idle", "unread"]
        graph.cleanup()
        assert [name for name, _ in self.notes(graph)] == ["w", "t", "idle"]
        assert [one.name for one in graph.initializers] == ["w", "w_scale", "t_scale"]

    def test_what_they_name_may_be_made_by_nodes_and_be_annotated_itself(self) -> None:
        nodes = [node("Neg", "x", "scale"), node("Abs", "x", "of_scale"), node("Exp", "x", "of_dead")]
        proto = model([*nodes, node("Neg", "x", "dead"), node("Relu", "x", "y")])
        for tensor, scale in (("scale", "of_scale"), ("y", "scale"), ("dead", "of_dead")):
            note = proto.graph.quantization_annotation.add(tensor_name=tensor)
            note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value=scale)
        graph = decode(proto, Store()).cleanup()
        assert [one.op for one in graph.nodes] == ["Neg", "Abs", "Relu"]
        assert self.notes(graph) == [("scale", "of_scale"), ("y", "scale")]

    def test_one_without_its_scale_goes(self) -> None:
        graph = decode(annotated(), Store())
        graph.remove_initializer(graph.initializers.get("w_scale"))  # type: ignore[arg-type]
        assert [name for name, _ in self.notes(graph)] == ["t", "dead", "idle", "unread"]


class TestTypes:
    def test_a_new_variable_of_any_kind(self) -> None:
        graph = Graph(opset=21)
        kinds = ("tensor_type", "sequence_type", "optional_type", "sparse_tensor_type")
        graph.inputs = [Variable(kind, np.float32, ["N", None, 3], kind) for kind in kinds]
        graph.inputs.append(Variable("unsaid"))
        proto = encode(graph).proto
        expected = [
            onnx.helper.make_tensor_type_proto(1, ["N", None, 3]),
            onnx.helper.make_sequence_type_proto(onnx.helper.make_tensor_type_proto(1, ["N", None, 3])),
            onnx.helper.make_optional_type_proto(onnx.helper.make_tensor_type_proto(1, ["N", None, 3])),
            onnx.helper.make_sparse_tensor_type_proto(1, ["N", None, 3]),
            onnx.TypeProto(),
        ]
        assert [one.type for one in proto.graph.input] == expected

    def test_a_changed_shape_keeps_denotations(self) -> None:
        proto = model([node("Relu", "x", "y")], [info("x", shape=("N", 3))])
        proto.graph.input[0].type.denotation = "IMAGE"
        proto.graph.input[0].type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
        graph = decode(proto, Store())
        graph.inputs[0].shape[1] = 4  # type: ignore[index]
        made = encode(graph).proto.graph.input[0]
        proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 4
        assert made == proto.graph.input[0]


def test_layer_says_what_it_cannot_use() -> None:
    with pytest.raises(UsageError, match=r"layer\(\) cannot use a dict as an input; give a tensor, an array or a name"):
        Graph().layer([{}], ["y"], "Relu")


def test_what_is_declared_of_a_constant_follows_its_values() -> None:
    made = model([node("MatMul", "x w", "y")], value_info=[info("w", shape=(4, 3))])
    made.graph.initializer.append(numpy_helper.from_array(np.ones((4, 3), np.float32), "w"))
    graph = decode(made, Store())
    (constant,) = graph.initializers
    assert encode(graph).proto.graph.value_info[0] == made.graph.value_info[0]
    graph.set_values(constant, np.ones((2, 3), np.float32))
    (said,) = encode(graph).proto.graph.value_info
    assert [dim.dim_value for dim in said.type.tensor_type.shape.dim] == [2, 3]
    assert said.name == "w"
