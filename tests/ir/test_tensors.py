"""Every element type survives being read and written; reading copies nothing that it need not."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import SparseTensorProto, TensorProto, helper, numpy_helper
from onnx_graphsurgeon.ir.tensor import LazyValues

from graphopt.errors import BadModel, InternalError, OverLimit, UsageError
from graphopt.ir.dtypes import pack, unpack
from graphopt.ir.store import Store, byte_count, refer
from graphopt.ir.tensors import (
    EMBEDDED,
    SparseStored,
    Stored,
    bits,
    np_dtype,
    onnx_dtype,
    to_tensor_proto,
)
from graphopt.ir.wording import shown, shown_path

Array = np.ndarray[Any, Any]
NUMBERS = {
    name: number
    for name, number in TensorProto.DataType.items()
    if number not in (TensorProto.UNDEFINED, TensorProto.STRING)
}
SHAPES = [(), (0, 3), (1,), (5,), (3, 7)]


def sample(number: int, shape: tuple[int, ...], seed: int = 0) -> Array:
    """Values that the element type has: 0 and 1, negative ones where it can, never NaN."""
    dtype = np_dtype(number)
    assert dtype is not None
    draw = np.random.default_rng(seed)
    name = TensorProto.DataType.Name(number)
    signed = name.startswith(("INT", "FLOAT", "DOUBLE", "BFLOAT"))
    values = draw.choice([1, 2] if name == "FLOAT8E8M0" else [-2, -1, 0, 1] if signed else [0, 1, 1], shape)
    return np.asarray(np.asarray(values).astype(dtype))


def test_every_type_that_onnx_has_is_known() -> None:
    assert len(NUMBERS) >= 22
    for number in NUMBERS.values():
        dtype = np_dtype(number)
        assert dtype is not None
        assert onnx_dtype(dtype) == number
        assert dtype == helper.tensor_dtype_to_np_dtype(number)
    assert np_dtype(TensorProto.STRING) == np.dtype(object)


def test_types_that_nobody_knows() -> None:
    assert np_dtype(0) is None
    assert np_dtype(9999) is None
    with pytest.raises(BadModel, match="element type 9999 is not one that onnx"):
        bits(9999)
    for dtype in ("datetime64[s]", np.longdouble, "V3"):
        with pytest.raises(UsageError, match="has no ONNX element type"):
            onnx_dtype(dtype)


def test_widths() -> None:
    widths = {"FLOAT": 32, "BFLOAT16": 16, "BOOL": 8, "INT4": 4, "UINT2": 2, "FLOAT6E2M3": 6, "COMPLEX128": 128}
    assert {name: bits(NUMBERS[name]) for name in widths} == widths
    assert bits(TensorProto.STRING) == 0


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("number", NUMBERS.values(), ids=NUMBERS.keys())
def test_raw_values_go_both_ways_as_onnx_has_them(number: int, shape: tuple[int, ...]) -> None:
    array = sample(number, shape)
    proto = to_tensor_proto("w", array)
    assert proto == numpy_helper.from_array(array, "w")
    stored = Stored(proto, Store())
    loaded = stored.load()
    assert loaded.dtype == array.dtype == stored.dtype
    assert loaded.shape == shape == tuple(stored.shape)
    assert np.array_equal(loaded, array)
    assert not loaded.flags.writeable
    assert stored.nbytes == len(proto.raw_data) == byte_count(proto)
    assert stored.onnx_dtype == number


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("number", NUMBERS.values(), ids=NUMBERS.keys())
def test_typed_fields_are_read(number: int, shape: tuple[int, ...]) -> None:
    array = sample(number, shape)
    proto = helper.make_tensor("w", number, shape, array.ravel().tolist())
    assert not proto.HasField("raw_data")
    stored = Stored(proto, Store())
    assert np.array_equal(stored.load(), array)
    assert stored.load().dtype == array.dtype
    assert not stored.load().flags.writeable
    assert stored.payload() is None


@pytest.mark.parametrize("width", [2, 4, 6])
@pytest.mark.parametrize("count", range(9))
def test_packing_is_undone_by_unpacking_and_puts_the_first_element_lowest(width: int, count: int) -> None:
    codes = np.random.default_rng(count).integers(0, 1 << width, count, dtype=np.uint8)
    packed = pack(codes, width)
    assert np.array_equal(unpack(packed, width, count), codes)
    assert len(packed) == (count * width + 7) // 8
    number = sum(int(code) << (index * width) for index, code in enumerate(codes))
    assert packed.tobytes() == number.to_bytes(len(packed), "little")


@pytest.mark.parametrize(("name", "limit"), [("INT4", 8), ("INT2", 2)])
def test_negative_packed_values_keep_their_sign(name: str, limit: int) -> None:
    array = np.arange(-limit, limit).astype(np_dtype(NUMBERS[name]))
    proto = to_tensor_proto("w", array)
    assert Stored(proto, Store()).load().astype(int).tolist() == list(range(-limit, limit))
    extended = array.astype(np.int8).view(array.dtype)  # the same values with the bits above the width set
    assert to_tensor_proto("w", extended).raw_data == proto.raw_data


def test_the_bits_of_every_nan_survive() -> None:
    words = np.array([0x7FC12345, 0xFFA00001, 0x7F800001, 0x80000000, 1], np.uint32)
    raw = TensorProto(data_type=TensorProto.FLOAT, dims=[5], raw_data=words.tobytes())
    assert np.array_equal(Stored(raw, Store()).load().view(np.uint32), words)
    data = b"\x22\x14" + words.tobytes()  # float_data on the wire
    typed = TensorProto.FromString(data)
    typed.data_type = TensorProto.FLOAT
    typed.dims.append(5)
    assert np.array_equal(Stored(typed, Store()).load().view(np.uint32), words)
    doubles = TensorProto.FromString(b"\x52\x08" + (0x7FF0000000000001).to_bytes(8, "little"))
    doubles.data_type = TensorProto.DOUBLE
    assert Stored(doubles, Store()).load().view(np.uint64) == 0x7FF0000000000001


def test_typed_words_wrap_as_their_types_do() -> None:
    proto = TensorProto(data_type=TensorProto.INT8, dims=[3], int32_data=[-1, 127, -128])
    assert Stored(proto, Store()).load().tolist() == [-1, 127, -128]
    half = TensorProto(data_type=TensorProto.FLOAT16, dims=[2], int32_data=[0xFC00, 0x3C00])
    assert Stored(half, Store()).load().tolist() == [-np.inf, 1.0]


# ---------------------------------------------------------------- strings


def test_strings_go_both_ways_and_bytes_that_are_no_text_stay_bytes() -> None:
    array = np.array([["a", "é\n"], [b"\xff\x00", ""]], object)
    proto = to_tensor_proto("s", array)
    assert list(proto.string_data) == [b"a", "é\n".encode(), b"\xff\x00", b""]
    stored = Stored(proto, Store())
    assert stored.load().tolist() == [["a", "é\n"], [b"\xff\x00", ""]]
    assert stored.dtype == np.dtype(object)
    assert stored.nbytes == 1 + 3 + 2
    assert to_tensor_proto("s", stored.load()) == proto


def test_numpys_own_strings_are_strings() -> None:
    assert to_tensor_proto("s", np.array(["ab", "c"])).string_data == [b"ab", b"c"]
    assert to_tensor_proto("s", np.array([b"ab", b"c"])).string_data == [b"ab", b"c"]


def test_an_array_of_other_objects_is_refused() -> None:
    with pytest.raises(UsageError, match="tensor 's' has an element of type int, not a string"):
        to_tensor_proto("s", np.array(["a", 3], object))


# ---------------------------------------------------------------- memory


def test_reading_a_mapped_tensor_copies_nothing() -> None:
    store = Store()
    data = bytearray(range(256)) * 16
    base = store.hold(data)
    proto = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1000])
    refer(proto, EMBEDDED, base + 3, 4000)  # not aligned, as in a model file
    array = Stored(proto, store).load()
    assert np.shares_memory(array, np.frombuffer(data, np.uint8))
    assert array.tobytes() == bytes(data[3:4003])
    assert not array.flags.writeable


def test_large_new_values_stay_where_they_are_and_small_ones_go_into_the_proto() -> None:
    store = Store()
    large, small = np.arange(256, dtype=np.float32), np.arange(255, dtype=np.float32)
    proto = to_tensor_proto("w", large, store)
    assert not proto.HasField("raw_data")
    assert store.is_added(proto)
    assert store.is_embedded(proto)
    assert np.shares_memory(Stored(proto, store).load(), large)
    assert to_tensor_proto("w", small, store).HasField("raw_data")


def test_new_values_of_any_layout() -> None:
    store = Store()
    matrix = np.arange(600, dtype=np.float32).reshape(20, 30)
    for array in (matrix.T, matrix[:, ::2], matrix.astype(">f4"), np.asfortranarray(matrix)):
        loaded = Stored(to_tensor_proto("w", array, store), store).load()
        assert np.array_equal(loaded, array)
        assert loaded.dtype == np.float32
    packed = np.ones((50, 99), ml_dtypes.int4)
    proto = to_tensor_proto("w", packed, store)
    assert bytes(store.payload(proto) or b"") == b"\x11" * 2475
    assert np.array_equal(Stored(proto, store).load(), packed)


def test_an_overlay_sees_the_original_and_leaves_it_alone() -> None:
    parent = Store()
    old = to_tensor_proto("old", np.arange(500, dtype=np.float32), parent)
    child = parent.overlay()
    new = to_tensor_proto("new", np.zeros(500, np.float32), child)
    assert child.payload(old) == parent.payload(old)
    assert child.holds(new)
    assert not parent.holds(new)
    with pytest.raises(InternalError, match="'new' are not in this model's store"):
        parent.payload(new)


def test_no_store_ever_gives_another_ones_bytes() -> None:
    first, second = Store(), Store()
    one = to_tensor_proto("one", np.zeros(500, np.float32), first)
    two = to_tensor_proto("two", np.ones(500, np.float32), second)
    for proto, store in ((one, second), (two, first)):
        with pytest.raises(InternalError):
            store.payload(proto)
    moved = TensorProto()
    moved.CopyFrom(two)
    first.adopt(moved, second)
    assert first.payload(moved) == second.payload(two)
    before = moved.SerializeToString()
    first.adopt(moved, second)
    assert moved.SerializeToString() == before


def test_a_reference_must_fit_the_dims() -> None:
    store = Store()
    proto = to_tensor_proto("w", np.zeros(500, np.float32), store)
    proto.dims[0] = 499
    with pytest.raises(BadModel, match="tensor 'w' needs 1996 bytes but its data has 2000"):
        store.payload(proto)
    with pytest.raises(BadModel, match="needs 1996 bytes"):
        Stored(proto, store).load()


def test_files_that_were_not_read_are_not_opened() -> None:
    proto = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1])
    refer(proto, "/etc/passwd", 0, 4)
    store = Store()
    assert not store.is_embedded(proto)
    with pytest.raises(BadModel, match="external file '/etc/passwd', which was not read with the model"):
        Stored(proto, store).load()


@pytest.mark.parametrize(
    ("proto", "words"),
    [
        (TensorProto(name="w", data_type=1, dims=[3], raw_data=bytes(8)), "needs 12 bytes but its data has 8"),
        (TensorProto(name="w", data_type=1, dims=[3], float_data=[1.0]), "needs 3 elements but its data has 1"),
        (TensorProto(name="w", data_type=1, dims=[-3], raw_data=bytes(8)), "has dimension -3"),
        (TensorProto(name="w", data_type=9999, dims=[1], raw_data=bytes(8)), "element type 9999"),
        (TensorProto(name="w", data_type=22, dims=[9], int32_data=[1]), "needs 9 elements but its data has 2"),
    ],
)
def test_values_that_do_not_fit_are_refused_when_read(proto: TensorProto, words: str) -> None:
    with pytest.raises(BadModel, match=words):
        Stored(proto, Store()).load()


def test_they_are_graphsurgeons_lazy_values() -> None:
    proto = to_tensor_proto("w", np.arange(3, dtype=np.float32))
    stored = Stored(proto, Store())
    assert isinstance(stored, LazyValues)
    assert stored.tensor is proto
    constant: Any = gs.Constant("w", stored)
    assert constant.shape == [3]
    assert constant.values.tolist() == [0, 1, 2]
    assert repr(stored) == "Stored('w', shape=[3], dtype=float32)"


# ---------------------------------------------------------------- sparse


def sparse(values: TensorProto, indices: TensorProto, dims: list[int]) -> SparseStored:
    return SparseStored(SparseTensorProto(values=values, indices=indices, dims=dims), Store())


def test_sparse_tensors_are_made_dense_with_their_own_type() -> None:
    array = numpy_helper.from_array
    values = np.array([1.5, -2.5, 3.5], np.float16)
    wanted = np.zeros((2, 5), np.float16)
    wanted.reshape(-1)[[1, 4, 8]] = values
    flat, pairs = np.array([1, 4, 8]), np.array([[0, 1], [0, 4], [1, 3]])
    for places in (flat, pairs, flat.astype(np.int32), pairs.astype(np.int8)):
        stored = sparse(array(values, "s"), array(places), [2, 5])
        assert stored.dtype == np.float16
        assert stored.shape == [2, 5]
        assert np.array_equal(stored.load(), wanted)
        assert stored.load().dtype == np.float16
        assert not stored.load().flags.writeable


def test_sparse_tensors_in_typed_fields_of_any_type() -> None:
    indices = helper.make_tensor("i", TensorProto.INT64, [2], [0, 3])
    for number in NUMBERS.values():
        values = sample(number, (2,))
        stored = sparse(helper.make_tensor("s", number, [2], values.tolist()), indices, [4])
        wanted = np.zeros(4, values.dtype)
        wanted[[0, 3]] = values
        assert np.array_equal(stored.load(), wanted)
    nothing = sparse(numpy_helper.from_array(np.zeros(0, np.float32)), numpy_helper.from_array(np.zeros(0, int)), [3])
    assert nothing.load().tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("places", "dims", "words"),
    [
        (np.array([0, 10]), [2, 5], "has an index outside its dimensions"),
        (np.array([0, -1]), [2, 5], "has an index outside its dimensions"),
        (np.array([[0, 0], [1, 5]]), [2, 5], "has an index outside its dimensions"),
        (np.array([[0, 0, 0], [1, 1, 1]]), [2, 5], "has indices of 3 axes, not 2"),
        (np.array([0]), [2, 5], "has indices that do not fit its 2 values"),
        (np.array([0.0, 1.0]), [2, 5], "has indices that do not fit"),
    ],
)
def test_sparse_tensors_that_do_not_fit(places: Array, dims: list[int], words: str) -> None:
    stored = sparse(numpy_helper.from_array(np.ones(2, np.float32), "s"), numpy_helper.from_array(places), dims)
    with pytest.raises(BadModel, match=f"sparse tensor 's' {words}"):
        stored.load()


def test_a_huge_sparse_tensor_is_not_made_dense() -> None:
    one = numpy_helper.from_array(np.ones(1, np.float32), "s")
    stored = sparse(one, numpy_helper.from_array(np.zeros(1, np.int64)), [1 << 20, 1 << 20])
    with pytest.raises(OverLimit, match="too many to read into memory"):
        stored.load()
    assert stored.nbytes == 12


# ---------------------------------------------------------------- names in messages


def test_names_are_shown_short_and_harmless() -> None:
    assert shown("plain/name.1") == "'plain/name.1'"
    assert shown("a\nb\x1b[0m\u202e\u2028é模") == "'a\\nb\\x1b[0m\\u202e\\u2028é模'"
    assert shown(b"\xff\xfeok") == "'\\xff\\xfeok'"
    assert shown("\udc80") == "'\\udc80'"
    assert shown("n" * 81) == "'" + "n" * 77 + "...'"
    assert shown("n" * 80) == "'" + "n" * 80 + "'"
    assert shown_path("/" + "n" * 200) == "'/" + "n" * 200 + "'"


def test_onnx_itself_reads_what_is_written() -> None:
    for number in NUMBERS.values():
        array = sample(number, (3, 5))
        assert np.array_equal(numpy_helper.to_array(to_tensor_proto("w", array)), array)
        onnx.checker.check_tensor(to_tensor_proto("w", array))
