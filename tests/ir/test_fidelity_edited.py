"""After an edit, everything that it did not touch is as protobuf itself would have written it.

Each test makes the same edit on messages, by hand, and compares the whole models byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from ir_models import INT64, canonical, info, node
from ir_rich import attribute, drop, message, named, rich
from onnx import ModelProto, helper, numpy_helper

from graphopt.ir import Constant, Graph, Node, Variable, decode, encode
from graphopt.ir.store import Store


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


def changed_by(change: Callable[[Graph], None], of_a_copy: bool) -> ModelProto:
    """The rich model after a change that only an attribute's own value knows of."""
    graph = decode(rich(), Store())
    edited = graph.copy() if of_a_copy else graph
    change(edited)
    if of_a_copy:
        assert encode(graph).proto.SerializeToString() == canonical(rich())
    return encode(edited).proto


@pytest.mark.parametrize("of_a_copy", [False, True])
class TestInPlace:
    def test_a_reference_to_an_attribute(self, of_a_copy: bool) -> None:
        def change(graph: Graph) -> None:
            graph.functions[0].nodes[0].attrs["alpha"].name = "steepness"

        expected = rich()
        expected.functions[0].node[0].attribute[0].ref_attr_name = "steepness"
        assert changed_by(change, of_a_copy) == expected

    def test_the_values_of_a_tensor(self, of_a_copy: bool) -> None:
        def change(graph: Graph) -> None:
            four = graph.initializers.get("four")
            assert four is not None
            foo = next(one for one in graph.nodes if one.op == "Foo")
            foo.attrs["table"].values = four.stored  # lazy values of another tensor

        expected = rich()
        table = attribute(expected.graph.node[3], "table").t
        table.CopyFrom(expected.graph.initializer[1])
        table.name = "named"
        assert changed_by(change, of_a_copy) == expected

    def test_the_export_type_of_a_tensor(self, of_a_copy: bool) -> None:
        def change(graph: Graph) -> None:
            next(one for one in graph.nodes if one.op == "Foo").attrs["table"].export_dtype = np.float64

        expected = rich()
        wide = numpy_helper.from_array(np.array([1, 2], np.float64), "named")
        attribute(expected.graph.node[3], "table").t.CopyFrom(wide)
        assert changed_by(change, of_a_copy) == expected


def test_an_export_type_converts_stored_values() -> None:
    graph = decode(rich(), Store())
    constant = graph.initializers.get("unread")
    assert isinstance(constant, Constant)
    constant.export_dtype = np.float16
    expected = rich()
    expected.graph.initializer[2].CopyFrom(numpy_helper.from_array(np.array([1, 2], np.float16), "unread"))
    assert encode(graph).proto.SerializeToString() == canonical(expected)
