"""Faults planted in a model: each returns the model with one thing wrong and the value that shows it first."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import NodeProto, numpy_helper

Planted = tuple[onnx.ModelProto, str]
Fault = Callable[[onnx.ModelProto], Planted]


def nodes_of(graph: onnx.GraphProto, *kinds: str) -> list[NodeProto]:
    return [node for node in graph.node if node.op_type in kinds]


def middle(graph: onnx.GraphProto, *kinds: str, share: float = 0.5) -> NodeProto:
    found = nodes_of(graph, *kinds)
    assert found, f"no {kinds}"
    return found[int(share * (len(found) - 1))]


def negated_weight(*kinds: str, slot: int = 1, share: float = 0.5, whole: bool = False) -> Fault:
    """The largest element of one weight negated, or all of it."""

    def plant(model: onnx.ModelProto) -> Planted:
        held = _tensors(model.graph)
        fitting = [
            node
            for node in nodes_of(model.graph, *kinds)
            if len(node.input) > slot and node.input[slot] in held and _readers(model.graph, node.input[slot]) == 1
        ]
        node = fitting[int(share * (len(fitting) - 1))]
        tensor = held[node.input[slot]]
        array = numpy_helper.to_array(tensor).copy()
        if whole:
            array = -array
        else:
            flat = array.reshape(-1)
            flat[np.argmax(np.abs(flat))] *= -1
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        made = any(node.input[slot] in other.output for other in model.graph.node)  # a Constant is a value, too
        return model, node.input[slot] if made else node.output[0]

    return plant


def dropped(*kinds: str, share: float = 0.5, rewired: bool = False) -> Fault:
    """A node that does nothing any more: an Identity in its place, or none with its readers rewired."""

    def plant(model: onnx.ModelProto) -> Planted:
        node = middle(model.graph, *kinds, share=share)
        value, before = node.output[0], node.input[0]
        if not rewired:
            del node.attribute[:]
            del node.input[1:]
            node.op_type, node.domain = "Identity", ""
            return model, value
        model.graph.node.remove(node)
        for other in model.graph.node:
            for slot, name in enumerate(other.input):
                if name == value:
                    other.input[slot] = before
        return model, value

    return plant


def attribute(kind: str, name: str, change: Callable[[object], object], *, share: float = 0.5) -> Fault:
    """One attribute changed."""

    def plant(model: onnx.ModelProto) -> Planted:
        found = [node for node in nodes_of(model.graph, kind) if any(one.name == name for one in node.attribute)]
        node = found[int(share * (len(found) - 1))]
        (old,) = (one for one in node.attribute if one.name == name)
        new = onnx.helper.make_attribute(name, change(onnx.helper.get_attribute_value(old)))
        old.CopyFrom(new)
        return model, node.output[0]

    return plant


def swapped(*kinds: str, share: float = 0.5) -> Fault:
    """The two operands of a node in the other order."""

    def plant(model: onnx.ModelProto) -> Planted:
        node = middle(model.graph, *kinds, share=share)
        node.input[0], node.input[1] = node.input[1], node.input[0]
        return model, node.output[0]

    return plant


def other_operator(kind: str, other: str, *, share: float = 0.5) -> Fault:
    """An operator mistaken for another one of the same form."""

    def plant(model: onnx.ModelProto) -> Planted:
        node = middle(model.graph, kind, share=share)
        node.op_type = other
        return model, node.output[0]

    return plant


def in_bodies(holder: str, kind: str, other: str, *, holders: slice = slice(None), which: int = 0) -> Fault:
    """An operator mistaken for another in the bodies of some nodes; the value of the last one that was changed."""

    def plant(model: onnx.ModelProto) -> Planted:
        value = ""
        for node in nodes_of(model.graph, holder)[holders]:
            for one in node.attribute:
                if one.type == onnx.AttributeProto.GRAPH:
                    found = nodes_of(one.g, kind)[which]
                    found.op_type, value = other, found.output[0]
        return model, value

    return plant


def freshly_named(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model with another name for everything, as another exporter would have it; no bodies."""
    graph = model.graph
    names: dict[str, str] = {"": ""}
    for number, name in enumerate(
        dict.fromkeys(
            [one.name for one in (*graph.input, *graph.initializer)]
            + [name for node in graph.node for name in (*node.input, *node.output)]
        )
    ):
        names.setdefault(name, f"t{number}")
    for number, node in enumerate(graph.node):
        node.name = f"n{number}"
        for slots in (node.input, node.output):
            renamed = [names[name] for name in slots]
            del slots[:]
            slots.extend(renamed)
    for one in (*graph.input, *graph.output, *graph.initializer):
        one.name = names[one.name]
    del graph.value_info[:]
    return model


def _tensors(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    held = {one.name: one for one in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            held[node.output[0]] = node.attribute[0].t
    return held


def _readers(graph: onnx.GraphProto, name: str) -> int:
    return sum(name in node.input for node in graph.node)
