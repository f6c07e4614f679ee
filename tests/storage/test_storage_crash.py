"""A process that dies while writing leaves the old model or the new one, and nothing that piles up."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from storage_models import chain

from graphopt.storage.hidden import Hidden, sweep
from graphopt.storage.read import read
from graphopt.storage.write import stage

DIE = """
import os, signal, sys
from pathlib import Path
from graphopt.storage.read import read
from graphopt.storage.write import stage

owner, name, after, external = sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5]
folder = Path(sys.argv[1])
source = read(folder / "in.onnx")
model = type(source.proto)()
model.CopyFrom(source.proto)
model.producer_name = "new"
model.graph.initializer[0].raw_data = bytes(2000)
model.graph.initializer[0].ClearField("external_data")
model.graph.initializer[0].ClearField("data_location")
target = {"os": os, "Path": Path}[owner]
real, calls = getattr(target, name), iter(range(1000))

def die(*arguments, **options):
    if next(calls) == after:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **options)

setattr(target, name, die)
with stage(folder / "out.onnx", source=source) as staged:
    staged.put(model, source.store, external)
    staged.commit()
"""


def names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


@pytest.mark.parametrize(
    ("owner", "name", "after", "done"),
    [
        ("os", "fsync", 0, False),  # the external file is written
        ("os", "fsync", 1, False),  # the model file is written
        ("os", "link", 0, False),  # the external file is put in place
        ("Path", "unlink", 0, False),  # it has two names
        ("os", "fsync", 2, False),  # it is in place
        ("Path", "replace", 0, False),  # the model is about to be renamed
        ("os", "fsync", 3, True),  # it is renamed
    ],
)
def test_killed_at_any_step(tmp_path: Path, owner: str, name: str, after: int, done: bool) -> None:
    (tmp_path / "in.onnx").write_bytes(chain().SerializeToString())
    source = read(tmp_path / "in.onnx")
    with stage(tmp_path / "out.onnx", source=source) as staged:
        staged.put(source.proto, source.store, "always")
        staged.commit()
    before = onnx.load(str(tmp_path / "out.onnx"))
    command = [sys.executable, "-c", DIE, str(tmp_path), owner, name, str(after), "always"]
    killed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert killed.returncode == -9, killed.stderr
    after_death = onnx.load(str(tmp_path / "out.onnx"))
    assert after_death.producer_name == ("new" if done else "")
    assert (after_death.graph == before.graph) is not done
    assert any(name.startswith(".graphopt-") for name in names(tmp_path))
    sweep(tmp_path)
    assert not any(name.startswith(".") for name in names(tmp_path))
    assert (onnx.load(str(tmp_path / "out.onnx")).producer_name == "new") is done


def dead_process() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_hidden_folders_of_living_runs_stay(tmp_path: Path) -> None:
    mine = Hidden(tmp_path)
    other = Hidden(tmp_path)
    assert mine.files.is_dir()
    assert len(names(tmp_path)) == 2
    other.remove()
    mine.remove()
    assert names(tmp_path) == []


def test_a_folder_is_dead_when_its_process_is_gone_and_its_lock_is_free(tmp_path: Path) -> None:
    number = dead_process()
    folder = tmp_path / f".graphopt-{number}-0123456789abcdef"
    (folder / "files").mkdir(parents=True)
    (folder / "lock").touch()
    folder.with_name(folder.name + ".onnx").write_bytes(b"x")
    with (folder / "lock").open("r+") as held:  # as another container's process would
        fcntl.flock(held, fcntl.LOCK_EX)
        sweep(tmp_path)
        assert len(names(tmp_path)) == 2
    sweep(tmp_path)
    assert names(tmp_path) == []


def test_nothing_else_is_swept(tmp_path: Path) -> None:
    number = dead_process()
    keep = tmp_path / "keep"
    keep.mkdir()
    (keep / "precious").touch()
    (tmp_path / ".graphopt").mkdir()
    (tmp_path / f".graphopt-{number}").mkdir()
    (tmp_path / f".graphopt-{number}-0123456789ABCDEF").mkdir()
    (tmp_path / ".graphopt-cache").mkdir()
    (tmp_path / f".graphopt-{os.getpid()}-0123456789abcdef").mkdir()
    (tmp_path / f".graphopt-{number}-0123456789abcdef").symlink_to(keep)
    before = names(tmp_path)
    sweep(tmp_path)
    assert names(tmp_path) == before
    assert names(keep) == ["precious"]
