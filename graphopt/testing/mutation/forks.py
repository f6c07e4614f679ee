"""A task in a fork of this process: nothing it does to what is loaded, or breaks, comes back.

The fork has its own onnxruntime, in a thread: the worker's server behind the same messages, which
takes no time to start. Its clocks count what it computes, not how busy the machine is.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

from graphopt.runtime import client
from graphopt.runtime.guard import private_bytes
from graphopt.runtime.transport import Channel, Message

Report = dict[str, Any]

_WALL = 240.0  # seconds after which a fork is ended that computes nothing
_MEMORY = 3 << 30


class InThread:
    """What `graphopt.runtime.process.Process` is, with the server in a thread of this process."""

    def __init__(self) -> None:
        from graphopt.runtime.worker import Server

        here, there = socket.socketpair()
        self.channel = Channel(here)
        self.pid, self.last_words = os.getpid(), ""
        threading.Thread(target=Server(Channel(there)).serve, daemon=True).start()

    @property
    def alive(self) -> bool:
        return self.pid == os.getpid() and self.channel.end.fileno() >= 0

    def ask(self, message: Message, files: list[int], seconds: float) -> tuple[Message, list[int]]:
        self.channel.send(message, files)
        return self.channel.receive()

    def cause(self) -> tuple[str, bool]:
        return "closed its connection", False

    def end(self) -> None:
        with contextlib.suppress(OSError):
            self.channel.end.shutdown(socket.SHUT_RDWR)
        self.channel.close()


def settle() -> None:
    """Before many forks: import what all of them need, and leave no garbage to them."""
    from graphopt.runtime import engine  # noqa: F401

    gc.collect()


def allow(seconds: float) -> None:
    """From now on the fork may compute for so long; then it dies."""
    signal.setitimer(signal.ITIMER_PROF, seconds)


def in_fork(task: Callable[[], Report]) -> Report:
    """What `task` answers, run in a fork; `{"died": reason}` when the fork did not live to say."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _live(task, writing)
    os.close(writing)
    said, until = b"", time.monotonic() + _WALL
    try:
        while select.select([reading], [], [], max(0.0, until - time.monotonic()))[0]:
            part = os.read(reading, 1 << 16)
            if not part:
                break
            said += part
        else:
            os.kill(child, signal.SIGKILL)
    finally:
        os.close(reading)
        _, status = os.waitpid(child, 0)
    if said:
        with contextlib.suppress(ValueError):
            report: Report = json.loads(said)
            return report
    code = os.waitstatus_to_exitcode(status)
    names = {-signal.SIGPROF: "too long", -signal.SIGKILL: "hung"}
    return {"died": names.get(code, f"status {code}")}


def _live(task: Callable[[], Report], writing: int) -> NoReturn:
    try:
        silent = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(silent, stream)
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        gc.disable()  # looking at every object that is shared would copy them all
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        limit = (private_bytes() or 0) + _MEMORY
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        # The fork's own limit holds; the worker must not set another one on the whole process.
        vars(client).update(Process=InThread, available_memory=lambda: None)
        try:
            report = task()
        except BaseException as error:  # noqa: BLE001  (whatever a mutant raises is its death)
            report = {"died": f"{type(error).__name__}: {error}"[:300]}
        os.write(writing, json.dumps(report).encode())
    finally:
        os._exit(0)
