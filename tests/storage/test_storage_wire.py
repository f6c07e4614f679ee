"""Taking models apart at the wire and putting them together gives protobuf's own bytes."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from onnx import AttributeProto, ModelProto, SparseTensorProto, TensorProto, helper, numpy_helper
from storage_models import build, chain, info, outside_tensor

from graphopt.errors import BadModel
from graphopt.ir.store import EMBEDDED, Store
from graphopt.ir.tensors import to_tensor_proto
from graphopt.storage.places import tensors
from graphopt.storage.walk import Malformed, TooMany, encoded
from graphopt.storage.wire import join, split


def taken_apart(data: bytes) -> tuple[ModelProto, Store]:
    store = Store()
    skeleton = split(memoryview(data), store.hold(data))
    return ModelProto.FromString(skeleton), store


def together(data: bytes) -> bytes:
    return b"".join(join(*taken_apart(data)))


def canonical(data: bytes) -> bytes:
    model: ModelProto = ModelProto.FromString(data)
    return bytes(model.SerializeToString())


def field(number: int, payload: bytes) -> bytes:
    return encoded(number << 3 | 2) + encoded(len(payload)) + payload


def big(name: str = "w", count: int = 500) -> TensorProto:
    return numpy_helper.from_array(np.arange(count, dtype=np.float32), name)


def everywhere() -> ModelProto:
    """A model with a large tensor in every place where one may be."""
    sparse = SparseTensorProto(values=big("s"), indices=numpy_helper.from_array(np.arange(500)), dims=[900])
    body = helper.make_graph([helper.make_node("Identity", ["bw"], ["b"])], "body", [], [info("b")], [big("bw")])
    odd = helper.make_node("Odd", ["x"], ["o"], domain="d")
    odd.attribute.append(AttributeProto(name="ts", type=AttributeProto.TENSORS, tensors=[big("t0"), big("t1")]))
    odd.attribute.append(AttributeProto(name="sp", type=AttributeProto.SPARSE_TENSOR, sparse_tensor=sparse))
    odd.attribute.append(
        AttributeProto(name="sps", type=AttributeProto.SPARSE_TENSORS, sparse_tensors=[sparse, sparse])
    )
    odd.attribute.append(AttributeProto(name="gs", type=AttributeProto.GRAPHS, graphs=[body, body]))
    nodes = [
        helper.make_node("Constant", [], ["c"], value=big("value")),
        helper.make_node("If", ["x"], ["y"], then_branch=body, else_branch=body),
        odd,
    ]
    model = build(nodes, [big("w")], sparse_initializer=[sparse])
    function = helper.make_function(
        "d", "F", ["a"], ["b"], nodes[:1], [helper.make_opsetid("", 17)], attribute_protos=[nodes[0].attribute[0]]
    )
    model.functions.append(function)
    training = model.training_info.add()
    training.initialization.CopyFrom(body)
    training.algorithm.CopyFrom(body)
    return model


def test_weights_leave_from_every_place_and_come_back() -> None:
    data = everywhere().SerializeToString()
    skeleton, store = taken_apart(data)
    assert len(skeleton.SerializeToString()) < len(data) // 3
    assert len(list(tensors(data))) == 16
    assert all(
        not part.raw_data
        for one in tensors(skeleton.SerializeToString())
        for part in ((one,) if isinstance(one, TensorProto) else (one.values, one.indices))
    )
    assert b"".join(join(skeleton, store)) == data


def test_the_skeleton_refers_into_the_file_without_copying_it() -> None:
    data = chain().SerializeToString()
    skeleton, store = taken_apart(data)
    payload = store.payload(skeleton.graph.initializer[1])
    assert payload is not None
    assert payload.obj is data
    assert bytes(payload) == chain().graph.initializer[1].raw_data


def test_a_small_payload_stays() -> None:
    skeleton, _ = taken_apart(build([], [big("w", 255), big("v", 256)]).SerializeToString())
    small, large = skeleton.graph.initializer
    assert small.HasField("raw_data")
    assert small.data_location == TensorProto.DEFAULT
    assert not large.HasField("raw_data")
    assert large.external_data[0].value == EMBEDDED


def explicit_location(tensor: TensorProto) -> None:
    tensor.data_location = TensorProto.DEFAULT


def all_fields(tensor: TensorProto) -> None:
    tensor.doc_string = "doc"
    tensor.metadata_props.add(key="k", value="v")
    tensor.segment.begin = 0


def stale_reference(tensor: TensorProto) -> None:
    tensor.external_data.add(key="location", value="gone.bin")


def both_locations(tensor: TensorProto) -> None:
    tensor.CopyFrom(outside_tensor("w", "w.bin"))
    tensor.raw_data = bytes(2000)


def no_name(tensor: TensorProto) -> None:
    tensor.ClearField("name")


def empty_name(tensor: TensorProto) -> None:
    tensor.name = ""


@pytest.mark.parametrize(
    "change", [explicit_location, all_fields, stale_reference, both_locations, no_name, empty_name]
)
def test_the_presence_of_every_field_survives(change: Any) -> None:
    tensor = big()
    change(tensor)
    data = build([], [tensor]).SerializeToString()
    assert together(data) == data


def raw_tensor(*parts: bytes) -> bytes:
    return field(7, field(5, b"".join(parts)))


DIMS, KIND, NAME, RAW = b"\x08\xf4\x03", b"\x10\x01", field(8, b"w"), field(9, bytes(range(250)) * 8)
TENSOR = field(5, DIMS + KIND + NAME + RAW)
TENSOR_SIZE = len(TENSOR)
ODD = {
    "fields in reverse order": raw_tensor(RAW, NAME, KIND, DIMS),
    "packed dims": raw_tensor(field(1, b"\xf4\x03"), KIND, NAME, RAW),
    "raw data twice": raw_tensor(DIMS, KIND, RAW, NAME, field(9, bytes(2000))),
    "unknown field in a tensor": raw_tensor(DIMS, KIND, NAME, RAW, field(99, b"new")),
    "unknown field before the data": raw_tensor(field(99, b"new"), DIMS, KIND, NAME, RAW),
    "unknown group in a tensor": raw_tensor(b"\xfb\x01\x08\x01\xfc\x01", DIMS, KIND, NAME, RAW),
    "unknown group in the graph": field(7, b"\xfb\x01\xfb\x01\x08\x01\xfc\x01\xfc\x01" + field(5, DIMS + KIND + RAW)),
    "a known field of the wrong type": raw_tensor(b"\x40\x05", DIMS, KIND, RAW),
    "dims after the data": raw_tensor(KIND, RAW, DIMS),
    "location explicit, twice": raw_tensor(DIMS, KIND, RAW, b"\x70\x00\x70\x00"),
    "a location that nobody knows": raw_tensor(DIMS, KIND, RAW, b"\x70\x07"),
    "the graph twice": raw_tensor(DIMS, KIND, NAME, RAW) + raw_tensor(DIMS, KIND, NAME, RAW) + b"\x08\x08",
    "a length that is not minimal": b"\x3a" + bytes([TENSOR_SIZE & 0x7F | 0x80, TENSOR_SIZE >> 7 | 0x80, 0]) + TENSOR,
    "an attribute's tensor twice": field(7, field(1, field(5, field(5, KIND + RAW) + field(5, DIMS + RAW)))),
    "an attribute's graph twice": field(
        7, field(1, field(5, field(6, field(5, KIND + RAW)) + field(6, field(5, KIND + RAW))))
    ),
    "a sparse tensor's values twice": field(7, field(15, field(1, KIND + RAW) + field(1, DIMS + RAW))),
    "an attribute's sparse tensor twice": field(
        7, field(1, field(5, field(22, field(1, KIND + RAW)) + field(22, field(1, DIMS + RAW))))
    ),
}


@pytest.mark.parametrize("data", ODD.values(), ids=ODD.keys())
def test_odd_encodings_come_out_canonical(data: bytes) -> None:
    assert together(data) == canonical(data)


def test_damaged_bytes_are_taken_apart_as_protobuf_would_or_not_at_all() -> None:
    draw = random.Random(5)
    whole = everywhere().SerializeToString()
    agreed = 0
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(draw.randint(1, 3)):
            at = draw.randrange(len(data))
            if draw.random() < 0.2:
                del data[at:]
            elif draw.random() < 0.4:
                del data[at : at + draw.randint(1, 9)]
            else:
                data[at] = draw.randrange(256)
            if not data:
                break
        damaged = bytes(data)
        try:
            wanted = canonical(damaged)
        except DecodeError:
            with pytest.raises((Malformed, DecodeError)):
                taken_apart(damaged)
            continue
        if (bytes_of := _join_or_nothing(damaged)) is not None:
            assert bytes_of == wanted
            agreed += 1
    assert agreed > 50


def _join_or_nothing(data: bytes) -> bytes | None:
    """The bytes put together again; None when a damaged tensor does not know its own size any more."""
    try:
        return together(data)
    except BadModel:
        return None


def test_nodes_are_passed_over_once_each() -> None:
    nodes = [helper.make_node("Relu", [f"t{i}"], [f"t{i + 1}"], f"n{i}", doc_string="d" * 40) for i in range(3000)]
    data = build(nodes, [big()]).SerializeToString()
    store = Store()
    split(data, store.hold(data), budget=3030)
    with pytest.raises(TooMany):
        split(data, store.hold(data), budget=2990)


def test_nesting_costs_no_stack() -> None:
    inner = field(5, DIMS + KIND + RAW)
    for _ in range(5000):
        inner = field(1, field(5, field(6, inner)))
    data = field(7, inner)
    assert split(data, 0) == data


def test_a_tensor_below_protobufs_depth_is_left_where_it_is() -> None:
    inner = field(5, DIMS + KIND + NAME + RAW)
    for _ in range(32):
        inner = field(1, field(5, field(6, inner)))
    data = field(7, inner)
    assert split(data, 0) == data
    assert together(data) == canonical(data)


def test_join_writes_what_was_edited() -> None:
    skeleton, store = taken_apart(chain().SerializeToString())
    child = store.overlay()
    array = np.full(500, 3.5, np.float32)
    skeleton.graph.initializer[0].CopyFrom(to_tensor_proto("w0", array, child))
    skeleton.graph.initializer[1].name = "renamed"
    expected = chain()
    expected.graph.initializer[0].CopyFrom(numpy_helper.from_array(array, "w0"))
    expected.graph.initializer[1].name = "renamed"
    assert b"".join(join(skeleton, child)) == expected.SerializeToString()
