"""onnxruntime in this very process, for what runs thousands of small models and may die of one.

A run costs no messages, no second process and no clock: who uses it puts it into a process that
can be spared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.errors import UsageError
from graphopt.runtime.conform import checked_feeds, checked_outputs
from graphopt.runtime.failure import WorkerFailure, sentence, shorten
from graphopt.runtime.options import Options, Port
from graphopt.runtime.session import Session
from graphopt.runtime.shared import Layout, Parcel
from graphopt.runtime.values import build, describe, to_array

if TYPE_CHECKING:
    from graphopt.runtime.options import Value

from graphopt.runtime.client import Worker


class InsideWorker(Worker):
    """A worker that is no process of its own."""

    def start(self) -> None:
        return None

    def ready(self) -> None:
        return None

    def sync(self) -> None:
        self._dropped.clear()

    def load(
        self, model: Path | str | bytes, options: Options | None = None, *, label: str = "", folder: Path | None = None
    ) -> Session:
        return InsideSession(self, model, options or Options(), label, folder)


class InsideSession(Session):
    """A session of onnxruntime, held directly."""

    def __init__(
        self, worker: Worker, model: Path | str | bytes, options: Options, label: str, folder: Path | None = None
    ) -> None:
        super().__init__(worker, model, options, label, folder)
        from graphopt.runtime.engine import Loaded

        given: Any = model if isinstance(model, bytes) else str(self._model)
        try:
            self._loaded = Loaded(given, options.as_dict(), [], self._folder)
        except Exception as error:  # noqa: BLE001  (onnxruntime raises what it likes)
            text = f"onnxruntime cannot load {self.label}: {shorten(str(error))}"
            raise WorkerFailure("rejected", sentence(text)) from None
        told = self._loaded.ports()
        ports = [tuple(_port(one) for one in told[kind]) for kind in ("inputs", "outputs", "overridable")]
        self.inputs, self.outputs, self.overridable = ports
        self._plain = all(one.type_text in _PLAIN for one in (*self.inputs, *self.outputs, *self.overridable))

    def ensure(self) -> None:
        if self._closed:
            raise UsageError(f"the session of {self.label} is closed.")

    def run(
        self,
        feeds: Mapping[str, Any],
        outputs: Sequence[str] | None = None,
        *,
        lent: bool = False,
        seconds: float | None = None,
    ) -> dict[str, Value]:
        self.ensure()
        if outputs is None and self._plain and all(map(_is_plain, feeds.values())):
            return self._directly(feeds)
        names = checked_outputs(outputs, self.outputs, self.label)
        layout, made = Layout(), Layout()
        checked = checked_feeds(feeds, self.inputs, self.overridable, self.label)
        try:
            described = {name: describe(value, layout) for name, value in checked.items()}
        except TypeError as error:
            raise UsageError(f"{self.label} was given {error}.") from error
        try:
            results = self._loaded.run(described, _parcel(layout), names, made)
        except Exception as error:  # noqa: BLE001  (as there)
            text = f"onnxruntime failed while running {self.label}: {shorten(str(error))}"
            raise WorkerFailure("failed", sentence(text)) from None
        parcel = _parcel(made)
        return {name: build(results[name], parcel, to_array(parcel)) for name in names}

    def _directly(self, feeds: Mapping[str, Any]) -> dict[str, Value]:
        """What onnxruntime's own Python makes of arrays of numpy's own types: the same, without a parcel around."""
        checked = checked_feeds(feeds, self.inputs, self.overridable, self.label)
        names = [one.name for one in self.outputs]
        try:
            return dict(zip(names, self._loaded.call(checked, names), strict=True))
        except Exception as error:  # noqa: BLE001  (as there)
            text = f"onnxruntime failed while running {self.label}: {shorten(str(error))}"
            raise WorkerFailure("failed", sentence(text)) from None

    def close(self) -> None:
        self._closed = True
        self._drop.detach()
        del self._loaded


_PLAIN = frozenset(
    f"tensor({one})"
    for one in (
        "float",
        "double",
        "float16",
        "int64",
        "int32",
        "int16",
        "int8",
        "uint64",
        "uint32",
        "uint16",
        "uint8",
        "bool",
    )
)


def _is_plain(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "fiub"


def _parcel(layout: Layout) -> Parcel:
    """What the other side would have received."""
    block = np.zeros(max(layout.common, 1), np.uint8)
    for _, offset, piece in layout.pieces:
        flat = np.ascontiguousarray(piece).reshape(-1).view(np.uint8)
        block[offset : offset + flat.size] = flat
    return Parcel([block])


def _port(told: Sequence[Any]) -> Port:
    name, type_text, shape = told
    return Port(name, type_text, tuple(shape))
