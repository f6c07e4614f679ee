"""Models beyond what one file may hold, and disks without room for them."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from onnx import TensorProto, helper
from storage_models import chain, save_external, whole

from graphopt.errors import OverLimit
from graphopt.storage.layout import EMBEDDED_LIMIT, Layout
from graphopt.storage.read import read
from graphopt.storage.write import stage

GIGABYTE = 10**9
Usage = namedtuple("Usage", "total used free")


def _varint(number: int) -> bytes:
    found = bytearray()
    while number >= 128:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


def _field(number: int, size: int) -> bytes:
    return _varint(number << 3 | 2) + _varint(size)


def sparse_model(path: Path, bytes_of_weight: int) -> None:
    """A model y = x + w with all of w in its own file: a hole, which takes no room on the disk."""
    count = bytes_of_weight // 4
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [count]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", infos[:1], infos[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    text = graph.SerializeToString()
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[count]).SerializeToString()
    tensor += _field(9, bytes_of_weight)
    inner = _field(5, len(tensor) + bytes_of_weight) + tensor
    model.ClearField("graph")
    head = model.SerializeToString() + _field(7, len(text) + len(inner) + bytes_of_weight) + text + inner
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + bytes_of_weight)


@pytest.mark.parametrize(
    ("size", "goes_out"), [(1 << 20, False), (EMBEDDED_LIMIT - 4096, False), (EMBEDDED_LIMIT, True), (5 << 30, True)]
)
def test_weights_leave_a_file_that_could_not_be_read_back(tmp_path: Path, size: int, goes_out: bool) -> None:
    sparse_model(tmp_path / "in.onnx", size)
    source = read(tmp_path / "in.onnx")
    layout = Layout(source.proto, source.store)
    layout.decide("auto", EMBEDDED_LIMIT)
    assert [item.goes_out for item in layout.items.values()] == [goes_out]
    again = Layout(source.proto, source.store)
    if not goes_out:
        again.decide("never", EMBEDDED_LIMIT)
        return
    with pytest.raises(OverLimit, match="more than the 2000000000 that can be read back; allow external data"):
        again.decide("never", EMBEDDED_LIMIT)


def _full(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(GIGABYTE, GIGABYTE - free, free))


def test_a_disk_without_room_is_seen_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = save_external(tmp_path)
    before = {one.name: one.read_bytes() for one in tmp_path.iterdir()}
    source = read(model)
    _full(monkeypatch, 3000)
    with (
        pytest.raises(OverLimit, match=r"takes \d+ bytes and the disk has room for 3000; .*nothing was changed"),
        stage(model, source=source, in_place=True) as staged,
    ):
        staged.put(source.proto, source.store)
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == before


def test_what_fits_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = read(save_external(tmp_path))
    _full(monkeypatch, 20_000)
    with stage(tmp_path / "out.onnx", source=source) as staged:
        staged.put(source.proto, source.store)
        staged.commit()
    assert len(whole(tmp_path / "out.onnx").graph.initializer) == len(chain().graph.initializer)


def test_a_copy_into_another_folder_needs_room_and_one_beside_its_data_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = read(save_external(tmp_path))
    (tmp_path / "other").mkdir()
    _full(monkeypatch, 3000)
    with pytest.raises(OverLimit, match="room for 3000"), stage(tmp_path / "other/out.onnx", source=source) as staged:
        staged.copy(source)
    assert list((tmp_path / "other").iterdir()) == []
    with stage(tmp_path / "out.onnx", source=source) as staged:
        staged.copy(source)
        staged.commit()
    assert (tmp_path / "out.onnx").read_bytes() == (tmp_path / "in.onnx").read_bytes()
