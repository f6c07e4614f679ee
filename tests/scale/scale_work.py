"""Functions that other processes find by name."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any


def double(task: int) -> int:
    return 2 * task


def fail(task: int) -> int:
    raise ValueError(f"no {task}")


def die_once(task: tuple[str, int]) -> int:
    """Die over the second task of each folder the first time, and never again."""
    folder, number = task
    mark = Path(folder) / f"{number}"
    if number == 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def die(task: int) -> int:
    if task == 1:
        os._exit(3)
    return task


def sleep(task: float) -> float:
    time.sleep(task)
    return task


def say_pid(task: str) -> int:
    """Write down who works, and work until somebody allows the end."""
    Path(task).write_text(str(os.getpid()))
    while not Path(f"{task}.go").exists():
        time.sleep(0.01)
    return os.getpid()


def row(model: str, target: str, options: list[str]) -> dict[str, Any]:
    """Stands for `graphopt optimize`: copies, and does what the name of the model asks for."""
    path, stem = Path(model), Path(model).stem
    if stem.startswith("dies"):
        os.kill(os.getpid(), signal.SIGKILL)
    if stem.startswith("bad"):
        return {"exit_code": 3, "sentence": "this is no model", "output": None}
    Path(target).write_bytes(path.read_bytes() + " ".join(options).encode())
    return {"exit_code": 0, "sentence": "done", "output": target, "bytes_before": 1, "bytes_after": 2}
