"""Mapped files that are read through do not stay in memory."""

from __future__ import annotations

import mmap
import time
from pathlib import Path

import numpy as np
import pytest

from graphopt.ir import resident

MEGABYTE = 1 << 20


@pytest.mark.skipif(resident._file_pages() is None, reason="the system does not say what is resident")
def test_pages_are_given_back_and_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "LARGE", 8 * MEGABYTE)
    path = tmp_path / "large"
    values = np.arange(16 * MEGABYTE, dtype=np.float32)  # 64 MB
    values.tofile(path)
    with path.open("rb") as file:
        mapped = resident.watch(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    array = np.frombuffer(mapped, np.float32)
    total = array.sum(dtype=np.float64)
    end = time.monotonic() + 5
    while (_resident_of(path) or 0) > 16 * MEGABYTE and time.monotonic() < end:
        time.sleep(0.01)
    left = _resident_of(path)
    assert left is not None and left <= 16 * MEGABYTE, f"{left} bytes of 64 MB are resident"
    assert array.sum(dtype=np.float64) == total == values.sum(dtype=np.float64)


def test_what_was_written_through_a_map_is_there_when_its_pages_are_given_back(tmp_path: Path) -> None:
    path = tmp_path / "written"
    path.write_bytes(bytes(4 * MEGABYTE))
    with path.open("r+b") as file:
        mapped = resident.watch(mmap.mmap(file.fileno(), 0))
    array = np.frombuffer(mapped, np.uint8)
    array[:] = 7
    mapped.madvise(mmap.MADV_DONTNEED)
    assert (array == 7).all()


def _resident_of(path: Path) -> int | None:
    """Bytes of the maps of `path` that are resident in this process."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0] and not line.split()[0].endswith(":"):
            inside = line.endswith(str(path))
        elif inside and line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    return None
