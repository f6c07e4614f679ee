"""`opset`: node by node, all or nothing, and everything else left as it was."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import graphopt
from graphopt.ir import decode, encode
from graphopt.storage.read import from_proto
from graphopt.testing import apply, assert_missed, model
from passes.convert.opset import Opset


def at(
    opset: int, nodes: list[onnx.NodeProto], ins: dict[str, list[object]], outs: dict[str, object]
) -> onnx.ModelProto:
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in ins.items()]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outs.items()]  # type: ignore[arg-type]
    graph = helper.make_graph(nodes, "g", infos, ends)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def versions(proto: onnx.ModelProto) -> dict[str, int]:
    return {one.domain: one.version for one in proto.opset_import}


def test_an_attribute_becomes_an_input_and_the_rest_stays() -> None:
    squeeze = helper.make_node("Squeeze", ["a"], ["y"], axes=[0], name="squeeze")
    relu = helper.make_node("Relu", ["x"], ["a"], name="relu", doc_string="kept")
    before = at(11, [relu, squeeze], {"x": [1, "N"]}, {"y": ["N"]})
    before.graph.node[0].metadata_props.add(key="k", value="v")
    before.metadata_props.add(key="model", value="kept")
    done = apply(Opset(to=13), before)
    after = done.after
    assert versions(after) == {"": 13}
    assert [node.op_type for node in after.graph.node][-1] == "Squeeze"
    assert len(after.graph.node[-1].input) == 2
    assert after.graph.node[0] == before.graph.node[0]
    assert list(after.metadata_props) == list(before.metadata_props)
    assert after.graph.node[-1].name == "squeeze"


def test_softmax_keeps_its_old_meaning() -> None:
    soft = helper.make_node("Softmax", ["x"], ["y"], axis=1)
    done = apply(Opset(to=13), at(11, [soft], {"x": [2, 3, 4]}, {"y": [2, 3, 4]}))
    ops = [node.op_type for node in done.after.graph.node]
    assert "Softmax" in ops
    assert len(ops) > 1


def test_many_nodes_of_one_kind_are_told_apart() -> None:
    nodes = [helper.make_node("Unsqueeze", ["x"], [f"u{i}"], axes=[i], name=f"n{i}") for i in range(3)]
    nodes += [helper.make_node("Squeeze", [f"u{i}"], [f"y{i}"], axes=[i]) for i in range(3)]
    before = at(11, nodes, {"x": [2, 3]}, {f"y{i}": [2, 3] for i in range(3)})
    done = apply(Opset(to=21), before)
    assert versions(done.after) == {"": 21}
    assert sum(node.op_type == "Unsqueeze" for node in done.after.graph.node) == 3


def test_bodies_are_raised_too() -> None:
    then = helper.make_graph(
        [helper.make_node("Squeeze", ["x"], ["t"], axes=[0])],
        "then",
        [],
        [helper.make_tensor_value_info("t", TensorProto.FLOAT, ["N"])],
    )
    other = helper.make_graph(
        [helper.make_node("ReduceSum", ["x"], ["e"], axes=[0], keepdims=0)],
        "else",
        [],
        [helper.make_tensor_value_info("e", TensorProto.FLOAT, ["N"])],
    )
    node = helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other, name="if")
    before = at(11, [node], {"x": [1, "N"]}, {"y": ["N"]})
    before.graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    done = apply(Opset(to=13), before)
    bodies = [a.g for a in done.after.graph.node[-1].attribute]
    assert all(len(body.node[-1].input) == 2 for body in bodies)


def test_a_node_that_cannot_be_converted_stops_all_of_it() -> None:
    loose = helper.make_node("Squeeze", ["x"], ["a"], axes=[0])
    upsample = helper.make_node("Upsample", ["a", "scales"], ["y"], name="old")
    before = at(9, [loose, upsample], {"x": [1, 1, 1, 4, 4], "scales": [4]}, {"y": None})
    graph = decode_of(before)
    from graphopt.pipeline.context import Ledger, RunContext

    ledger = Ledger()
    context = RunContext(graph, Opset(to=13), ledger)
    Opset(to=13).run(graph, context)
    missed = [one for one in ledger.remarks if one.kind == "missed"]
    assert [one.node for one in missed] == ["old"]
    assert encode(graph).proto == encode(decode_of(before)).proto


def decode_of(proto: onnx.ModelProto) -> graphopt.Graph:
    source = from_proto(proto, None)
    return decode(source.proto, source.store)


def test_an_unknown_type_is_a_reason() -> None:
    custom = helper.make_node("Foo", ["x"], ["a"], domain="custom")
    squeeze = helper.make_node("Squeeze", ["a"], ["y"], axes=[0], name="squeeze")
    before = at(11, [custom, squeeze], {"x": [1, 2]}, {"y": None})
    before.opset_import.append(helper.make_opsetid("custom", 1))
    done = apply(Opset(to=13), before, laws=False)
    assert_missed(done, "raise", "the type of 'a' is not known")
    assert versions(done.after)[""] == 11


def test_a_newer_model_is_left_alone() -> None:
    before = model("g (float[N] x) => (float[N] y) { y = Relu(x) }")
    done = apply(Opset(to=13), before)
    assert not done.applied


def test_weights_of_the_model_are_not_copied_about() -> None:
    weight = np.ones((64, 64), np.float32)
    matmul = helper.make_node("MatMul", ["x", "w"], ["y"])
    before = at(11, [matmul], {"x": ["N", 64]}, {"y": ["N", 64]})
    before.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    done = apply(Opset(to=13), before)
    assert done.after.graph.initializer[0] == before.graph.initializer[0]


@pytest.mark.parametrize("version", [0, 101, -3])
def test_a_silly_version_is_refused(version: int) -> None:
    with pytest.raises(ValueError, match="to must be a version such as 21"):
        Opset(to=version)


def test_an_attribute_that_the_converter_leaves_behind() -> None:
    pad = helper.make_node("Pad", ["x"], ["y"], mode="edge", pads=[0, 1], value=1.0)
    found = apply(Opset(to=21), at(9, [pad], {"x": [4]}, {"y": [5]}))
    assert not found.applied and versions(found.after) == {"": 9}
    assert_missed(found, "raise", "ONNX's converter refuses Pad")


def test_bounds_of_another_type_are_refused() -> None:
    clip = helper.make_node("Clip", ["x"], ["y"], min=0.0)
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT16, [3]) for name in ("x", "y")]
    graph = helper.make_graph([clip], "g", infos[:1], infos[1:])
    before = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=8)
    assert not apply(Opset(to=21), before).applied


def test_a_mask_that_is_needed_keeps_what_it_says() -> None:
    """Of what is not dropped: nothing before opset 12, and everything since."""
    nodes = [
        helper.make_node("Dropout", ["x"], ["a", "m"]),
        helper.make_node("Cast", ["m"], ["y"], to=TensorProto.FLOAT),
    ]
    found = apply(Opset(to=13), at(11, nodes, {"x": [4]}, {"y": [4]}))
    assert not found.applied
    assert_missed(found, "raise", "the mask of Dropout says another thing since opset 12")
    assert apply(Opset(to=13), at(11, nodes[:1], {"x": [4]}, {"a": [4]})).applied


@pytest.mark.parametrize(("listed", "ir_version", "told"), [(True, 3, True), (True, 8, False), (False, 8, False)])
def test_weights_that_runtimes_take_for_constants_no_more(listed: bool, ir_version: int, told: bool) -> None:
    before = at(8, [helper.make_node("Add", ["x", "w"], ["y"])], {"x": [2, 3]}, {"y": [2, 3]})
    before.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(3, np.float32), "w"))
    if listed:
        before.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [3]))
    before.ir_version = ir_version
    done = apply(Opset(to=13), before, feeds=[{"x": np.ones((2, 3), np.float32)}])
    assert versions(done.after) == {"": 13}
    if told:
        assert_missed(done, "raise", "1 weights are inputs, which callers may override from IR version 4 on")
    else:
        assert not done.missed


def test_a_large_constant_node_is_raised_without_a_look_at_its_elements() -> None:
    """Its elements stay where they are stored: what the checker gets to see has no reference to them."""
    weight = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Constant", [], ["w"], value=onnx.numpy_helper.from_array(weight, "w")),
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Squeeze", ["a"], ["y"], axes=[0]),
    ]
    graph = helper.make_graph(nodes, "g", [value("x", 1, [1, 3, 64])], [value("y", 1, [3, 64])])
    before = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=7)
    done = apply(Opset(to=17), before)
    assert done.applied and not done.missed
    assert done.after.opset_import[0].version == 17
    assert np.array_equal(onnx.numpy_helper.to_array(done.after.graph.node[0].attribute[0].t), weight)


@pytest.mark.parametrize("version", [1, 100])
def test_the_ends_of_what_a_version_may_be(version: int) -> None:
    assert Opset(to=version).to == version


def test_a_model_of_ir_version_3_without_weights() -> None:
    before = at(8, [helper.make_node("Neg", ["x"], ["y"])], {"x": [2, 3]}, {"y": [2, 3]})
    before.ir_version = 3
    done = apply(Opset(to=13), before)
    assert done.applied and not done.missed
