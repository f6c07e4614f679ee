"""Messages between the two processes: small JSON objects in frames, with file descriptors.

A frame is an 8-byte length, a 4-byte count of file descriptors (little-endian), then the JSON
text. The descriptors ride on the frame's header (SCM_RIGHTS). Arrays never travel here: they
lie in shared memory (`shared`) whose descriptors do.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Sequence
from typing import Any, Final

_HEADER: Final = struct.Struct("<QI")
_MOST_BYTES: Final = 1 << 30
_MOST_FILES: Final = 250  # the kernel passes at most 253 at once

Message = dict[str, Any]


class Closed(Exception):
    """The other side is gone, or what it sent is not a message."""


class Channel:
    """One end of the connection. `sent` and `received` count bytes, for measurements."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self.sent = 0
        self.received = 0

    def send(self, message: Message, files: Sequence[int] = ()) -> None:
        """Send a message; the descriptors stay open here. Raises Closed, or TimeoutError."""
        body = json.dumps(message, separators=(",", ":")).encode()
        frame = _HEADER.pack(len(body), len(files)) + body
        try:
            # In one piece where it fits, so that the other side wakes once.
            sent = socket.send_fds(self.end, [frame], list(files))
            if sent < len(frame):
                self.end.sendall(memoryview(frame)[sent:])
        except TimeoutError:
            raise
        except OSError as error:
            raise Closed(str(error)) from error
        self.sent += len(frame)

    def receive(self) -> tuple[Message, list[int]]:
        """The next message and the descriptors that came with it, which the caller must close.

        Raises Closed at the end of the stream or on anything that is not a message, and
        TimeoutError when the socket has a timeout and it passes.
        """
        files: list[int] = []
        try:
            header = b""
            while len(header) < _HEADER.size:
                part, more, _, _ = socket.recv_fds(self.end, _HEADER.size - len(header), _MOST_FILES)
                files += more
                if not part:
                    raise Closed("end of stream")
                header += part
            length, count = _HEADER.unpack(header)
            if length > _MOST_BYTES or count != len(files):
                raise Closed("not a frame")
            message = json.loads(self._exactly(length))
            if not isinstance(message, dict):
                raise Closed("not an object")
        except BaseException as error:
            for each in files:
                os.close(each)
            if isinstance(error, (ValueError, OSError)) and not isinstance(error, TimeoutError):
                raise Closed(str(error)) from error
            raise
        self.received += _HEADER.size + length
        return message, files

    def _exactly(self, length: int) -> bytearray:
        body = bytearray(length)
        view = memoryview(body)
        while view:
            count = self.end.recv_into(view)
            if not count:
                raise Closed("end of stream")
            view = view[count:]
        return body

    def close(self) -> None:
        """Close this end; the other side reads the end of the stream."""
        self.end.close()
