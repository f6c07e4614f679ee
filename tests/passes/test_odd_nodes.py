"""Nodes that are well formed and make no sense: every pass leaves them, or treats them, and never raises."""

from __future__ import annotations

import functools
import itertools
from random import Random

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from graphopt.analysis.activations import _planes
from graphopt.analysis.quantized import quantized_weight
from graphopt.pipeline import Pass, Registry
from graphopt.testing import apply, model

REGISTRY = Registry.load()
PASSES: dict[str, type[Pass]] = {
    name: REGISTRY.get(name) for name in REGISTRY.names() if REGISTRY.get(name).__module__.startswith("passes.")
}
OPERATORS = sorted(
    {one.name for one in onnx.defs.get_all_schemas() if one.domain in ("", "ai.onnx")} | {"Upsample", "Scatter"}
)
CONSTANTS = {
    "none": np.zeros((0,), np.int64),
    "zero": np.zeros((), np.int64),
    "ones": np.ones((2,), np.int64),
    "back": np.array([[-1, -5], [3, 9]], np.int64),
    "half": np.full((1, 4), 0.5, np.float32),
    "text": np.array([b"a"], object),
}
GIVEN: dict[str, tuple[str, ...]] = {
    "no inputs": (),
    "inputs left out": ("", "", ""),
    "the first left out": ("", "x", "half"),
    "only the first": ("x",),
    "all the same": ("x", "x", "x", "x"),
    "only constants": ("half", "zero", "none", "ones"),
    "of other types": ("i", "text", "half", "half", "half"),
    "of integers": ("i", "back", "back", "ones", "back"),
    "of no elements": ("none", "none", "none"),
    "too many": ("x", "ones", "zero", "half", "none", "x", "i", "ones", "zero"),
}
_NUMBERS = (
    "axis",
    "to",
    "keepdims",
    "group",
    "k",
    "num_outputs",
    "block_size",
    "start",
    "end",
    "batch_dims",
    "allowzero",
)
_LISTS = (
    *("axes", "perm", "axis", "pads", "kernel_shape", "strides", "dilations", "starts", "ends", "split", "scales"),
    *("output_padding", "output_shape", "value_ints"),
)
ATTRIBUTES: tuple[dict[str, object], ...] = (
    {},
    dict.fromkeys(_NUMBERS, 9),
    dict.fromkeys(_NUMBERS, -9) | dict.fromkeys(_LISTS, (0, 0)),
    dict.fromkeys(_NUMBERS, 0) | dict.fromkeys(_LISTS, (7, 7, 7)),
    dict.fromkeys(_LISTS, (-1, 1, -1, 1)),
    dict.fromkeys(_LISTS, ()),
    dict.fromkeys(("mode", "equation", "direction", "auto_pad", "reduction", "layout"), "?"),
)
NODES = 1500
KINDS: dict[type, tuple[str, ...]] = {int: ("INT",), tuple: ("INTS", "FLOATS"), str: ("STRING",)}


@functools.cache
def odd_model(turn: int, version: int) -> ModelProto:
    """Every operator on inputs it was not made for, with attributes out of any range, as far as the checker
    lets them through when it does not look at types and shapes. Each turn is another one."""
    nodes, outputs, random = list[NodeProto](), [], Random(turn)
    for place, (op, given) in enumerate(random.sample(list(itertools.product(OPERATORS, GIVEN)), k=NODES)):
        made, inputs = f"{op}_{place}", list(GIVEN[given])
        for slot in range(len(inputs)):
            if nodes and random.random() < 0.3:
                inputs[slot] = random.choice(nodes[-8:]).output[0]
        node = _node(op, version, inputs, made, random.choice(ATTRIBUTES))
        if node is None:
            continue
        nodes.append(node)
        if place % 2:
            nodes.append(helper.make_node("Neg", [made], [f"{made}_y"]))
            outputs.append(helper.make_tensor_value_info(f"{made}_y", TensorProto.FLOAT, ["L"]))
    graph = helper.make_graph(
        nodes,
        "odd",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4]),
            helper.make_tensor_value_info("i", TensorProto.INT64, ["M"]),
        ],
        outputs,
        [numpy_helper.from_array(value, name) for name, value in CONSTANTS.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=8)


def _node(op: str, version: int, inputs: list[str], made: str, attributes: dict[str, object]) -> NodeProto | None:
    """The operator with as many of the inputs as it takes, and those attributes that it has."""
    allowed = onnx.checker.C.CheckerContext()
    allowed.ir_version, allowed.opset_imports = 8, {"": version}
    try:
        schema = onnx.defs.get_schema(op, version)
        padded = [*inputs, *itertools.repeat(inputs[-1] if inputs else "x", schema.min_input)]
        node = helper.make_node(op, padded[: max(schema.min_input, min(len(inputs), schema.max_input))], [made])
        for name, value in attributes.items():
            kind = schema.attributes[name].type if name in schema.attributes else None
            fits = KINDS[type(value)]
            if kind is not None and kind.name in fits:
                given = [float(one) for one in value] if kind.name == "FLOATS" else value
                node.attribute.append(helper.make_attribute(name, given, attr_type=int(kind.value)))
        onnx.checker.check_node(node, allowed)
    except (onnx.defs.SchemaError, onnx.checker.ValidationError):
        return None
    return node


@pytest.mark.parametrize(("turn", "version"), [(0, 21), (3, 9)])
@pytest.mark.parametrize("name", PASSES)
def test_no_pass_raises(name: str, turn: int, version: int) -> None:
    apply(PASSES[name](), odd_model(turn, version), laws=False)


@pytest.mark.parametrize("name", ["channels", "neurons", "heads"])
def test_a_slice_with_bounds_for_other_axes_than_it_names(name: str) -> None:
    text = "g (float[N, 4] x) => (float[A, B] y) { a = MatMul(x, w)  b = Slice(a, s, e, k)  y = MatMul(b, v) }"
    weights = {"w": np.ones((4, 4), np.float32), "v": np.ones((4, 2), np.float32)}
    bounds = {"s": np.array([0]), "e": np.array([2]), "k": np.array([0, 1])}
    apply(PASSES[name](), model(text, **weights, **bounds), laws=False)


def test_a_scalar_has_one_plane_along_any_axis() -> None:
    assert _planes(np.float32(3).reshape(()), 1).shape == (1, 1, 1)


def test_a_zero_point_of_another_size_is_no_stored_weight() -> None:
    text = "g (float[N, 4] x) => (float[A, B] y) { w = DequantizeLinear(q, s, z)  y = MatMul(x, w) }"
    tensors = {"q": np.ones((4, 2), np.uint8), "s": np.float32(1), "z": np.zeros((0,), np.uint8)}
    graph = apply(PASSES["dead-nodes"](), model(text, **tensors), laws=False).graph
    assert quantized_weight(graph.nodes[0].outputs[0]) is None
