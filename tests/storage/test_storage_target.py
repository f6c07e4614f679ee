"""What a written model may replace: names of external files, the input, other targets."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest
from storage_models import (
    chain,
    different,
    edited,
    locations,
    names,
    put,
    same_values,
    save_external,
    saved,
    unprivileged,
    whole,
)

from graphopt.errors import GraphoptError, Unsafe, UsageError
from graphopt.storage.read import read
from graphopt.storage.source import Source
from graphopt.storage.write import stage


def test_a_stranger_with_our_name_is_left_alone(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx")
    (tmp_path / "out.onnx.data").write_bytes(b"somebody else's")
    put(tmp_path / "out.onnx", source, external="always")
    (name,) = set(locations(tmp_path / "out.onnx").values())
    assert re.fullmatch(r"out\.onnx\.[0-9a-f]{8}\.data", name)
    assert (tmp_path / "out.onnx.data").read_bytes() == b"somebody else's"
    same_values(tmp_path / "out.onnx", chain())


def test_writing_again_gives_the_same_bytes_and_leaves_no_second_file(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx")
    put(tmp_path / "out.onnx", source, external="always")
    before = (tmp_path / "out.onnx").read_bytes()
    put(tmp_path / "out.onnx", source, external="always")
    assert (tmp_path / "out.onnx").read_bytes() == before
    assert names(tmp_path) == ["in.onnx", "out.onnx", "out.onnx.data"]


def test_the_external_file_of_a_replaced_output_goes_when_nobody_needs_it(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx")
    put(tmp_path / "out.onnx", source, external="always")
    put(tmp_path / "out.onnx", source, different(source), external="always")
    (name,) = set(locations(tmp_path / "out.onnx").values())
    assert names(tmp_path) == sorted(["in.onnx", "out.onnx", name])
    put(tmp_path / "out.onnx", source)
    assert names(tmp_path) == ["in.onnx", "out.onnx"]


def test_it_stays_when_another_model_mentions_it(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx")
    put(tmp_path / "out.onnx", source, external="always")
    (tmp_path / "copy.onnx").write_bytes((tmp_path / "out.onnx").read_bytes())
    put(tmp_path / "out.onnx", source)
    same_values(tmp_path / "copy.onnx", chain())


def test_external_files_of_other_names_stay(tmp_path: Path) -> None:
    source = saved(tmp_path / "other.onnx")
    save_external(tmp_path, "out.onnx", "weights.bin")
    (tmp_path / "out.onnx.data").write_bytes(b"somebody else's")
    put(tmp_path / "out.onnx", source)
    assert names(tmp_path) == ["other.onnx", "out.onnx", "out.onnx.data", "weights.bin"]


def test_the_inputs_external_file_stays_whatever_it_is_called(tmp_path: Path) -> None:
    source = read(save_external(tmp_path, "in.txt", "out.onnx.data"))  # no suffix by which to find it
    save_external(tmp_path, "out.onnx", "out.onnx.data")
    put(tmp_path / "out.onnx", source, external="never")
    assert names(tmp_path) == ["in.txt", "out.onnx", "out.onnx.data"]
    same_values(tmp_path / "out.onnx", whole(tmp_path / "in.txt"))


def test_in_place_only_when_asked(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx")
    before = (tmp_path / "in.onnx").read_bytes()
    os.link(tmp_path / "in.onnx", tmp_path / "hard.onnx")
    (tmp_path / "soft.onnx").symlink_to("in.onnx")
    for name in ("in.onnx", "hard.onnx", "soft.onnx", "../" + tmp_path.name + "/in.onnx"):
        with pytest.raises(UsageError, match=r"is the input itself; .* --in-place"):
            put(tmp_path / name, source)
    assert (tmp_path / "in.onnx").read_bytes() == before
    put(tmp_path / "in.onnx", source, in_place=True)
    assert (tmp_path / "in.onnx").read_bytes() != before
    assert (tmp_path / "hard.onnx").read_bytes() == before


def test_the_inputs_path_stays_the_inputs_when_another_file_takes_it(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx")
    (tmp_path / "new").write_bytes(b"newer")
    (tmp_path / "new").rename(tmp_path / "in.onnx")
    with pytest.raises(UsageError, match="is the input itself"):
        put(tmp_path / "in.onnx", source)
    assert (tmp_path / "in.onnx").read_bytes() == b"newer"


def test_in_place_again_and_again_with_the_same_source(tmp_path: Path) -> None:
    save_external(tmp_path, "m.onnx", "m.onnx.data")
    reference = whole(tmp_path / "m.onnx")
    source = read(tmp_path / "m.onnx")
    for model in (different(source), edited(source), different(source)):
        put(tmp_path / "m.onnx", source, model, in_place=True)
        assert len(names(tmp_path)) == 2
    put(tmp_path / "m.onnx", source, edited(source), in_place=True)
    same_values(tmp_path / "m.onnx", reference)


def test_the_external_data_of_the_input_is_never_a_target(tmp_path: Path) -> None:
    source = read(save_external(tmp_path))
    os.link(tmp_path / "in.data", tmp_path / "hard.onnx")
    (tmp_path / "soft.onnx").symlink_to("in.data")
    for name in ("in.data", "hard.onnx", "soft.onnx"):
        for in_place in (False, True):
            with pytest.raises(Unsafe, match="holds external data of the input"):
                put(tmp_path / name, source, in_place=in_place)


def test_the_input_is_never_opened_for_writing(tmp_path: Path) -> None:
    source = read(save_external(tmp_path))
    for name in ("in.onnx", "in.data"):
        (tmp_path / name).chmod(0o444)
    stamps = [(tmp_path / name).stat() for name in ("in.onnx", "in.data")]
    put(tmp_path / "out.onnx", source)
    with stage(tmp_path / "copy.onnx", source=source) as staged:
        staged.copy(source)
        staged.commit()
    after = [(tmp_path / name).stat() for name in ("in.onnx", "in.data")]
    assert [(s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for s in stamps] == [
        (s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for s in after
    ]


def target_refusal(target: Path, source: Source, kind: type[GraphoptError] = UsageError) -> str:
    with pytest.raises(kind) as caught:
        put(target, source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_targets_that_cannot_be_written(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    assert "it is a directory" in target_refusal(tmp_path / "folder", source)
    assert "there is no folder" in target_refusal(tmp_path / "none/out.onnx", source)
    assert "there is no folder" in target_refusal(tmp_path / "in.onnx/out.onnx", source)
    assert "it is not a regular file" in target_refusal(tmp_path / "pipe", source)
    assert "it is not a regular file" in target_refusal(Path("/dev/null"), source)
    assert "cannot write" in target_refusal(tmp_path / "loop", source)
    assert "not a file name" in target_refusal(tmp_path / "a\0b", source)
    assert "file name too long" in target_refusal(tmp_path / ("n" * 300), source).lower()


def test_targets_without_permission(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx")
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed").chmod(0o555)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "open/out.onnx").write_bytes(b"old")
    (tmp_path / "open/out.onnx").chmod(0o444)
    with unprivileged(tmp_path):
        assert "no permission to write in" in target_refusal(tmp_path / "closed/out.onnx", source)
        assert "the file is write-protected" in target_refusal(tmp_path / "open/out.onnx", source)
    assert (tmp_path / "open/out.onnx").read_bytes() == b"old"


def test_a_link_as_target_is_followed(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx")
    (tmp_path / "real").mkdir()
    (tmp_path / "real/out.onnx").write_bytes(b"old")
    (tmp_path / "link.onnx").symlink_to("real/out.onnx")
    put(tmp_path / "link.onnx", source)
    assert (tmp_path / "link.onnx").is_symlink()
    assert names(tmp_path / "real") == ["out.onnx"]
    same_values(tmp_path / "real/out.onnx", chain())


def test_through_a_link_into_another_folder_no_external_data_is_written(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx")
    (tmp_path / "real").mkdir()
    (tmp_path / "link.onnx").symlink_to("real/out.onnx")
    (tmp_path / "near.onnx").symlink_to("out.onnx")
    with pytest.raises(UsageError, match=r"would not find the model's external data; write to '.*/real/out\.onnx'"):
        put(tmp_path / "link.onnx", source, external="always")
    assert names(tmp_path / "real") == []
    put(tmp_path / "near.onnx", source, external="always")
    same_values(tmp_path / "near.onnx", chain())


def test_permissions_are_those_of_any_new_file_or_of_the_file_replaced(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx")
    old = os.umask(0o027)
    try:
        put(tmp_path / "out.onnx", source, external="always")
        assert stat.S_IMODE((tmp_path / "out.onnx").stat().st_mode) == 0o640
        assert stat.S_IMODE((tmp_path / "out.onnx.data").stat().st_mode) == 0o640
        (tmp_path / "out.onnx").chmod(0o604)
        put(tmp_path / "out.onnx", source)
        assert stat.S_IMODE((tmp_path / "out.onnx").stat().st_mode) == 0o604
    finally:
        os.umask(old)
