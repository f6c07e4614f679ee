"""Weights as the matrices that operators multiply by: [groups, inputs, outputs]."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.analysis.weights import Site, Weight

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Layout:
    """How a stored tensor of `shape` becomes matrices: cut into `parts`, put in the order `axes`, joined.

    `groups`, `inputs` and `outputs` are how many of these there are; every element is in one place.
    """

    shape: tuple[int, ...]
    parts: tuple[int, ...]
    axes: tuple[int, ...]
    groups: int
    inputs: int
    outputs: int

    def matrices(self, stored: Array) -> Array:
        """[groups, inputs, outputs] of a tensor of `shape`."""
        return stored.reshape(self.parts).transpose(self.axes).reshape(self.groups, self.inputs, self.outputs)

    def stored(self, matrices: Array) -> Array:
        """The inverse of `matrices`."""
        moved = matrices.reshape([self.parts[axis] for axis in self.axes])
        return np.ascontiguousarray(moved.transpose(np.argsort(self.axes)).reshape(self.shape))


def layout_of(weight: Weight) -> Layout | str:
    """The one layout in which all operators that read the weight multiply by it, or a clause why there is none."""
    found = {_layout(weight, site) for site in weight.sites}
    if len(found) > 1:
        return "its readers multiply by different matrices made of it"
    (layout,) = found
    return layout


def _layout(weight: Weight, site: Site) -> Layout | str:
    shape = tuple(int(size) for size in weight.constant.shape)
    node = site.node
    if node.op == "Gather":
        return "a table is looked up, not multiplied"
    if node.op in ("MatMul", "Gemm"):
        return _dense(shape, site)
    if node.inputs[site.slot] is not weight.tensor:
        return f"{node.op} {node.label!r} reads it in another layout"
    if node.op in ("LSTM", "GRU", "RNN"):
        if len(shape) != 3 or site.slot != 1:
            return f"the states that {node.op} multiplies are not seen"
        return Layout(shape, (shape[0] * shape[1], shape[2]), (1, 0), 1, shape[2], shape[0] * shape[1])
    groups = node.attrs.get("group", 1)
    if not isinstance(groups, int) or groups < 1 or len(shape) < 3 or shape[0] % groups:
        return f"the groups of {node.op} {node.label!r} are not known"
    first, rest = shape[0] // groups, math.prod(shape[1:])
    if node.op == "ConvTranspose":
        return Layout(shape, (groups, first, rest), (0, 1, 2), groups, first, rest)
    return Layout(shape, (groups, first, rest), (0, 2, 1), groups, rest, first)


def _dense(shape: tuple[int, ...], site: Site) -> Layout | str:
    inputs, outputs = site.inputs, site.channel
    if inputs is None or outputs is None:
        if len(shape) == 1 and inputs == 0:
            return Layout(shape, (shape[0], 1), (0, 1), 1, shape[0], 1)
        return f"{site.node.op} {site.node.label!r} reads it in another layout"
    if math.prod(shape) != shape[inputs] * shape[outputs]:
        return f"{site.node.op} {site.node.label!r} multiplies by a batch of matrices"
    rest = tuple(axis for axis in range(len(shape)) if axis not in (inputs, outputs))
    return Layout(shape, shape, (*rest, inputs, outputs), 1, shape[inputs], shape[outputs])
