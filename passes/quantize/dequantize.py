"""Writes a quantized weight: integers, a scale, and DequantizeLinear nodes where they are read.

Nodes that only move elements (a Transpose, the rows of a Gather) are made to move integers, and
DequantizeLinear comes after them, right before what computes. That is what runtimes have kernels
for: a table that is dequantized before its Gather is dequantized whole, at every run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from graphopt.analysis.movement import View, is_mover, moved
from graphopt.analysis.weight_axes import gather_axis
from graphopt.analysis.weights import Weight
from graphopt.ir import Graph, Node, Tensor
from graphopt.ir.dtypes import bits, onnx_dtype
from passes.quantize.grid import Array, Grid
from passes.quantize.pieces import steps_shape
from passes.quantize.small_floats import is_small

Order = Mapping[Node, int]
"""Where each node of the model stands among the nodes of its graph."""


def order_of(graph: Graph) -> Order:
    """The order of all nodes as they stand now; nodes that are put in later do not upset it."""
    return {node: place for scope in graph.scopes() for place, node in enumerate(scope.nodes)}


def write(weight: Weight, grid: Grid, codes: Array, order: Order) -> None:
    """Put `codes` (the shape of the weight) on `grid` in the weight's place, and take the weight out.

    Adds `NAME_int8` (or what the codes are), `NAME_scale`, and `NAME_zero_point` where the grid has zeros, to
    the graph that held the weight, and one DequantizeLinear for each value that is computed with.
    """
    home, old = weight.home, weight.tensor
    stored = home.constant(codes, f"{old.name}_{codes.dtype}")
    parameters = [home.constant(grid.scale, f"{old.name}_scale")]
    if grid.zero is not None:
        parameters.append(home.constant(grid.zero, f"{old.name}_zero_point"))
    writer = _Writer(old.name, grid, weight.constant.onnx_dtype)
    form = _Form(stored, parameters)
    writer.carry(old, form, View.whole([int(size) for size in weight.constant.shape]))
    if old.is_read:
        floats = home.variable(f"{old.name}_dequantized")
        home.insert(writer.dequantizer(home, form, grid.axis, floats), before=first_reader(old, home, order))
        home.replace_uses(old, floats)
    if weight.holder is None:
        home.remove_initializer(weight.constant)
    else:
        home.remove(weight.holder)


@dataclass(frozen=True, eq=False)
class _Form:
    """Codes, as they are or moved, the scales and zeros that go with them, and the node behind which
    all that is made, None where it is stored."""

    codes: Tensor
    parameters: list[Tensor]
    last: Node | None = None


@dataclass(frozen=True)
class _Writer:
    """Lets what is made of one float tensor by moving its elements be made of its codes instead."""

    name: str
    grid: Grid
    onnx_type: int

    def carry(self, floats: Tensor, form: _Form, view: View | None) -> None:
        """Let the nodes that move `floats` move the codes, as far as the scales can follow.

        What computes with the floats that were moved reads them from a DequantizeLinear; readers of
        `floats` that do not move them are left. `view` tells where the stored axes are in both.
        """
        pending: list[tuple[Tensor, _Form, View | None]] = [(floats, form, view)]
        ends: list[tuple[Node, Tensor, _Form, int | None]] = []
        sized = bits(onnx_dtype(self.grid.code)) >= 8  # runtimes have no Shape of smaller elements
        while pending:
            floats, form, view = pending.pop()
            for node in floats.readers:
                if node.is_op("Shape", "Size"):
                    if sized:
                        _graph(node).rewire(node, 0, form.codes)
                elif is_mover(node):
                    after = None if view is None else moved(node, view)
                    axis = self.place_in(after)
                    if self.moves(node) and (self.grid.axis is None or axis is not None):
                        moved_floats, moved_form = self.divert(node, form, self.moved_scales(after))
                        pending.append((moved_floats, moved_form, after))
                        ends.append((node, moved_floats, moved_form, axis))
                elif node.is_op("Gather"):
                    axis = self.place_behind(node, view)
                    if self.moves(node) and (self.grid.axis is None or axis is not None):
                        ends.append((node, *self.divert(node, form, None), axis))
        for node, floats, form, axis in ends:
            if floats.is_read:
                graph = _graph(node)
                graph.insert(self.dequantizer(graph, form, axis, floats), after=form.last)

    def moves(self, node: Node) -> bool:
        """Whether `node` may move codes of this width: ONNX has no Gather of codes below a byte, and
        runtimes have no kernels to move them but to transpose those of 4 bits."""
        if is_small(self.grid.code):
            return False  # Gather takes none, and other movers only at the newest opsets
        width = bits(onnx_dtype(self.grid.code))
        return width >= 8 or (width == 4 and node.is_op("Transpose"))

    def divert(self, node: Node, form: _Form, target: list[int] | None) -> tuple[Tensor, _Form]:
        """Let `node` move the codes, and nodes like it the scales of blocks: the floats that it made,
        which nothing makes now, and what takes their place. `target` is the shape that a Reshape gives scales."""
        graph = _graph(node)
        floats = node.outputs[0]
        graph.rewire(node, 0, form.codes)
        node.outputs[0] = graph.variable(f"{floats.name}_quantized")
        parameters, last = form.parameters, node
        if self.grid.block and not node.is_op("Identity"):
            parameters = []
            for one in form.parameters:
                parameters.append(self.follow(node, one, target, last))
                last = parameters[-1].inputs[0]
        return floats, _Form(node.outputs[0], parameters, last)

    def follow(self, node: Node, parameter: Tensor, target: list[int] | None, last: Node) -> Tensor:
        """The scales or zeros of blocks, moved as `node` moves the codes, by a node behind `last`."""
        graph = _graph(node)
        out = graph.variable(f"{parameter.name}_moved")
        if node.is_op("Transpose", "Gather"):
            inputs = [parameter, *list(node.inputs)[1:]]
            new = Node(node.op, graph.fresh_name(f"{parameter.name}_{node.op}"), dict(node.attrs), inputs, [out])
        else:
            assert target is not None, "the scales follow only where the axes are known"
            shape = graph.constant(np.array(target, np.int64), f"{parameter.name}_shape")
            new = Node("Reshape", graph.fresh_name(f"{parameter.name}_Reshape"), {}, [parameter, shape], [out])
        graph.insert(new, after=last)
        return out

    def moved_scales(self, view: View | None) -> list[int] | None:
        """The shape of the scales of blocks in a view of the stored tensor."""
        axis = self.place_in(view)
        if view is None or axis is None:
            return None
        return list(steps_shape(view.shape, axis, self.grid.block))

    def place_in(self, view: View | None) -> int | None:
        """The axis of the scales in a view of the stored tensor, None where there is none."""
        return None if view is None or self.grid.axis is None else view.place_of(self.grid.axis)

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

    def dequantizer(self, graph: Graph, form: _Form, axis: int | None, floats: Tensor) -> Node:
        """A new node that makes `floats` of codes."""
        name = graph.fresh_name(f"{self.name}_DequantizeLinear")
        attrs = {} if axis is None else {"axis": axis}
        if self.grid.block:
            attrs["block_size"] = self.grid.block
        if self.grid.scale.dtype.itemsize == 1:  # powers of two, which the result cannot take its type from
            attrs["output_dtype"] = self.onnx_type
        return Node("DequantizeLinear", name, attrs, [form.codes, *form.parameters], [floats])


def first_reader(tensor: Tensor, home: Graph, order: Order) -> Node:
    """The first node of `home` that reads `tensor`, itself or in one of its bodies."""
    return min((_ancestor(node, home) for node in tensor.readers), key=lambda node: order[node])


def _ancestor(node: Node, home: Graph) -> Node:
    while node.graph is not home:
        node = _graph(node).parent
    return node


def _graph(node: Node) -> Graph:
    assert node.graph is not None, "a node that reads something is in a graph"
    return node.graph
