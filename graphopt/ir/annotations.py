"""Quantization annotations: they follow their tensors' names and go when their tensors go.

ONNX IR specification, `TensorAnnotation`: which tensors hold the scale and the zero point of a value.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import onnx

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph
    from graphopt.ir.values import Tensor


def is_there(tensor: Tensor, graph: Graph) -> bool:
    """Whether `tensor` still means something: made, read, declared, or an input of `graph`."""
    own = tensor.__dict__
    return bool(own["inputs"]) or own.get("home") is not None or tensor.is_read or graph.is_input(tensor)


def _notes(graph: Graph) -> Iterator[tuple[Any, Tensor | None, list[Tensor | None]]]:
    """Each annotation that the graph was read with: message, its tensor, its parameters (None for a
    name that the graph never declared)."""
    origin = graph.origin
    if origin is None or not isinstance(origin.proto, onnx.GraphProto):
        return
    for note in origin.proto.quantization_annotation:
        names = [entry.value for entry in note.quant_parameter_tensor_names]
        yield note, origin.annotated.get(note.tensor_name), [origin.annotated.get(name) for name in names]


def parameters(graph: Graph) -> Iterator[tuple[Tensor, list[Tensor]]]:
    """Annotated tensors that the graph declared, each with the parameters that it declared."""
    for _, subject, named in _notes(graph):
        if subject is not None:
            yield subject, [one for one in named if one is not None]


def write_annotations(graph: Graph, into: Any) -> None:
    """Add the annotations of `graph` to the repeated field `into`, under today's names."""
    for note, subject, named in _notes(graph):
        known = [one for one in (subject, *named) if one is not None]
        if not all(is_there(one, graph) for one in known):
            continue
        made = into.add()
        made.CopyFrom(note)
        if subject is not None and made.tensor_name != subject.name:
            made.tensor_name = subject.name
        for entry, tensor in zip(made.quant_parameter_tensor_names, named, strict=True):
            if tensor is not None and entry.value != tensor.name:
                entry.value = tensor.name
