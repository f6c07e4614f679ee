"""Puts the integers of weights and biases into the graph."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphopt.analysis.constants import constant_of, constant_values
from graphopt.ir import Constant, Graph, Node, Tensor
from passes.quantize.grid import Array, Grid
from passes.quantize.static.units import Unit
from passes.quantize.static.weights import Codes, Weighted

_ASK_FOR_ZERO = frozenset({"Gemm"})  # onnxruntime has no kernel for it where the weight's zero point is left out
_MOST = 2**31 - 1


class WeightWriter:
    """Puts integers in the place of weights and biases; a weight that several read alike is stored once."""

    def __init__(self) -> None:
        self._made: dict[tuple[Tensor, int | None, bytes, bool], Tensor] = {}

    def write(self, unit: Unit, found: Weighted) -> None:
        """Let the node of `unit` read its weight and bias from DequantizeLinear."""
        node = unit.node
        graph = _graph(node)
        assert unit.weight is not None
        old = node.inputs[unit.weight]
        if found.weight.kept:
            self._keep(unit, old, graph)
        else:
            key = (old, found.weight.axis, found.weight.scale.tobytes(), unit.op in _ASK_FOR_ZERO)
            new = self._made.get(key)
            if new is None:
                stem = old.name or f"{node.label}_weight"
                new = self._made[key] = dequantized(graph, node, stem, found.weight.values, _grid(found.weight, unit))
            graph.rewire(node, unit.weight, new)
            drop_unread(old, graph)
        if found.bias is not None:
            assert unit.bias is not None and found.bias_scale is not None
            bias = node.inputs[unit.bias]
            stem = bias.name or f"{node.label}_bias"
            axis = 0 if found.bias_scale.ndim else None
            grid = Grid(found.bias_scale, None, axis, -_MOST, _MOST, np.dtype(np.int32))
            graph.rewire(node, unit.bias, dequantized(graph, node, stem, found.bias, grid))
            drop_unread(bias, graph)
            if unit.op == "Gemm" and node.attrs.get("beta", 1.0) != 1.0:
                node.attrs["beta"] = 1.0

    def _keep(self, unit: Unit, old: Tensor, graph: Graph) -> None:
        """Give the DequantizeLinear of a weight its zero point, where the operator's kernel asks for one."""
        before = old.inputs[0]
        if unit.op not in _ASK_FOR_ZERO or (len(before.inputs) > 2 and before.inputs[2].name):
            return
        assert unit.weight is not None
        codes_, scale = before.inputs[0], before.inputs[1]
        numbers, steps = constant_values(codes_), constant_values(scale)
        assert numbers is not None and steps is not None
        zero = graph.constant(np.zeros(steps.shape, numbers.dtype), f"{codes_.name}_zero_point")
        made = graph.variable(f"{codes_.name}_dequantized")
        name = graph.fresh_name(f"{codes_.name}_DequantizeLinear")
        new = Node("DequantizeLinear", name, dict(before.attrs), [codes_, scale, zero], [made])
        graph.insert(new, before=unit.node)
        graph.rewire(unit.node, unit.weight, made)
        if not old.is_read and before.graph is not None:
            before.graph.remove(before)


def _grid(found: Codes, unit: Unit) -> Grid:
    zero = found.zero
    if zero is None and unit.op in _ASK_FOR_ZERO:
        zero = np.zeros(found.scale.shape, found.values.dtype)
    return Grid(found.scale, zero, found.axis, 0, 0, found.values.dtype)


def dequantized(graph: Graph, before: Node, stem: str, values: Array, grid: Grid) -> Tensor:
    """A new value that DequantizeLinear makes of constant codes, before a node."""
    inputs = [graph.constant(values, f"{stem}_{values.dtype}"), graph.constant(grid.scale, f"{stem}_scale")]
    if grid.zero is not None:
        inputs.append(graph.constant(grid.zero, f"{stem}_zero_point"))
    out = graph.variable(f"{stem}_dequantized")
    attrs = {} if grid.axis is None else {"axis": grid.axis}
    graph.insert(
        Node("DequantizeLinear", graph.fresh_name(f"{stem}_DequantizeLinear"), attrs, inputs, [out]), before=before
    )
    return out


def drop_unread(tensor: Tensor, graph: Graph) -> None:
    """Take out the stored value of a constant that nobody reads any more, and what makes floats of codes."""
    pending = [tensor]
    while pending:
        one = pending.pop()
        if one.is_read:
            continue
        maker = one.inputs[0] if len(one.inputs) == 1 else None
        held: Any = constant_of(one)
        if maker is not None and maker.is_op("Constant", "DequantizeLinear") and maker.graph is not None:
            pending.extend(maker.inputs)
            maker.graph.remove(maker)
        elif isinstance(held, Constant) and held in graph.initializers:
            graph.remove_initializer(held)


def _graph(node: Node) -> Graph:
    assert node.graph is not None
    return node.graph
