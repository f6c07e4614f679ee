"""New values of a run that lie in files: the same bits, no names in the folder, one sentence when there is no room."""

from __future__ import annotations

import errno
import gc
import os
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx.parser
import pytest

from graphopt.errors import OverLimit
from graphopt.ir import Constant, decode, encode, shelf
from graphopt.ir.shelf import Shelved, is_mapped, scratch, shelved, shelving
from graphopt.storage.read import from_proto
from graphopt.storage.wire import join

ROWS, COLUMNS = 257, 513  # odd, so that the last byte of packed codes is half full


def _values(dtype: Any) -> np.ndarray:
    random = np.random.default_rng(0)
    if np.dtype(dtype) == np.dtype(ml_dtypes.int4):
        return random.integers(-8, 8, (ROWS, COLUMNS)).astype(np.int8).astype(dtype)
    return random.standard_normal((ROWS, COLUMNS)).astype(dtype)


def _bytes_of(values: np.ndarray) -> bytes:
    """The model with one weight of these values, as it is written."""
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21]> g (float[1] x) => (float[1] y) { y = Neg(x) }'
    )
    source = from_proto(model)
    graph = decode(source.proto, source.store)
    graph.constant(values, "w")
    encoded = encode(graph)
    return b"".join(bytes(piece) for piece in join(encoded.proto, encoded.store))


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.int8, ml_dtypes.int4, ml_dtypes.int2])
def test_a_model_is_written_as_if_its_values_were_in_memory(tmp_path: Path, dtype: Any) -> None:
    values = _values(np.int8).astype(dtype) if dtype is ml_dtypes.int2 else _values(dtype)
    if values.nbytes * (np.dtype(dtype) == np.dtype(np.int8)):
        values = np.tile(values, (2, 2))
    plain = _bytes_of(values)
    with shelving(tmp_path, kept=0):
        lying = shelved(values)
        assert isinstance(lying, Shelved) or is_mapped(lying)
        assert _bytes_of(values) == plain
        assert list(tmp_path.iterdir()) == []
        constant = Constant("w", values)
    assert constant.values.dtype == values.dtype and constant.nbytes == Constant("w", values).nbytes
    assert np.array_equal(constant.values.view(np.uint8), values.view(np.uint8))
    assert tuple(constant.shape) == values.shape
    assert not constant.values.flags.writeable


def _held(folder: Path) -> int:
    """How many files of a folder this process has open, also those without a name."""
    files = Path(f"/proc/{os.getpid()}/fd")
    return sum(os.path.realpath(one).startswith(str(folder)) for one in files.iterdir()) if files.is_dir() else -1


def _looked_at(folder: Path) -> tuple[bool, int]:
    with shelving(folder, kept=0):
        constant = Constant("w", _values(np.float32))
    values = constant.values
    del constant
    gc.collect()
    return np.array_equal(values, _values(np.float32)), _held(folder)


def test_values_last_as_long_as_somebody_looks_at_them(tmp_path: Path) -> None:
    if _held(tmp_path) < 0:
        pytest.skip("the system does not say which files are open")
    same, held = _looked_at(tmp_path)
    gc.collect()
    assert (same, held, _held(tmp_path)) == (True, 1, 0)


def test_what_fits_stays_in_memory_and_only_within_the_block(tmp_path: Path) -> None:
    values = _values(np.float32)
    with shelving(tmp_path, kept=values.nbytes):
        assert shelved(values) is values
        assert shelved(values) is not values, "there is no more room for it in memory"
        small = values[:10]
        assert shelved(small) is small
    assert shelved(values) is values


def test_scratch_is_filled_where_it_lies_and_stored_without_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "_SCRATCH", 1 << 16)
    with shelving(tmp_path, kept=0):
        made = scratch((ROWS, COLUMNS), np.float32)
        assert is_mapped(made)
        made[...] = _values(np.float32)
        constant = Constant("w", made)
    assert np.shares_memory(constant.values, made)
    assert not is_mapped(scratch((ROWS, COLUMNS), np.float32))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
def test_no_room_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def full(descriptor: int, start: int, size: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with (
        shelving(tmp_path, kept=0),
        pytest.raises(OverLimit, match=r"no room for .* bytes of new weights in .*nothing was changed"),
    ):
        shelved(_values(np.float32))
    assert list(tmp_path.iterdir()) == []


def test_where_files_cannot_be_allocated_they_are_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(descriptor: int, start: int, size: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "no")

    monkeypatch.setattr(os, "posix_fallocate", unsupported, raising=False)
    monkeypatch.setattr(shelf, "_SEGMENT", 1 << 20)
    with shelving(tmp_path, kept=0):
        assert np.array_equal(shelved(_values(np.float32)), _values(np.float32))


def test_many_arrays_take_few_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "_SEGMENT", 1 << 20)
    with shelving(tmp_path, kept=0):
        made = [shelved(np.full((1 << 17,), index, np.uint8)) for index in range(60)]
    assert all((one == index).all() for index, one in enumerate(made))
    assert _held(tmp_path) <= 8


def test_unpacked_values_are_not_kept_once_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphopt.ir import values as module

    monkeypatch.setattr(module, "_LARGE", 1)
    held = Constant("w", Shelved(memoryview(bytes([0x21, 0x43])), np.dtype(ml_dtypes.int4), (4,)))
    first = held.values
    assert held.values is first
    assert first.astype(int).tolist() == [1, 2, 3, 4]
    del first
    gc.collect()
    assert held.__dict__["_loaded"]() is None
    assert held.values.astype(int).tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("width", [2, 4, 6])
@pytest.mark.parametrize("count", [1, 23, 24, 25, 48, 61])
def test_many_elements_are_packed_as_few_are(monkeypatch: pytest.MonkeyPatch, width: int, count: int) -> None:
    from graphopt.ir import dtypes

    codes = np.random.default_rng(count).integers(0, 1 << width, count).astype(np.uint8)
    whole = dtypes.pack(codes, width)
    assert np.array_equal(dtypes.unpack(whole, width, count), codes)
    monkeypatch.setattr(dtypes, "_TOGETHER", 24)
    assert np.array_equal(dtypes.pack(codes, width), whole)
    assert np.array_equal(dtypes.unpack(whole, width, count), codes)
