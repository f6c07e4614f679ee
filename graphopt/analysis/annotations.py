"""Quantization annotations: scales and zero points that a model names although no node reads them."""

from __future__ import annotations

import onnx

from graphopt.ir import Graph, Tensor
from graphopt.ir.annotations import is_there


class Annotations:
    """The quantization annotations of one model, and who is in them.

    An annotation says which tensors are the scale and the zero point of a value. They belong to the
    model for as long as that value does (ONNX IR specification, `TensorAnnotation`).
    """

    def __init__(self, graph: Graph) -> None:
        self._subjects: dict[Tensor, list[tuple[str, Tensor | None, Graph]]] = {}
        self._parameters: dict[Tensor, list[Tensor]] = {}
        self._annotated: set[Tensor] = set()
        for scope in graph.scopes():
            origin = scope.origin
            if origin is None or not isinstance(origin.proto, onnx.GraphProto):
                continue
            for note in origin.proto.quantization_annotation:
                subject = origin.annotated.get(note.tensor_name)
                named = [origin.annotated.get(entry.value) for entry in note.quant_parameter_tensor_names]
                parameters = [tensor for tensor in named if tensor is not None]
                if subject is not None:
                    self._annotated.add(subject)
                    self._parameters.setdefault(subject, []).extend(parameters)
                for tensor in parameters:
                    self._subjects.setdefault(tensor, []).append((note.tensor_name, subject, scope))

    def needs(self, tensor: Tensor) -> str | None:
        """Why annotations need `tensor`, in a clause; None when they do not."""
        for name, subject, scope in self._subjects.get(tensor, ()):
            if subject is None or is_there(subject, scope):
                return f"it is a quantization parameter of {name if subject is None else subject.name!r}"
        return None

    def about(self, tensor: Tensor) -> str | None:
        """Why `tensor` cannot be replaced by another one, in a clause: annotations are about it, or
        need it. None when it is in no annotation."""
        if tensor in self._annotated:
            return f"a quantization annotation is about {tensor.name!r}"
        return self.needs(tensor)

    def parameters(self, tensor: Tensor) -> list[Tensor]:
        """The scale, zero point and so on that annotations give `tensor`; empty when it has none."""
        return self._parameters.get(tensor, [])
