"""Models that give inner values: the nodes that these need, with the values as outputs, as the worker loads them.

A small model goes to the worker as one message. A large one is written once to a folder, its weights in a file of
their own, and every model that gives other values of it is a small file beside that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import onnx
from onnx import AttributeProto, GraphProto, NodeProto

from graphopt.ir.store import Store
from graphopt.runtime.client import Options, Session, Worker
from graphopt.storage.wire import join
from graphopt.storage.write import stage

MODE: Final = Options(optimize=False, prepack=True, threads=1)
"""Optimizations are off: what a value is must not depend on which others are asked for with it."""

MESSAGE: Final = 64 << 20
"""Bytes of weights up to which a model is one message."""

_LABEL: Final = "the model with inner values as outputs"
_SHAPE: Final = "__graphopt_shape"


class Tapped:
    """One model that can be loaded with some of its values as outputs. `folder` is free to write to."""

    def __init__(self, proto: onnx.ModelProto, store: Store, worker: Worker, folder: Path) -> None:
        self._proto, self._store, self._worker, self._folder = proto, store, worker, folder
        self._written: onnx.ModelProto | None = None
        self._files = 0
        self.weights = frozenset(one.name for one in proto.graph.initializer)
        self.weights |= {one.values.name for one in proto.graph.sparse_initializer}
        self.inputs = frozenset(one.name for one in proto.graph.input) - self.weights
        self.outputs = [one.name for one in proto.graph.output if one.name not in self.inputs]
        self.takes_any_rows = all(_any_rows(one) for one in proto.graph.input if one.name in self.inputs)
        self._makers = {name: at for at, node in enumerate(proto.graph.node) for name in node.output if name}
        self._reads = [tuple(_reads(node)) for node in proto.graph.node]
        self._bytes = sum(_payload(one) for one in _tensors(proto.graph))

    def makes(self, name: str) -> bool:
        """Whether a node of the main graph makes a value of that name."""
        return name in self._makers

    @contextmanager
    def values(self, names: Sequence[str]) -> Iterator[Session]:
        """A session that gives these values, which nodes make."""
        with self._loaded(self._part(names, names)) as session:
            yield session

    @contextmanager
    def shapes(self, names: Sequence[str]) -> Iterator[Session]:
        """A session that gives the shapes of these values only, in this order."""
        part = self._part(names, [name + _SHAPE for name in names])
        # onnxruntime comes to the last of the nodes that nothing reads first: in this order each shape is
        # taken as soon as its value is there, and the value let go
        for name in reversed(names):
            part.graph.node.append(NodeProto(op_type="Shape", input=[name], output=[name + _SHAPE]))
        if all(one.domain not in ("", "ai.onnx") for one in part.opset_import):
            part.opset_import.add(domain="", version=17)
        with self._loaded(part) as session:
            yield session

    def _part(self, names: Iterable[str], outputs: Iterable[str]) -> onnx.ModelProto:
        needed: set[int] = set()
        pending = [self._makers[name] for name in names if name in self._makers]
        while pending:
            at = pending.pop()
            if at not in needed:
                needed.add(at)
                pending.extend(self._makers[name] for name in self._reads[at] if name in self._makers)
        base = self._base()
        part = onnx.ModelProto()
        part.CopyFrom(base)
        del part.graph.node[:]
        part.graph.node.extend(base.graph.node[at] for at in sorted(needed))
        declared = {one.name: one for one in base.graph.output}
        del part.graph.output[:]
        part.graph.output.extend(declared.get(name) or onnx.ValueInfoProto(name=name) for name in outputs)
        return part

    def _base(self) -> onnx.ModelProto:
        """The model as parts are made from it: where it is large, with references to the weights on disk."""
        if self._bytes <= MESSAGE:
            return self._proto
        if self._written is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            with stage(self._folder / "whole.onnx", source=None) as staged:
                staged.put(self._proto, self._store, external="always")
                path = staged.commit().path
            self._written = onnx.load(path, load_external_data=False)
        return self._written

    @contextmanager
    def _loaded(self, part: onnx.ModelProto) -> Iterator[Session]:
        if self._written is None:
            with self._worker.load(b"".join(join(part, self._store)), MODE, label=_LABEL) as session:
                yield session
            return
        self._files += 1
        path = self._folder / f"part-{self._files}.onnx"
        try:
            path.write_bytes(part.SerializeToString())
            with self._worker.load(path, MODE, label=_LABEL) as session:
                yield session
        finally:
            path.unlink(missing_ok=True)


def _any_rows(info: onnx.ValueInfoProto) -> bool:
    """Whether the leading dim of an input is symbolic, or it is a scalar."""
    if info.type.WhichOneof("value") != "tensor_type" or not info.type.tensor_type.HasField("shape"):
        return False
    dims = info.type.tensor_type.shape.dim
    return not dims or dims[0].WhichOneof("value") != "dim_value"


def _reads(node: NodeProto) -> Iterator[str]:
    """The names that a node reads, those in its bodies included, also of values that these make themselves."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for body in (*attribute.graphs, *((attribute.g,) if attribute.type == AttributeProto.GRAPH else ())):
            for inner in body.node:
                yield from _reads(inner)
            yield from (one.name for one in body.output)


def _tensors(graph: GraphProto) -> Iterator[onnx.TensorProto]:
    """The tensors of a graph and its bodies that may be large."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                yield attribute.t
            for body in (*attribute.graphs, *((attribute.g,) if attribute.type == AttributeProto.GRAPH else ())):
                yield from _tensors(body)


def _payload(tensor: onnx.TensorProto) -> int:
    """About how many bytes a tensor has."""
    size = 1
    for dim in tensor.dims:
        size *= dim
    return size * 4
