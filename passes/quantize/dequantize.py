"""Writes a quantized weight: integers, a scale, and DequantizeLinear nodes where they are read.

Nodes that only move elements (a Transpose, the rows of a Gather) are made to move integers, and
DequantizeLinear comes after them, right before what computes. That is what runtimes have kernels
for: a table that is dequantized before its Gather is dequantized whole, at every run.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.analysis.movement import View, is_mover, moved
from graphopt.analysis.weight_axes import gather_axis
from graphopt.analysis.weights import Weight
from graphopt.ir import Constant, Graph, Node, Tensor
from passes.quantize.grid import Array, Grid


def write(weight: Weight, grid: Grid, codes: Array) -> None:
    """Put `codes` (the shape of the weight) on `grid` in the weight's place, and take the weight out.

    Adds `NAME_int8` (or `_int16`), `NAME_scale`, and `NAME_zero_point` where the grid has zeros, to
    the graph that held the weight, and one DequantizeLinear for each value that is computed with.
    """
    home, name = weight.home, weight.tensor.name
    view = View.whole([int(size) for size in weight.constant.shape])
    stored = home.constant(codes, f"{name}_{codes.dtype}")
    scale = home.constant(grid.scale, f"{name}_scale")
    zero = None if grid.zero is None else home.constant(grid.zero, f"{name}_zero_point")
    _Writer(home, name, grid.axis, scale, zero).place(weight.tensor, stored, view)
    if weight.holder is not None:
        home.remove(weight.holder)
    elif isinstance(weight.tensor, Constant):
        home.remove_initializer(weight.tensor)


@dataclass
class _Writer:
    """Replaces one float tensor, and what is made of it by moving its elements, by integers."""

    home: Graph
    name: str
    axis: int | None
    scale: Tensor
    zero: Tensor | None

    def place(self, old: Tensor, new: Tensor, view: View | None) -> None:
        """Let everything that reads the float tensor `old` work on the integers `new` instead.

        `view` says where the axes of the stored tensor are in them, None if that is not known.
        """
        pending: list[tuple[Tensor, Tensor, View | None]] = [(old, new, view)]
        while pending:
            old, new, view = pending.pop()
            for node in _in_order(old, self.home):
                if node.inputs[0] is not old:
                    continue
                if is_mover(node):
                    after = None if view is None else moved(node, view)
                    if self.axis is None or (after is not None and after.place_of(self.axis) is not None):
                        pending.append((node.outputs[0], _twin(node, new), after))
                elif node.is_op("Gather") and view is not None:
                    self.look_up(node, new, view)
            for node in old.readers:
                pass
            self.dequantize(old, new, view)
