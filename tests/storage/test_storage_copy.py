"""An unchanged model is copied as it is, with its external files, over nobody's file."""

from __future__ import annotations

from pathlib import Path

from storage_models import (
    build,
    chain,
    locations,
    names,
    outside_tensor,
    same_values,
    save_external,
    saved,
    whole,
)

from graphopt.storage.read import from_proto, read
from graphopt.storage.write import stage


def test_an_unchanged_model_is_copied_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "in.onnx"
    path.write_bytes(chain().SerializeToString() + b"\x08\x08")  # not canonical: a field twice
    source = read(path)
    with stage(tmp_path / "out.onnx", source=source) as staged:
        staged.copy(source)
        staged.commit()
    assert (tmp_path / "out.onnx").read_bytes() == path.read_bytes() != source.proto.SerializeToString()


def test_in_the_same_folder_a_copy_shares_the_external_file(tmp_path: Path) -> None:
    source = read(save_external(tmp_path, data="sub/in.data"))
    with stage(tmp_path / "out.onnx", source=source) as staged:
        staged.copy(source)
        same_values(staged.path, whole(tmp_path / "in.onnx"))
        written = staged.commit()
    assert names(tmp_path) == ["in.onnx", "out.onnx", "sub"]
    assert written.sidecars == (tmp_path / "sub/in.data",)
    with stage(tmp_path / "never.onnx", source=source) as staged:
        staged.copy(source)
    assert names(tmp_path) == ["in.onnx", "out.onnx", "sub"]
    assert (tmp_path / "out.onnx").read_bytes() == (tmp_path / "in.onnx").read_bytes()
    assert (tmp_path / "sub/in.data").stat().st_nlink == 1


def test_in_another_folder_a_copy_brings_the_external_file(tmp_path: Path) -> None:
    source = read(save_external(tmp_path, data="sub/in.data"))
    other = tmp_path / "other"
    other.mkdir()
    with stage(other / "out.onnx", source=source) as staged:
        staged.copy(source)
        same_values(staged.path, whole(tmp_path / "in.onnx"))
        staged.commit()
    assert names(other) == ["out.onnx", "sub"]
    assert (other / "sub/in.data").read_bytes() == (tmp_path / "sub/in.data").read_bytes()
    assert (other / "out.onnx").read_bytes() == (tmp_path / "in.onnx").read_bytes()
    same_values(other / "out.onnx", whole(tmp_path / "in.onnx"))


def test_a_copy_does_not_take_a_name_that_is_somebody_elses(tmp_path: Path) -> None:
    source = read(save_external(tmp_path))
    other = tmp_path / "other"
    other.mkdir()
    (other / "in.data").write_bytes(b"somebody else's")
    with stage(other / "out.onnx", source=source) as staged:
        staged.copy(source)
        staged.commit()
    assert (other / "in.data").read_bytes() == b"somebody else's"
    assert set(locations(other / "out.onnx").values()) == {"out.onnx.data"}
    same_values(other / "out.onnx", whole(tmp_path / "in.onnx"))


def test_a_copy_goes_through_no_link_of_the_target_folder(tmp_path: Path) -> None:
    source = read(save_external(tmp_path, data="sub/in.data"))
    other, outside = tmp_path / "other", tmp_path / "outside"
    other.mkdir()
    outside.mkdir()
    (other / "sub").symlink_to(outside)
    with stage(other / "out.onnx", source=source) as staged:
        staged.copy(source)
        staged.commit()
    assert names(outside) == []
    same_values(other / "out.onnx", whole(tmp_path / "in.onnx"))


def test_a_copy_named_as_its_own_data(tmp_path: Path) -> None:
    source = read(save_external(tmp_path, data="m.onnx"))
    other = tmp_path / "other"
    other.mkdir()
    with stage(other / "m.onnx", source=source) as staged:
        staged.copy(source)
        staged.commit()
    assert names(other) == ["m.onnx", "m.onnx.data"]
    same_values(other / "m.onnx", whole(tmp_path / "in.onnx"))


def test_two_spellings_of_one_external_file_are_copied_once(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(2000))
    tensors = [outside_tensor("a", "w.bin"), outside_tensor("b", "./w.bin")]
    source = saved(tmp_path / "in.onnx", build([], tensors))
    other = tmp_path / "other"
    other.mkdir()
    with stage(other / "m.onnx", source=source) as staged:
        staged.copy(source)
        assert staged.commit().sidecars == (other / "w.bin",)


def test_a_copy_of_a_model_from_memory_is_its_canonical_form(tmp_path: Path) -> None:
    source = from_proto(chain())
    with stage(tmp_path / "out.onnx", source=source) as staged:
        staged.copy(source)
        staged.commit()
    assert (tmp_path / "out.onnx").read_bytes() == chain().SerializeToString()
