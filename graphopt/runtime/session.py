"""One model loaded in the worker, found there again after the worker was replaced."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphopt.errors import UsageError
from graphopt.runtime.conform import checked_feeds, checked_outputs
from graphopt.runtime.failure import WorkerFailure, clean
from graphopt.runtime.options import Options, Port
from graphopt.runtime.shared import Layout
from graphopt.runtime.values import build, describe, to_array, unpack_lent

if TYPE_CHECKING:
    from graphopt.runtime.client import Worker
    from graphopt.runtime.options import Value
    from graphopt.runtime.values import Description


class Session:
    """A model and its options, as `Worker.load` returns it.

    inputs: what must be fed. overridable: initializers that may be fed. outputs: what it gives.
    """

    def __init__(
        self, worker: Worker, model: Path | str | bytes, options: Options, label: str, folder: Path | None = None
    ) -> None:
        self.worker = worker
        self._folder = "" if folder is None else str(folder.absolute())
        self._model = model if isinstance(model, bytes) else Path(model).absolute()
        self.options = options
        name = "the model" if isinstance(self._model, bytes) else f"'{self._model.name}'"
        self.label = clean(label or name, 120)
        self.number = worker.number()
        self.inputs: tuple[Port, ...] = ()
        self.outputs: tuple[Port, ...] = ()
        self.overridable: tuple[Port, ...] = ()
        self._generation = 0
        self._closed = False
        self._drop = weakref.finalize(self, worker.drop, self.number)
        self._drop.atexit = False

    @property
    def model(self) -> Path | bytes:
        """What it was loaded from."""
        return self._model

    def run(
        self,
        feeds: Mapping[str, Any],
        outputs: Sequence[str] | None = None,
        *,
        lent: bool = False,
        seconds: float | None = None,
    ) -> dict[str, Value]:
        """Run once, within `seconds` where those are fewer than the worker's clock.

        feeds: an array for each input, of its dtype (ml_dtypes' for bfloat16, fp8 and sub-byte
        types; object arrays of str); a list for a sequence, a dict for a map, None for an absent
        optional. Any strides and byte order. outputs: names, all by default. The arrays returned
        are the caller's own and writable; where they are `lent`, which spares a copy and fresh memory each time,
        they are so until the next run of the worker. Raises UsageError for feeds or outputs that do not fit
        the session, and WorkerFailure for everything that goes wrong in onnxruntime.
        """
        with self.worker.lock:
            self.ensure()
            names = checked_outputs(outputs, self.outputs, self.label)
            layout = Layout()
            described = self.described(feeds, layout)
            request = {"do": "run", "session": self.number, "feeds": described, "outputs": names}
            if lent:
                request["lent"] = True
            results, parcel = self.worker.request(request, layout, f"running {self.label}", seconds)
            make = unpack_lent if lent else to_array(parcel)
            return {name: build(results[name], parcel, make) for name in names}

    def close(self) -> None:
        """Free it in the worker; it cannot be used afterwards. Does nothing the second time."""
        self._closed = True
        if self._drop.detach() and self._generation == self.worker.generation:
            self.worker.drop(self.number)
            self.worker.sync()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ensure(self) -> None:
        """Load it, unless the running worker has it. Raises WorkerFailure, UsageError if closed."""
        if self._closed:
            raise UsageError(f"the session of {self.label} is closed.")
        self.worker.ready()
        if self._generation == self.worker.generation:
            return
        generation = self.worker.generation
        request = {"do": "load", "session": self.number, "options": self.options.as_dict()}
        doing = f"loading {self.label}"
        if isinstance(self._model, bytes):
            loaded, _ = self.worker.request({**request, "folder": self._folder}, self._model, doing)
        else:
            loaded, _ = self.worker.request({**request, "path": str(self._model)}, None, doing)
        ports = [tuple(_port(each) for each in loaded[kind]) for kind in ("inputs", "outputs", "overridable")]
        if self._generation and ports != [self.inputs, self.outputs, self.overridable]:
            raise WorkerFailure("rejected", f"{self.label} has changed since it was first loaded; load it anew.")
        self.inputs, self.outputs, self.overridable = ports
        self._generation = generation

    def described(self, feeds: Mapping[str, Any], layout: Layout) -> dict[str, Description]:
        """The feeds, checked, planned into `layout`. Raises UsageError."""
        checked = checked_feeds(feeds, self.inputs, self.overridable, self.label)
        return {name: _described(name, value, layout) for name, value in checked.items()}


def _described(name: str, value: Value, layout: Layout) -> Description:
    try:
        return describe(value, layout)
    except TypeError as error:
        raise UsageError(f"input '{name}' was given {error}.") from error


def _port(told: Sequence[Any]) -> Port:
    name, type_text, shape = told
    return Port(name, type_text, tuple(shape))
