"""Attention in one operator: heads are its units, or with fewer heads of keys and values, those and their queries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.analysis.channels.attributes import has, integer
from graphopt.analysis.channels.elementwise import broadcast, same
from graphopt.analysis.channels.flow import Axes, Flow, Labels, named
from graphopt.ir import Node

_UNKNOWN = "has operands whose ranks or heads are not known"


def _attention(node: Node, flow: Flow) -> str | None:
    """Attention of ONNX: [batch, heads, length, size] or, with numbers of heads, [batch, length, heads * size]."""
    parts = [flow.axes(tensor) for tensor in node.inputs[:3]]
    if len(parts) < 3 or any(one is None or len(one) not in (3, 4) for one in parts):
        return _UNKNOWN
    query, key, value = (one for one in parts if one is not None)
    if len({len(query), len(key), len(value)}) != 1:
        return _UNKNOWN
    if len(query) == 4:
        heads, units = flow.dim(node.inputs[0], 1), flow.dim(node.inputs[1], 1)
        joined = [query[1], key[1], value[1]]
    else:
        heads, units = integer(node, "q_num_heads", 0), integer(node, "kv_num_heads", 0)
        joined = [query[2], key[2], value[2]]
    if not heads or not units or heads % units:
        return _UNKNOWN
    found = _tied(node, flow, [*joined, *_outer(node, (4, 5)), *_bias(node, flow, 3, heads)], units)
    if len(query) == 4:
        made: Sequence[Labels] = (query[0], _spread(found, heads), query[2], value[3])
    else:
        made = (query[0], query[1], _spread(found, _wide(flow, node, 2, heads, units)))
    flow.give(node.outputs[0], made)
    _rest(node, flow, (query, key, value), 1 if len(query) == 4 else 2)
    if len(query) == 3:
        _number(node, flow, "q_num_heads", 0, heads)
        _number(node, flow, "kv_num_heads", 1, units)
    return None


def _projected(node: Node, flow: Flow) -> str | None:
    """Attention of com.microsoft, which has the weights of queries, keys and values in it, side by side."""
    data, weight, heads = flow.axes(node.inputs[0]), flow.axes(node.inputs[1]), integer(node, "num_heads", 0)
    if data is None or weight is None or len(data) != 3 or len(weight) != 2 or not heads:
        return _UNKNOWN
    if "qkv_hidden_sizes" in node.attrs or integer(node, "do_rotary", 0) != 0:
        return "says the sizes of its parts, or turns them"
    columns = weight[1]
    if isinstance(columns, str) or len(columns) % (3 * heads):
        return _UNKNOWN
    parts: list[Labels] = [*columns.reshape(3, -1)]
    if has(node, 2):
        bias = flow.axes(node.inputs[2])
        flow.join(columns, bias[0] if bias else f"{node.inputs[2].name!r} is of unknown size")
    found = _tied(node, flow, [*parts, *_outer(node, (4,)), *_bias(node, flow, 5, heads)], heads)
    flow.join(data[2], weight[0])
    flow.maker(node, 1, 1)
    flow.reader(node, 1, 0)
    flow.give(node.outputs[0], (data[0], data[1], _spread(found, len(columns) // 3)))
    _rest(node, flow, (data,), 2)
    flow.need("attribute", node, node.outputs[0], 2, name="num_heads", per=len(columns) // (3 * heads))
    return None


def _multi_head(node: Node, flow: Flow) -> str | None:
    """MultiHeadAttention of com.microsoft, on three values of [batch, length, heads * size]."""
    heads = integer(node, "num_heads", 0)
    if not heads or not has(node, 1) or not has(node, 2):
        return "has queries, keys and values in one"
    parts = [flow.axes(tensor) for tensor in node.inputs[:3]]
    if any(one is None or len(one) != 3 for one in parts):
        return _UNKNOWN
    query, key, value = (one for one in parts if one is not None)
    joined = [query[2], key[2], value[2]]
    lengths = [len(one) for one in joined if isinstance(one, np.ndarray)]
    if has(node, 3):
        bias = flow.axes(node.inputs[3])
        if bias is None or isinstance(bias[0], str) or len(lengths) != 3 or len(bias[0]) != sum(lengths):
            return _UNKNOWN
        joined += np.split(bias[0], np.cumsum(lengths)[:2])
    found = _tied(node, flow, [*joined, *_outer(node, (6, 7)), *_bias(node, flow, 5, heads)], heads)
    flow.give(node.outputs[0], (query[0], query[1], _spread(found, _wide(flow, node, 2, heads, heads))))
    _rest(node, flow, (query, key, value), 2)
    _number(node, flow, "num_heads", 0, heads)
    return None


def _grouped(node: Node, flow: Flow) -> str | None:
    """GroupQueryAttention of com.microsoft: a head of keys and values with the queries that it answers is a unit."""
    heads, units = integer(node, "num_heads", 0), integer(node, "kv_num_heads", 0)
    if not has(node, 1) or not has(node, 2):
        return "has queries, keys and values in one"
    parts = [flow.axes(tensor) for tensor in node.inputs[:3]]
    if not heads or not units or heads % units or any(one is None or len(one) != 3 for one in parts):
        return _UNKNOWN
    query, key, value = (one for one in parts if one is not None)
    outer = _outer(node, (3, 4))
    found = _tied(node, flow, [query[2], key[2], value[2], *outer, *_bias(node, flow, 10, heads)], units)
    flow.give(node.outputs[0], (query[0], query[1], _spread(found, flow.dim(node.inputs[0], 2) or 0)))
    _rest(node, flow, (query, key, value), 2)
    _number(node, flow, "num_heads", 0, heads)
    _number(node, flow, "kv_num_heads", 1, units)
    return None


def _rotary(node: Node, flow: Flow) -> str | None:
    """RotaryEmbedding: each head is turned by itself."""
    data = flow.axes(node.inputs[0])
    if data is None or len(data) not in (3, 4):
        return _UNKNOWN
    heads_at = 1 if len(data) == 4 else 2
    _rest(node, flow, (data,), heads_at)
    if len(data) == 4:
        flow.give(node.outputs[0], data)
        return None
    stated = integer(node, "num_heads", 0)
    heads = stated or _turned_heads(node, flow)
    if not heads:
        return "does not say how many heads it turns"
    found = _tied(node, flow, [data[2]], heads)
    flow.give(node.outputs[0], (data[0], data[1], _spread(found, flow.dim(node.inputs[0], 2) or 0)))
    if stated:
        _number(node, flow, "num_heads", 0, heads)
    return None


def _turned_heads(node: Node, flow: Flow) -> int | None:
    """How many heads there are, from the table of cosines, which has one for each two numbers of a head."""
    cosines = node.inputs[1 if node.is_standard else 2]
    rank, width = flow.shapes.rank(cosines), flow.dim(node.inputs[0], 2)
    half = flow.dim(cosines, rank - 1) if rank else None
    if not half or not width or width % (2 * half) or integer(node, "rotary_embedding_dim", 0) != 0:
        return None
    return width // (2 * half)


def _tied(node: Node, flow: Flow, parts: Sequence[Labels], units: int) -> Labels:
    """One label for each unit, of axes that each hold all units one behind the other."""
    why = next((one for one in parts if isinstance(one, str)), None)
    if why is None and any(len(one) % units or not len(one) for one in parts):
        why = f"{named(node)} has {units} heads, which do not divide its channels"
    if why is not None:
        for one in parts:
            flow.bar(one, why)
        return why
    return flow.tie(np.concatenate([np.asarray(one).reshape(units, -1) for one in parts], axis=1))


def _spread(units: Labels, length: int) -> Labels:
    """Labels of an axis that has all units, one behind the other."""
    return units if isinstance(units, str) else np.repeat(units, length // len(units))


def _wide(flow: Flow, node: Node, slot: int, heads: int, units: int) -> int:
    """How long the axis of the result is: a head of a query gives as much as a head of the values has."""
    return (flow.dim(node.inputs[slot], 2) or 0) // units * heads


def _outer(node: Node, past: Sequence[int]) -> list[Labels]:
    """Why heads stay where keys and values of other steps are taken, or handed out as scores may be, too; nothing
    where they are not."""
    given = [f"{node.inputs[slot].name!r} has the keys or values of all heads" for slot in past if has(node, slot)]
    made = [output.name for output in node.outputs[1:] if output.name and output.is_read]
    given += [f"{name!r} has the keys, values or scores of all heads" for name in made]
    return [*given[:1]]


def _bias(node: Node, flow: Flow, slot: int, heads: int) -> list[Labels]:
    """The heads of what is added to the scores, where it has one part for each."""
    if not has(node, slot):
        return []
    axes, rank = flow.axes(node.inputs[slot]), flow.shapes.rank(node.inputs[slot])
    if axes is None or rank is None:
        return [f"{node.inputs[slot].name!r} is of unknown rank"]
    if rank < 3 or flow.dim(node.inputs[slot], rank - 3) == 1:
        return []
    return [axes[rank - 3]]


def _rest(node: Node, flow: Flow, parts: Sequence[Axes], heads: int) -> None:
    """Axes of queries, keys and values other than `heads` stay: lengths, sizes of heads; and so do other results."""
    why = f"{named(node)} needs all of it"
    for axes in parts:
        for axis, labels in enumerate(axes):
            if axis != heads:
                flow.bar(labels, why)
    for output in node.outputs[1:]:
        if output.name:
            flow.fix(output, why)


def _number(node: Node, flow: Flow, name: str, slot: int, heads: int) -> None:
    """An attribute that says how many heads input `slot` has."""
    length = flow.dim(node.inputs[slot], 2)
    if length and length % heads == 0:
        flow.need("attribute", node, node.inputs[slot], 2, name=name, per=length // heads)


def _fast_gelu(node: Node, flow: Flow) -> str | None:
    return broadcast(node, flow) if has(node, 1) else same(node, flow)


RULES = {"Attention": _attention, "RotaryEmbedding": _rotary}

CONTRIBUTED = {
    "Attention": _projected,
    "BiasGelu": broadcast,
    "FastGelu": _fast_gelu,
    "Gelu": same,
    "GroupQueryAttention": _grouped,
    "MultiHeadAttention": _multi_head,
    "QuickGelu": same,
    "RotaryEmbedding": _rotary,
}
"""By name of the operator, of onnxruntime's domain com.microsoft."""
