"""Constructs of nodes, attributes and bodies that must survive a round trip."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
from ir_models import BOOL, FLOAT, INT64, body, floats, info, model, node, relu, with_attribute
from onnx import AttributeProto, ModelProto, helper, numpy_helper

Build = Callable[[], ModelProto]
CONSTRUCTS: dict[str, Build] = {}
A = AttributeProto


def construct(build: Build) -> Build:
    CONSTRUCTS[build.__name__.replace("_", " ")] = build
    return build


@construct
def a_middle_input_left_out() -> ModelProto:
    return model([node("Clip", "x - high", "y")], ["x", info("high", shape=())])


@construct
def the_last_inputs_left_out() -> ModelProto:
    return model([node("Clip", "x - -", "y")])


@construct
def outputs_left_out() -> ModelProto:
    nodes = [node("Dropout", "x", "t -"), node("LSTM", "t w r", "- y", hidden_size=1)]
    return model(nodes, [info(name, shape=(1, 1, 1)) for name in "xwr"], [info("y", shape=(1, 1, 1))])


@construct
def no_inputs_and_no_outputs() -> ModelProto:
    return model([node("Foo", "", "", domain="my"), node("Relu", "x", "y")])


@construct
def one_tensor_in_many_slots() -> ModelProto:
    return model([node("Concat", "x x x", "t", axis=0), node("Foo", "t t", "t2 y", domain="my")])


@construct
def nodes_that_share_a_name() -> ModelProto:
    return model([node("Relu", "x", "t", name="same"), node("Neg", "t", "y", name="same")])


@construct
def two_nodes_that_make_one_value() -> ModelProto:
    return model([node("Relu", "x", "t"), node("Neg", "x", "t"), node("Abs", "t", "y")])


@construct
def a_node_that_makes_an_input() -> ModelProto:
    return model([node("Relu", "x", "x"), node("Abs", "x", "y")])


@construct
def nodes_out_of_order() -> ModelProto:
    return model([node("Neg", "t", "y"), node("Relu", "x", "t")])


@construct
def values_that_nobody_makes() -> ModelProto:
    return model([node("Add", "x ghost", "y")], value_info=[info("ghost")])


@construct
def a_node_that_says_more() -> ModelProto:
    made = relu()
    made.graph.node[0].doc_string = "a node"
    made.graph.node[0].metadata_props.add(key="pkg.torch.onnx.name_scopes", value="['', 'conv1']")
    made.graph.node[0].overload = "v2"
    return made


_PLAIN = {
    "an int": 3,
    "a float": 0.1,
    "a text": "é",
    "ints": [3, -1],
    "floats that are whole": [1.0, 2.0],
    "floats that are odd": [float("nan"), -0.0, float("inf")],
    "texts": ["a", ""],
    "a tensor": floats("named"),
    "a tensor of int4": numpy_helper.from_array(np.array([1, 2], ml_dtypes.int4)),
    "a type": helper.make_tensor_type_proto(FLOAT, [2]),
    "types": [helper.make_tensor_type_proto(FLOAT, [2])],
    "tensors": [floats("one"), floats("")],
    "a graph": body("inner", [node("Relu", "x", "q")], [], ["q"]),
    "graphs": [body("inner", [node("Relu", "x", "q")], [], ["q"]), body("other", [], [], ["x"])],
}
for _what, _value in _PLAIN.items():
    CONSTRUCTS[f"attribute: {_what}"] = lambda value=_value: with_attribute(helper.make_attribute("a", value))  # type: ignore[misc]

_RAW = {
    "bytes": A(name="a", type=A.STRING, s=b"\xff\xfe\x00"),
    "bytes in a list": A(name="a", type=A.STRINGS, strings=[b"\xff\xfe", b"text"]),
    "documented": A(name="a", type=A.INT, i=1, doc_string="why"),
    "of a type that is left out": A(name="a", i=1),
    "without type and value": A(name="a"),
    "an int that is zero": A(name="a", type=A.INT),
    "a text that is empty": A(name="a", type=A.STRING),
    "a tensor without anything": A(name="a", type=A.TENSOR),
    **{f"no {name.lower()}": A(name="a", type=kind) for name, kind in A.AttributeType.items() if name.endswith("S")},
}
for _what, _attribute in _RAW.items():
    CONSTRUCTS[f"attribute: {_what}"] = lambda value=_attribute: with_attribute(value)  # type: ignore[misc]


@construct
def sparse_attributes() -> ModelProto:
    sparse = helper.make_sparse_tensor(floats("v"), numpy_helper.from_array(np.array([0, 3]), "i"), [4])
    made = with_attribute(helper.make_attribute("one", sparse))
    made.graph.node[0].attribute.append(A(name="many", type=A.SPARSE_TENSORS, sparse_tensors=[sparse, sparse]))
    return made


@construct
def attributes_out_of_order_and_twice() -> ModelProto:
    made = with_attribute(helper.make_attribute("b", 1))
    made.graph.node[0].attribute.extend([helper.make_attribute("a", 2), helper.make_attribute("b", 3)])
    return made


@construct
def a_graph_attribute_whose_type_is_left_out() -> ModelProto:
    return with_attribute(A(name="a", g=body("inner", [node("Relu", "x", "q")], [], ["q"])))


def _choosing(then: object, otherwise: object, **rest: object) -> ModelProto:
    nodes = [node("Relu", "x", "t"), node("If", "c", "y", then_branch=then, else_branch=otherwise)]
    return model(nodes, ["x", info("c", BOOL, ())], **rest)  # type: ignore[arg-type]


@construct
def bodies_that_capture_values_and_initializers() -> ModelProto:
    then = body("then", [node("Add", "x W", "r")], [], ["r"], doc_string="doc", value_info=[info("r"), info("x")])
    then.metadata_props.add(key="k", value="v")
    return _choosing(then, body("else", [node("Mul", "t W", "r")], [], ["r"]), weights=[floats("W")])


@construct
def bodies_that_give_out_outer_values() -> ModelProto:
    return _choosing(body("then", [], [], ["x"]), body("else", [node("Identity", "x", "r")], [], ["r"]))


@construct
def bodies_that_capture_what_is_made_later() -> ModelProto:
    made = _choosing(body("then", [node("Neg", "late", "r")], [], ["r"]), body("else", [], [], ["late"]))
    made.graph.node.append(node("Abs", "x", "late"))
    return made


@construct
def bodies_that_use_an_outer_name_for_their_own() -> ModelProto:
    then = body("then", [node("Neg", "x", "t")], [], ["t"], initializer=[floats("x")])
    return _choosing(then, body("else", [node("Neg", "t", "y")], [], ["y"]))


@construct
def bodies_that_read_what_nobody_makes() -> ModelProto:
    return _choosing(body("then", [node("Neg", "ghost", "r")], [], ["r"]), body("else", [], [], ["ghost"]))


@construct
def a_loop_with_a_capture() -> ModelProto:
    step = body(
        "step",
        [node("Add", "state W", "next"), node("Identity", "go", "go_on")],
        [info("i", INT64, ()), info("go", BOOL, ()), "state"],
        [info("go_on", BOOL, ()), "next"],
    )
    nodes = [node("Add", "x W", "t"), node("Loop", "count - t", "y", body=step)]
    return model(nodes, [info("count", INT64, ()), "x"], weights=[floats("W")])


@construct
def bodies_in_bodies() -> ModelProto:
    graph = body("innermost", [node("Add", "x t", "r")], [], ["r"])
    for depth in range(8):
        graph = body(f"level{depth}", [node("If", "c", "r", then_branch=graph, else_branch=graph)], [], ["r"])
    return _choosing(graph, graph)
