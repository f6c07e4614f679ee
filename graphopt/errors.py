"""Every way a run can end without a result: one class, one exit code, one sentence.

The message of a `GraphoptError` is written for the user: one sentence that names the thing
and what can be done. The command line prints it and exits with `exit_code`; the Python API
raises it.
"""

from __future__ import annotations

from typing import ClassVar


class GraphoptError(Exception):
    """Base of all errors that graphopt raises on purpose."""

    exit_code: ClassVar[int] = 70


class NotEquivalent(GraphoptError):
    """The result differs from the original by more than the contract or budget allows."""

    exit_code: ClassVar[int] = 1


class UsageError(GraphoptError):
    """The request itself is wrong: an option, a pipeline text, a recipe, feeds, labels."""

    exit_code: ClassVar[int] = 2


class BadModel(GraphoptError):
    """The input is not a model that can be read, or its file is malformed."""

    exit_code: ClassVar[int] = 3


class Unsafe(GraphoptError):
    """Refused because going on could open, overwrite or run what the user did not ask for."""

    exit_code: ClassVar[int] = 4


class OverLimit(GraphoptError):
    """A resource limit (memory, time, size, depth) would be, or was, exceeded."""

    exit_code: ClassVar[int] = 5


class CouldNotTell(GraphoptError):
    """Validation ended without a verdict; this is never counted as passed."""

    exit_code: ClassVar[int] = 6


class InternalError(GraphoptError):
    """A fault of graphopt itself, or of a pass: it raised, or broke a law of passes."""

    exit_code: ClassVar[int] = 70


OUT_OF_MEMORY = "out of memory; give the machine more, or use a smaller model"
"""What is said where memory ran out in this process."""


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory ran out; protobuf calls it a model that it fails to serialize, or nothing."""
    speechless = isinstance(error, SystemError) and "google._upb" in str(error) and "returned NULL" in str(error)
    return isinstance(error, MemoryError) or type(error).__name__ == "EncodeError" or speechless
