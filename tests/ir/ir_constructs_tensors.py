"""Constructs of tensors, initializers, inputs and outputs that must survive a round trip."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from ir_models import BOOL, FLOAT, INT64, body, floats, info, model, node, relu
from onnx import ModelProto, TensorProto, helper, numpy_helper

Build = Callable[[], ModelProto]
CONSTRUCTS: dict[str, Build] = {}


def construct(build: Build) -> Build:
    CONSTRUCTS[build.__name__.replace("_", " ")] = build
    return build


def _holding(tensor: TensorProto) -> ModelProto:
    """A model with `tensor` as an initializer and as a named attribute."""
    nodes = [node("Foo", f"{tensor.name} x", "t", domain="my"), node("Constant", "", "c", value=tensor)]
    return model([*nodes, node("Foo", "t c", "y", domain="my")], weights=[tensor], domains={"my": 1}, opset=23)


def _raw(kind: int) -> TensorProto:
    values = np.array([0, 1, 1, 0, 1]).astype(helper.tensor_dtype_to_np_dtype(kind))
    return numpy_helper.from_array(values, "w")


def _in_typed_field(kind: int) -> TensorProto:
    values = [True, False, True] if kind == BOOL else [0, 1, 1]
    return helper.make_tensor("w", kind, [3], values)


def _as_input(kind: int) -> ModelProto:
    return model(
        [node("Foo", "x", "y", domain="my")], [info("x", kind)], [info("y", kind)], domains={"my": 1}, opset=23
    )


_STRINGS = (TensorProto.UNDEFINED, TensorProto.STRING)
for _name, _kind in TensorProto.DataType.items():
    if _kind not in _STRINGS:
        CONSTRUCTS[f"{_name} in raw form"] = partial(lambda kind: _holding(_raw(kind)), _kind)
        CONSTRUCTS[f"{_name} in its typed field"] = partial(lambda kind: _holding(_in_typed_field(kind)), _kind)
        CONSTRUCTS[f"{_name} as an input"] = partial(_as_input, _kind)


@construct
def strings() -> ModelProto:
    return _holding(helper.make_tensor("w", TensorProto.STRING, [2, 2], [b"a", b"\xff\xfe", "é".encode(), b""]))


@construct
def payloads_of_nan() -> ModelProto:
    bits = np.array([0x7FC12345, 0xFFA00001, 0x80000000, 0x00000001], np.uint32)
    return _holding(numpy_helper.from_array(bits.view(np.float32), "w"))


@construct
def payloads_of_nan_in_the_typed_field() -> ModelProto:
    wire = np.array([0x7FC12345, 0xFFA00001, 0x80000000], np.uint32).tobytes()
    return _holding(TensorProto.FromString(b"\x08\x03\x10\x01\x22" + bytes([len(wire)]) + wire + b"\x42\x01w"))


@construct
def zero_elements() -> ModelProto:
    return _holding(TensorProto(name="w", data_type=FLOAT, dims=[0, 3]))


@construct
def zero_elements_with_empty_raw_data() -> ModelProto:
    return _holding(TensorProto(name="w", data_type=FLOAT, dims=[2, 0], raw_data=b""))


@construct
def a_scalar() -> ModelProto:
    return _holding(numpy_helper.from_array(np.float32(3), "w"))


@construct
def a_location_that_is_spelled_out() -> ModelProto:
    tensor = floats("w")
    tensor.data_location = TensorProto.DEFAULT
    return _holding(tensor)


@construct
def a_tensor_that_says_more() -> ModelProto:
    tensor = floats("w")
    tensor.doc_string = "a weight"
    tensor.metadata_props.add(key="k", value="v")
    return _holding(tensor)


def _sparse(values: TensorProto, indices: TensorProto, *dims: int) -> ModelProto:
    sparse = helper.make_sparse_tensor(values, indices, dims)
    made = model(
        [node("Add", "x w", "y")], [info("x", shape=dims)], [info("y", shape=dims)], sparse_initializer=[sparse]
    )
    made.graph.node.append(node("Constant", "", "c", sparse_value=sparse))
    return made


@construct
def sparse_in_typed_fields() -> ModelProto:
    return _sparse(helper.make_tensor("w", FLOAT, [2], [1.0, 2.0]), helper.make_tensor("i", INT64, [2], [0, 3]), 4)


@construct
def sparse_in_raw_form() -> ModelProto:
    return _sparse(floats("w"), numpy_helper.from_array(np.array([0, 3]), "i"), 4)


@construct
def sparse_of_two_axes() -> ModelProto:
    return _sparse(floats("w"), numpy_helper.from_array(np.array([[0, 1], [2, 0]]), "i"), 3, 2)


@construct
def sparse_of_half_floats() -> ModelProto:
    values = numpy_helper.from_array(np.array([1, 2], np.float16), "w")
    return _sparse(values, numpy_helper.from_array(np.array([0, 3], np.int64), ""), 4)


def _adding(**rest: object) -> ModelProto:
    return model([node("Add", "x w", "y")], weights=[floats("w")], **rest)  # type: ignore[arg-type]


@construct
def an_initializer_that_is_an_input() -> ModelProto:
    return _adding(inputs=["x", "w"])


@construct
def initializers_that_are_inputs_of_an_old_model() -> ModelProto:
    return _adding(inputs=["w", "x"], ir=3, opset=8)


@construct
def a_sparse_initializer_that_is_an_input() -> ModelProto:
    made = CONSTRUCTS["sparse in raw form"]()
    made.graph.input.append(info("w", shape=(4,)))
    return made


@construct
def an_initializer_that_is_an_output() -> ModelProto:
    return relu(outputs=["y", "w"], weights=[floats("w")])


@construct
def an_initializer_that_is_only_an_output() -> ModelProto:
    return relu(outputs=["w", "y", "w"], weights=[floats("w")])


@construct
def an_initializer_that_nobody_reads() -> ModelProto:
    return relu(weights=[floats("w"), floats("v")])


@construct
def an_initializer_without_a_name() -> ModelProto:
    return model([node("Clip", "x - w", "y")], weights=[floats(""), floats("w")])


@construct
def two_initializers_of_one_name() -> ModelProto:
    return model([node("Add", "x w", "y")], weights=[floats("w"), floats("w", 3.0, 4.0)])


@construct
def an_initializer_of_a_body() -> ModelProto:
    branch = body("branch", [node("Add", "x w", "r")], [], ["r"], initializer=[floats("w")])
    return model([node("If", "c", "y", then_branch=branch, else_branch=branch)], ["x", info("c", BOOL, ())])


@construct
def an_input_that_is_an_output() -> ModelProto:
    return relu(outputs=["y", "x"])


@construct
def an_input_that_nobody_reads() -> ModelProto:
    return relu(inputs=["unread", "x"])


@construct
def one_output_twice() -> ModelProto:
    made = relu(outputs=["y", "y"])
    made.graph.output[1].doc_string = "the second"
    return made


@construct
def an_output_that_is_also_declared_inside() -> ModelProto:
    return relu(value_info=[info("y", shape=("N",)), info("x")])


@construct
def an_output_that_nobody_makes() -> ModelProto:
    return relu(outputs=["y", "nobody"])
