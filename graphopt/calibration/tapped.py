"""Models that give inner values: the nodes that these need, with the values as outputs, as the worker loads them.

A small model goes to the worker as one message. A large one is written once to a folder, its weights in a file of
their own, and every model that gives other values of it is a small file beside that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto

from graphopt.analysis.activations import Array
from graphopt.calibration.inner import Hidden, Inner, Leading, Tap
from graphopt.ir.store import EMBEDDED, Store
from graphopt.runtime.client import Options, Session, Worker
from graphopt.storage.wire import join
from graphopt.storage.write import stage

MODE: Final = Options(optimize=False, prepack=True, threads=1)
"""Optimizations are off: what a value is must not depend on which others are asked for with it."""

MESSAGE: Final = 64 << 20
"""Bytes of weights up to which a model is one message."""

_LABEL: Final = "the model with inner values as outputs"
_SHAPE: Final = "__graphopt_shape"


class Running:
    """A session, and where it gives each value: in one output, or of an inner value perhaps in several."""

    def __init__(self, session: Session, taps: Mapping[str, Sequence[Tap]], suffix: str = "") -> None:
        self._session, self._taps, self._suffix = session, taps, suffix
        self._fed = {port.name for port in (*session.inputs, *session.overridable)}

    def run(self, feed: Mapping[str, Any], names: Sequence[str], lent: bool = False) -> dict[str, list[Array]]:
        """The values on a feed, each as often as it was computed; `lent` ones are good until the next run.

        A graph may have lost inputs that are fed.
        """
        several = [tap for name in names for tap in self._taps[name]]
        outputs = [tap.name + self._suffix for tap in several]
        outputs += [tap.shape for tap in several if tap.shape and not self._suffix]
        given = self._session.run(
            {name: value for name, value in feed.items() if name in self._fed}, outputs, lent=lent
        )
        found: dict[str, list[Array]] = {}
        for name in names:
            arrays = [(tap, read_only(given[tap.name + self._suffix])) for tap in self._taps[name]]
            if self._suffix:
                found[name] = [array for _, array in arrays]
            else:
                shapes = {tap.name: np.asarray(given[tap.shape]) for tap, _ in arrays if tap.shape}
                found[name] = [each for tap, array in arrays for each in tap.each(array, shapes.get(tap.name))]
        return found

    def loops(self, name: str) -> bool:
        """Whether a value is one of a loop."""
        return any(tap.loops for tap in self._taps[name])

    @property
    def others(self) -> list[str]:
        """The values that are no tensors of numbers."""
        tensors = (port for port in self._session.outputs if port.type_text.startswith("tensor("))
        numbers = {port.name for port in tensors if port.dtype is not None and port.dtype != object}
        return [name for name, taps in self._taps.items() if not all(tap.name in numbers for tap in taps)]


class Tapped:
    """One model that can be loaded with some of its values as outputs. `folder` is free to write to; `inner` are
    values in bodies and functions by their keys, which are asked for as others by their names."""

    def __init__(
        self,
        proto: onnx.ModelProto,
        store: Store,
        worker: Worker,
        folder: Path,
        inner: Mapping[str, Inner] | None = None,
    ) -> None:
        self._proto, self._store, self._worker, self._folder = proto, store, worker, folder
        self._inner = inner or {}
        self._written: onnx.ModelProto | None = None
        self._files = 0
        self.weights = frozenset(one.name for one in proto.graph.initializer)
        self.weights |= {one.values.name for one in proto.graph.sparse_initializer}
        self.inputs = frozenset(one.name for one in proto.graph.input) - self.weights
        self.outputs = [one.name for one in proto.graph.output if one.name not in self.inputs]
        self.takes_any_rows = all(_any_rows(one) for one in proto.graph.input if one.name in self.inputs)
        self._makers = {name: at for at, node in enumerate(proto.graph.node) for name in node.output if name}
        self._reads = [tuple(reads_of(node)) for node in proto.graph.node]
        tensors = [one for graph in (proto.graph, *proto.functions) for one in _tensors(graph)]
        self._large = sum(map(_payload, tensors)) > MESSAGE or any(map(_elsewhere, tensors))

    def makes(self, name: str) -> bool:
        """Whether a node makes a value of that name, or it is an inner value."""
        return name in self._makers or name in self._inner

    def hidden(self, names: Iterable[str]) -> dict[str, str]:
        """The inner values that cannot be led out, each with a clause."""
        found: dict[str, str] = {}
        wanted = [name for name in names if name in self._inner]
        if wanted:
            leading = Leading(_copy(self._proto))
            for name in wanted:
                try:
                    leading.out(self._inner[name])
                except Hidden as hidden:
                    found[name] = str(hidden)
        return found

    @contextmanager
    def values(self, names: Sequence[str], small: bool = False) -> Iterator[Running]:
        """A session that gives these values; where all of them are `small`, it keeps its memory between runs."""
        part, taps = self._led(names)
        outputs = [*self._cut(part, taps), *(tap.shape for several in taps.values() for tap in several if tap.shape)]
        declared = {one.name: one for one in part.graph.output}
        del part.graph.output[:]
        part.graph.output.extend(declared.get(name) or onnx.ValueInfoProto(name=name) for name in outputs)
        with self.loaded(part, replace(MODE, arena=small)) as session:
            yield Running(session, taps)

    @contextmanager
    def shapes(self, names: Sequence[str]) -> Iterator[Running]:
        """A session that gives the shapes of these values only."""
        part, taps = self._led(names)
        outputs = self._cut(part, taps)
        del part.graph.output[:]
        part.graph.output.extend(onnx.ValueInfoProto(name=name + _SHAPE) for name in outputs)
        # onnxruntime comes to the last of the nodes that nothing reads first: in this order each shape is
        # taken as soon as its value is there, and the value let go
        for name in reversed(outputs):
            part.graph.node.append(NodeProto(op_type="Shape", input=[name], output=[name + _SHAPE]))
        if all(one.domain not in ("", "ai.onnx") for one in part.opset_import):
            part.opset_import.add(domain="", version=17)
        with self.loaded(part) as session:
            yield Running(session, taps, _SHAPE)

    def _led(self, names: Sequence[str]) -> tuple[onnx.ModelProto, dict[str, list[Tap]]]:
        """A copy of the model, and the outputs of its nodes that give the values."""
        part = _copy(self.base())
        leading = Leading(part)
        taps: dict[str, list[Tap]] = {}
        for name in names:
            inner = self._inner.get(name)
            taps[name] = [Tap(name, self._makers[name])] if inner is None else leading.out(inner)
        return part, taps

    def _cut(self, part: onnx.ModelProto, taps: Mapping[str, Sequence[Tap]]) -> list[str]:
        """Leave the nodes that the outputs need, whose names are returned."""
        needed: set[int] = set()
        pending = [tap.node for several in taps.values() for tap in several]
        while pending:
            at = pending.pop()
            if at not in needed:
                needed.add(at)
                pending.extend(self._makers[name] for name in self._reads[at] if name in self._makers)
        nodes = [part.graph.node[at] for at in sorted(needed)]
        kept = onnx.GraphProto(node=nodes)
        del part.graph.node[:]
        part.graph.node.extend(kept.node)
        return [tap.name for several in taps.values() for tap in several]

    def base(self) -> onnx.ModelProto:
        """The model as parts are made from it, not to be changed: where it is large, it refers to weights on disk."""
        if not self._large:
            return self._proto
        if self._written is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            with stage(self._folder / "whole.onnx", source=None) as staged:
                staged.put(self._proto, self._store, external="always")
                path = staged.commit().path
            self._written = onnx.load(path, load_external_data=False)
        return self._written

    @contextmanager
    def loaded(self, part: onnx.ModelProto, mode: Options = MODE) -> Iterator[Session]:
        if self._written is None:
            with self._worker.load(b"".join(join(part, self._store)), mode, label=_LABEL) as session:
                yield session
            return
        self._files += 1
        path = self._folder / f"part-{self._files}.onnx"
        try:
            path.write_bytes(part.SerializeToString())
            with self._worker.load(path, mode, label=_LABEL) as session:
                yield session
        finally:
            path.unlink(missing_ok=True)


def read_only(value: Any) -> Array:
    """An array that accumulators may look at."""
    array = np.asarray(value).view()
    array.flags.writeable = False
    return array


def _copy(proto: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(proto)
    return copied


def _any_rows(info: onnx.ValueInfoProto) -> bool:
    """Whether the leading dim of an input is symbolic, or it is a scalar."""
    if info.type.WhichOneof("value") != "tensor_type" or not info.type.tensor_type.HasField("shape"):
        return False
    dims = info.type.tensor_type.shape.dim
    return not dims or dims[0].WhichOneof("value") != "dim_value"


def reads_of(node: NodeProto) -> Iterator[str]:
    """The names that a node reads, those in its bodies included, also of values that these make themselves."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for body in (*attribute.graphs, *((attribute.g,) if attribute.type == AttributeProto.GRAPH else ())):
            for inner in body.node:
                yield from reads_of(inner)
            yield from (one.name for one in body.output)


def _tensors(graph: GraphProto | FunctionProto) -> Iterator[onnx.TensorProto]:
    """The tensors of a graph and its bodies that may be large."""
    if isinstance(graph, GraphProto):
        yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                yield attribute.t
            for body in (*attribute.graphs, *((attribute.g,) if attribute.type == AttributeProto.GRAPH else ())):
                yield from _tensors(body)


def _payload(tensor: onnx.TensorProto) -> int:
    """About how many bytes a tensor has."""
    return 4 * math.prod(int(dim) for dim in tensor.dims)


def _elsewhere(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor is in a file of the user's."""
    inside = any(one.key == "location" and one.value == EMBEDDED for one in tensor.external_data)
    return tensor.data_location == onnx.TensorProto.EXTERNAL and not inside
