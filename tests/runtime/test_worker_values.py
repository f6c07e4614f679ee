"""Values of every kind go through onnxruntime and come back the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from little_models import DOUBLE, cast, identity, one_node, parsed, tensor
from onnx import TensorProto, TypeProto, helper

from graphopt.errors import UsageError
from graphopt.runtime.client import Worker, WorkerFailure

FLOAT, STRING = TensorProto.FLOAT, TensorProto.STRING

NUMBERS = [0, 1, 2, 3, 1, 0, 1]

WHOLE: dict[int, Any] = {
    TensorProto.FLOAT: np.float32,
    TensorProto.UINT8: np.uint8,
    TensorProto.INT8: np.int8,
    TensorProto.UINT16: np.uint16,
    TensorProto.INT16: np.int16,
    TensorProto.INT32: np.int32,
    TensorProto.INT64: np.int64,
    TensorProto.BOOL: np.bool_,
    TensorProto.FLOAT16: np.float16,
    TensorProto.DOUBLE: np.float64,
    TensorProto.UINT32: np.uint32,
    TensorProto.UINT64: np.uint64,
    TensorProto.BFLOAT16: ml_dtypes.bfloat16,
    TensorProto.FLOAT8E4M3FN: ml_dtypes.float8_e4m3fn,
    TensorProto.FLOAT8E4M3FNUZ: ml_dtypes.float8_e4m3fnuz,
    TensorProto.FLOAT8E5M2: ml_dtypes.float8_e5m2,
    TensorProto.FLOAT8E5M2FNUZ: ml_dtypes.float8_e5m2fnuz,
}
# onnxruntime's CPU kernels do little more with these than cast them.
CAST: dict[int, tuple[Any, list[float]]] = {
    TensorProto.INT4: (ml_dtypes.int4, [1, -3, 7, -8, 0]),
    TensorProto.UINT4: (ml_dtypes.uint4, [1, 13, 15, 8, 0]),
    TensorProto.INT2: (ml_dtypes.int2, [1, -1, -2, 0, 1]),
    TensorProto.UINT2: (ml_dtypes.uint2, [1, 3, 2, 0, 1]),
    TensorProto.FLOAT8E8M0: (ml_dtypes.float8_e8m0fnu, [1, 2, 0.5, 4, 64]),
}


def run_one(worker: Worker, model: bytes, value: Any) -> Any:
    return worker.run_model(model, {"x": value})["y"]


@pytest.mark.parametrize("element", WHOLE, ids=lambda element: TensorProto.DataType.Name(element))
def test_every_dtype_comes_back_bit_for_bit(worker: Worker, element: int) -> None:
    sent = np.array(NUMBERS, dtype=np.float32).astype(WHOLE[element])
    with worker.load(identity(element)) as session:
        assert session.inputs[0].dtype == sent.dtype
        for array in (sent, sent.reshape(7, 1), sent[0].reshape(()), sent[:0].reshape(0, 3), sent[::-2]):
            result = session.run({"x": array})["y"]
            assert isinstance(result, np.ndarray)
            assert (result.dtype, result.shape) == (array.dtype, array.shape)
            assert result.tobytes() == array.tobytes()


@pytest.mark.parametrize("element", CAST, ids=lambda element: TensorProto.DataType.Name(element))
def test_narrow_dtypes_go_in_and_come_out_unpacked(worker: Worker, element: int) -> None:
    dtype, listed = CAST[element]
    worker.ready()
    if element == TensorProto.FLOAT8E8M0 and int((worker.version or "").split(".")[1]) < 30:
        pytest.skip("onnxruntime learned this type later")
    numbers = np.array(listed, dtype=np.float32)
    for count in (5, 4, 1, 0):
        narrow = run_one(worker, cast(FLOAT, element), numbers[:count])
        assert narrow.dtype == dtype
        assert narrow.astype(np.float32).tolist() == listed[:count]
        wide = run_one(worker, cast(element, FLOAT), numbers[:count].astype(dtype))
        assert wide.tolist() == listed[:count]
    # As many as fill a block of shared memory when packed.
    many = np.resize(numbers, 1 << 17)
    assert (run_one(worker, cast(element, FLOAT), many.astype(dtype)) == many).all()


def test_only_the_low_bits_of_narrow_elements_count(worker: Worker) -> None:
    odd = np.array([0xFD, 0x0D, 0x13], np.uint8).view(ml_dtypes.int4)
    assert run_one(worker, cast(TensorProto.INT4, FLOAT), odd).tolist() == [-3, -3, 3]


@pytest.mark.parametrize("element", [TensorProto.COMPLEX64, TensorProto.FLOAT4E2M1], ids=["COMPLEX64", "FLOAT4E2M1"])
def test_dtypes_that_onnxruntime_does_not_run_are_rejected_in_a_sentence(worker: Worker, element: int) -> None:
    with pytest.raises(
        WorkerFailure, match=r"onnxruntime cannot load the model: .*(not currently|implementation)"
    ) as no:
        worker.load(identity(element))
    assert no.value.kind == "rejected"


def test_strings(worker: Worker) -> None:
    for text in (["a", "é\0b", "", "日本"], [], "one"):
        sent = np.array(text, dtype=object)
        result = run_one(worker, identity(STRING), sent)
        assert (result.dtype, result.shape, result.tolist()) == (sent.dtype, sent.shape, sent.tolist())
    fixed = run_one(worker, identity(STRING), np.array([["ab"], ["c"]]))
    assert fixed.tolist() == [["ab"], ["c"]]


def test_an_output_string_that_is_not_text(worker: Worker) -> None:
    odd = TensorProto(data_type=STRING, name="c", dims=[1], string_data=[b"\xff\xfeA"])
    model = one_node(helper.make_node("Constant", [], ["y"], value=odd), [], [tensor("y", STRING)])
    with pytest.raises(WorkerFailure, match="not UTF-8") as no:
        worker.run_model(model, {})
    assert no.value.kind == "failed"


def sequence_of(element: int) -> TypeProto:
    return helper.make_sequence_type_proto(helper.make_tensor_type_proto(element, None))


def test_sequences(worker: Worker) -> None:
    sent = [np.ones((2, 2), np.float32), np.zeros((0, 3), np.float32), np.float32(4).reshape(())]
    result = run_one(worker, identity(sequence_of(FLOAT)), sent)
    assert [each.shape for each in result] == [(2, 2), (0, 3), ()]
    assert [each.tolist() for each in result] == [each.tolist() for each in sent]
    assert run_one(worker, identity(sequence_of(FLOAT)), []) == []
    texts = run_one(worker, identity(sequence_of(STRING)), [np.array(["a", "b"], object), np.array("c", object)])
    assert [each.tolist() for each in texts] == [["a", "b"], "c"]


def test_maps(worker: Worker) -> None:
    labelled = helper.make_sequence_type_proto(helper.make_map_type_proto(7, helper.make_tensor_type_proto(FLOAT, [])))
    zipmap = helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[3, 5])
    model = one_node(zipmap, [tensor("x", FLOAT)], [helper.make_value_info("y", labelled)])
    rows = run_one(worker, model, np.array([[1, 2], [0.5, 4]], np.float32))
    assert rows == [{3: 1.0, 5: 2.0}, {3: 0.5, 5: 4.0}]

    words = helper.make_map_type_proto(STRING, helper.make_tensor_type_proto(FLOAT, []))
    vectorizer = helper.make_node("DictVectorizer", ["x"], ["y"], domain="ai.onnx.ml", string_vocabulary=["a", "b"])
    model = one_node(vectorizer, [helper.make_value_info("x", words)], [tensor("y", FLOAT)])
    assert run_one(worker, model, {"b": 1.5}).tolist() == [[0.0, 1.5]]
    with pytest.raises(UsageError, match=r"input 'x' \(map\(string,tensor\(float\)\)\) takes a dict, .* type list"):
        run_one(worker, model, [1.5])


def test_optionals(worker: Worker) -> None:
    present = np.ones(2, np.float32)
    tensor_or_none = helper.make_optional_type_proto(helper.make_tensor_type_proto(FLOAT, [2]))
    assert run_one(worker, identity(tensor_or_none), None) is None
    assert worker.run_model(identity(tensor_or_none), {})["y"] is None
    assert run_one(worker, identity(tensor_or_none), present).tolist() == [1, 1]
    list_or_none = helper.make_optional_type_proto(sequence_of(FLOAT))
    assert run_one(worker, identity(list_or_none), None) is None
    assert [each.tolist() for each in run_one(worker, identity(list_or_none), [present])] == [[1, 1]]


def test_strings_and_bfloat16_in_one_model(worker: Worker) -> None:
    # onnxruntime's binding has no one call that does both.
    body = parsed(
        "g (string[N] s, bfloat16[N] b) => (string[N] t, bfloat16[N] c) { t = Identity (s) c = Identity (b) }"
    )
    feeds = {"s": np.array(["x"], object), "b": np.ones(1, ml_dtypes.bfloat16)}
    with worker.load(body) as session:
        assert session.run(feeds, ["t"])["t"].tolist() == ["x"]  # type: ignore[union-attr]
        with pytest.raises(WorkerFailure, match="cannot return an output of type bfloat16") as no:
            session.run(feeds)
    assert no.value.kind == "failed"


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.float32).reshape(4, 6).T,
        np.arange(24, dtype=np.float32)[::-3],
        np.broadcast_to(np.float32(3), (5,)),
        np.arange(6, dtype=">f4"),
    ],
    ids=["transposed", "strided", "broadcast", "big-endian"],
)
def test_arrays_in_any_layout(worker: Worker, array: Any) -> None:
    result = run_one(worker, identity(FLOAT), array)
    assert result.tolist() == array.tolist()
    result += 1  # the caller's own, and writable


def test_results_outlive_the_next_runs(worker: Worker) -> None:
    with worker.load(DOUBLE) as session:
        first = session.run({"x": np.ones(4, np.float32)})["y"]
        large = session.run({"x": np.ones(1 << 19, np.float32)})["y"]
        for _ in range(3):
            session.run({"x": np.zeros(4, np.float32)})
            session.run({"x": np.zeros(1 << 19, np.float32)})
    assert isinstance(first, np.ndarray)
    assert isinstance(large, np.ndarray)
    assert first.tolist() == [2, 2, 2, 2]
    assert first.flags.owndata
    assert not large.flags.owndata  # handed over, not copied
    assert (large == 2).all()


def test_kept_results_keep_no_files_open(worker: Worker) -> None:
    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    x = np.ones(1 << 18, np.float32)
    with worker.load(DOUBLE) as session:
        kept = [session.run({"x": x})["y"]]
        before = open_files()
        kept += [session.run({"x": x})["y"] for _ in range(20)]
        assert open_files() == before
    assert all(np.array_equal(each, 2 * x) for each in kept)  # type: ignore[arg-type]


def test_saved_arrays_whose_dtype_numpy_forgot(worker: Worker) -> None:
    sent = np.ones(3, ml_dtypes.bfloat16)
    result = run_one(worker, identity(TensorProto.BFLOAT16), sent.view("V2"))
    assert result.tobytes() == sent.tobytes()


def test_arrays_do_not_travel_through_the_connection(worker: Worker) -> None:
    with worker.load(DOUBLE) as session:
        x = np.ones(50 << 20, np.float32)  # 200 MiB
        before = worker.traffic
        result = session.run({"x": x})["y"]
        assert 0 < worker.traffic - before < 2000
    assert isinstance(result, np.ndarray)
    assert result.nbytes == x.nbytes
    assert result[:: 1 << 20].tolist() == [2.0] * 50
