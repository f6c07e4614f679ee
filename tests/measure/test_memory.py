"""Resident memory as /proc tells it."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path

import numpy as np
import pytest

from graphopt.measure.memory import memory_of
from graphopt.runtime.procfs import available_memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")

SIZE = 64 << 20
CLOSE = 16 << 20


def test_an_array_is_anonymous_and_leaves_a_peak() -> None:
    before = memory_of()
    array = np.ones(SIZE, np.uint8)
    during = memory_of()
    del array
    after = memory_of()
    assert before is not None
    assert during is not None
    assert after is not None
    assert abs(during.anonymous - before.anonymous - SIZE) < CLOSE
    assert after.anonymous - before.anonymous < CLOSE
    assert after.peak >= before.anonymous + SIZE


def test_a_mapped_file_is_not(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(SIZE))
    before = memory_of()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        np.frombuffer(mapped, np.uint8).sum()
        during = memory_of()
    assert before is not None
    assert during is not None
    assert abs(during.file - before.file - SIZE) < CLOSE
    assert during.anonymous - before.anonymous < CLOSE


def test_a_process_that_is_gone_has_none() -> None:
    assert memory_of(2**22 + 1) is None


def test_what_the_machine_can_give() -> None:
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    available = available_memory()
    assert available is not None
    assert 0 < available <= total
