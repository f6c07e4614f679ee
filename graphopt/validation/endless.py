"""Loops that never end, told from the model alone: running such a model would only wait for the clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import onnx
from onnx import GraphProto, NodeProto, TensorProto, numpy_helper

from graphopt.ir.wording import shown
from graphopt.limits import current, how_to_move

_Constants = Mapping[str, TensorProto | None]  # None: a name that is taken by something that is not constant


def endless(proto: onnx.ModelProto) -> str | None:
    """The reason why running a model cannot end, naming one Loop of it; None where none is known.

    A Loop counts when its condition is true from the beginning and stays it by what is stored in the model, and it
    has no trip count, or a stored one above the limit on trips. Looked at is what runs whenever the model does: the
    main graph, bodies of Loop and Scan, and functions, but no branch of an If.
    """
    trips = current().loop_trips
    declared = {one.name for one in proto.graph.input}  # a caller may give another value
    outer: dict[str, TensorProto | None] = dict.fromkeys(declared)
    pending: list[tuple[Iterable[NodeProto], _Constants]] = [
        (proto.graph.node, {**outer, **_stored(proto.graph, declared)})
    ]
    pending += [(one.node, dict.fromkeys(one.input)) for one in proto.functions]
    while pending:
        nodes, known = pending.pop()
        nodes = list(nodes)
        known = {**known, **_made(nodes)}
        for node in nodes:
            if node.op_type not in ("Loop", "Scan") or node.domain not in ("", "ai.onnx"):
                continue
            body = next((each.g for each in node.attribute if each.name == "body" and each.HasField("g")), None)
            if body is None:
                continue
            if node.op_type == "Loop" and (why := _never_ends(node, body, known, trips)) is not None:
                return why
            inside: dict[str, TensorProto | None] = dict.fromkeys(one.name for one in body.input)
            pending.append((body.node, {**known, **inside, **_stored(body, set(inside))}))
    return None


def _never_ends(node: NodeProto, body: GraphProto, known: _Constants, trips: int) -> str | None:
    count, condition = (*node.input[:2], "", "")[:2]
    number = _scalar(known.get(count)) if count else None
    if count and (number is None or number <= trips):
        return None
    if condition and not _scalar(known.get(condition)):
        return None
    if not _stays_true(body, known):
        return None
    label = shown(node.name or next(iter(node.output), ""))
    if number is None:
        return f"Loop {label} never ends, because it has no trip count and its condition is always true"
    return f"Loop {label} is to make {number} trips and its condition is always true; {how_to_move('loop_trips')}"


def _stays_true(body: GraphProto, known: _Constants) -> bool:
    """Whether a Loop's body hands its condition on as it got it, or gives a stored value that is true."""
    if not body.output or len(body.input) < 2:
        return False
    inside: dict[str, TensorProto | None] = dict.fromkeys(one.name for one in body.input)
    inside.update(_stored(body, set(inside)))
    inside.update(_made(body.node))
    name = body.output[0].name
    makers = {output: one for one in body.node for output in one.output if output}
    for _ in range(len(body.node) + 1):
        maker = makers.get(name)
        if maker is None or maker.op_type != "Identity" or maker.domain not in ("", "ai.onnx") or not maker.input:
            break
        name = maker.input[0]
    if name == body.input[1].name:
        return True
    return bool(_scalar(inside[name] if name in inside else known.get(name)))


def _stored(graph: GraphProto, declared: set[str]) -> dict[str, TensorProto]:
    return {one.name: one for one in graph.initializer if one.name not in declared}


def _made(nodes: Iterable[NodeProto]) -> dict[str, TensorProto | None]:
    """What the nodes make: the tensors of Constants, and None for everything else."""
    made: dict[str, TensorProto | None] = {}
    for node in nodes:
        value = next(_values(node), None) if node.op_type == "Constant" else None
        made.update((name, value) for name in node.output if name)
    return made


def _values(node: NodeProto) -> Iterator[TensorProto]:
    for each in node.attribute:
        if each.name == "value" and each.HasField("t"):
            yield each.t
        elif each.name == "value_int":
            yield TensorProto(data_type=TensorProto.INT64, int64_data=[each.i])


def _scalar(tensor: TensorProto | None) -> int | None:
    """The one element of a small stored integer or boolean tensor; None for everything else."""
    if tensor is None or tensor.data_location == TensorProto.EXTERNAL or list(tensor.dims) not in ([], [1]):
        return None
    if tensor.data_type not in (TensorProto.INT64, TensorProto.BOOL):
        return None
    return int(numpy_helper.to_array(tensor).reshape(-1)[0])
