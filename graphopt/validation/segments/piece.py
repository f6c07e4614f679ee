"""A segment as a model that onnxruntime loads: its weights stay where they are, in the file beside the whole model."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import ModelProto, NodeProto, SparseTensorProto, TensorProto, ValueInfoProto

from graphopt.errors import CouldNotTell
from graphopt.ir.store import EMBEDDED, Store, refer
from graphopt.storage.wire import join
from graphopt.validation.likes import Like, typed
from graphopt.validation.segments.net import bodies, held, tensor_bytes

if TYPE_CHECKING:
    from graphopt.runtime.client import Session, Worker
    from graphopt.runtime.options import Options
    from graphopt.validation.segments.net import Net
    from graphopt.validation.segments.plan import Segment

_OVERRIDABLE = 4
_PAGE = 4096
_MESSAGE = (1 << 31) - (1 << 20)  # bytes that one message can hold


@contextmanager
def loaded(
    net: Net, segment: Segment, likes: Mapping[str, Like], worker: Worker, mode: Options, folder: Path, name: str
) -> Iterator[Session]:
    """A session of a segment; `likes` are the values that it takes, `folder` is for scratch files, `name` for messages.

    Where weights lie in files of the user's they are used from there. Raises WorkerFailure as the worker does.
    """
    proto, store = piece(net, segment, likes)
    tensors = list(_tensors(proto))
    outside = [one for one in tensors if _outside(one)]
    if outside:
        # a message refers to the user's folder; what the model file has itself must then be within it
        if sum(map(tensor_bytes, tensors)) - sum(map(tensor_bytes, outside)) > _MESSAGE:
            raise CouldNotTell(f"{name} has 2 GB and more of weights inside of the model file, too many for a segment")
        root = _root(net)
        real = {one.location: str(one.path.relative_to(root)) for one in net.source.external}
        for tensor in outside:  # where a location is a link, onnxruntime would refuse what it leads to
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = real.get(entry.value, entry.value)
        message = b"".join(join(proto, store))
        with worker.load(message, mode, label=name, folder=root) as session:
            yield session
        return
    path, data = folder / "segment.onnx", folder / "segment.data"
    try:
        _let_out(proto, store, data)
        with path.open("wb") as stream:
            for part in join(proto, store):
                stream.write(part)
        with worker.load(path, mode, label=name) as session:
            yield session
    finally:
        path.unlink(missing_ok=True)
        data.unlink(missing_ok=True)


def piece(net: Net, segment: Segment, likes: Mapping[str, Like]) -> tuple[ModelProto, Store]:
    """The skeleton of a segment, and where its embedded weights are."""
    whole = net.source.proto
    made = ModelProto(ir_version=max(whole.ir_version, _OVERRIDABLE))
    made.opset_import.extend(whole.opset_import)
    graph = made.graph
    graph.name = whole.graph.name or "segment"
    for at in segment.nodes:
        graph.node.add().CopyFrom(net.nodes[at])
    called = _called(whole, graph.node)
    made.functions.extend(one for one in whole.functions if (one.domain, one.name) in called)
    graph.input.extend(net.inputs[name] for name in segment.inputs)
    graph.input.extend(typed(name, likes[name]) for name in segment.takes)
    for name in segment.weights:
        weight = net.weights[name]
        if isinstance(weight, SparseTensorProto):
            graph.sparse_initializer.add().CopyFrom(weight)
        else:
            graph.initializer.add().CopyFrom(weight)
    graph.output.extend(net.outputs.get(name) or ValueInfoProto(name=name) for name in segment.gives)
    store = net.source.store.overlay()
    for sparse in graph.sparse_initializer:  # onnxruntime looks for these in the message only
        for part in (sparse.values, sparse.indices):
            _embed(part, store)
    return made, store


def _let_out(proto: ModelProto, store: Store, data: Path) -> None:
    """Write the embedded weights to a file, from which onnxruntime maps them: as a message they are there twice."""
    with data.open("wb") as stream:
        for tensor in proto.graph.initializer:
            payload = store.payload(tensor)
            if payload is None:
                continue
            stream.seek(-(-stream.tell() // _PAGE) * _PAGE)
            place = stream.tell()
            refer(tensor, data.name, place, stream.write(payload))


def _embed(tensor: TensorProto, store: Store) -> None:
    if _outside(tensor):
        payload: Any = store.payload(tensor)
        refer(tensor, EMBEDDED, *store.add(np.frombuffer(payload, np.uint8)))


def _outside(tensor: TensorProto) -> bool:
    inside = any(one.key == "location" and one.value == EMBEDDED for one in tensor.external_data)
    return tensor.data_location == TensorProto.EXTERNAL and not inside


def _tensors(proto: ModelProto) -> Iterator[TensorProto]:
    """Every tensor of a piece."""
    yield from proto.graph.initializer
    for sparse in proto.graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for nodes in (proto.graph.node, *(one.node for one in proto.functions)):
        for node in nodes:
            yield from held(node)


def _root(net: Net) -> Path:
    """The folder in which all external files of a model really are."""
    return Path(os.path.commonpath([one.path.parent for one in net.source.external]))


def _called(whole: ModelProto, nodes: Iterable[NodeProto]) -> set[tuple[str, str]]:
    """The functions that some nodes call, and that these call."""
    known = {(one.domain, one.name): one for one in whole.functions}
    found, pending = set[tuple[str, str]](), list(nodes) if known else []
    while pending:
        node = pending.pop()
        pending += [inner for body in bodies(node) for inner in body.node]
        key = (node.domain, node.op_type)
        if key in known and key not in found:
            found.add(key)
            pending += known[key].node
    return found
