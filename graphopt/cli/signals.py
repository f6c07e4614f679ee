"""Ctrl-C, SIGTERM and a closed terminal: all of them unwind the run, so that nothing is left behind."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from graphopt.cli.start import SIGNALS
from graphopt.errors import GraphoptError
from graphopt.stopping import Stop, arrived, settle

_IMPATIENT = 5.0  # seconds in which a second signal does not disturb the cleaning up after the first
_AGAIN = 0.02  # seconds until a signal comes again that arrived where no exception gets out


class Interrupted(GraphoptError):
    """Ended by Ctrl-C."""

    exit_code = 130


class Terminated(GraphoptError):
    """Ended by SIGTERM, as a job scheduler or `timeout` does."""

    exit_code = 143


class HungUp(GraphoptError):
    """Ended because the terminal was closed."""

    exit_code = 129


_KINDS: dict[int, type[GraphoptError]] = {130: Interrupted, 143: Terminated, 129: HungUp}


def ending(stop: KeyboardInterrupt, became: str = "") -> GraphoptError:
    """The error that ends a stopped run; `became` says in a clause what was written, or was not."""
    code, word = SIGNALS[stop.number if isinstance(stop, Stop) else int(signal.SIGINT)]
    return _KINDS[code](f"{word}; {became}" if became else word)


@contextmanager
def stoppable(debug: bool = False) -> Iterator[None]:
    """Within the block the signals raise `Stop` in the main thread. One that is ignored, as under
    nohup, stays ignored. What destructors raise is shown with `debug` only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    last = -_IMPATIENT

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < _IMPATIENT:
            return
        last = now
        arrived(number)

    def unraisable(lost: Any) -> None:
        """A signal may arrive in a destructor, from which no exception gets out: then it comes again."""
        nonlocal last
        if isinstance(lost.exc_value, Stop):
            last = -_IMPATIENT
            threading.Timer(_AGAIN, os.kill, (os.getpid(), lost.exc_value.number)).start()
        elif debug:
            hook(lost)

    settle(False)
    hook, sys.unraisablehook = sys.unraisablehook, unraisable
    before: dict[int, Any] = {}
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        settle()
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        sys.unraisablehook = hook
