"""Memory of a process, as Linux counts it. On other systems there is no answer, which is None."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.runtime.procfs import process_memory


@dataclass(frozen=True)
class Memory:
    """Resident memory of a process, in bytes.

    anonymous: its own (RssAnon): heap, stacks, arrays. file: pages of mapped files (RssFile), which
    the system can drop and read again; memory-mapped weights are here. shared: shared memory
    (RssShmem), such as arrays that travel to the worker. peak: the largest sum so far (VmHWM).
    """

    anonymous: int
    file: int
    shared: int
    peak: int


def memory_of(pid: int | None = None) -> Memory | None:
    """Of process `pid`, this one by default; None when it is gone or this is not Linux (4.5 or newer)."""
    rows = process_memory(pid)
    if rows is None or "RssAnon" not in rows:
        return None
    return Memory(rows["RssAnon"], rows["RssFile"], rows["RssShmem"], rows["VmHWM"])
