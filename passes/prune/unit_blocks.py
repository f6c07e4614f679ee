"""Units that can go, and the one layer that reads them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.analysis.channels import Group, Site
from graphopt.analysis.constants import constant_values
from graphopt.analysis.float_layers import FloatLayer, float_layer
from graphopt.ir import Node

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Block:
    """Units of a group that one layer reads: row u of `positions` has the inputs of the layer that are unit u."""

    group: Group
    layer: FloatLayer
    positions: Array

    @property
    def node(self) -> Node:
        """Whom remarks are about."""
        return self.layer.node

    @property
    def size(self) -> int:
        return self.group.size

    @property
    def nodes(self) -> list[Node]:
        """The operators whose weights get smaller."""
        return [*(site.node for site in self.group.makers), self.layer.node]

    @property
    def numbers(self) -> int:
        """How many weights one unit has."""
        made = sum(int(site.positions.shape[1]) * _across(site) for site in self.group.makers)
        return max(made + int(self.positions.shape[1]) * self.layer.outputs, 1)


def block_of(group: Group) -> Block | str:
    """The block that a group is, or a clause on why it cannot be thinned out."""
    if group.obstacle is not None:
        return group.obstacle
    (reader,) = group.readers
    layer = float_layer(reader.node)
    if isinstance(layer, str):
        return layer
    if layer is None or reader.slot != 1 or layer.node.op not in ("MatMul", "Gemm"):
        return f"{reader.node.op} {reader.node.label!r}, which reads them, has no stored float weight"
    return Block(group, layer, reader.positions)


def names_of(node: Node) -> Iterator[str]:
    """The names by which a user may mean a node."""
    yield node.label
    for tensor in (*node.outputs, *node.inputs):
        if tensor.name:
            yield tensor.name


def norms_of(group: Group) -> Array:
    """For each unit the product of the squared norms of the weights that make it."""
    found = np.ones(group.size)
    for site in group.makers:
        values = constant_values(site.tensor)
        if values is not None:
            squares = np.square(
                np.moveaxis(values.astype(np.float64), site.axis, 0).reshape(values.shape[site.axis], -1)
            )
            found = found * squares.sum(1)[site.positions].sum(1)
    return found


def _across(site: Site) -> int:
    """How many weights of a maker one index of its output axis has."""
    values = constant_values(site.tensor)
    return 1 if values is None else values.size // max(values.shape[site.axis], 1)
