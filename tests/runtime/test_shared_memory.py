"""Shared memory between the processes, and what keeps the client safe from a worker gone wrong."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import numpy as np
import pytest

from graphopt.runtime.shared import Inbox, Layout, Outbox, anonymous_file
from graphopt.runtime.transport import Channel, Closed


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def delivered(outbox: Outbox, inbox: Inbox, layout: Layout) -> list[bytes]:
    """The pieces of a layout as the other side reads them."""
    places = [[block, offset, piece.nbytes] for block, offset, piece in layout.pieces]
    told, files, temporary = outbox.write(layout)
    parcel = inbox.open(told, [os.dup(file) for file in files])
    for file in temporary:
        os.close(file)
    return [parcel.bytes_at(place).tobytes() for place in places]


def test_small_pieces_share_a_block_and_large_ones_do_not() -> None:
    before = open_files()
    outbox, inbox = Outbox(keep=1 << 20), Inbox(sealing=True, keep=1 << 20)
    for count in (10, 20, 10):
        layout = Layout(own=1 << 16)
        pieces = [np.full(size, size % 251, np.uint8) for size in (count, 70_000, 3 * count)]
        places = [layout.add(piece) for piece in pieces]
        assert [place[0] for place in places] == [0, 1, 0]
        assert delivered(outbox, inbox, layout) == [piece.tobytes() for piece in pieces]
        outbox.renew()
    outbox.close()
    assert open_files() == before


def test_blocks_above_what_is_kept_are_given_back() -> None:
    outbox, inbox = Outbox(keep=1 << 16), Inbox(sealing=False, keep=None)
    piece = np.arange(1 << 18, dtype=np.uint8)
    kept = -1
    for _ in range(3):
        layout = Layout()
        layout.add(piece)
        told, files, _ = outbox.write(layout)
        if files:  # the first time only
            kept = os.dup(files[0])
        parcel = inbox.open(told, [os.dup(file) for file in files])
        assert parcel.bytes_at([0, 0, piece.size]).tobytes() == piece.tobytes()
        outbox.trim()
        assert os.fstat(kept).st_blocks == 0
    os.close(kept)
    outbox.close()


def test_a_sealed_block_cannot_be_pulled_away() -> None:
    file = anonymous_file(1 << 16)
    parcel = Inbox(sealing=True, keep=1 << 20).open({"common": 1 << 16, "owned": []}, [os.dup(file)])
    with pytest.raises(PermissionError):
        os.ftruncate(file, 0)
    assert parcel.bytes_at([0, 0, 8]).tobytes() == bytes(8)
    os.close(file)


def test_blocks_that_are_not_what_was_told_are_refused() -> None:
    before = open_files()
    inbox = Inbox(sealing=True, keep=1 << 20)
    with pytest.raises(Closed, match="shorter than told"):
        inbox.open({"common": 0, "owned": [1 << 20]}, [anonymous_file(1 << 16)])
    with pytest.raises(Closed, match="blocks are missing"):
        inbox.open({"common": 0, "owned": [1 << 16, 1 << 16]}, [anonymous_file(1 << 16)])
    with pytest.raises(Closed):
        inbox.open({"common": 0, "owned": [10]}, [os.open("/dev/null", os.O_RDONLY)])
    parcel = inbox.open({"common": 0, "owned": [100]}, [anonymous_file(100)])
    for place in ([1, 0, 101], [1, 90, 20], [2, 0, 1], [1, -1, 1], [1, 0, -1], [-1, 0, 1], [0, 0, 1]):
        with pytest.raises(Closed, match="outside its block"):
            parcel.bytes_at(place)
    assert open_files() == before


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\x05",
        b"\x02" + bytes(11) + b"[]",
        b"\x03" + bytes(11) + b"{,}",
        b"\xff" * 12,
        b"\x02" + bytes(7) + b"\x01\0\0\0{}",
    ],
    ids=["nothing", "half a header", "no object", "no JSON", "a huge length", "a missing descriptor"],
)
def test_what_is_not_a_message_closes_the_connection(sent: bytes) -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(sent)
    theirs.close()
    with pytest.raises(Closed):
        Channel(ours).receive()
    ours.close()


def test_the_order_within_a_round_changes() -> None:
    from graphopt.runtime.engine import race

    calls: list[str] = []

    def runner(name: str) -> float:
        calls.append(name)
        return 1.0

    request = {"rounds": 4, "warmup": 1, "budget": 60.0, "least": 1}
    times = race(lambda _: runner("a"), lambda _: runner("b"), request)
    assert "".join(calls) == "ab" + "abbaabba"
    assert times == {"a": [1.0] * 4, "b": [1.0] * 4, "repeat": 1}
