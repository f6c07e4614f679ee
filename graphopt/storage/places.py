"""Where in a model something is: every tensor of it, wherever one may hide."""

from __future__ import annotations

import re
from collections.abc import Iterator

from onnx import ModelProto, SparseTensorProto, TensorProto

from graphopt.storage.walk import Kind, visit

_WORTH_A_LOOK = re.compile(rb"p\x01|\xa0\x01[\x04\x05\x09-\x0c]")
"""`data_location: EXTERNAL` of a tensor, or an attribute whose type is a tensor, a graph or several."""


def tensors(canonical: bytes) -> Iterator[TensorProto | SparseTensorProto]:
    """The tensors of a model given as canonical protobuf bytes: initializers, sparse initializers,
    attributes, in bodies, functions and training graphs.

    Every tensor with external data is among them, whatever the attribute around it claims to be.
    Works on the wire because opening every attribute of every node is five times as slow.
    """
    found: list[tuple[type[TensorProto | SparseTensorProto], int, int]] = []

    def look(kind: Kind, start: int, stop: int) -> None:
        found.append((TensorProto if kind.tensor else SparseTensorProto, start, stop))

    visit(canonical, look, [match.start() for match in _WORTH_A_LOOK.finditer(canonical)])
    for message, start, stop in found:
        yield message.FromString(canonical[start:stop])


def uses_default_domain(model: ModelProto) -> bool:
    """Whether a node of the main graph, or of a body in it, is of the domain that ONNX itself defines."""
    graphs = [model.graph]
    while graphs:
        for node in graphs.pop().node:
            if node.domain in ("", "ai.onnx"):
                return True
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    graphs.append(attribute.g)
                graphs.extend(attribute.graphs)
    return False
