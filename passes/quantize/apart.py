"""Multiplies a few channels of a value apart from the others, and adds what they give."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.analysis.constants import constant_of
from graphopt.analysis.matching import only_reader
from graphopt.ir import Graph, Node, Tensor
from graphopt.ir.values import Array
from passes.quantize.products import Product


def put_apart(scope: Graph, data: Tensor, channels: Array, parts: Sequence[tuple[Product, Array]]) -> None:
    """Add to the result of each product that of `channels` of `data` and its rows [channels, N] of the weights.

    The constants are named NAME_outliers, after the weight.
    """
    first = parts[0][0].node
    some = scope.variable(f"{data.name}_outliers")
    chosen = scope.constant(channels.astype(np.int64), f"{data.name}_channels")
    gather = Node("Gather", scope.fresh_name(f"{data.name}_Gather"), {"axis": -1}, [data, chosen], [some])
    scope.insert(gather, before=first)
    for product, rows in parts:
        node = _last(product.node)
        result, stem = node.outputs[0], product.node.name or product.node.outputs[0].name
        node.outputs[0] = without = scope.variable(f"{result.name}_others")
        extra = scope.variable(f"{result.name}_outliers")
        weight = scope.constant(rows, f"{product.stored.name}_outliers")
        total = Node("Add", scope.fresh_name(f"{stem}_Add"), {}, [without, extra], [result])
        scope.insert(total, after=node)
        scope.insert(Node("MatMul", scope.fresh_name(f"{stem}_outliers"), {}, [some, weight], [extra]), before=total)


def _last(node: Node) -> Node:
    """The operator behind which to add: the Add of a constant bias, which runtimes fuse, or the node itself."""
    add = only_reader(node.outputs[0])
    if add is None or not add.is_op("Add") or add.graph is not node.graph:
        return node
    return add if any(constant_of(one) is not None for one in add.inputs) else node
