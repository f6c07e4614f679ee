"""One loaded original that says of a feed whether it accepts it, and why not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from graphopt.errors import CouldNotTell, UsageError
from graphopt.runtime.failure import WorkerFailure
from graphopt.validation.running import Whole
from graphopt.validation.runs import OFF
from graphopt.validation.values import arrays, digest_of, is_float

if TYPE_CHECKING:
    from graphopt.runtime.client import Worker
    from graphopt.runtime.options import Value
    from graphopt.validation.running import Key, Outputs, Runner

_DEATHS: Final = 3  # crashes or memory failures before the search is called off
_PATIENCE: Final = 60.0  # seconds for a run on inputs that nobody vouches for, unless a tenth of the clock is more
_RATE: Final = 20e6  # bytes of the model that add a second


class ModelTrial:
    """Calls run one feed; "" means accepted. Raises `WorkerFailure` if the model is rejected: when it is loaded,
    or, run by segments, with the first feed that comes so far."""

    def __init__(self, path: Path, worker: Worker, size: int = 0, runner: Runner | None = None) -> None:
        """`size` is how many bytes the model has: generated inputs may send a small one into a loop without end,
        and need not wait for the whole clock to tell. `runner` runs the model, as a whole unless given."""
        self._open = ExitStack()
        self._model = self._open.enter_context((Whole(worker) if runner is None else runner).open(path, OFF))
        self._seconds = max(_PATIENCE, worker.seconds / 10) + size / _RATE
        self._deaths = 0
        self._known: dict[bytes, str | UsageError | WorkerFailure] = {}

    def ahead(self, several: Sequence[Mapping[str, Value]]) -> None:
        """Run feeds that are likely to be asked for together, as far as that takes less than one by one."""
        asked = [(OFF, partial(_alone, values)) for values in several]
        for results, values in zip(self._model.several(asked, self._seconds), several, strict=False):
            try:
                ((_, outputs),) = results
                self._known[digest_of(values)] = _useless(outputs)
            except (UsageError, WorkerFailure) as error:
                self._known[digest_of(values)] = error

    def __call__(self, values: Mapping[str, Value]) -> str:
        """Run the feed. Raises `CouldNotTell` on a hang, or when the worker has died too often."""
        try:
            return self._run(values)
        except UsageError as error:
            return _clause(error)
        except WorkerFailure as failure:
            if failure.kind == "rejected":
                raise
            if failure.kind == "hang":
                raise CouldNotTell(
                    f"the original model did not finish on generated inputs: {_clause(failure)}; give --feeds"
                ) from None
            if failure.kind in ("crash", "memory"):
                self._deaths += 1
                if self._deaths == _DEATHS:
                    raise CouldNotTell(
                        f"the original model fails on generated inputs: {_clause(failure)}; give --feeds"
                    ) from None
            return _clause(failure)

    def _run(self, values: Mapping[str, Value]) -> str:
        known = self._known.pop(digest_of(values), None) if self._known else None
        if isinstance(known, str):
            return known
        if known is not None:
            raise known
        ((_, outputs),) = self._model.each(partial(_alone, values), seconds=self._seconds)
        return _useless(outputs)

    def close(self) -> None:
        """Let go of the session."""
        self._open.close()


def _alone(values: Mapping[str, Value]) -> Iterator[tuple[Key, Mapping[str, Value]]]:
    yield (0, 0), values


def _useless(outputs: Outputs) -> str:
    """Why the outputs tell nothing, in a clause; "" where they do."""
    floats = [array for value in outputs.values() for array in arrays(value) if is_float(array.dtype) and array.size]
    if floats and all(bool(np.isnan(array.astype(np.float64)).all()) for array in floats):
        return "every floating-point output is NaN"
    return ""


def _clause(error: Exception) -> str:
    return str(error).rstrip(". ")
