"""Functions that call each other: recursion and explosive inlining are refused when read."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from graphopt.errors import BadModel, OverLimit
from graphopt.limits import Limits
from graphopt.storage.read import from_proto

IMPORTS = [helper.make_opsetid("", 17), helper.make_opsetid("loc", 1)]


def function(name: str, *calls: str) -> onnx.FunctionProto:
    nodes = [helper.make_node(call, ["a"], [f"t{i}"], domain="loc") for i, call in enumerate(calls)]
    nodes.append(helper.make_node("Relu", ["a"], ["b"]))
    return helper.make_function("loc", name, ["a"], ["b"], nodes, IMPORTS)


def model(*functions: onnx.FunctionProto) -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("f0", ["x"], ["y"], domain="loc")], "g", ends[:1], ends[1:])
    return helper.make_model(graph, opset_imports=IMPORTS, functions=list(functions), ir_version=8)


def test_a_function_that_calls_itself_is_named() -> None:
    with pytest.raises(BadModel, match="function 'f0' that calls itself"):
        from_proto(model(function("f0", "f0")))


def test_a_circle_of_functions_is_recursion_too() -> None:
    with pytest.raises(BadModel, match="calls itself"):
        from_proto(model(function("f0", "f1"), function("f1", "f2"), function("f2", "f0")))


def test_a_diamond_is_none() -> None:
    diamond = [function("f0", "f1", "f2"), function("f1", "f3"), function("f2", "f3"), function("f3")]
    assert len(from_proto(model(*diamond)).proto.functions) == 4


def test_what_inlining_would_make_is_computed_and_bounded() -> None:
    levels = [function(f"f{i}", f"f{i + 1}", f"f{i + 1}") for i in range(40)] + [function("f40")]
    with pytest.raises(OverLimit, match=r"has 4398046511102 nodes once its functions are inlined"):
        from_proto(model(*levels))
    small = [function(f"f{i}", f"f{i + 1}", f"f{i + 1}") for i in range(3)] + [function("f3")]
    # Each level is two calls and a Relu: 1, then 3 + 2 x 1 = 5, 3 + 2 x 5 = 13, 29; and the call itself.
    assert from_proto(model(*small), limits=Limits(inlined_nodes=30))
    with pytest.raises(OverLimit):
        from_proto(model(*small), limits=Limits(inlined_nodes=29))


def test_a_call_inside_a_body_counts() -> None:
    then = helper.make_graph(
        [helper.make_node("f0", ["a"], ["t"], domain="loc")],
        "then",
        [],
        [helper.make_tensor_value_info("t", TensorProto.FLOAT, [2])],
    )
    inner = function("f0")
    inner.node.add().CopyFrom(helper.make_node("If", ["c"], ["u"], then_branch=then, else_branch=then))
    with pytest.raises(BadModel, match="calls itself"):
        from_proto(model(inner))
