"""What stands in the body of an If, Loop or Scan, as a model of its own: the branch taken, one round."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto

from graphopt.debug.extract import Part, Whole, bodies
from graphopt.ir.dtypes import onnx_dtype
from graphopt.ir.store import Store
from graphopt.ir.tensors import Stored
from graphopt.storage.source import Source

_CONTROL = ("If", "Loop", "Scan")
_SCAN = 9  # the opset from which Scan has no batch


def opened(whole: Whole) -> Iterator[Part]:
    """For each If, Loop and Scan of a model, the model with what stands in its body in the main graph.

    An If is replaced by the branch that is taken; of a Loop or Scan one round remains, and nothing else: the
    first one, or one that begins with what the last one left, because many rounds begin with zeros.
    """
    for at, node in enumerate(whole.nodes):
        if node.op_type not in _CONTROL or node.domain not in ("", "ai.onnx"):
            continue
        if node.op_type == "If":
            tried = [_branch(whole, at, node)]
        else:
            tried = [_round(whole, node, first=True), _round(whole, node, first=False)]
        yield from (one for one in tried if one is not None)


def value(whole: Whole, name: str) -> Any:
    """A value of a model in its run; None where it is not known, or is no array."""
    if name in whole.feeds:
        found = whole.feeds[name]
    elif name in whole.weights:
        found = Stored(whole.weights[name], whole.source.store).load()
    else:
        found = whole.recorded.get(name)
    return found if isinstance(found, np.ndarray) else None


def _branch(whole: Whole, at: int, node: NodeProto) -> Part | None:
    condition = value(whole, node.input[0])
    if condition is None or condition.size != 1:
        return None
    wanted = "then_branch" if bool(condition.reshape(-1)[0]) else "else_branch"
    body = next((one.g for one in node.attribute if one.name == wanted), None)
    if body is None:
        return None
    proto = ModelProto()
    proto.CopyFrom(whole.source.proto)
    graph = proto.graph
    del graph.node[:]
    graph.initializer.extend(body.initializer)
    graph.sparse_initializer.extend(body.sparse_initializer)
    made = {name for inner in body.node for name in inner.output}
    names = {}
    ends = []
    for formal, actual in zip(body.output, node.output, strict=False):
        if formal.name in made and formal.name not in names:
            names[formal.name] = actual
        elif actual:
            ends.append(onnx.helper.make_node("Identity", [names.get(formal.name, formal.name)], [actual]))
    for place, one in enumerate(whole.nodes):
        if place != at:
            graph.node.add().CopyFrom(one)
            continue
        for inner in body.node:
            rename(graph.node.add(), inner, lambda name: names.get(name, name))
        graph.node.extend(ends)
    return Part(Source(None, proto, whole.source.store), dict(whole.feeds))


def _round(whole: Whole, node: NodeProto, *, first: bool) -> Part | None:
    body = next((graph for graph in bodies(node)), None)
    given = None if body is None else _given(whole, node, body, first)
    if body is None or given is None:
        return None
    proto = ModelProto(ir_version=whole.source.proto.ir_version)
    proto.opset_import.extend(whole.source.proto.opset_import)
    proto.functions.extend(whole.source.proto.functions)
    graph = proto.graph
    graph.name = "round"
    graph.node.extend(body.node)
    graph.initializer.extend(body.initializer)
    graph.sparse_initializer.extend(body.sparse_initializer)
    graph.output.extend(one for one in body.output if one.name not in {each.name for each in body.input})
    own = {one.name for one in (*body.input, *body.initializer)} | {name for one in body.node for name in one.output}
    outer = Whole(Source(None, proto, Store()), {})
    feeds = dict(given)
    for name in dict.fromkeys(name for names in outer.reads for name in names if name not in own):
        if name in whole.weights and name not in whole.inputs:
            graph.initializer.add().CopyFrom(whole.weights[name])
        elif (found := value(whole, name)) is not None:
            feeds[name] = found
        else:
            return None
    for name, array in feeds.items():
        kind = onnx.TensorProto.STRING if array.dtype.kind in "OSU" else onnx_dtype(array.dtype)
        graph.input.append(onnx.helper.make_tensor_value_info(name, kind, list(array.shape)))
    return Part(Source(None, proto, whole.source.store), feeds) if graph.output else None


def _given(whole: Whole, node: NodeProto, body: GraphProto, first: bool) -> dict[str, Any] | None:
    """What the body is given in a round."""
    values = [value(whole, name) if name else None for name in node.input]
    left = [value(whole, name) if name else None for name in node.output]
    if node.op_type == "Loop":
        carried = values[2:] if first else left[: len(values) - 2]
        values = [np.array(0, np.int64), np.array(True), *carried]
    else:
        attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute if not one.HasField("g")}
        version = max((one.version for one in whole.source.proto.opset_import if not one.domain), default=0)
        scanned = int(attributes.get("num_scan_inputs", 0))
        if version < _SCAN or not 0 < scanned <= len(values):
            return None
        axes = attributes.get("scan_input_axes") or [0] * scanned
        backward = attributes.get("scan_input_directions") or [0] * scanned
        states = len(values) - scanned
        if not first:
            values[:states] = left[:states]
        for place in range(scanned):
            one = values[states + place]
            if one is None or not one.ndim or not one.shape[axes[place]]:
                return None
            values[states + place] = np.take(one, 0 if first != bool(backward[place]) else -1, axis=axes[place])
    if len(values) != len(body.input) or any(one is None for one in values):
        return None
    return {formal.name: np.asarray(one) for formal, one in zip(body.input, values, strict=True)}


def rename(into: NodeProto, node: NodeProto, name: Callable[[str], str]) -> None:
    """Copy a node into `into`, with other names for the values that it and its bodies read and make."""
    into.CopyFrom(node)
    into.input[:] = [name(one) if one else "" for one in node.input]
    into.output[:] = [name(one) if one else "" for one in node.output]
    for body, old in zip(list(bodies(into)), list(bodies(node)), strict=True):
        for one in (*body.output, *body.value_info):
            one.name = name(one.name)
        for inner, before in zip(body.node, old.node, strict=True):
            rename(inner, before, name)
