"""Other grids for values that are quantized already: what reads their codes has to follow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.analysis.constants import constant_node, constant_of, constant_values
from graphopt.analysis.matching import maker
from graphopt.analysis.quantized import quantized_weight
from graphopt.ir import Constant, Graph, Node, Tensor

CODES = (np.dtype(np.uint8), np.dtype(np.int8))
"""The codes that kernels for activations of 8 bits read."""

_MOST = 2**31 - 1
_TINY = float(np.finfo(np.float32).tiny)
_BIASED = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2}


@dataclass(frozen=True)
class Pair:
    """What a QuantizeLinear or DequantizeLinear with one scale says: (code - zero) * scale."""

    scale: float
    zero: int
    code: np.dtype[Any]

    @property
    def first(self) -> int:
        """The first code."""
        return int(np.iinfo(self.code).min)

    @property
    def last(self) -> int:
        """The last code."""
        return int(np.iinfo(self.code).max)

    @property
    def high(self) -> float:
        """The largest value."""
        return (self.last - self.zero) * self.scale


def pair_of(node: Node) -> Pair | None:
    """The grid of a QuantizeLinear or DequantizeLinear with one scale and codes of 8 bits, both constant."""
    if len(node.inputs) < 3:
        return None
    scale, zero = constant_values(node.inputs[1]), constant_values(node.inputs[2])
    if scale is None or zero is None or scale.size != 1 or zero.size != 1:
        return None
    if zero.dtype not in CODES or scale.dtype != np.float32:
        return None
    step = float(scale.reshape(()))
    return Pair(step, int(zero.reshape(())), zero.dtype) if np.isfinite(step) and step > 0 else None


def codes_behind(tensor: Tensor) -> Node | None:
    """The DequantizeLinear that makes `tensor` of codes that are computed; None where there is none."""
    node = maker(tensor, "DequantizeLinear")
    return node if node is not None and constant_of(node.inputs[0]) is None and pair_of(node) is not None else None


def only_quantized(tensor: Tensor) -> list[Node] | None:
    """The QuantizeLinear nodes that read `tensor`, where nothing else does and there is one."""
    readers = list(dict.fromkeys(tensor.readers))
    if tensor.graph_outputs or not readers:
        return None
    alike = all(one.is_op("QuantizeLinear") and one.inputs[0] is tensor for one in readers)
    return readers if alike else None


def only_dequantized(codes: Tensor) -> list[Node] | None:
    """The DequantizeLinear nodes that read `codes`, all with a grid of their own, where nothing else does."""
    readers = list(dict.fromkeys(codes.readers))
    if codes.graph_outputs or not readers:
        return None
    if any(not one.is_op("DequantizeLinear") or one.inputs[0] is not codes or pair_of(one) is None for one in readers):
        return None
    return readers


class Regridder:
    """Gives nodes other grids; constants that are needed twice are made once."""

    def __init__(self) -> None:
        self._made: dict[tuple[Graph, bytes, str], Tensor] = {}

    def put(self, node: Node, pair: Pair, stem: str) -> None:
        """Let a QuantizeLinear or DequantizeLinear use the grid `pair`, and biases that depend on it follow."""
        graph = graph_of(node)
        old = list(node.inputs[1:3])
        graph.rewire(node, 1, self.constant(graph, np.asarray(pair.scale, np.float32), f"{stem}_scale"))
        graph.rewire(node, 2, self.constant(graph, np.asarray(pair.zero, pair.code), f"{stem}_zero_point"))
        for one in old:
            drop_unread(one, graph)
        if node.is_op("DequantizeLinear"):
            for reader in list(dict.fromkeys(node.outputs[0].readers)):
                if reader.inputs[0] is node.outputs[0]:
                    rebias(reader, pair.scale)

    def constant(self, graph: Graph, values: Any, stem: str) -> Tensor:
        """A constant with these values."""
        key = (graph, values.tobytes(), str(values.dtype))
        found = self._made.get(key)
        if found is None or not (found.is_read):
            found = self._made[key] = graph.constant(values, stem)
        return found


def why_not_rebias(node: Node, scale: float) -> str | None:
    """Why the integer bias of an operator cannot follow data with step `scale`, in a clause; None when it can,
    or need not."""
    bias = _integer_bias(node)
    if bias is None:
        return None
    found = quantized_weight(node.inputs[1])
    if found is None:
        return f"the bias of {node.op} {node.label!r} is an integer, and its weight has no scale that is known"
    codes, _, factor = _rebiased(bias, found.scale, scale)
    over = bool((np.abs(codes) > _MOST).any())
    return (
        f"the bias of {node.op} {node.label!r} would not fit 32 bits" if over or not np.isfinite(factor).all() else None
    )


def rebias(node: Node, scale: float) -> None:
    """Write the integer bias of a weighted operator for data with step `scale`, if it has one."""
    bias, slot = _integer_bias(node), _BIASED.get(node.op, -1)
    weight = quantized_weight(node.inputs[1]) if bias is not None else None
    if bias is None or weight is None:
        return
    codes, step, _ = _rebiased(bias, weight.scale, scale)
    write_bias(node, slot, codes.astype(np.int32), step)


def write_bias(node: Node, slot: int, codes: Any, step: Any) -> None:
    """Let `node` read int32 `codes` with scales `step` as its bias, in place of what it read."""
    graph = graph_of(node)
    old = node.inputs[slot] if slot < len(node.inputs) else None
    stem = (old.name.removesuffix("_dequantized") if old is not None else "") or f"{node.label}_bias"
    made = graph.variable(f"{stem}_dequantized")
    inputs = [graph.constant(codes, f"{stem}_int32"), graph.constant(step, f"{stem}_scale")]
    attrs = {"axis": 0} if step.ndim else {}
    name = graph.fresh_name(f"{stem}_DequantizeLinear")
    graph.insert(Node("DequantizeLinear", name, attrs, inputs, [made]), before=node)
    if old is None:
        node.inputs.append(made)
    else:
        graph.rewire(node, slot, made)
        drop_unread(old, graph)


def _integer_bias(node: Node) -> tuple[Any, Any] | None:
    """Codes and scales of the bias of a weighted operator where it is int32 behind DequantizeLinear."""
    slot = _BIASED.get(node.op, -1) if node.is_standard else -1
    if not 0 < slot < len(node.inputs):
        return None
    found = quantized_weight(node.inputs[slot])
    return None if found is None or found.values.dtype != np.int32 else (found.values, found.scale)


def _rebiased(bias: tuple[Any, Any], weight_scale: Any, scale: float) -> tuple[Any, Any, Any]:
    """Codes (not limited, float64), their step, and by what the step changes."""
    codes, old = bias
    step = np.maximum(np.asarray(weight_scale, np.float64) * scale, _TINY).astype(np.float32)
    factor = np.asarray(old, np.float64) / step.astype(np.float64)
    return np.rint(codes.astype(np.float64) * factor), step, factor


def drop_unread(tensor: Tensor, graph: Graph) -> None:
    """Take out a constant that nobody reads any more, and the DequantizeLinear that read it."""
    if tensor.is_read:
        return
    made = maker(tensor, "DequantizeLinear")
    if made is not None:
        inputs = list(made.inputs)
        graph_of(made).remove(made)
        for one in inputs:
            if one.name:
                drop_unread(one, graph)
        return
    holder = constant_node(tensor)
    if holder is not None and holder.graph is not None:
        holder.graph.remove(holder)
        return
    held: Any = constant_of(tensor)
    if isinstance(held, Constant) and held in graph.initializers:
        graph.remove_initializer(held)


def graph_of(node: Node) -> Graph:
    """The graph of a node that is in one."""
    assert node.graph is not None, "a node that reads something is in a graph"
    return node.graph
