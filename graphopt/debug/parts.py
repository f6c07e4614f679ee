"""A part of a model as a model of its own: some values given, some wanted, everything else left out.

Written to a scratch file and thrown away. Weights are streamed from where they are, so that the
part takes no memory here and the worker holds only the weights that the part reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto

from graphopt.debug.wiring import Wiring, bodies
from graphopt.errors import OverLimit
from graphopt.ir.dtypes import to_bytes
from graphopt.ir.store import EMBEDDED, Store, refer
from graphopt.runtime.elements import number_of
from graphopt.storage.wire import join
from graphopt.validation.likes import Like, typed
from graphopt.validation.values import Array

REMADE = "__graphopt_remade"
_OVERRIDABLE = 4  # the first IR version in which a weight that is also an input may be fed
_LIMIT = (1 << 31) - (1 << 20)  # bytes of one message


@dataclass(frozen=True)
class Part:
    """A written part: its file, and the name under which it gives each wanted value."""

    path: Path
    names: dict[str, str]


def write_part(
    wiring: Wiring, wanted: Iterable[str], given: Mapping[str, Like], path: Path, *,
    weights: Mapping[str, Array] | None = None, shapes: bool = False, shifted: Mapping[str, Like] | None = None,
) -> Part:  # fmt: skip
    """Write what makes the `wanted` values out of the `given` ones and of the model's own inputs.

    A value that is both is made again from the given ones and comes out under another name. With
    `weights` the named values (weights, or values made by nodes) are these constants instead;
    with `shapes` the part gives the shapes of the wanted values; `shifted` values have something added
    to them that is fed under the name `shift_of` gives. Raises OverLimit for a part of
    2 GB and more.
    """
    source, constants, shifts = wiring.source, weights or {}, shifted or {}
    wanted = list(dict.fromkeys(wanted))
    region = wiring.region(wanted, {*given, *constants})
    proto = _shell(source.proto)
    graph = proto.graph
    names = {name: name + REMADE if name in given else name for name in wanted}
    for position in region.nodes:
        node = graph.node.add()
        node.CopyFrom(source.proto.graph.node[position])
        for slot, name in enumerate(node.output):
            if name in given or name in constants or name in shifts:
                node.output[slot] = name + REMADE
        for name in node.output:
            shift = name.removesuffix(REMADE)
            if shift in shifts:
                graph.input.append(typed(shift_of(shift), shifts[shift]))
                graph.node.append(NodeProto(op_type="Add", input=[name, shift_of(shift)], output=[shift]))
    read = {name for position in region.nodes for name in wiring.reads[position]} | set(wanted)
    for info in source.proto.graph.input:
        if info.name in wiring.weights and source.proto.ir_version < _OVERRIDABLE:
            continue  # listed because that version wanted it, not to be fed
        if info.name in read and info.name not in given and info.name not in constants:
            graph.input.add().CopyFrom(info)
    for name in region.reads:
        if name in given:
            graph.input.append(typed(name, given[name]))
    store = source.store.overlay()
    _initializers(source.proto.graph, graph, read - set(given) - set(constants))
    for name in sorted(read & set(constants)):
        graph.initializer.append(_constant(name, constants[name], store))
    # onnxruntime comes to the last of the nodes that nothing reads first: in this order each shape is
    # taken as soon as its value is there, and the value let go
    aside = wiring.inputs | wiring.weights
    for name in reversed(wanted):
        if shapes:
            graph.node.append(NodeProto(op_type="Shape", input=[names[name]], output=[names[name] + REMADE]))
        elif name in aside:  # an output that no node makes
            graph.node.append(NodeProto(op_type="Identity", input=[name], output=[name + REMADE]))
    moved = {name: made + REMADE if shapes or name in aside else made for name, made in names.items()}
    graph.output.extend(ValueInfoProto(name=made) for made in moved.values())
    _embed(graph, store)
    _write(proto, store, path)
    return Part(path, moved)


def shift_of(value: str) -> str:
    """The name under which what is added to a value is fed."""
    return value + "__graphopt_shift"


def _shell(proto: onnx.ModelProto) -> onnx.ModelProto:
    shell = onnx.ModelProto(ir_version=max(proto.ir_version, _OVERRIDABLE))
    shell.opset_import.extend(proto.opset_import)
    shell.functions.extend(proto.functions)
    shell.graph.name = proto.graph.name or "part"
    return shell


def _initializers(old: GraphProto, new: GraphProto, read: set[str]) -> None:
    new.initializer.extend(one for one in old.initializer if one.name in read)
    new.sparse_initializer.extend(one for one in old.sparse_initializer if one.values.name in read)


def _constant(name: str, array: Array, store: Store) -> TensorProto:
    tensor = TensorProto(name=name, data_type=number_of(array.dtype) or 0, dims=array.shape)
    refer(tensor, EMBEDDED, *store.add(np.ascontiguousarray(to_bytes(array))))
    return tensor


def _embed(graph: GraphProto, store: Store) -> None:
    """Take what is in external files into the message, since the part lies in another folder."""
    tensors = list(graph.initializer)
    tensors += [part for one in graph.sparse_initializer for part in (one.values, one.indices)]
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                tensors.append(attribute.t)
            tensors.extend(attribute.tensors)
        for _, body in bodies(node):
            _embed(body, store)
    for tensor in tensors:
        inside = any(one.key == "location" and one.value == EMBEDDED for one in tensor.external_data)
        if tensor.data_location == TensorProto.EXTERNAL and not inside:
            payload = store.payload(tensor)
            assert payload is not None
            refer(tensor, EMBEDDED, *store.add(payload))


def _write(proto: onnx.ModelProto, store: Store, path: Path) -> None:
    written = 0
    with path.open("wb") as stream:
        for piece in join(proto, store):
            written += len(piece)
            if written > _LIMIT:
                raise OverLimit("a part of the model has 2 GB and more of weights, too many to be run on its own")
            stream.write(piece)
