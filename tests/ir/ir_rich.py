"""A model that has something of everything, and ways to find and drop its messages."""

from __future__ import annotations

import numpy as np
from ir_models import BOOL, body, floats, info, model, node
from onnx import AttributeProto, ModelProto, NodeProto, helper, numpy_helper

from graphopt.ir import Graph, Node


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
