"""Models under other names: what another exporter of the same network would give."""

from __future__ import annotations

import onnx


def renamed(proto: onnx.ModelProto, prefix: str = "other_") -> onnx.ModelProto:
    """The same main graph with other names for its inner values, weights and nodes; bodies are followed."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    kept = {one.name for one in (*proto.graph.input, *proto.graph.output)} | {""}
    _graph(made.graph, kept, prefix)
    return made


def _graph(graph: onnx.GraphProto, kept: set[str], prefix: str) -> None:
    def new(name: str) -> str:
        return name if name in kept else prefix + name

    for tensor in graph.initializer:
        tensor.name = new(tensor.name)
    for info in (*graph.value_info, *graph.input, *graph.output):
        info.name = new(info.name)
    for note in graph.quantization_annotation:
        note.tensor_name = new(note.tensor_name)
    for node in graph.node:
        node.name = node.name and prefix + node.name
        for names in (node.input, node.output):
            names[:] = [new(one) for one in names]
        for attribute in node.attribute:
            for body in [attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else attribute.graphs:
                _graph(body, kept, prefix)
