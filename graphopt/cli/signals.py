"""Ctrl-C, SIGTERM and a closed terminal: all of them unwind the run, so that nothing is left behind."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from graphopt.errors import GraphoptError

_IMPATIENT = 1.0  # seconds in which a second signal does not disturb the cleaning up after the first
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Stop(KeyboardInterrupt):
    """A signal asks the program to end. What is in the middle of something may say what became of it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Interrupted(GraphoptError):
    """Ended by Ctrl-C."""

    exit_code = 130


class Terminated(GraphoptError):
    """Ended by SIGTERM, as a job scheduler or `timeout` does."""

    exit_code = 143


class HungUp(GraphoptError):
    """Ended because the terminal was closed."""

    exit_code = 129


_ENDINGS: dict[int, tuple[type[GraphoptError], str]] = {
    int(signal.SIGINT): (Interrupted, "interrupted"),
    int(signal.SIGTERM): (Terminated, "terminated"),
    int(getattr(signal, "SIGHUP", 0)): (HungUp, "hung up"),
}


def ending(stop: KeyboardInterrupt, became: str = "") -> GraphoptError:
    """The error that ends a stopped run; `became` says in a clause what was written, or was not."""
    number = stop.number if isinstance(stop, Stop) else int(signal.SIGINT)
    kind, word = _ENDINGS[number]
    return kind(f"{word}; {became}" if became else word)


@contextmanager
def stoppable() -> Iterator[None]:
    """Within the block the signals raise `Stop` in the main thread. One that is ignored, as under
    nohup, stays ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    last = 0.0

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < _IMPATIENT:
            return
        last = now
        raise Stop(number)

    before: dict[int, Any] = {}
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
