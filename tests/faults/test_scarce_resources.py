"""A disk that is full, files that must be small, too few descriptors, too little memory: the system's own limits."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from invariant import Baseline, faults
from processes import finished, start
from scenes import PLAIN, SCENES, SECOND, WEIGHT, net, set_up
from warmed import Warmed

from graphopt.testing import model

Of = Callable[[Warmed, str], Baseline]


@pytest.mark.parametrize(("limit", "values"), [("RLIMIT_FSIZE", (0, 4096, 15000)), ("RLIMIT_NOFILE", (4, 8, 14, 20))])
@pytest.mark.parametrize("scene", ["external-over", "in-place"])
def test_no_more_than_a_limit(
    patched: Warmed, baselines: Of, root: Path, scene: str, limit: str, values: tuple[int, ...]
) -> None:
    base = baselines(patched, scene)
    for value in values:
        set_up(base.scene, root)
        ended = patched.run(root, base.scene.arguments, limits={limit: value})
        if limit == "RLIMIT_FSIZE" and value < 1000 and not ended.err:
            # Not even the message could be written, which goes to a file here.
            assert ended.status not in (0, 70)
            continue
        # To take a folder away it has to be opened: without a descriptor that is left to the next run.
        helpless = limit == "RLIMIT_NOFILE"
        assert not faults(base, root, ended, unavoidable=helpless), (value, ended)


def test_less_memory_than_it_takes(patched: Warmed, baselines: Of, root: Path) -> None:
    base = baselines(patched, "external-over")
    set_up(base.scene, root)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    ended = patched.run(root, base.scene.arguments, limits={"RLIMIT_AS": now})
    assert not faults(base, root, ended), ended


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    work = tmp_path / "work"
    work.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(work)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a small file system takes more rights than these tests have here")
    yield work
    subprocess.run(["umount", "-l", str(work)], check=False)


def test_a_full_disk(small_disk: Path) -> None:
    net(small_disk)
    onnx.save(model(PLAIN, w=-WEIGHT, v=SECOND), small_disk / "out.onnx")
    before = (small_disk / "out.onnx").read_bytes()
    with (small_disk / "ballast").open("wb") as ballast:
        free = os.statvfs(small_disk)
        ballast.write(bytes(free.f_bavail * free.f_bsize - 16384))
    files = {one.name: one.read_bytes() for one in small_disk.iterdir()}
    code, _, err = finished(start(small_disk, *SCENES["over"].arguments))
    assert code == 5
    assert "make room or choose another output, nothing was changed" in err and err.count("\n") == 1
    assert {one.name: one.read_bytes() for one in small_disk.iterdir()} == files
    (small_disk / "ballast").unlink()
    assert finished(start(small_disk, *SCENES["over"].arguments))[0] == 0
    assert (small_disk / "out.onnx").read_bytes() != before
    assert np.array_equal(
        onnx.numpy_helper.to_array(onnx.load(str(small_disk / "out.onnx")).graph.initializer[0]), WEIGHT
    )
