"""How a model is run on many feeds: loaded whole, as here, or a segment at a time (`graphopt.validation.segments`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from graphopt.runtime.client import Session, Worker
    from graphopt.runtime.options import Options, Value

Key = tuple[int, int]
"""The number of a feed, and which run of it."""

Values = Mapping[str, Any]
Outputs = Mapping[str, "Value"]
Feeds = Callable[[], Iterator[tuple[Key, Values]]]
Results = Iterator[tuple[Key, Outputs]]


class Running(Protocol):
    """A model that is ready to run. `inputs` and `outputs` are the types by name, "" where nothing says."""

    inputs: dict[str, str]
    outputs: dict[str, str]

    def each(self, feeds: Feeds, seconds: float | None = None) -> Results:
        """The outputs on each feed, in the feeds' order; a run may take `seconds`, where given in place of the
        worker's. Raises as `Session.run` does."""
        ...

    def several(self, asked: Sequence[tuple[Options, Feeds]], seconds: float | None = None) -> Iterator[Results]:
        """Several runs of the model, the first under the mode that it was opened with: as many of them as take less
        together than one by one, and the first at least. Each raises, when it is read, as `each` does."""
        ...


class Runner(Protocol):
    """What models are run by."""

    def open(self, path: Path, mode: Options) -> AbstractContextManager[Running]:
        """The model of a file, to be run under `mode`. Raises as `Worker.load` does."""
        ...


class Whole:
    """Runs models as one session each."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    @contextmanager
    def open(self, path: Path, mode: Options) -> Iterator[Running]:
        """See `Runner`."""
        with self._worker.load(path, mode) as session:
            yield _Loaded(session)


class _Loaded:
    def __init__(self, session: Session) -> None:
        self._session = session
        self.inputs = {port.name: port.type_text for port in session.inputs}
        self.outputs = {port.name: port.type_text for port in session.outputs}

    def each(self, feeds: Feeds, seconds: float | None = None) -> Results:
        for key, values in feeds():
            yield key, self._session.run(values, seconds=seconds)

    def several(self, asked: Sequence[tuple[Options, Feeds]], seconds: float | None = None) -> Iterator[Results]:
        yield self.each(asked[0][1], seconds)
