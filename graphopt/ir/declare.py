"""ValueInfoProtos: what a graph declares of its inputs, outputs and intermediate values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx

from graphopt.ir.values import Constant, Tensor, Variable, onnx_number, read_info

if TYPE_CHECKING:
    from graphopt.ir.decode import Origin
    from graphopt.ir.graph import Graph

_OWN = ("_dtype", "_shape", "_kind")  # set once somebody asked for, or changed, dtype, shape or kind


def write_info(into: onnx.ValueInfoProto, tensor: Tensor, info: onnx.ValueInfoProto | None) -> None:
    """Declare `tensor`, as `info` did unless its dtype, shape or kind were changed since."""
    if info is not None:
        into.CopyFrom(info)
    if into.name != tensor.name:
        into.name = tensor.name
    own = tensor.__dict__
    if isinstance(tensor, Variable):
        if any(key in own for key in _OWN):
            now = (tensor.type, tensor.dtype, tensor.shape)
            if now != read_info(own.get("_info", info)):
                _write_type(into.type, *now)
    elif info is None or _is_other(tensor, info):
        _write_type(into.type, "tensor_type", tensor.onnx_dtype, list(tensor.shape))


def _is_other(constant: Constant, info: onnx.ValueInfoProto) -> bool:
    """Whether a constant got other values since it was read, of another shape or type than `info` says."""
    if constant.stored is not None:
        return False
    kind, dtype, shape = read_info(info)
    same = shape is None or [int(size) for size in constant.shape] == shape
    return kind == "tensor_type" and not (same and onnx_number(dtype) in (0, constant.onnx_dtype))


def _write_type(into: onnx.TypeProto, kind: Any, dtype: Any, shape: Any) -> None:
    """Let `into` be a (sequence of a, optional, sparse) tensor type, its denotations kept.

    Kinds that a dtype and a shape do not describe are left as they are.
    """
    old = [dim.denotation for dim in into.tensor_type.shape.dim]
    denotation = into.denotation
    made = onnx.TypeProto()
    if kind == "tensor_type":
        target: Any = made.tensor_type
    elif kind == "sparse_tensor_type" and dtype is not None:
        target = made.sparse_tensor_type
    elif kind in ("sequence_type", "optional_type") and dtype is not None:
        target = getattr(made, kind).elem_type.tensor_type
    else:
        return
    if dtype is not None:
        target.elem_type = onnx_number(dtype)
    if shape is not None:
        target.shape.SetInParent()
    for index, dim in enumerate(shape or ()):
        one = target.shape.dim.add()
        if isinstance(dim, str):
            one.dim_param = dim
        elif dim is not None:
            one.dim_value = int(dim)
        if index < len(old) and old[index]:
            one.denotation = old[index]
    if denotation:
        made.denotation = denotation
    into.CopyFrom(made)


def write_outputs(graph: Graph, origin: Origin | None, into: Any) -> None:
    """Declare the outputs; one that stood among them when the graph was read, as it did then."""
    known: dict[Tensor, list[onnx.ValueInfoProto]] = {}
    for info, tensor in reversed(origin.outputs if origin is not None else []):
        known.setdefault(tensor, []).append(info)
    for tensor in graph.outputs:
        infos = known.get(tensor)
        write_info(into.add(), tensor, infos.pop() if infos else tensor.__dict__.get("_info"))


def write_infos(graph: Graph, origin: Origin | None, into: Any) -> None:
    """value_info of what is still there, in the old order; new values join where the graph
    declared any before."""
    if origin is None or not origin.infos:
        return
    inputs = set(graph.inputs)
    for info, tensor in origin.infos:
        if tensor is None:
            into.append(info)
        elif _lives_in(tensor, graph, inputs) and (tensor.name == info.name or graph not in tensor.graph_outputs):
            write_info(into.add(), tensor, info)
    seen = {tensor for _, tensor in origin.infos if tensor is not None}
    for node in graph.nodes.snapshot():
        for tensor in node.__dict__["outputs"]:
            own = tensor.__dict__
            if own.get("_dtype") is None or own.get("_info") is not None or tensor in seen or not own["name"]:
                continue
            if not tensor.graph_outputs:
                seen.add(tensor)
                write_info(into.add(), tensor, None)


def _lives_in(tensor: Tensor, graph: Graph, inputs: set[Any]) -> bool:
    if isinstance(tensor, Constant):
        return tensor in graph.initializers
    makers = tensor.inputs
    if not makers:
        return tensor in inputs or tensor.is_read  # read, but made by nobody: not valid, yet declared
    return any(node.__dict__.get("graph") is graph for node in makers)
