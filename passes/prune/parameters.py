"""Numbers in a model that follow the lengths of axes: targets, sizes of pieces, bounds, indices, attributes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.analysis.channels import Parameter
from graphopt.analysis.constants import constant_of, constant_values
from graphopt.ir import Graph, Node
from graphopt.ir.values import Array


def follow(parameter: Parameter, left: Sequence[Array | None], graph: Graph) -> None:
    """Let a parameter say what is true now.

    `left` has, for each axis that it depends on (the outputs of a Split, else one), which indices of the
    axis at the time of the analysis are left; None where all are.
    """
    node = parameter.node
    if parameter.kind == "split":
        assert parameter.values is not None
        sizes = [
            int(size) if one is None else int(np.count_nonzero(one))
            for size, one in zip(parameter.values, left, strict=True)
        ]
        _split(node, sizes, graph)
        return
    mask = left[0]
    if mask is None:
        return
    length = int(np.count_nonzero(mask))
    if parameter.kind == "attribute":
        node.attrs[parameter.name] = length // parameter.per
    elif parameter.kind == "size":
        if parameter.reader is not None:
            node = _own(parameter.reader, parameter.target, graph)
        _element(node, parameter.slot, parameter.index, length, graph)
    elif parameter.kind == "slice":
        _bounds(parameter, mask, graph)
    else:
        _indices(parameter, mask, graph)


def _split(node: Node, sizes: list[int], graph: Graph) -> None:
    node.attrs.pop("num_outputs", None)
    if graph.opset < 13:
        node.attrs["split"] = sizes
    elif len(node.inputs) > 1 and node.inputs[1].name:
        _write(node, 1, np.asarray(sizes, np.int64), graph)
    else:
        del node.inputs[1:]
        node.inputs.append(graph.constant(np.asarray(sizes, np.int64), "split"))


def _own(reader: Node, slot: int, graph: Graph) -> Node:
    """The Concat that makes what `reader` reads in `slot`; a copy that nobody else reads, where others do."""
    target = reader.inputs[slot]
    maker: Node = target.inputs[0]
    if len(target.outputs) == 1:
        return maker
    output = graph.variable(target.name, target.dtype, target.shape)
    copy = Node(maker.op, graph.fresh_name(maker.name or maker.op), dict(maker.attrs), list(maker.inputs), [output])
    graph.insert(copy, before=reader)
    graph.rewire(reader, slot, output)
    return copy


def _element(node: Node, slot: int, index: int, value: int, graph: Graph) -> None:
    held = constant_values(node.inputs[slot])
    assert held is not None
    changed = held.copy()
    changed.reshape(-1)[index] = value
    _write(node, slot, changed, graph)


def _bounds(parameter: Parameter, mask: Array, graph: Graph) -> None:
    assert parameter.values is not None
    for which, bound in enumerate(parameter.values.tolist()):
        value = int(np.count_nonzero(mask[:bound]))
        name = ("starts", "ends")[which]
        stated = parameter.node.attrs.get(name)
        if isinstance(stated, list):
            parameter.node.attrs[name] = [*stated[: parameter.index], value, *stated[parameter.index + 1 :]]
        else:
            _element(parameter.node, 1 + which, parameter.index, value, graph)


def _indices(parameter: Parameter, mask: Array, graph: Graph) -> None:
    assert parameter.values is not None
    stays = parameter.values[mask[parameter.values]]
    made = (np.cumsum(mask) - 1)[stays]
    held = constant_values(parameter.node.inputs[parameter.slot])
    assert held is not None
    _write(parameter.node, parameter.slot, made.reshape((-1,) * held.ndim).astype(held.dtype), graph)


def _write(node: Node, slot: int, values: Array, graph: Graph) -> None:
    """Let a node read other integers: in the constant that it reads, or in one of its own where that is shared."""
    tensor = node.inputs[slot]
    if constant_of(tensor) is not None and not tensor.graph_outputs and len(tensor.outputs) == 1:
        graph.set_values(tensor, values)
        return
    graph.rewire(node, slot, graph.constant(values, tensor.name or "sizes"))
