"""Convolutions at the beginning that floats are as fast for."""

from __future__ import annotations

import math
from collections.abc import Iterable

from graphopt.analysis.constants import constant_values
from graphopt.analysis.quantized import quantized_weight
from graphopt.ir import Node, Tensor
from passes.quantize.static.units import Unit


def cheap_first(nodes: Iterable[Node], units: Iterable[Unit], least: int) -> dict[Unit, str]:
    """The convolutions with no operator on integers before them that sum fewer than `least` products an output.

    With a clause each; `nodes` are those of the graph in order. Integers pay by the products of a sum;
    with few of them, conversions cost as much as is saved. The first layers of a network are also those
    whose rounding errors all others see.
    """
    by_node = {unit.node: unit for unit in units if unit.kind == "weighted"}
    found: dict[Unit, str] = {}
    behind: set[Tensor] = set()
    for node in nodes:
        unit = by_node.get(node)
        if any(tensor in behind for tensor in node.inputs):
            behind.update(node.outputs)
        elif unit is not None:
            products = _products(unit)
            if products is not None and products < least:
                found[unit] = f"it comes first and sums {products} products, fewer than min-products={least}"
            else:
                behind.update(node.outputs)
    return found


def _products(unit: Unit) -> int | None:
    """How many products an output of a convolution is the sum of; None for other operators."""
    if unit.op != "Conv" or unit.weight is None:
        return None
    tensor = unit.node.inputs[unit.weight]
    stored = quantized_weight(tensor)
    values = stored.values if stored is not None else constant_values(tensor)
    return None if values is None else math.prod(values.shape[1:])
