"""The walk over a model's weights that every weight-only quantization takes."""

from __future__ import annotations

from collections.abc import Callable

from graphopt.analysis.weights import Weight, weights
from graphopt.ir import Graph
from graphopt.pipeline.protocol import Context
from passes.quantize.candidates import Plan, Wishes, plan
from passes.quantize.cast_form import write_cast
from passes.quantize.dequantize import Order, order_of, write
from passes.quantize.grid import Array, Grid, Spread, codes, spread, why_no_grid
from passes.quantize.slabs import grid_in_slabs
from passes.quantize.table_form import write_table

RULE = "quantize"

Choice = Callable[[Plan, Spread, Array], Grid | str]
"""Gives the grid for a planned weight with values of a certain range, or a clause that says why none."""

Rounding = Callable[[Weight, Array, Grid], Array]
"""Gives a code of the grid for each of the values of a weight, in their shape."""


def nearest(weight: Weight, values: Array, grid: Grid) -> Array:
    """The rounding that looks at nothing but the values: each gets the nearest code."""
    return codes(values, grid)


def quantize(graph: Graph, ctx: Context, wishes: Wishes, choose: Choice, rounding: Rounding = nearest) -> None:
    """Quantize every weight that the wishes and the model allow, on the grid that `choose` gives, with
    the codes that `rounding` picks.

    The values of one weight at a time are in memory.
    """
    order = order_of(graph)
    shapes = ctx.shapes
    plans = [(weight, plan(weight, wishes, shapes)) for weight in weights(graph, parts=rounding is nearest)]
    for weight, planned in plans:
        if isinstance(planned, Plan):
            why = _quantize(planned, ctx, wishes, choose, rounding, order)
            weight.constant.forget()
        else:
            why = planned
        if why is not None:
            ctx.missed(RULE, weight.subject, why)


def _quantize(
    planned: Plan, ctx: Context, wishes: Wishes, choose: Choice, rounding: Rounding, order: Order
) -> str | None:
    """Quantize one weight; returns why not where its values forbid it."""
    weight = planned.weight
    values = weight.constant.values

    def grid_of(part: Array) -> Grid | str:
        found = spread(part, planned.axis, planned.block)
        return why_no_grid(found, planned.dtype) or choose(planned, found, part)

    grid = grid_in_slabs(values, planned.axis, planned.block, grid_of)
    if isinstance(grid, str):
        return grid
    if ctx.rewrite(RULE, weight.subject, detail(planned, grid)):
        put = {"dequantize": write, "cast": write_cast, "table": write_table}[wishes.form]
        put(weight, grid, rounding(weight, values, grid), order)
    return None


def detail(planned: Plan, grid: Grid) -> str:
    if grid.axis is None:
        text = f"one scale, {float(grid.scale):.4g}"
    elif grid.block:
        text = f"{grid.scale.size} scales, one for each {grid.block} along axis {grid.axis}"
    else:
        text = f"{grid.scale.size} scales along axis {grid.axis}"
    return f"{text}: {planned.note}" if planned.note else text
