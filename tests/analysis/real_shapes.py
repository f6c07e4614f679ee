"""Facts of values held against what onnxruntime really makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, helper

from graphopt.analysis.dims import Dim, Expr, Symbol, evaluate, symbols
from graphopt.analysis.shapes import Shapes, infer
from graphopt.ir import Graph, Tensor, decode
from graphopt.ir.store import Store
from graphopt.testing.running import outputs_of

Feeds = Mapping[str, Any]
Results = Mapping[str, Any]


def values_of(root: Graph) -> dict[str, Tensor]:
    """The values that nodes of the main graph make, by name."""
    return {one.name: one for node in root.nodes for one in node.outputs if one.name}


def with_all_outputs(proto: ModelProto, names: Sequence[str]) -> ModelProto:
    """The model with every value an output."""
    made = ModelProto()
    made.CopyFrom(proto)
    have = {one.name for one in made.graph.output}
    for name in names:
        if name not in have:
            made.graph.output.add(name=name)
    return made


def wrong_facts(proto: ModelProto, feeds: Sequence[Feeds]) -> list[str]:
    """What is said of the values of a model and is not so on these feeds. Symbols that nothing is
    known of take the first size that they are seen to have."""
    root = decode(proto, Store())
    values = values_of(root)
    runs = outputs_of(with_all_outputs(proto, list(values)).SerializeToString(), feeds)
    shapes = infer(root)
    return [
        text
        for given, results in zip(feeds, runs, strict=True)
        for text in _wrong(root, shapes, values, given, results)
    ]


def _wrong(root: Graph, shapes: Shapes, values: Mapping[str, Tensor], given: Feeds, results: Results) -> Iterator[str]:
    real = {name: one for name, one in results.items() if name in values and isinstance(one, np.ndarray)}
    sizes: dict[str, int] = {}
    for variable in root.inputs:
        if variable.name in given and isinstance(given[variable.name], np.ndarray):
            _bind(shapes.dims(variable), given[variable.name].shape, sizes)
    for name, array in real.items():
        _bind(shapes.dims(values[name]), array.shape, sizes)
    for name, array in real.items():
        tensor = values[name]
        dtype, dims, value = shapes.onnx_dtype(tensor), shapes.dims(tensor), shapes.value(tensor)
        if dtype and array.dtype != object and helper.np_dtype_to_tensor_dtype(array.dtype) != dtype:
            yield f"{name}: type {dtype}, and it is {array.dtype}"
        if dims is not None and (len(dims) != array.ndim or not _agree(dims, array.shape, sizes)):
            yield f"{name}: {dims}, and it is {array.shape} where {sizes}"
        if value is not None and not _agree(value.reshape(-1).tolist(), array.reshape(-1).tolist(), sizes):
            yield f"{name}: holds {value.tolist()}, and it is {array.tolist()} where {sizes}"


def _bind(dims: Sequence[Dim] | None, shape: Sequence[int], sizes: dict[str, int]) -> None:
    for dim, size in zip(dims or (), shape, strict=False):
        if isinstance(dim, Expr) and isinstance(dim.atom, Symbol):
            sizes.setdefault(dim.atom.name, size)


def _agree(said: Sequence[Dim], real: Sequence[int], sizes: Mapping[str, int]) -> bool:
    return len(said) == len(real) and all(
        evaluate(one, sizes) == int(number)
        for one, number in zip(said, real, strict=True)
        if all(each.name in sizes for each in symbols(one))
    )


def known_share(proto: ModelProto) -> float:
    """Of how many of the values the whole shape is known, over the symbols that the model declares."""
    root = decode(proto, Store())
    shapes = infer(root)
    found = [shapes.shape(one) for one in values_of(root).values()]
    return sum(one is not None and None not in one for one in found) / len(found)
