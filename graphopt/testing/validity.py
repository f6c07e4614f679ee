"""Whether a model is valid, by onnx's full checker."""

from __future__ import annotations

import onnx

from graphopt.ir.store import byte_count


def invalid(data: bytes) -> str:
    """What onnx's full checker has against a model, "" for nothing.

    Sparse initializers are looked at as dense ones: ONNX lets any operator read them, but its shape
    inference takes them for values of another type.
    """
    proto = onnx.ModelProto.FromString(data)
    try:
        if _make_dense(proto):
            onnx.checker.check_model(data)
            data = proto.SerializeToString()
        onnx.checker.check_model(data, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        return " ".join(str(error).split())
    return ""


def _make_dense(proto: onnx.ModelProto) -> bool:
    """Put zeros in the place of sparse initializers; whether there were any."""
    found = False
    pending = [proto.graph]
    while pending:
        graph = pending.pop()
        for sparse in graph.sparse_initializer:
            found = True
            dense = graph.initializer.add(name=sparse.values.name, data_type=sparse.values.data_type)
            dense.dims.extend(sparse.dims)
            dense.raw_data = bytes(byte_count(dense))
        del graph.sparse_initializer[:]
        for attribute in (one for node in graph.node for one in node.attribute):
            if attribute.type == onnx.AttributeProto.GRAPH:  # touching `g` of another one would make it have one
                pending.append(attribute.g)
            pending.extend(attribute.graphs)
    return found
