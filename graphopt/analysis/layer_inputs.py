"""What the weights of an operator multiply: its data, cut into rows of one column for each weight of an output.

MatMul and Gemm multiply the vectors along one axis; a convolution multiplies the patches under its
kernel (im2col), those of each group by themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.ir import Node, Tensor

Array = np.ndarray[Any, Any]

_PIECE = 1 << 22  # elements of patches that are written out together, so that memory stays bounded
_STRIDE = 0.6180339887498949  # places that are a golden share apart leave no large gaps, however many there are


@dataclass(frozen=True)
class Vectors:
    """The vectors along `axis` of the data (counted from the end), all in one group."""

    axis: int = -1

    @property
    def key(self) -> str:
        return f"vectors axis={self.axis}"

    def why_not(self, data: Array) -> str | None:
        """Why there are no rows in `data`, in a clause."""
        return None if data.ndim >= -self.axis else f"its data have rank {data.ndim}"

    def places(self, data: Array) -> int:
        """How many rows each group has in `data`."""
        return int(data.size // max(data.shape[self.axis], 1))

    def rows(self, data: Array, which: Array) -> Array:
        """The rows of the places `which`: float32 [groups, places, inputs]."""
        last = np.moveaxis(data, self.axis, -1)
        return last.reshape(-1, last.shape[-1])[which].astype(np.float32, copy=False)[None]


@dataclass(frozen=True)
class Points:
    """The vectors along axis 1 of the data, in `groups` parts: what a ConvTranspose multiplies.

    Where its kernel is no larger than its strides, no two products meet in one output.
    """

    groups: int = 1

    @property
    def key(self) -> str:
        return f"points groups={self.groups}"

    def why_not(self, data: Array) -> str | None:
        """Why there are no rows in `data`, in a clause."""
        return None if data.ndim >= 3 and data.shape[1] % self.groups == 0 else f"its data have shape {data.shape}"

    def places(self, data: Array) -> int:
        """How many rows each group has in `data`."""
        return int(data.size // max(data.shape[1], 1))

    def rows(self, data: Array, which: Array) -> Array:
        """The rows of the places `which`: float32 [groups, places, inputs]."""
        return _grouped(np.moveaxis(data, 1, -1).reshape(-1, data.shape[1])[which], self.groups)


@dataclass(frozen=True)
class Patches:
    """What the kernel of a convolution covers at each place: [channels of a group, kernel] in a row."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...] | str
    groups: int = 1

    @property
    def key(self) -> str:
        return f"patches {self.kernel} {self.strides} {self.dilations} {self.pads} groups={self.groups}"

    def why_not(self, data: Array) -> str | None:
        """Why there are no rows in `data`, in a clause."""
        if data.ndim != len(self.kernel) + 2 or data.shape[1] % self.groups:
            return f"its data have shape {data.shape}"
        return None

    def places(self, data: Array) -> int:
        """How many rows each group has in `data`."""
        return int(data.shape[0] * np.prod(self._sizes(data.shape[2:]), dtype=np.int64))

    def rows(self, data: Array, which: Array) -> Array:
        """The rows of the places `which`: float32 [groups, places, inputs]."""
        spatial = data.shape[2:]
        rank = len(spatial)
        sample, *corner = np.unravel_index(which, (data.shape[0], *self._sizes(spatial)))
        pads = self.padding(spatial)
        padded = data
        if any(pads):
            padded = np.pad(data, ((0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)))
        extents = tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))
        windows = np.lib.stride_tricks.sliding_window_view(padded, extents, axis=tuple(range(2, 2 + rank)))
        thinned: Any = (..., *(slice(None, None, d) for d in self.dilations))
        chosen: Any = (sample, slice(None), *(at * step for at, step in zip(corner, self.strides, strict=True)))
        return _grouped(windows[thinned][chosen], self.groups)

    def _sizes(self, spatial: Sequence[int]) -> tuple[int, ...]:
        """How many places there are along each spatial axis."""
        rank = len(spatial)
        pads = self.padding(spatial)
        return tuple(
            max((spatial[i] + pads[i] + pads[rank + i] - (self.kernel[i] - 1) * self.dilations[i] - 1), -1)
            // self.strides[i]
            + 1
            for i in range(rank)
        )

    def padding(self, spatial: Sequence[int]) -> tuple[int, ...]:
        """Zeros before each axis, then behind each."""
        if not isinstance(self.pads, str):
            return self.pads
        if self.pads == "VALID":
            return (0,) * (2 * len(spatial))
        total = [
            max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
            for size, k, s, d in zip(spatial, self.kernel, self.strides, self.dilations, strict=True)
        ]
        less = tuple(one // 2 for one in total)
        more = tuple(one - one // 2 for one in total)
        return (*less, *more) if self.pads == "SAME_UPPER" else (*more, *less)


Rows = Vectors | Points | Patches


def inputs_of(node: Node, slot: int, shape: Sequence[int]) -> tuple[Tensor, Rows] | str:
    """What the weight of `shape` in input `slot` of `node` multiplies: the data, and the rows in it.

    A clause where there is no such thing, as for the table of a Gather.
    """
    if node.op == "MatMul":
        return node.inputs[1 - slot], Vectors(-1 if slot == 1 else -2)
    if node.op == "Gemm":
        flipped = node.attrs.get("transA" if slot == 1 else "transB", 0)
        if not isinstance(flipped, int):
            return "an attribute of it is known only where the function is called"
        return node.inputs[1 - slot], Vectors(-2 if bool(flipped) == (slot == 1) else -1)
    if node.op in ("LSTM", "GRU", "RNN"):
        return (node.inputs[0], Vectors()) if slot == 1 else f"the states that {node.op} multiplies are not seen"
    if node.op == "Gather":
        return "a table is looked up, not multiplied"
    groups = node.attrs.get("group", 1)
    if not isinstance(groups, int) or groups < 1:
        return "an attribute of it is known only where the function is called"
    if node.op == "ConvTranspose":
        return node.inputs[0], Points(groups)
    rows = _patches(node, tuple(shape[2:]), groups)
    return rows if isinstance(rows, str) else (node.inputs[0], rows)


def _patches(node: Node, kernel: tuple[int, ...], groups: int) -> Patches | str:
    rank = len(kernel)
    found = {"strides": [1] * rank, "dilations": [1] * rank, "pads": [0] * (2 * rank)}
    for name, usual in found.items():
        value = node.attrs.get(name, usual)
        if not isinstance(value, list) or len(value) != len(usual):
            return f"its attribute {name} is not known here"
        found[name] = [int(one) for one in value]
    auto = node.attrs.get("auto_pad", "NOTSET")
    auto = auto.decode() if isinstance(auto, bytes) else auto
    if auto not in ("NOTSET", "", "VALID", "SAME_UPPER", "SAME_LOWER"):
        return "its attribute auto_pad is not known here"
    if min(*found["strides"], *found["dilations"]) < 1 or min(found["pads"]) < 0:
        return "its strides, dilations or pads are not positive"
    pads: tuple[int, ...] | str = tuple(found["pads"]) if auto in ("NOTSET", "") else str(auto)
    return Patches(kernel, tuple(found["strides"]), tuple(found["dilations"]), pads, groups)


def _grouped(rows: Array, groups: int) -> Array:
    """[places, channels, ...] as float32 [groups, places, inputs]."""
    places, inputs = rows.shape[0], math.prod(rows.shape[1:]) // groups  # -1 says nothing where there are no places
    cut = rows.reshape(places, groups, inputs).transpose(1, 0, 2)
    return np.ascontiguousarray(cut, np.float32)


def piecewise(total: int, most: int, width: int) -> list[Array]:
    """Indices of at most `most` of `total` places, spread evenly, in pieces of bounded memory."""
    which = np.arange(total)
    if 0 < most < total:
        which = np.unique((np.arange(most) * _STRIDE % 1.0 * total).astype(np.int64))
    step = max(_PIECE // max(width, 1), 1)
    return [which[at : at + step] for at in range(0, len(which), step)]
