"""Writes a quantized weight: integers, a scale, and DequantizeLinear nodes where they are read.

Nodes that only move elements (a Transpose, the rows of a Gather) are made to move integers, and
DequantizeLinear comes after them, right before what computes. That is what runtimes have kernels
for: a table that is dequantized before its Gather is dequantized whole, at every run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from graphopt.analysis.movement import View, is_mover, moved
from graphopt.analysis.weight_axes import gather_axis
from graphopt.analysis.weights import Weight
from graphopt.ir import Graph, Node, Tensor
from passes.quantize.grid import Array, Grid

Order = Mapping[Node, int]
"""Where each node of the model stands among the nodes of its graph."""


def order_of(graph: Graph) -> Order:
    """The order of all nodes as they stand now; nodes that are put in later do not upset it."""
    return {node: place for scope in graph.scopes() for place, node in enumerate(scope.nodes)}


def write(weight: Weight, grid: Grid, codes: Array, order: Order) -> None:
    """Put `codes` (the shape of the weight) on `grid` in the weight's place, and take the weight out.

    Adds `NAME_int8` (or `_int16`), `NAME_scale`, and `NAME_zero_point` where the grid has zeros, to
    the graph that held the weight, and one DequantizeLinear for each value that is computed with.
    """
    home, old = weight.home, weight.tensor
    stored = home.constant(codes, f"{old.name}_{codes.dtype}")
    parameters = [home.constant(grid.scale, f"{old.name}_scale")]
    if grid.zero is not None:
        parameters.append(home.constant(grid.zero, f"{old.name}_zero_point"))
    writer = _Writer(old.name, grid.axis, parameters)
    writer.carry(old, stored, View.whole([int(size) for size in weight.constant.shape]))
    if old.is_read:
        floats = home.variable(f"{old.name}_dequantized")
        home.insert(writer.dequantizer(home, stored, grid.axis, floats), before=_first_reader(old, home, order))
        home.replace_uses(old, floats)
    if weight.holder is None:
        home.remove_initializer(weight.constant)
    else:
        home.remove(weight.holder)


@dataclass(frozen=True)
class _Writer:
    """Lets what is made of one float tensor by moving its elements be made of its codes instead."""

    name: str
    axis: int | None
    parameters: list[Tensor]

    def carry(self, floats: Tensor, codes: Tensor, view: View | None) -> None:
        """Let the nodes that move `floats` move `codes`, as far as the scales can follow.

        What computes with the floats that were moved reads them from a DequantizeLinear; readers of
        `floats` that do not move them are left. `view` tells where the stored axes are in both.
        """
        pending: list[tuple[Tensor, Tensor, View | None]] = [(floats, codes, view)]
        ends: list[tuple[Node, Tensor, Tensor, int | None]] = []
        while pending:
            floats, codes, view = pending.pop()
            for node in floats.readers:
                if node.is_op("Shape", "Size"):
                    _graph(node).rewire(node, 0, codes)
                elif is_mover(node):
                    after = None if view is None else moved(node, view)
                    axis = self.place_in(after)
                    if self.axis is None or axis is not None:
                        moved_floats, moved_codes = self.divert(node, codes)
                        pending.append((moved_floats, moved_codes, after))
                        ends.append((node, moved_floats, moved_codes, axis))
                elif node.is_op("Gather"):
                    axis = self.place_behind(node, view)
                    if self.axis is None or axis is not None:
                        ends.append((node, *self.divert(node, codes), axis))
        for node, floats, codes, axis in ends:
            if floats.is_read:
                graph = _graph(node)
                graph.insert(self.dequantizer(graph, codes, axis, floats), after=node)

    def divert(self, node: Node, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Let `node` move `codes`: the floats that it made, which nothing makes now, and its result."""
        graph = _graph(node)
        floats = node.outputs[0]
        graph.rewire(node, 0, codes)
        node.outputs[0] = graph.variable(f"{floats.name}_quantized")
        return floats, node.outputs[0]

    def place_in(self, view: View | None) -> int | None:
        """The axis of the scales in a view of the stored tensor, None where there is none."""
        return None if view is None or self.axis is None else view.place_of(self.axis)

    def place_behind(self, gather: Node, view: View | None) -> int | None:
        """The axis of the scales in what a Gather makes of a view: counted from the end behind the
        axis that it looks up, since the indices may have any rank; None where it looks up along it."""
        axis = self.place_in(view)
        if view is None or axis is None:
            return None
        along = gather_axis(gather, len(view.shape))
        if along is None or along == axis:
            return None
        return axis if axis < along else axis - len(view.shape)

    def dequantizer(self, graph: Graph, codes: Tensor, axis: int | None, floats: Tensor) -> Node:
        """A new node that makes `floats` of `codes`."""
        name = graph.fresh_name(f"{self.name}_DequantizeLinear")
        attrs = {} if axis is None else {"axis": axis}
        return Node("DequantizeLinear", name, attrs, [codes, *self.parameters], [floats])


def _first_reader(tensor: Tensor, home: Graph, order: Order) -> Node:
    """The first node of `home` that reads `tensor`, itself or in one of its bodies."""
    return min((_ancestor(node, home) for node in tensor.readers), key=lambda node: order[node])


def _ancestor(node: Node, home: Graph) -> Node:
    while node.graph is not home:
        node = _graph(node).parent
    return node


def _graph(node: Node) -> Graph:
    assert node.graph is not None, "a node that reads something is in a graph"
    return node.graph
