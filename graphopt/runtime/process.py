"""The worker as an operating system process: started, listened to, ended, and why it died."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Final

from graphopt.errors import UsageError
from graphopt.runtime.procfs import killed_for_memory
from graphopt.runtime.transport import Channel, Message

_TAIL: Final = 4096
_LONGEST: Final = 1e7  # seconds; a socket takes no infinite timeout
_ROOT: Final = str(Path(__file__).resolve().parents[2])

# As `-m graphopt.runtime.worker`, but of this very graphopt even when another one is installed.
# `-P` keeps the current folder out of the import path: a file there must not pass for a library.
_START: Final = (
    "import sys; root = sys.argv.pop(1); root in sys.path or sys.path.insert(0, root); "
    "from graphopt.runtime.worker import main; main()"
)
_SIGNALS: Final = {
    "SIGSEGV": "a segmentation fault",
    "SIGABRT": "an abort",
    "SIGILL": "an illegal instruction",
    "SIGFPE": "an arithmetic fault",
    "SIGBUS": "a bus error",
}


class Process:
    """One child process. Its standard output and error go to a pipe; their last 4 KiB are kept."""

    def __init__(self) -> None:
        if not hasattr(socket, "send_fds") or not sys.executable:
            raise UsageError("onnxruntime's worker needs Linux or macOS, and a Python interpreter to start.")
        here, there = socket.socketpair()
        self._words, words = os.pipe()
        lifeline, self._lifeline = os.pipe()
        self._tail = b""
        self._parent = os.getpid()
        self._kills = killed_for_memory()
        handed = (there.fileno(), lifeline)
        main_thread = threading.current_thread() is threading.main_thread()
        arguments = [str(each) for each in (*handed, os.getpid(), int(main_thread))]
        try:
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-c", _START, _ROOT, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                pass_fds=handed,
                env=_environment(),
                start_new_session=True,
            )
        except BaseException:
            here.close()
            os.close(self._words)
            os.close(self._lifeline)
            raise
        finally:
            there.close()
            os.close(words)
            os.close(lifeline)
        os.set_blocking(self._words, False)
        self.channel = Channel(here)

    @property
    def pid(self) -> int:
        """Of the child, which also leads its own session and process group."""
        return self._child.pid

    @property
    def alive(self) -> bool:
        """Whether it runs, as a child of this very process."""
        return os.getpid() == self._parent and self._child.poll() is None

    def ask(self, message: Message, files: list[int], seconds: float) -> tuple[Message, list[int]]:
        """Send a message and wait for the answer. Raises TimeoutError, or Closed when the child is gone."""
        seconds = min(seconds, _LONGEST)
        deadline = time.monotonic() + seconds
        self.channel.end.settimeout(seconds)
        self.channel.send(message, files)
        self._listen(deadline)
        self.channel.end.settimeout(max(0.001, deadline - time.monotonic()))
        return self.channel.receive()

    def end(self) -> None:
        """Kill it and everything it started, and wait for it; does nothing the second time.

        In a fork of the process that started it, the child is not touched.
        """
        if self._child.returncode is None and os.getpid() == self._parent:
            try:
                os.killpg(self._child.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                self._child.kill()
            self._child.wait()
        self.channel.close()
        for file in (self._words, self._lifeline):
            if file >= 0:
                os.close(file)
        self._words = self._lifeline = -1

    def cause(self) -> tuple[str, bool]:
        """Why a child that closed its end died, as a clause, and whether lack of memory did it.

        Ends it if it is still there.
        """
        try:
            code = self._child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "closed its connection", False
        self._read_words()
        if code == -signal.SIGKILL:
            if killed_for_memory() > self._kills:
                return "was killed by the system for lack of memory", True
            return "was killed from outside", False
        memory = "bad_alloc" in self.last_words or "MemoryError" in self.last_words
        if code < 0:
            return f"died of {_signal_name(-code)}", memory
        return f"ended with status {code}", memory

    @property
    def last_words(self) -> str:
        """The last line that the child, or a library in it, wrote to its standard streams."""
        lines = [line for line in self._tail.decode(errors="replace").splitlines() if line.strip()]
        return lines[-1] if lines else ""

    def _listen(self, deadline: float) -> None:
        """Wait for the answer's first byte, emptying the pipe of words meanwhile."""
        poll = select.poll()
        poll.register(self.channel.end, select.POLLIN)
        poll.register(self._words, select.POLLIN)
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            # At most an hour at a time: poll counts milliseconds in an int.
            ready = dict(poll.poll(min(left, 3600.0) * 1000))
            if self._words in ready and not self._read_words():
                poll.unregister(self._words)
            if self.channel.end.fileno() in ready:
                return

    def _read_words(self) -> bool:
        """Take what the pipe of words holds. False at its end."""
        while True:
            try:
                part = os.read(self._words, 65536)
            except BlockingIOError:
                return True
            if not part:
                return False
            self._tail = (self._tail + part)[-_TAIL:]


def _environment() -> dict[str, str]:
    environment = dict(os.environ)
    # The worker does no linear algebra in numpy; its idle threads would only cost start-up time.
    environment["OPENBLAS_NUM_THREADS"] = "1"
    # Would let the model replace the options that a session was asked for.
    environment.pop("ORT_LOAD_CONFIG_FROM_MODEL", None)
    # Would let the converter optimize less, and name its files otherwise.
    environment.pop("ORT_CONVERT_ONNX_MODELS_TO_ORT_OPTIMIZATION_LEVEL", None)
    environment["ORT_DISABLE_TELEMETRY"] = "1"  # it would leave a session file in the temporary folder
    return environment


def _signal_name(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
    return _SIGNALS.get(name, name)
