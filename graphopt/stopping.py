"""Signals that ask a run to end, and the few steps that no signal may cut in two.

A handler raises its exception wherever the program happens to be: between making a file and noting
that it must be removed, or between putting a model in place and knowing that it is there. Such a step
is `held`: a signal that comes meanwhile is raised at its end.
"""

from __future__ import annotations

import threading


class Stop(KeyboardInterrupt):
    """A signal asks the program to end. What is in the middle of something may say what became of it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _State:
    """Of the main thread, where signals arrive."""

    depth = 0
    waiting: int | None = None
    settled = False


def arrived(number: int) -> None:
    """A signal has arrived: raises `Stop`, or has it raised at the end of the step that is held. Once it is
    settled how the run ends, nothing is left to stop."""
    if _State.settled:
        return
    if _State.depth:
        _State.waiting = number
    else:
        raise Stop(number)


def settle(done: bool = True) -> None:
    """Say that it is settled how the run ends: what is left is to say so. With `done` off a run begins."""
    _State.settled, _State.waiting = done, None


def settled() -> bool:
    """Whether it is settled how the run ends."""
    return _State.settled


class held:  # noqa: N801 - a context manager that reads as a word
    """Within the block a signal is kept waiting. Short steps only: nothing that may hang.

    This works with handlers that call `arrived`, as those of the command line do.
    """

    def __enter__(self) -> None:
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            _State.depth += 1

    def __exit__(self, *_: object) -> None:
        if not self._main:
            return
        _State.depth -= 1
        if not _State.depth and _State.waiting is not None:
            number, _State.waiting = _State.waiting, None
            arrived(number)
