"""What is computed in this process has the bits that onnxruntime gives, or is not computed here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper

from graphopt.analysis.arithmetic import MOST, MOVED, compute
from graphopt.ir import Node, Variable, decode
from graphopt.ir.store import Store
from graphopt.runtime.failure import WorkerFailure
from graphopt.testing.running import outputs_of

I64, I32, F32, B = np.int64, np.int32, np.float32, np.bool_


def ints(*numbers: int, dtype: Any = I64) -> Any:
    return np.array(numbers, dtype)


def call(op: str, inputs: list[Any], opset: int, attrs: dict[str, Any]) -> ModelProto:
    names = [f"i{place}" if one is not None else "" for place, one in enumerate(inputs)]
    node = helper.make_node(op, names, ["y"], **attrs)
    weights = [numpy_helper.from_array(one, name) for one, name in zip(inputs, names, strict=True) if name]
    graph = helper.make_graph([node], "g", [], [helper.make_empty_tensor_value_info("y")], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def here(proto: ModelProto, inputs: list[Any]) -> Any:
    node: Node = next(iter(decode(proto, Store()).nodes))
    return compute(node, inputs, proto.opset_import[0].version)


SQUARE = np.arange(12, dtype=I64).reshape(3, 4) - 5
FILL = numpy_helper.from_array(np.array([-0.0], F32))
CASES: list[tuple[str, list[Any], int, dict[str, Any]]] = [
    ("Slice", [SQUARE, ints(-1), ints(-9), ints(0), ints(-1)], 21, {}),
    ("Slice", [SQUARE, ints(2), ints(0), ints(0), ints(-1)], 21, {}),
    ("Slice", [SQUARE, ints(99), ints(-(1 << 63)), ints(1), ints(-2)], 21, {}),
    ("Slice", [SQUARE, ints(-1, 0), ints(-9, 2), ints(0, 1), ints(-2, 1)], 21, {}),
    ("Add", [np.array([0.1, -0.0, np.inf], F32), np.array([0.2, -0.0, -np.inf], F32)], 21, {}),
    ("Sub", [np.array([[1e-45], [3e38]], F32), np.array([2e-45, -3e38], F32)], 21, {}),
    ("Mul", [np.array([0.1, 1e-30], F32), np.array([3.0, 1e-30], F32)], 21, {}),
    ("Div", [np.array([1.0, 0.0, -1.0]), np.array([3.0, 0.0, 0.0])], 21, {}),
    ("Sqrt", [np.array([2.0, 0.0, -0.0, 1e-40, 5e-324])], 21, {}),
    ("Sqrt", [np.array([2.0, 3.0, -1.0], F32)], 13, {}),
    ("Identity", [np.zeros(MOST + 1, F32)], 21, {}),
    ("Identity", [SQUARE], 21, {}),
    ("Identity", [np.array([-0.0, np.nan, np.inf], F32)], 13, {}),
    ("Cast", [SQUARE], 21, {"to": 1}),
    ("Cast", [SQUARE], 21, {"to": 9}),
    ("Cast", [ints(-3, 300)], 21, {"to": 6}),
    ("Cast", [np.array([True, False])], 21, {"to": 7}),
    ("Cast", [np.array(True)], 21, {"to": 1}),
    ("Cast", [np.array(7, I32)], 13, {"to": 11}),
    ("Shape", [np.zeros((2, 0, 5), F32)], 21, {}),
    ("Shape", [np.zeros((2, 3, 5), F32)], 21, {"start": -2, "end": 9}),
    ("Shape", [np.zeros((2, 3, 5), F32)], 15, {"start": 2, "end": 1}),
    ("Size", [np.zeros((2, 3, 5), F32)], 21, {}),
    ("Gather", [SQUARE, ints(-1, 0)], 21, {"axis": 1}),
    ("Gather", [SQUARE, np.array(2, I32)], 11, {}),
    ("Gather", [np.array([-0.0, np.nan], F32), ints(1)], 21, {}),
    ("Concat", [SQUARE, SQUARE], 21, {"axis": -1}),
    ("Squeeze", [SQUARE.reshape(1, 3, 1, 4), ints(0, -2)], 21, {}),
    ("Squeeze", [SQUARE.reshape(1, 3, 1, 4)], 11, {"axes": [2]}),
    ("Squeeze", [SQUARE.reshape(1, 3, 1, 4)], 13, {}),
    ("Unsqueeze", [SQUARE, ints(-1, 0)], 21, {}),
    ("Unsqueeze", [SQUARE], 11, {"axes": [1]}),
    ("Unsqueeze", [np.array(4), ints(0)], 13, {}),
    ("Reshape", [SQUARE, ints(0, -1, 2)], 21, {}),
    ("Reshape", [SQUARE, ints(12)], 5, {}),
    ("Transpose", [SQUARE], 21, {}),
    ("Transpose", [SQUARE.reshape(3, 2, 2)], 21, {"perm": [2, 0, 1]}),
    ("Slice", [SQUARE, ints(-3), ints(2**62), ints(-1), ints(2)], 21, {}),
    ("Slice", [SQUARE, ints(1, -100), ints(3, 2)], 13, {}),
    ("Slice", [SQUARE], 9, {"starts": [1], "ends": [-1], "axes": [1]}),
    ("Where", [np.array([[True], [False], [True]]), SQUARE, ints(1)], 21, {}),
    ("Range", [np.array(3), np.array(-8), np.array(-3)], 21, {}),
    ("Range", [np.array(3), np.array(3), np.array(1)], 21, {}),
    ("ConstantOfShape", [ints(2, 3)], 21, {}),
    ("ConstantOfShape", [ints()], 21, {"value": FILL}),
    ("ReduceProd", [ints(2, 3, -7)], 13, {"axes": [0], "keepdims": 0}),
    ("ReduceProd", [ints(2, 3, -7)], 21, {}),
    ("Add", [SQUARE, ints(1, 2, 3, -4)], 21, {}),
    ("Add", [np.array(2), np.array(3)], 13, {}),
    ("Sub", [SQUARE.astype(I32), np.array(9, I32)], 21, {}),
    ("Mul", [SQUARE, SQUARE], 21, {}),
    ("Div", [ints(7, 8, 0), ints(2)], 21, {}),
    ("Equal", [SQUARE, SQUARE.T.reshape(3, 4)], 21, {}),
    ("Less", [SQUARE, ints(0)], 21, {}),
    ("Greater", [SQUARE, ints(0)], 21, {}),
    ("LessOrEqual", [SQUARE, ints(0)], 21, {}),
    ("GreaterOrEqual", [SQUARE, ints(0)], 21, {}),
    ("And", [np.array([True, False]), np.array([True])], 21, {}),
    ("Or", [np.array([True, False]), np.array([False])], 21, {}),
    ("Not", [np.array([True, False])], 21, {}),
]


@pytest.mark.parametrize(("op", "inputs", "opset", "attrs"), CASES, ids=[f"{c[0]}{i}" for i, c in enumerate(CASES)])
def test_the_bits_are_onnxruntime_s(op: str, inputs: list[Any], opset: int, attrs: dict[str, Any]) -> None:
    proto = call(op, inputs, opset, attrs)
    mine, reference = here(proto, inputs), outputs_of(proto.SerializeToString(), [{}])[0]["y"]
    assert mine is not None
    assert isinstance(reference, np.ndarray)
    assert (mine.dtype, mine.shape, mine.tobytes()) == (reference.dtype, reference.shape, reference.tobytes())
    assert not mine.flags.writeable


LEFT: list[tuple[str, list[Any], int, dict[str, Any]]] = [
    ("Add", [np.ones(2, np.float16), np.ones(2, np.float16)], 21, {}),
    ("Sqrt", [np.ones(2, np.float16)], 21, {}),
    ("Add", [ints(2**62), ints(2**62)], 21, {}),
    ("Mul", [ints(2**40), ints(2**40)], 21, {}),
    ("Sub", [ints(0, dtype=np.uint8), ints(1, dtype=np.uint8)], 21, {}),
    ("Add", [ints(1), ints(1)], 6, {"broadcast": 1}),
    ("Div", [ints(7), ints(0)], 21, {}),
    ("Div", [ints(-7), ints(2)], 21, {}),
    ("Cast", [np.array([1.5], F32)], 21, {"to": 7}),
    ("Cast", [ints(300)], 21, {"to": 3}),
    ("Cast", [ints(2**53 + 1)], 21, {"to": 11}),
    ("Cast", [ints(1)], 21, {"to": 10}),
    ("Cast", [ints(1)], 21, {"to": 8}),
    ("Gather", [SQUARE, ints(3)], 21, {}),
    ("Gather", [SQUARE, ints(-4)], 21, {}),
    ("Reshape", [SQUARE, ints(0, 0, 0)], 21, {}),
    ("Reshape", [SQUARE, ints(5, -1)], 21, {}),
    ("Reshape", [np.zeros((0, 3), F32), ints(0, -1)], 21, {}),
    ("Reshape", [SQUARE, ints(3, 4)], 21, {"allowzero": 1}),
    ("Slice", [SQUARE, ints(-9), ints(-1), ints(0), ints(-1)], 21, {}),
    ("Slice", [SQUARE, ints(0), ints(1), ints(0), ints(0)], 21, {}),
    ("Squeeze", [SQUARE, ints(0)], 21, {}),
    ("Squeeze", [SQUARE.reshape(1, 12), ints()], 21, {}),
    ("Where", [np.array([True]), np.ones(1, F32), np.zeros(1, F32)], 21, {}),
    ("Range", [np.array(0), np.array(MOST + 1), np.array(1)], 21, {}),
    ("Range", [np.array(0), np.array(5), np.array(0)], 21, {}),
    ("Range", [np.array(0, F32), np.array(5, F32), np.array(1, F32)], 21, {}),
    ("ConstantOfShape", [ints(MOST + 1)], 21, {}),
    ("ConstantOfShape", [ints(-1)], 21, {}),
    ("ReduceProd", [SQUARE], 21, {}),
    ("ReduceProd", [ints(2, 3)], 21, {"noop_with_empty_axes": 1}),
    ("Concat", [ints(1), ints(1, dtype=I32)], 21, {"axis": 0}),
    ("Identity", [np.zeros(MOVED + 1, F32)], 21, {}),
    ("Exp", [np.ones(1, F32)], 21, {}),
    ("And", [ints(1), ints(1)], 21, {}),
    ("Transpose", [SQUARE], 21, {"perm": [0, 0]}),
]


@pytest.mark.parametrize(("op", "inputs", "opset", "attrs"), LEFT, ids=[f"{c[0]}{i}" for i, c in enumerate(LEFT)])
def test_what_is_left_to_onnxruntime(op: str, inputs: list[Any], opset: int, attrs: dict[str, Any]) -> None:
    assert here(call(op, inputs, opset, attrs), inputs) is None


def test_the_size_of_a_large_value_needs_no_look_at_it() -> None:
    wide = np.broadcast_to(np.int8(0), (1 << 20, 1 << 20))
    shape = Node("Shape", "", {}, [Variable("a")], [Variable("b")])
    assert compute(shape, [wide], 21).tolist() == [1 << 20, 1 << 20]  # type: ignore[union-attr]


@pytest.mark.parametrize("outputs", [[], [""], ["a", "b"], ["", "b"]])
def test_one_named_output(outputs: list[str]) -> None:
    node = Node("Identity", "", {}, [Variable("x")], [Variable(name) for name in outputs])
    assert compute(node, [ints(1)], 21) is None


def test_an_operator_of_another_domain_only_shares_the_name() -> None:
    node = Node("Identity", "", {}, [Variable("x")], [Variable("y")], domain="acme")
    assert compute(node, [ints(1)], 21) is None


def test_the_judge_can_refuse() -> None:
    with pytest.raises(WorkerFailure):
        outputs_of(call("Gather", [SQUARE, ints(3)], 21, {}).SerializeToString(), [{}])
