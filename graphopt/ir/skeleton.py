"""Skeletons for tools that read models but need no weights, such as ONNX's checker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import TensorProto

from graphopt.ir.store import byte_count, refer

_ZEROS = "zeros"


def tensors(proto: onnx.ModelProto) -> Iterator[TensorProto]:
    """Every TensorProto of a model, wherever it may stand."""
    pending: list[onnx.GraphProto | onnx.FunctionProto] = [proto.graph, *proto.functions]
    while pending:
        scope = pending.pop()
        if isinstance(scope, onnx.GraphProto):
            yield from scope.initializer
            for sparse in scope.sparse_initializer:
                yield sparse.values
                yield sparse.indices
        for node in scope.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                if attribute.HasField("g"):
                    pending.append(attribute.g)
                if attribute.HasField("sparse_tensor"):
                    yield attribute.sparse_tensor.values
                    yield attribute.sparse_tensor.indices
                yield from attribute.tensors
                pending.extend(attribute.graphs)


def with_stand_ins(proto: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """A copy of a skeleton whose missing weights are zeros in a sparse file of `folder`.

    The file has a size but no blocks, so it takes no room whatever the weights weigh.
    """
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    largest = 0
    for tensor in tensors(made):
        if tensor.data_location == TensorProto.EXTERNAL:
            size = byte_count(tensor)
            largest = max(largest, size)
            refer(tensor, _ZEROS, 0, size)
    if largest:
        with (folder / _ZEROS).open("wb") as file:
            file.truncate(largest)
    return made
