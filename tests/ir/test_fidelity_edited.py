"""After an edit, everything that it did not touch is as protobuf itself would have written it.

Each test makes the same edit on messages, by hand, and compares the whole models byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from ir_models import BOOL, INT64, body, canonical, floats, info, model, node
from onnx import AttributeProto, ModelProto, NodeProto, helper, numpy_helper

from graphopt.ir import Constant, Graph, Node, Variable, decode, encode
from graphopt.ir.store import Store


def rich() -> ModelProto:
    """A model that has something of everything; the node `dead` is read by nobody."""
    inner = node("LeakyRelu", "a", "t")
    inner.attribute.append(AttributeProto(name="alpha", ref_attr_name="slope", type=AttributeProto.FLOAT))
    function = helper.make_function(
        "f", "F", ["a"], ["b"], [inner, node("Relu", "t", "b")], [helper.make_opsetid("", 21)], attributes=["slope"]
    )
    function.value_info.append(info("t"))
    sparse = helper.make_sparse_tensor(floats("s"), numpy_helper.from_array(np.array([0, 1]), "i"), [2])
    then = body("then", [node("Add", "early W", "r", name="in_then")], [], ["r"], value_info=[info("r")])
    then.metadata_props.add(key="k", value="v")
    otherwise = body("else", [node("Identity", "x", "q"), node("Mul", "q own", "r")], [], ["r"])
    otherwise.initializer.append(floats("own"))
    nodes = [
        node("Add", "x W", "early", name="first", doc_string="doc"),
        node("Neg", "early", "nothing", name="dead"),
        node("F", "early", "called", domain="f", slope=0.1),
        node("Foo", "called - four", "foo -", domain="my", floats=[-0.0], blob=b"\xff", table=floats("named")),
        node("If", "c", "chosen", then_branch=then, else_branch=otherwise, name="choice"),
        node("Sum", "foo chosen s", "y", name="last"),
    ]
    nodes[3].metadata_props.add(key="scope", value="m")
    made = model(
        nodes,
        [info("x", shape=("N",)), info("c", BOOL, ()), "W"],
        [info("y", shape=("N",)), "early"],
        [floats("W"), numpy_helper.from_array(np.array([1, 2], "int8"), "four"), floats("unread"), floats("scale")],
        domains={"my": 3, "f": 1, "unused": 9},
        functions=[function],
        value_info=[info(name, shape=("N",)) for name in ("nothing", "called", "foo", "ghost")],
        sparse_initializer=[sparse],
    )
    made.doc_string = "doc"
    for tensor in ("called", "nothing", "four"):
        note = made.graph.quantization_annotation.add(tensor_name=tensor)
        note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="scale")
    helper.set_model_props(made, {"k": "v"})
    return made


def named(graph: Graph, name: str) -> Node:
    return next(one for scope in graph.scopes() for one in scope.nodes if one.name == name)


def message(proto: ModelProto, name: str) -> NodeProto:
    return next(one for one in proto.graph.node if one.name == name)


def attribute(proto: NodeProto, name: str) -> AttributeProto:
    return next(one for one in proto.attribute if one.name == name)


def drop(repeated: object, *names: str) -> None:
    """Remove the messages of these names."""
    kept = [one for one in repeated if getattr(one, "name", "") not in names]  # type: ignore[attr-defined]
    copies = [type(one).FromString(one.SerializeToString()) for one in kept]
    del repeated[:]  # type: ignore[attr-defined]
    repeated.extend(copies)  # type: ignore[attr-defined]


def remove_a_node(graph: Graph) -> None:
    graph.remove(named(graph, "dead"))


def without_the_node(proto: ModelProto) -> None:
    drop(proto.graph.node, "dead")
    drop(proto.graph.value_info, "nothing")
    del proto.graph.quantization_annotation[1]


def rewire_a_node(graph: Graph) -> None:
    graph.rewire(named(graph, "last"), 0, graph.inputs[0])


def with_another_input(proto: ModelProto) -> None:
    message(proto, "last").input[0] = "x"


def rewire_inside_a_body(graph: Graph) -> None:
    graph.rewire(named(graph, "in_then"), 0, graph.inputs[0])


def with_another_input_inside(proto: ModelProto) -> None:
    attribute(message(proto, "choice"), "then_branch").g.node[0].input[0] = "x"


def rename_a_value(graph: Graph) -> None:
    named(graph, "first").outputs[0].name = "renamed"
    next(one for one in graph.tensors().values() if one.name == "called").name = "renamed_call"


def with_other_names(proto: ModelProto) -> None:
    for one in proto.graph.node:
        for names in (one.input, one.output):
            for index, name in enumerate(names):
                names[index] = {"early": "renamed", "called": "renamed_call"}.get(name, name)
    attribute(message(proto, "choice"), "then_branch").g.node[0].input[0] = "renamed"
    proto.graph.output[1].name = "renamed"
    proto.graph.value_info[1].name = "renamed_call"
    proto.graph.quantization_annotation[0].tensor_name = "renamed_call"


def rename_an_initializer(graph: Graph) -> None:
    four = graph.initializers.get("four")
    scale = graph.initializers.get("scale")
    assert four is not None and scale is not None
    four.name, scale.name = "4", "scale_of_4"


def with_another_initializer_name(proto: ModelProto) -> None:
    proto.graph.initializer[1].name = proto.graph.node[3].input[2] = "4"
    proto.graph.initializer[3].name = "scale_of_4"
    for note in proto.graph.quantization_annotation:
        note.quant_parameter_tensor_names[0].value = "scale_of_4"
    proto.graph.quantization_annotation[2].tensor_name = "4"


def set_an_attribute(graph: Graph) -> None:
    foo = next(one for one in graph.nodes if one.op == "Foo")
    foo.attrs["floats"].append(1.5)
    foo.attrs["axis"] = 2


def with_another_attribute(proto: ModelProto) -> None:
    foo = proto.graph.node[3]
    attribute(foo, "floats").floats.append(1.5)
    foo.attribute.append(helper.make_attribute("axis", 2))


def replace_the_values(graph: Graph) -> None:
    constant = graph.initializers.get("unread")
    assert constant is not None
    graph.set_values(constant, np.arange(3, dtype=np.int64))


def with_other_values(proto: ModelProto) -> None:
    proto.graph.initializer[2].CopyFrom(numpy_helper.from_array(np.arange(3), "unread"))


def remove_an_initializer(graph: Graph) -> None:
    constant = graph.initializers.get("unread")
    assert constant is not None
    graph.remove_initializer(constant)


def without_the_initializer(proto: ModelProto) -> None:
    drop(proto.graph.initializer, "unread")


def describe_a_value(graph: Graph) -> None:
    called = graph.nodes[2].outputs[0]
    assert isinstance(called, Variable)
    called.shape = ["M", 2, None]
    called.dtype = np.dtype(np.int64)


def with_another_description(proto: ModelProto) -> None:
    proto.graph.value_info[1].CopyFrom(info("called", INT64, ("M", 2, None)))


def add_a_node(graph: Graph) -> None:
    value = graph.variable("added", np.float32, ["N"])
    graph.insert(Node("Abs", "new", None, [named(graph, "first").outputs[0]], [value]), before=named(graph, "last"))
    graph.append(Node("Bar", "bar", {"x": 1}, [value], [graph.variable("bar_out")], domain="another"))
    graph.constant(np.float32(2), "two")


def with_another_node(proto: ModelProto) -> None:
    proto.graph.node.insert(5, node("Abs", "early", "added", name="new"))
    proto.graph.node.append(node("Bar", "added", "bar_out", name="bar", domain="another", x=1))
    proto.graph.value_info.append(info("added", shape=("N",)))
    proto.graph.initializer.append(numpy_helper.from_array(np.float32(2), "two"))
    proto.opset_import.add(domain="another", version=1)


def replace_an_output(graph: Graph) -> None:
    """`early` is an output of the graph; a node behind it takes its place."""
    early = named(graph, "first").outputs[0]
    behind = graph.variable("behind")
    graph.insert(Node("Abs", "abs", None, [early], [behind]), after=named(graph, "first"))
    graph.replace_uses(early, behind)


def with_a_node_behind_the_output(proto: ModelProto) -> None:
    proto.graph.node[0].output[0] = "behind"
    proto.graph.node.insert(1, node("Abs", "behind", "early", name="abs"))


def edit_the_function(graph: Graph) -> None:
    function = graph.functions[0]
    function.replace_uses(function.nodes[0].outputs[0], function.inputs[0])
    function.remove(function.nodes[0])
    function.attrs["extra"] = 1.5


def with_another_function(proto: ModelProto) -> None:
    function = proto.functions[0]
    del function.node[0], function.value_info[0]
    function.node[0].input[0] = "a"
    function.attribute_proto.append(helper.make_attribute("extra", 1.5))


def say_more_about_the_model(graph: Graph) -> None:
    graph.name, graph.doc_string, graph.producer_name, graph.opset = "another", "more", "me", 22
    graph.import_domains.pop()
    graph.functions[0].doc_string = "of the function"


def with_more_said(proto: ModelProto) -> None:
    proto.graph.name, proto.graph.doc_string, proto.producer_name = "another", "more", "me"
    proto.opset_import[0].version = 22
    del proto.opset_import[3]
    proto.functions[0].doc_string = "of the function"


EDITS: dict[Callable[[Graph], None], Callable[[ModelProto], None]] = {
    remove_a_node: without_the_node,
    rewire_a_node: with_another_input,
    rewire_inside_a_body: with_another_input_inside,
    rename_a_value: with_other_names,
    rename_an_initializer: with_another_initializer_name,
    set_an_attribute: with_another_attribute,
    replace_the_values: with_other_values,
    remove_an_initializer: without_the_initializer,
    describe_a_value: with_another_description,
    add_a_node: with_another_node,
    replace_an_output: with_a_node_behind_the_output,
    edit_the_function: with_another_function,
    say_more_about_the_model: with_more_said,
}


@pytest.mark.parametrize("of_a_copy", [False, True], ids=["itself", "copy"])
@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
def test_only_what_was_edited_changes(edit: Callable[[Graph], None], of_a_copy: bool) -> None:
    proto, expected = rich(), rich()
    graph = decode(proto, Store())
    edited = graph.copy() if of_a_copy else graph
    edit(edited)
    EDITS[edit](expected)
    made = encode(edited).proto
    assert str(made) == str(expected)  # a readable difference, where there is one
    assert made.SerializeToString() == canonical(expected)
    assert proto.SerializeToString() == rich().SerializeToString()
    if of_a_copy:
        assert encode(graph).proto.SerializeToString() == canonical(rich())


def test_cleanup_removes_what_is_dead_and_nothing_else() -> None:
    expected = rich()
    without_the_node(expected)
    without_the_initializer(expected)
    graph = decode(rich(), Store()).cleanup()
    assert encode(graph).proto.SerializeToString() == canonical(expected)


def test_an_export_type_converts_stored_values() -> None:
    graph = decode(rich(), Store())
    constant = graph.initializers.get("unread")
    assert isinstance(constant, Constant)
    constant.export_dtype = np.float16
    expected = rich()
    expected.graph.initializer[2].CopyFrom(numpy_helper.from_array(np.array([1, 2], np.float16), "unread"))
    assert encode(graph).proto.SerializeToString() == canonical(expected)
