"""What a run that was stopped says of what it had learned: where that is kept, or how it would have been."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from graphopt.cli.signals import HungUp, Interrupted, Terminated, ending
from graphopt.errors import GraphoptError, OverLimit


@contextmanager
def resumable(learns: bool, cache: Path | None) -> Iterator[None]:
    """A signal, or a limit once something was learned, ends the block with an error that says what can be resumed.

    `learns`: whether the run learns from samples at all; `cache`: the folder where that is kept, if one is named.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        raise ending(stop, _clause(cache) if learns else "") from stop
    except GraphoptError as error:
        stopped = isinstance(error, Interrupted | Terminated | HungUp)
        if learns and (stopped or (isinstance(error, OverLimit) and _has_learned())):
            error.args = (f"{str(error).rstrip('.')}; {_clause(cache)}",)
        raise


def _clause(cache: Path | None) -> str:
    if cache is None:
        return (
            "nothing that was learned from samples is kept: give --resume (or --cache-dir DIR), and a run that is "
            "stopped goes on where it was"
        )
    return f"what was learned from samples is kept in {str(cache)!r}, and the same command goes on from there"


def _has_learned() -> bool:
    """Whether this process knows statistics; what knows is only there once something was asked of it."""
    cache = sys.modules.get("graphopt.calibration.cache")
    return cache is not None and len(cache.SHARED) > 0
