"""Whether a model fits in the memory that the worker may take, told before it is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from onnx import FunctionProto, GraphProto, TensorProto

from graphopt.runtime.procfs import available_memory
from graphopt.validation.segments.net import held, tensor_bytes
from graphopt.validation.segments.report import sized

if TYPE_CHECKING:
    from graphopt.runtime.client import Worker
    from graphopt.storage.source import Source

SHARE: Final = 4  # a segment's weights are at most this part of the memory that the worker may take
MOST: Final = 1 << 30  # and never more bytes than this, however much memory there is
_EXTERNAL: Final = 2  # times the bytes of weights that a session may take: they are mapped, and rearranged
_EMBEDDED: Final = 3  # and these are read with the message first


def limit_of(worker: Worker) -> int | None:
    """The bytes that models may take in the worker; None where nothing says."""
    return worker.memory if worker.memory is not None else available_memory()


def allowed(worker: Worker) -> int:
    """The bytes of weights that a segment may have."""
    limit = limit_of(worker)
    return MOST if limit is None else max(1, min(MOST, limit // SHARE))


def too_large(source: Source, worker: Worker) -> str:
    """In a clause why a model would not fit as a whole, "" where it should."""
    limit = limit_of(worker)
    wanted = sum(tensor_bytes(one) for one in _tensors(source)) * (_EXTERNAL if source.external else _EMBEDDED)
    if limit is None or wanted <= limit:
        return ""
    return f"as a whole it may take {sized(wanted)}, and there are {sized(limit)}"


def _tensors(source: Source) -> Iterator[TensorProto]:
    graphs: tuple[GraphProto | FunctionProto, ...] = (source.proto.graph, *source.proto.functions)
    for graph in graphs:
        if isinstance(graph, GraphProto):
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
        for node in graph.node:
            yield from held(node)
