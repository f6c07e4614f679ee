"""What Linux tells about memory: of a process, and of what the machine can still give."""

from __future__ import annotations

from pathlib import Path

_UNLIMITED = 1 << 60


def process_memory(pid: int | None = None) -> dict[str, int] | None:
    """The `Vm*` and `Rss*` lines of /proc/PID/status (this process by default), in bytes.

    None where there is no such file: the process is gone, or this is not Linux.
    """
    try:
        text = Path(f"/proc/{'self' if pid is None else pid}/status").read_text()
    except OSError:
        return None
    rows = (line.split() for line in text.splitlines() if line.startswith(("Vm", "Rss")))
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows}


def available_memory() -> int | None:
    """Bytes that a new process could use without swapping; None where /proc does not say.

    The kernel's own estimate (MemAvailable), or what this process's control group has left,
    where that is less.
    """
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith("MemAvailable:"):
            return min(int(line.split()[1]) * 1024, _group_memory())
    return None


def killed_for_memory() -> int:
    """How many processes the kernel has killed for lack of memory since it started."""
    try:
        text = Path("/proc/vmstat").read_text()
    except OSError:
        return 0
    for line in text.splitlines():
        if line.startswith("oom_kill "):
            return int(line.split()[1])
    return 0


def _group_memory() -> int:
    """Bytes that the control groups of this process (version 2) still allow it."""
    root = Path("/sys/fs/cgroup")
    try:
        own = Path("/proc/self/cgroup").read_text().splitlines()[0].split(":", 2)[2].lstrip("/")
    except (OSError, IndexError):
        return _UNLIMITED
    left = _UNLIMITED
    folder = root / own
    while folder.is_relative_to(root):
        left = min(left, _left_in(folder))
        if folder == root:
            break
        folder = folder.parent
    return left


def _left_in(folder: Path) -> int:
    try:
        most = int((folder / "memory.max").read_text())
        # Only anonymous memory: the rest of `memory.current` is cache that the kernel gives up.
        rows = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return max(0, most - int(rows.get("anon", "0")))
    except (OSError, ValueError):
        return _UNLIMITED
