"""What a model says of the values between its inputs and outputs, one claim at a time."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from graphopt.ir.graph import Graph
from graphopt.ir.values import Dim, Tensor, onnx_number, read_info

Claim = tuple[str, Tensor | None, int, tuple[Dim, ...] | None]
"""The name it is about, the value of that name (None: there is none), element type (0: none), dims."""


def claims(graph: Graph) -> Iterator[Claim]:
    """The value_info entries of one graph that are about tensors."""
    origin = graph.origin
    for info, tensor in () if origin is None else list(origin.infos):
        kind, dtype, shape = read_info(info)
        if kind == "tensor_type" or tensor is None:
            name = info.name if tensor is None else tensor.name
            yield name, tensor, onnx_number(dtype), None if shape is None else tuple(shape)


def withdraw(graph: Graph, name: str, tensor: Tensor | None) -> None:
    """Take back what is said of `tensor`, or of a `name` that no value has."""
    origin = graph.origin
    if origin is None:
        return
    origin.infos = [
        (info, one) for info, one in origin.infos if not (one is tensor and (tensor is not None or info.name == name))
    ]
    if tensor is not None and not tensor.graph_outputs:
        for key in ("_info", "_dtype", "_shape", "_kind"):
            tensor.__dict__.pop(key, None)


def claim(graph: Graph, tensor: Tensor, dtype: int, shape: tuple[Dim, ...]) -> None:
    """Say of `tensor`, which nothing is said of yet, that it has this element type and these dims."""
    origin = graph.origin
    if origin is None:
        return
    info = onnx.helper.make_tensor_value_info(tensor.name, dtype, list(shape))
    for key in ("_dtype", "_shape", "_kind"):
        tensor.__dict__.pop(key, None)
    tensor.__dict__["_info"] = info
    origin.infos.append((info, tensor))
