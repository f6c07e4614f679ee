"""A command, and the memory of all its processes while it runs (Linux)."""

from __future__ import annotations

import resource
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Watched:
    """How a command went. Memory is the largest sum over its processes that was seen, in bytes.

    `own` is RssAnon and RssShmem: what only killing gives back. `resident` adds the resident pages of mapped files,
    each counted once for each process that has it. `cpu` are the seconds that a processor was busy with them.
    """

    code: int
    seconds: float
    cpu: float
    own: int
    resident: int
    output: str


def watched(command: Sequence[str], data_limit: int | None = None, every: float = 0.01) -> Watched:
    """Run `command`, looking at its memory `every` so many seconds. With a `data_limit`, each of its processes gets
    no more private memory than that (RLIMIT_DATA), so that an allocation beyond it fails."""

    def limit() -> None:
        if data_limit is not None:
            resource.setrlimit(resource.RLIMIT_DATA, (data_limit, data_limit))

    start, busy = time.perf_counter(), _busy()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=limit
    ) as child:
        own = resident = 0
        while child.poll() is None:
            sums = [_memory(pid) for pid in _tree(child.pid)]
            own = max(own, sum(one[0] for one in sums))
            resident = max(resident, sum(one[1] for one in sums))
            time.sleep(every)
        seconds = time.perf_counter() - start
        output = child.stdout.read() if child.stdout is not None else ""
    return Watched(child.returncode, seconds, _busy() - busy, own, resident, output)


def _busy() -> float:
    """Seconds of all processes that have ended below this one."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _tree(pid: int) -> list[int]:
    found, pending = [], [pid]
    while pending:
        one = pending.pop()
        found.append(one)
        with suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                pending += [int(child) for child in (task / "children").read_text().split()]
    return found


def _memory(pid: int) -> tuple[int, int]:
    rows: dict[str, int] = {}
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(("RssAnon", "RssFile", "RssShmem")):
                rows[line.split(":")[0]] = int(line.split()[1]) * 1024
    own = rows.get("RssAnon", 0) + rows.get("RssShmem", 0)
    return own, own + rows.get("RssFile", 0)
