"""Tensors and names in a model are what they say, or the model is refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, SparseTensorProto, TensorProto, helper, numpy_helper
from storage_models import (
    build,
    chain,
    info,
)

from graphopt.errors import BadModel, GraphoptError
from graphopt.limits import Limits
from graphopt.storage.read import read


def refusal(path: Path, limits: Limits | None = None) -> str:
    """The sentence with which `path` is refused."""
    with pytest.raises(BadModel) as caught:
        read(path) if limits is None else read(path, limits)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert "\x1b" not in sentence
    return sentence


def model_in(folder: Path, model: ModelProto | bytes) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path


def with_tensor(**fields: object) -> ModelProto:
    model = build([])
    model.graph.initializer.append(TensorProto(name="w", **fields))  # type: ignore[arg-type]
    return model


FLOAT, INT4, STRING = TensorProto.FLOAT, TensorProto.INT4, TensorProto.STRING
BROKEN = {
    "a negative dim": ({"data_type": FLOAT, "dims": [2, -1], "raw_data": bytes(8)}, "dimension -1"),
    "a product beyond all bounds": (
        {"data_type": FLOAT, "dims": [2**40] * 3, "raw_data": bytes(8)},
        "can be addressed",
    ),
    "a product that wraps to 0": ({"data_type": FLOAT, "dims": [2**32, 2**32]}, "can be addressed"),
    "too few bytes": (
        {"data_type": FLOAT, "dims": [1000], "raw_data": bytes(4)},
        "needs 4000 bytes for its 1000 elements",
    ),
    "too many bytes": ({"data_type": FLOAT, "dims": [1000], "raw_data": bytes(4004)}, "its data has 4004"),
    "no values": ({"data_type": FLOAT, "dims": [3]}, "needs 3 values for its 3 elements but its data has 0"),
    "too few values": ({"data_type": FLOAT, "dims": [3], "float_data": [1.0]}, "its data has 1"),
    "too many strings": ({"data_type": STRING, "dims": [1], "string_data": [b"a", b"b"]}, "its data has 2"),
    "complex pairs": ({"data_type": TensorProto.COMPLEX64, "dims": [2], "float_data": [1.0, 2.0]}, "needs 4 values"),
    "packed int4": ({"data_type": INT4, "dims": [3], "raw_data": bytes(3)}, "needs 2 bytes for its 3"),
    "packed int4 in words": ({"data_type": INT4, "dims": [3], "int32_data": [1, 2, 3]}, "needs 2 values"),
    "the wrong field": ({"data_type": FLOAT, "dims": [2], "int64_data": [1, 2]}, "in int64_data"),
    "two fields": ({"data_type": FLOAT, "dims": [1], "float_data": [1.0], "raw_data": bytes(4)}, "more than once"),
    "two fields, large": (
        {"data_type": FLOAT, "dims": [500], "float_data": [1.0], "raw_data": bytes(2000)},
        "more than once",
    ),
    "raw strings": ({"data_type": STRING, "dims": [4], "raw_data": b"abcd"}, "raw bytes instead of strings"),
    "many raw strings": ({"data_type": STRING, "dims": [4], "raw_data": bytes(4000)}, "raw bytes instead of strings"),
    "an unknown type": ({"data_type": 9999, "dims": [1], "raw_data": bytes(4)}, "element type 9999"),
    "no type": ({"dims": [1], "raw_data": bytes(4)}, "element type 0"),
}


@pytest.mark.parametrize(("fields", "words"), BROKEN.values(), ids=BROKEN.keys())
def test_a_tensor_that_is_not_whole(tmp_path: Path, fields: dict[str, object], words: str) -> None:
    said = refusal(model_in(tmp_path, with_tensor(**fields)))
    assert words in said
    assert "tensor 'w'" in said


GOOD = {
    "a scalar": {"data_type": FLOAT, "raw_data": bytes(4)},
    "nothing, in no field": {"data_type": FLOAT, "dims": [0, 3]},
    "nothing, said with raw data": {"data_type": FLOAT, "dims": [3, 0], "raw_data": b""},
    "values beside empty raw data": {"data_type": FLOAT, "dims": [1], "float_data": [1.0], "raw_data": b""},
    "halves in words": {"data_type": TensorProto.FLOAT16, "dims": [2], "int32_data": [1, 2]},
    "unsigned in long words": {"data_type": TensorProto.UINT32, "dims": [2], "uint64_data": [1, 2]},
    "packed int4": {"data_type": INT4, "dims": [3], "raw_data": bytes(2)},
}


@pytest.mark.parametrize("fields", GOOD.values(), ids=GOOD.keys())
def test_a_tensor_that_is_whole(tmp_path: Path, fields: dict[str, object]) -> None:
    assert read(model_in(tmp_path, with_tensor(**fields))).proto.graph.initializer[0].name == "w"


def test_tensors_are_checked_wherever_they_are(tmp_path: Path) -> None:
    bad = TensorProto(name="bad", data_type=FLOAT, dims=[1000], raw_data=bytes(4))
    constant = helper.make_node("Constant", [], ["c"], value=bad)
    body = helper.make_graph([constant], "b", [], [info("c")])
    holder = helper.make_graph([], "b", [], [info("c")], [bad])
    models = [
        build([constant]),
        build([helper.make_node("If", ["x"], ["y"], then_branch=body, else_branch=body)]),
        build([helper.make_node("If", ["x"], ["y"], then_branch=holder, else_branch=holder)]),
        build([]),
    ]
    models[-1].functions.append(helper.make_function("d", "F", [], ["c"], [constant], [helper.make_opsetid("", 17)]))
    for model in models:
        assert "tensor 'bad' needs 4000 bytes" in refusal(model_in(tmp_path, model))


def test_names_of_strangers_are_cut_and_harmless(tmp_path: Path) -> None:
    model = with_tensor(data_type=FLOAT, dims=[3])
    model.graph.initializer[0].name = "\x1b[31m\n" + "n" * 500 + "\u202e"
    said = refusal(model_in(tmp_path, model))
    assert "'\\x1b[31m\\n" in said
    assert "n" * 60 in said
    assert "n" * 90 not in said


def sparse(**change: object) -> ModelProto:
    values = numpy_helper.from_array(np.ones(3, np.float32), "s")
    tensor = SparseTensorProto(values=values, indices=numpy_helper.from_array(np.arange(3)), dims=[2, 5])
    for name, value in change.items():
        tensor.ClearField(name)
        if isinstance(value, TensorProto):
            getattr(tensor, name).CopyFrom(value)
        else:
            getattr(tensor, name).extend(value)
    return build([], sparse_initializer=[tensor])


def test_sparse_tensors_are_checked_without_being_made_dense(tmp_path: Path) -> None:
    array = numpy_helper.from_array
    read(model_in(tmp_path, sparse()))
    read(model_in(tmp_path, sparse(indices=array(np.zeros((3, 2), np.int64)))))
    read(model_in(tmp_path, sparse(indices=array(np.arange(3, dtype=np.int32)))))
    read(model_in(tmp_path, sparse(dims=[2**20, 2**20])))
    faults = {
        "indices of shape [2] for 3 values": sparse(indices=array(np.arange(2))),
        "indices of shape [3, 1] for 3 values": sparse(indices=array(np.zeros((3, 1), np.int64))),
        "indices that are not integers": sparse(indices=array(np.zeros(3, np.float32))),
        "values of 2 axes": sparse(values=array(np.ones((3, 1), np.float32), "s")),
        "dimension -5": sparse(dims=[-5]),
        "more than can be addressed": sparse(dims=[2**40, 2**40]),
        "needs 12 bytes": sparse(values=TensorProto(data_type=FLOAT, dims=[3], raw_data=b"1234")),
    }
    for words, model in faults.items():
        assert words in refusal(model_in(tmp_path, model))


def test_a_name_that_is_not_text_is_refused_and_a_doc_string_passes(tmp_path: Path) -> None:
    model = build([helper.make_node("Relu", ["x"], ["y"], "NAME", doc_string="DOCS")])
    data = model.SerializeToString()
    read(model_in(tmp_path, data.replace(b"DOCS", b"\xb2\xe2\xca\xd4")))  # a path in GBK, as old exporters wrote
    for old in (b"NAME", b"\x01x\x12", b"Relu"):
        broken = data.replace(old, old[:-2] + b"\xff" + old[-1:] if len(old) == 4 else b"\x01\xff\x12", 1)
        assert "has a name that is not UTF-8 text" in refusal(model_in(tmp_path, broken))
    assert "'Re\\xffu' of node 0" in refusal(model_in(tmp_path, data.replace(b"Relu", b"Re\xffu")))


def test_damage_of_any_kind_ends_in_a_sentence(tmp_path: Path) -> None:
    draw = np.random.default_rng(11)
    whole = np.frombuffer(chain(2, 300).SerializeToString(), np.uint8)
    good = 0
    for _ in range(300):
        data = whole.copy()
        data[draw.integers(0, len(data) if draw.random() < 0.3 else 90, 2)] = draw.integers(0, 256, 2)
        try:
            read(model_in(tmp_path, data[: draw.integers(1, 2 * len(data))].tobytes()))
            good += 1
        except GraphoptError as error:
            assert "\n" not in str(error)
    assert 10 < good < 290
