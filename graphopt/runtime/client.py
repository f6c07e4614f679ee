"""onnxruntime as the rest of graphopt sees it: sessions in a worker process that may die.

    with Worker(seconds=60) as worker:
        session = worker.load(Path("model.onnx"), Options(optimize=False))
        outputs = session.run({"x": array})

The worker starts at the first use. A crash, a hang or running out of memory there is a
`WorkerFailure`; the next use starts another worker, which loads the open sessions again.
Linux is the platform this is made for; on others the limits are best effort.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from graphopt.errors import InternalError, UsageError
from graphopt.runtime.failure import WorkerFailure, clean, sentence
from graphopt.runtime.options import Options, Port, Race, Value
from graphopt.runtime.process import Process
from graphopt.runtime.procfs import available_memory, process_memory
from graphopt.runtime.session import Session
from graphopt.runtime.shared import KEEP_INPUTS, KEEP_OUTPUTS, Inbox, Layout, Outbox, Parcel, file_of
from graphopt.runtime.transport import Closed, Message

__all__ = ["Options", "Port", "Race", "Session", "Value", "Worker", "WorkerFailure"]

_START_SECONDS: Final = 60.0
_SHARE: Final = 0.9


class Worker:
    """A child process that runs onnxruntime. Usable from several threads, one request at a time.

    seconds: the clock of each request. memory: how many bytes models may take in the worker,
    with their weights, intermediate results and outputs; None stands for nine tenths of what the
    machine (or the control group) has free when the worker starts, so that a runaway model gets
    an error before the user's machine gets slow. custom_ops: libraries of custom operators, for
    every session. Raises UsageError for a limit that is not positive or a library that is no file.
    """

    def __init__(
        self, *, seconds: float = 600.0, memory: int | None = None, custom_ops: Sequence[Path | str] = ()
    ) -> None:
        if seconds <= 0 or (memory is not None and memory <= 0):
            raise UsageError("the time and memory limits of the worker must be greater than zero.")
        self.seconds = seconds
        self.memory = memory
        self.custom_ops = tuple(Path(each).absolute() for each in custom_ops)
        for library in self.custom_ops:
            if not library.is_file():
                raise UsageError(f"there is no custom operator library '{library}'.")
        self.version: str | None = None
        self.providers: tuple[str, ...] = ()
        self.lock = threading.RLock()  # held by whoever makes a request, from `ready` to its answer
        self._process: Process | None = None
        self._ready = False
        self._limit: int | None = None
        self._numbers = 0
        self._dropped: list[int] = []
        self._outbox, self._inbox = Outbox(KEEP_INPUTS), Inbox(sealing=True, keep=KEEP_OUTPUTS)
        self._lent = Inbox(sealing=True, keep=None)
        self.generation = 0
        self.shortages = 0  # how often something did not fit in memory
        self.deaths = 0  # how often it ended or hung over a request
        self._end = weakref.finalize(self, int)  # nothing to end yet

    def start(self) -> None:
        """Begin to start the process, without waiting for it; the first request waits for the rest.

        Importing onnxruntime takes a fraction of a second, which can so pass while a model is read.
        """
        with self.lock:
            if self._process is not None and not self._process.alive:
                self._forget()  # it died, or was killed, between two requests
            if self._process is None:
                self._process = Process()
                self._end = weakref.finalize(self, self._process.end)
                self.generation += 1

    def load(
        self, model: Path | str | bytes, options: Options | None = None, *, label: str = "", folder: Path | None = None
    ) -> Session:
        """Load a model: a file, with its external data next to it, or the bytes of a whole model.

        label: what to call it in messages; its file name, or `the model`, by default. A model in
        bytes is kept (not copied) for loading it again after a failure; a file must not change.
        folder: where the external data of a model in bytes are.
        Raises WorkerFailure, its kind `rejected` when onnxruntime does not take the model.
        """
        session = Session(self, model, options or Options(), label, folder)
        with self.lock:
            session.ensure()
        return session

    def run_model(
        self,
        model: Path | str | bytes,
        feeds: Mapping[str, Any],
        options: Options | None = None,
        outputs: Sequence[str] | None = None,
    ) -> dict[str, Value]:
        """Load, run once, close: `load` and `Session.run` in one call, with their errors."""
        with self.load(model, options) as session:
            return session.run(feeds, outputs)

    def race(
        self,
        a: Session,
        b: Session,
        feeds: Mapping[str, Any],
        *,
        rounds: int,
        warmup: int = 3,
        budget: float | None = None,
        least: int = 7,
    ) -> Race:
        """Time two sessions of this worker in turn on the same feeds.

        rounds: how many pairs to measure. warmup: pairs run before and not counted. budget:
        seconds after which no further pair starts, once `least` are done; half the clock by
        default. Load both with `Options(arena=True)` to time what users will run. Errors as of
        `Session.run`.
        """
        with self.lock:
            if a.worker is not self or b.worker is not self:
                raise UsageError("a race needs two sessions of one worker.")
            a.ensure()
            b.ensure()
            layout = Layout()
            request = {
                "do": "race",
                "sessions": [a.number, b.number],
                "feeds": a.described(feeds, layout),
                "rounds": rounds,
                "warmup": warmup,
                "budget": self.seconds / 2 if budget is None else budget,
                "least": least,
            }
            b.described(feeds, Layout())  # for its checks
            result, _ = self.request(request, layout, f"timing {a.label} against {b.label}")
        return Race(tuple(result["a"]), tuple(result["b"]), result["repeat"])

    @property
    def pid(self) -> int | None:
        """Process id of the worker; None when none is running."""
        return None if self._process is None else self._process.pid

    @property
    def traffic(self) -> int:
        """Bytes of messages to and from the running worker; arrays are not among them."""
        return 0 if self._process is None else self._process.channel.sent + self._process.channel.received

    def peak_memory(self) -> int | None:
        """Most memory that the running worker has had resident, in bytes, shared memory included.

        None when none is running, or where /proc does not say (not Linux).
        """
        memory = None if self.pid is None else process_memory(self.pid)
        return memory.get("VmHWM") if memory else None

    def close(self) -> None:
        """End the process; the worker and its sessions remain usable and would start another."""
        with self.lock:
            self._forget()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # For Session, and this class's own requests.

    def number(self) -> int:
        """A fresh session number."""
        with self.lock:
            self._numbers += 1
            return self._numbers

    def drop(self, number: int) -> None:
        """Let the worker forget a session with the next request; may be called at any time."""
        self._dropped.append(number)

    def sync(self) -> None:
        """Have dropped sessions forgotten now, and their memory given back."""
        with self.lock:
            self._lent.close()
            if self._ready and self._process is not None:
                with contextlib.suppress(WorkerFailure):  # whatever it died of, the session is gone
                    self._exchange({"do": "drop"}, (), "closing a session", self.seconds)

    def ready(self) -> None:
        """Make sure that a configured process is running. Raises WorkerFailure."""
        self.start()
        if self._ready:
            return
        self._limit = self.memory
        if self._limit is None:
            free = available_memory()
            self._limit = None if free is None else int(free * _SHARE)
        seconds = max(self.seconds, _START_SECONDS)
        start, _ = self._exchange({"do": "start", "memory": self._limit}, (), "starting", seconds)
        self.version, self.providers = start["version"], tuple(start["providers"])
        for library in self.custom_ops:
            doing = f"loading the custom operator library '{library}'"
            self._exchange({"do": "library", "path": str(library)}, (), doing, seconds)
        self._ready = True

    def request(
        self, message: Message, content: Layout | bytes | None, doing: str, seconds: float | None = None
    ) -> tuple[Any, Parcel]:
        """One request and its answer, after `ready`.

        content: arrays or a whole model to go along. doing: such as `running 'm.onnx'`, for
        messages. seconds: for this request, where those are fewer than the clock. Raises WorkerFailure.
        """
        size = content.bytes if isinstance(content, Layout) else len(content or b"")
        if self._limit is not None and size > self._limit:
            raise WorkerFailure("memory", self._out_of_memory(doing, f"{size / 1e9:.3g} GB are to be passed"))
        files: list[int] = []
        try:
            if isinstance(content, Layout):
                told, files, _ = self._outbox.write(content)
                message = {**message, "parcel": told}
            elif content is not None:
                files = [file_of(content)]
        except OSError as error:
            reason = clean(os.strerror(error.errno or 0))
            raise WorkerFailure("memory", self._out_of_memory(doing, f"no shared memory, {reason}")) from error
        try:
            return self._exchange(message, files, doing, min(self.seconds, seconds or self.seconds))
        except BaseException:
            self._outbox.close()  # in doubt whether the worker has been told of a new block
            raise
        finally:
            if isinstance(content, Layout):
                self._outbox.trim()
            for file in files if isinstance(content, bytes) else ():
                os.close(file)

    def _exchange(self, message: Message, files: Sequence[int], doing: str, seconds: float) -> tuple[Any, Parcel]:
        process = self._process
        assert process is not None
        dropped, self._dropped = self._dropped, []
        try:
            answer, received = process.ask({**message, "drop": dropped}, list(files), seconds)
            told = answer["parcel"]
            parcel = (self._lent if told["lent"] else self._inbox).open(told, received)
        except TimeoutError:
            self._forget()
            self.deaths += 1
            late = f"onnxruntime gave no answer within {seconds:g} s while {doing}"
            raise WorkerFailure("hang", f"{late}; give it more time, or a smaller model or input.") from None
        except (Closed, KeyError):
            self._bury(doing)
        except BaseException:
            # Ctrl-C, for one: what the worker would still answer must not meet the next request.
            self._forget()
            raise
        if "fault" in answer:
            self._blame(answer["fault"], message["do"], doing)
        return answer["ok"], parcel

    def _blame(self, fault: Message, asked: str, doing: str) -> NoReturn:
        text = fault["text"]
        if fault["kind"] == "memory":
            self._forget()  # an arena that failed takes all there is at its next run
            raise WorkerFailure("memory", self._out_of_memory(doing, text))
        if asked == "start":
            self._forget()
            raise InternalError(sentence(f"onnxruntime cannot be used by {sys.executable}: {text}"))
        if fault["kind"] == "fault":
            self._forget()
            raise InternalError(sentence(f"the worker failed while {doing}: {text}"))
        if asked in ("load", "library"):
            what = doing.removeprefix("loading ")
            raise WorkerFailure("rejected", sentence(f"onnxruntime cannot load {what}: {text}"))
        raise WorkerFailure("failed", sentence(f"onnxruntime failed while {doing}: {text}"))

    def _bury(self, doing: str) -> NoReturn:
        """Say why the process died."""
        process = self._process
        assert process is not None
        cause, memory = process.cause()
        words = clean(process.last_words) if process.last_words else ""
        self._forget()
        if memory:
            raise WorkerFailure("memory", self._out_of_memory(doing, words or f"the worker {cause}"))
        said = f"; it last said: {words}" if words else ""
        self.deaths += 1
        raise WorkerFailure("crash", sentence(f"the worker {cause} while {doing}{said}"))

    def _out_of_memory(self, doing: str, text: str) -> str:
        self.shortages += 1
        limit = f" (limit: {self._limit / 1e9:.3g} GB)" if self._limit is not None else ""
        return f"out of memory while {doing}{limit}: {text}; allow more memory, or use a smaller input."

    def _forget(self) -> None:
        process, self._process, self._ready = self._process, None, False
        self._dropped.clear()
        self._outbox.close()
        self._inbox.close()
        self._lent.close()
        self._end.detach()
        if process is not None:
            process.end()
