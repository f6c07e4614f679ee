"""The child process: answers one request after another until its connection closes."""

from __future__ import annotations

import os
import re
import socket
import sys
from typing import TYPE_CHECKING, Any, Final

from graphopt.runtime.failure import clean, is_memory, shorten
from graphopt.runtime.guard import be_modest, die_with_parent, limit_memory, private_bytes, release_memory
from graphopt.runtime.shared import KEEP_OUTPUTS, OWN, Inbox, Layout, Outbox
from graphopt.runtime.transport import Channel, Closed, Message

if TYPE_CHECKING:
    from graphopt.runtime.engine import Loaded

_LENT: Final = 1 << 62  # a block that is lent is used again whatever its size
_EXTERNAL: Final = re.compile(r"External data|cannot get file size")  # the latter before onnxruntime 1.32


class Server:
    """The sessions of this process, and its side of the shared memory."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._sessions: dict[int, Loaded] = {}
        self._libraries: list[str] = []
        self._limit: int | None = None
        self._inbox = Inbox(sealing=False, keep=None)
        self._outbox = Outbox(KEEP_OUTPUTS)
        self._lent = Outbox(_LENT)

    def serve(self) -> None:
        """Answer until the other side closes."""
        while True:
            try:
                request, files = self._channel.receive()
            except Closed:
                return
            lent = bool(request.get("lent"))
            layout = Layout(None if lent else OWN)
            try:
                answer = {"ok": self._answer(request, files, layout)}
                told, sent, temporary = self._publish(layout, lent)
            except Exception as error:  # noqa: BLE001  (whatever onnxruntime raises is the answer)
                answer, layout = {"fault": _fault(error)}, Layout(OWN)
                told, sent, temporary = self._publish(layout)
            # Before sending, so that the client does not find the memory of the outputs twice.
            del layout
            self._channel.send({**answer, "parcel": told}, sent)
            for each in temporary:
                os.close(each)
            self._outbox.renew()

    def _answer(self, request: Message, files: list[int], layout: Layout) -> Any:
        for number in request.get("drop", ()):
            self._sessions.pop(number, None)
        match request["do"]:
            case "start":
                return self._start(request)
            case "library":
                return self._library(request["path"])
            case "load":
                return self._load(request, files)
            case "run":
                parcel = self._inbox.open(request["parcel"], files)
                session = self._sessions[request["session"]]
                return session.run(request["feeds"], parcel, request["outputs"], layout)
            case "race":
                from graphopt.runtime.engine import race

                parcel = self._inbox.open(request["parcel"], files)
                first, second = (self._sessions[each] for each in request["sessions"])
                feeds = request["feeds"]
                return race(first.timer(feeds, parcel), second.timer(feeds, parcel), request)
            case "profile":
                from graphopt.runtime.engine import profile

                parcel = self._inbox.open(request["parcel"], files)
                place = _paths(request["path"])[0]
                return profile(place, request["options"], self._libraries, request["feeds"], parcel, request["runs"])
            case "convert":
                from graphopt.runtime.engine import convert

                return convert(request["path"], request["folder"], request["libraries"])
            case "drop":
                self._lent.close()
                release_memory()
                return None
            case other:
                raise ValueError(f"no request is called {other!r}")

    def _start(self, request: Message) -> Message:
        from graphopt.runtime.engine import PROVIDERS, VERSION

        if request["memory"] is not None:
            self._limit = limit_memory(request["memory"])
        return {"version": VERSION, "providers": PROVIDERS}

    def _library(self, path: str) -> None:
        from graphopt.runtime.engine import try_library

        try_library(path)
        self._libraries.append(path)

    def _load(self, request: Message, files: list[int]) -> Message:
        # A model without a file is read through its descriptor: no second copy of its bytes, and
        # no folder in which onnxruntime would look for external data.
        paths = [f"/dev/fd/{file}" for file in files] or _paths(request["path"])
        folder = request.get("folder", "")
        try:
            session = self._first(paths, request["options"], folder)
        except Exception as error:
            if files and not folder and _EXTERNAL.search(str(error)):
                why = "it has external data, which a model without a file cannot have"
                raise ValueError(f"{why}; give its path") from error
            raise
        finally:
            for file in files:
                os.close(file)
        self._sessions[request["session"]] = session
        return session.ports()

    def _first(self, paths: list[str], options: Message, folder: str = "") -> Loaded:
        """The model from the first of `paths` whose external data onnxruntime finds and accepts.

        With `folder`, a model without a file whose external data are there.
        """
        from graphopt.runtime.engine import Loaded

        refused: list[Exception] = []
        for path in paths:
            try:
                return Loaded(path, options, self._libraries, folder)
            except Exception as error:
                if not _EXTERNAL.search(str(error)):
                    raise
                refused.append(error)
        raise refused[0]

    def _publish(self, layout: Layout, lent: bool = False) -> tuple[Message, list[int], list[int]]:
        """Write the outputs to shared memory, which RLIMIT_DATA does not count: so count it here."""
        if self._limit is not None and layout.bytes > KEEP_OUTPUTS:
            used = private_bytes() or 0
            if used + layout.bytes > self._limit:
                raise MemoryError(f"outputs of {layout.bytes} bytes do not fit under the limit")
        told, sent, temporary = (self._lent if lent else self._outbox).write(layout)
        return {**told, "lent": lent}, sent, temporary


def _paths(path: str) -> list[str]:
    """Where to load a model from: as given, then what a link leads to.

    onnxruntime looks for external data next to the name it was given, and refuses data outside
    the folder of that name or of the file it links to. So a hub's cache (both files link into
    one folder of blobs) loads by the first; a linked model whose data lie next to the real file
    only by the second.
    """
    real = os.path.realpath(path)
    return [path] if real == path else [path, real]


def _fault(error: Exception) -> Message:
    text = str(error)
    if isinstance(error, MemoryError) or is_memory(text):
        return {"kind": "memory", "text": shorten(text)}
    if isinstance(error, (LookupError, Closed)):  # of this program: onnxruntime raises neither
        return {"kind": "fault", "text": clean(f"{type(error).__name__}: {text}")}
    if isinstance(error, UnicodeDecodeError):
        text = f"a string that it gave is not UTF-8: {error.object[:40]!r}"
    return {"kind": "error", "text": shorten(text)}


def main() -> None:
    """Entry point: `worker CONNECTION LIFELINE PARENT MAIN_THREAD`, numbers all of them."""
    connection, lifeline, parent, main_thread = map(int, sys.argv[1:5])
    os.set_inheritable(connection, False)
    os.set_inheritable(lifeline, False)
    die_with_parent(lifeline, parent, bool(main_thread))
    be_modest()
    Server(Channel(socket.socket(fileno=connection))).serve()
    # Not through the interpreter's shutdown: a library's destructors may crash or hang there.
    os._exit(0)


if __name__ == "__main__":
    main()
