"""The operators of ONNX's own tests between two layers: one makes an axis of the data, one reads one of the result."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from backend_models import Case
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


def between_layers(case: Case) -> Iterator[tuple[ModelProto, dict[str, Any]]]:
    """For each axis of the first input and each axis of the first output a model, and what it is fed."""
    found = case.baked("tail") or case.baked("none")
    if found is None or not found[0].graph.input:
        return
    proto, feeds = found
    given, result = proto.graph.input[0], proto.graph.output[0]
    before, after = _sizes(given), _sizes(result)
    value = feeds.get(given.name)
    if given.type.tensor_type.elem_type != FLOAT or not before or not after:
        return
    if not isinstance(value, np.ndarray) or list(value.shape) != before:
        return
    for axis, size in enumerate(before):
        if size > 1:
            for other in range(len(after)):
                yield _wrapped(proto, feeds, before, axis, after, other)


def _sizes(info: Any) -> list[int]:
    """The sizes of a tensor, none where one of them is not known or 0."""
    found = [int(dim.dim_value) for dim in info.type.tensor_type.shape.dim]
    return found if all(found) else []


def _wrapped(
    proto: ModelProto, feeds: dict[str, Any], before: list[int], axis: int, after: list[int], other: int
) -> tuple[ModelProto, dict[str, Any]]:
    random = np.random.default_rng((axis, other, len(before)))
    graph = GraphProto()
    graph.CopyFrom(proto.graph)
    given, result = graph.input[0].name, graph.output[0].name
    rest = [at for at in range(len(before)) if at != axis]
    behind = [at for at in range(len(after)) if at != other]
    nodes = [
        helper.make_node("MatMul", ["made_of", "maker"], ["made"]),
        helper.make_node("Transpose", ["made"], [given], perm=np.argsort([*rest, axis]).tolist()),
        *graph.node,
        helper.make_node("Cast", [result], ["cast"], to=FLOAT),
        helper.make_node("Transpose", ["cast"], ["turned"], perm=[*behind, other]),
        helper.make_node("MatMul", ["turned", "reader"], ["read"]),
    ]
    size = [before[at] for at in rest]
    maker = random.uniform(0.1, 0.4, (4, before[axis])).astype(np.float32)
    reader = random.standard_normal((after[other], 3)).astype(np.float32)
    inputs = [helper.make_tensor_value_info("made_of", FLOAT, [*size, 4]), *graph.input[1:]]
    outputs = [helper.make_tensor_value_info("read", FLOAT, [*(after[at] for at in behind), 3])]
    weights = [*graph.initializer, numpy_helper.from_array(maker, "maker"), numpy_helper.from_array(reader, "reader")]
    made = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs, weights),
        opset_imports=proto.opset_import,
        functions=proto.functions,
        ir_version=max(proto.ir_version, 7),
    )
    values = {name: value for name, value in feeds.items() if name != given}
    return made, {**values, "made_of": random.uniform(0.1, 0.6, (*size, 4)).astype(np.float32)}
