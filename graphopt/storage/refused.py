"""What an error of the operating system means: which kind of error it is here, and its reason in a clause."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from graphopt.errors import GraphoptError, OverLimit, UsageError
from graphopt.ir.wording import shown_path

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SCARCE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ENOLCK)


def is_full(error: OSError) -> bool:
    """Whether there is no room for what was to be written."""
    return error.errno in _FULL


def is_scarce(error: OSError) -> bool:
    """Whether the system has no more of something: room, open files, memory, processes."""
    return error.errno in _FULL + _SCARCE


def why(error: OSError) -> str:
    """The reason in a clause."""
    return os.strerror(error.errno).lower() if error.errno else " ".join(str(error).split()) or type(error).__name__


def unforeseen(error: OSError) -> GraphoptError:
    """The sentence for an error at a place that has no better one to say."""
    file = f" at {shown_path(error.filename)}" if isinstance(error.filename, str) else ""
    advice = "; make room" if is_full(error) else "; allow this process more" if is_scarce(error) else ""
    kind = OverLimit if is_scarce(error) else UsageError
    return kind(f"the system refused to go on{file}: {why(error)}{advice}; --debug shows where it was")


@contextmanager
def refusals() -> Iterator[None]:
    """What the system refuses in the block is raised as `unforeseen` says it: no pass is to blame for it."""
    try:
        yield
    except OSError as error:
        raise unforeseen(error) from error
