"""A model is made complete before it is seen, and an error on the way changes nothing."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from storage_models import (
    build,
    chain,
    different,
    edited,
    names,
    put,
    same_values,
    save_external,
    saved,
    whole,
)

from graphopt.errors import GraphoptError, InternalError, OverLimit, UsageError
from graphopt.storage.read import read
from graphopt.storage.write import Staged, stage


def test_the_staged_model_is_complete_before_anybody_sees_it(tmp_path: Path) -> None:
    source = read(save_external(tmp_path))
    with stage(tmp_path / "out.onnx", source=source) as staged:
        assert isinstance(staged, Staged)
        checked = staged.put(edited(source), source.store)
        assert checked.path == staged.path
        same_values(staged.path, whole(tmp_path / "in.onnx"))
        assert not (tmp_path / "out.onnx").exists()
        assert not (tmp_path / "out.onnx.data").exists()
    assert names(tmp_path) == ["in.data", "in.onnx"]


def test_an_error_in_the_block_leaves_nothing(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx")
    with pytest.raises(KeyboardInterrupt), stage(tmp_path / "out.onnx", source=source) as staged:
        staged.put(source.proto, source.store, "always")
        raise KeyboardInterrupt
    assert names(tmp_path) == ["in.onnx"]


def test_misuse_is_noticed(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx")
    with stage(tmp_path / "out.onnx", source=source) as staged:
        with pytest.raises(InternalError, match="no staged model"):
            staged.commit()
        staged.put(source.proto, source.store)
        with pytest.raises(InternalError, match="written already"):
            staged.copy(source)
        staged.commit()
        with pytest.raises(InternalError, match="no staged model"):
            staged.commit()


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize("spoilt", [flipped, lambda data: data + b"x", lambda data: data[:-1]])
def test_a_file_that_reads_back_differently_is_not_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoilt: Callable[[bytes], bytes]
) -> None:
    source = saved(tmp_path / "in.onnx")
    fsync = os.fsync

    def spoil(descriptor: int) -> None:
        fsync(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").resolve()
        if path.is_file():
            path.write_bytes(spoilt(path.read_bytes()))

    monkeypatch.setattr(os, "fsync", spoil)
    with pytest.raises(InternalError, match="does not read back as it was written"):
        put(tmp_path / "out.onnx", source)
    assert names(tmp_path) == ["in.onnx"]


def failing(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, error: OSError, after: int = 0) -> None:
    """Let the call number `after` (from 0) of `owner.name` fail."""
    real: Callable[..., Any] = getattr(owner, name)
    calls = iter(range(1000))

    def maybe(*arguments: Any, **options: Any) -> Any:
        if next(calls) == after:
            raise error
        return real(*arguments, **options)

    monkeypatch.setattr(owner, name, maybe)


FULL = OSError(28, "No space left on device")
INPUT_OUTPUT = OSError(5, "Input/output error")


@pytest.mark.parametrize(
    ("owner", "name", "after", "error", "kind", "words"),
    [
        (os, "fsync", 0, FULL, OverLimit, "no space left on device; make room"),
        (os, "fsync", 1, INPUT_OUTPUT, UsageError, "input/output error; nothing was changed"),
        (os, "link", 0, FileExistsError(17, "File exists"), UsageError, "file exists; nothing was changed"),
        (os, "fsync", 2, INPUT_OUTPUT, UsageError, "input/output error; nothing was changed"),
        (Path, "replace", 0, INPUT_OUTPUT, UsageError, "input/output error; nothing was changed"),
        (Path, "mkdir", 0, OSError(30, "Read-only file system"), UsageError, "read-only file system"),
    ],
)
def test_an_error_at_any_step_keeps_the_old_model_and_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    name: str,
    after: int,
    error: OSError,
    kind: type[GraphoptError],
    words: str,
) -> None:
    source = saved(tmp_path / "in.onnx")
    put(tmp_path / "out.onnx", source, external="always")
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    with monkeypatch.context() as patch:
        failing(patch, owner, name, error, after)
        with pytest.raises(kind, match=words):
            put(tmp_path / "out.onnx", source, different(source), external="always")
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before


def test_without_hard_links_a_rename_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = saved(tmp_path / "in.onnx")
    failing(monkeypatch, os, "link", OSError(95, "Operation not supported"))
    put(tmp_path / "out.onnx", source, external="always")
    same_values(tmp_path / "out.onnx", chain())


def test_folders_made_for_external_files_go_again_when_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = read(save_external(tmp_path, data="sub/deep/in.data"))
    other = tmp_path / "other"
    other.mkdir()
    failing(monkeypatch, Path, "replace", INPUT_OUTPUT)
    with pytest.raises(UsageError), stage(other / "out.onnx", source=source) as staged:
        staged.copy(source)
        staged.commit()
    assert names(other) == []


def test_a_file_too_large_for_the_system(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OverLimit, match="file too large; make room or choose another output"):
            put(tmp_path / "out.onnx", source)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == ["in.onnx"]


def test_an_external_file_that_appears_in_the_meantime_is_not_replaced(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx")
    with (
        pytest.raises(UsageError, match="has appeared in the meantime; run again"),
        stage(tmp_path / "out.onnx", source=source) as staged,
    ):
        staged.put(source.proto, source.store, "always")
        (tmp_path / "out.onnx.data").write_bytes(b"somebody else's")
        staged.commit()
    assert names(tmp_path) == ["in.onnx", "out.onnx.data"]
    assert (tmp_path / "out.onnx.data").read_bytes() == b"somebody else's"


def test_bodies_keep_their_values(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.arange(500, dtype=np.float32), "bw")
    output = helper.make_tensor_value_info("b", TensorProto.FLOAT, [500])
    body = helper.make_graph([helper.make_node("Identity", ["bw"], ["b"])], "b", [], [output], [weight])
    model = build([helper.make_node("If", ["x"], ["y"], then_branch=body, else_branch=body)])
    source = saved(tmp_path / "in.onnx", model)
    for external in ("auto", "always"):
        put(tmp_path / f"{external}.onnx", source, source.proto, external=external)
        back = read(tmp_path / f"{external}.onnx")
        put(tmp_path / f"{external}-back.onnx", back, back.proto, external="never")
        assert (tmp_path / f"{external}-back.onnx").read_bytes() == model.SerializeToString()
