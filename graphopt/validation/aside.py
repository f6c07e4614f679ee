"""Runs the functions that a user names within a clock: beside this thread, so that neither a hang nor Ctrl-C waits.

All that one thread has run so is run by one other thread, since what a module does when it is imported may hold for
the thread that imported it only. A function that does not end in time is left behind: its thread is asked to end at
the next step that Python takes in it, and ends with the program in any case.
"""

from __future__ import annotations

import contextvars
import ctypes
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Final, TypeVar

from graphopt.errors import OverLimit
from graphopt.limits import current, how_to_move

T = TypeVar("T")

_SLICE: Final = 0.5  # seconds that a signal may go unnoticed
_HERE: Final = threading.local()
_left: Final = list[threading.Thread]()


@dataclass
class _Call:
    """A call to make, and what came of it."""

    make: Callable[[], Any]
    done: threading.Event = field(default_factory=threading.Event)
    result: Any = None
    error: BaseException | None = None


class _Aside:
    """The thread beside one thread; it ends when that has ended."""

    def __init__(self) -> None:
        self.calls: SimpleQueue[_Call | None] = SimpleQueue()
        self.thread = threading.Thread(target=_serve, args=(self.calls,), name="functions of the user", daemon=True)
        weakref.finalize(self, self.calls.put, None).atexit = False


def within_clock(what: str, make: Callable[[], T]) -> T:
    """What `make` gives or raises. Raises OverLimit, about `what`, when it takes longer than the limit
    `function_seconds`."""
    if getattr(_HERE, "inside", False):
        return make()  # the clock of the call that this is a part of is running
    aside: _Aside | None = getattr(_HERE, "aside", None)
    if aside is None:
        aside = _HERE.aside = _Aside()
        aside.thread.start()
    seconds = current().function_seconds
    context = contextvars.copy_context()
    call = _Call(lambda: context.run(make))
    aside.calls.put(call)
    ended = False
    try:
        ended = _waited(call.done, seconds)
    finally:
        if not ended:
            del _HERE.aside
            _leave(aside.thread)
    if not ended:
        clock = "1 second" if seconds == 1 else f"{seconds} seconds"
        raise OverLimit(f"{what} did not end within {clock}; {how_to_move('function_seconds')}")
    if call.error is not None:
        raise call.error
    made: T = call.result
    return made


def left_behind() -> bool:
    """Whether a function that was not waited for still runs."""
    return any(one.is_alive() for one in _left)


def _waited(done: threading.Event, seconds: float) -> bool:
    """Whether it is done within so many seconds. A signal that arrives just before a wait begins does not end it, so
    there are many short ones."""
    until = time.monotonic() + seconds
    while not done.wait(max(0.0, min(_SLICE, until - time.monotonic()))):
        if time.monotonic() >= until:
            return False
    return True


def _serve(calls: SimpleQueue[_Call | None]) -> None:
    _HERE.inside = True
    with suppress(SystemExit):  # it is asked to end
        while (call := calls.get()) is not None:
            try:
                call.result = call.make()
            except BaseException as error:  # noqa: BLE001 - it is raised where the call was asked for
                call.error = error
            call.done.set()
            del call


def _leave(thread: threading.Thread) -> None:
    _left.append(thread)
    assert thread.ident is not None, "it was started"
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))
