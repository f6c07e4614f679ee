"""Which inputs of which operators are weights, and what their axes mean.

Two axes matter. Along the *channel* axis each index makes one output of its own, so a factor that
belongs to it can be taken out of the operator; along the *input* axis the operator sums. For the
table of a Gather, which multiplies nothing, the channel axis is one that the lookup keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphopt.ir import Node


@dataclass(frozen=True)
class Axes:
    """What the axes of a weight mean, in the layout that the operator reads.

    `channel` and `inputs` are None where no single axis has that meaning, or an attribute that
    decides is only known where a function is called. The input axis holds `groups` blocks that
    belong to different outputs (ConvTranspose).
    """

    channel: int | None
    inputs: int | None
    groups: int = 1


UNKNOWN = Axes(None, None)

_WEIGHT_SLOTS: dict[str, tuple[int, ...]] = {
    "Conv": (1,),
    "ConvTranspose": (1,),
    "Gemm": (0, 1),
    "MatMul": (0, 1),
    "Gather": (0,),
    "LSTM": (1, 2),
    "GRU": (1, 2),
    "RNN": (1, 2),
}

_RECURRENT = {3: "bias", 4: "sequence lengths", 5: "initial state", 6: "initial state", 7: "peephole weights"}
_ROLES: dict[str, dict[int, str]] = {
    "Conv": {0: "data", 2: "bias"},
    "ConvTranspose": {0: "data", 2: "bias"},
    "Gemm": {2: "bias"},
    "Gather": {1: "indices"},
    "LSTM": {0: "data", **_RECURRENT},
    "GRU": {0: "data", **_RECURRENT},
    "RNN": {0: "data", **_RECURRENT},
    "BatchNormalization": {1: "scale", 2: "bias", 3: "mean", 4: "variance"},
    "InstanceNormalization": {1: "scale", 2: "bias"},
    "GroupNormalization": {1: "scale", 2: "bias"},
    "LayerNormalization": {1: "scale", 2: "bias"},
    "RMSNormalization": {1: "scale"},
    "PRelu": {1: "slope"},
    "QuantizeLinear": {1: "scale", 2: "zero point"},
    "DequantizeLinear": {1: "scale", 2: "zero point"},
}


def is_weight_slot(node: Node, slot: int) -> bool:
    """Whether what is read in this input slot is a weight when it is constant."""
    return node.is_standard and slot in _WEIGHT_SLOTS.get(node.op, ())


def role(node: Node, slot: int) -> str:
    """What an operator takes this input for, as in "bias"; "" where it is nothing in particular."""
    return _ROLES.get(node.op, {}).get(slot, "") if node.is_standard else ""


def axes_of(node: Node, slot: int, shape: Sequence[int]) -> Axes:
    """The meaning of the axes of a weight of `shape` in a slot for which `is_weight_slot` holds.

    Source: the ONNX operators of the same names. A ConvTranspose weight is [C, M/group, ...]: its
    axis 1 is the channel within a group, so an index of it stands for one output of every group;
    where groups have one input and one output each, axis 0 is the output.
    """
    rank = len(shape)
    if node.op == "Conv":
        return Axes(0, 1) if rank >= 3 else UNKNOWN
    if node.op == "ConvTranspose":
        return _conv_transpose(node, shape) if rank >= 3 else UNKNOWN
    if node.op == "Gemm":
        return _gemm(node, slot) if rank == 2 else UNKNOWN
    if node.op == "MatMul":
        if rank == 1:
            return Axes(None, 0)
        last, before = rank - 1, rank - 2
        if rank == 0:
            return UNKNOWN
        return Axes(last, before) if slot == 1 else Axes(before, last)
    if node.op == "Gather":
        return _gather(node, rank)
    return Axes(1, 2) if rank == 3 else UNKNOWN


def gather_axis(node: Node, rank: int) -> int | None:
    """The axis that a Gather looks up, from the front; None where it is not known."""
    axis = node.attrs.get("axis", 0)
    return axis % rank if isinstance(axis, int) and -rank <= axis < rank else None


def _conv_transpose(node: Node, shape: Sequence[int]) -> Axes:
    groups = node.attrs.get("group", 1)
    if not isinstance(groups, int):
        return Axes(1, None)
    one_to_one = groups > 1 and shape[0] == groups and shape[1] == 1
    return Axes(0 if one_to_one else 1, 0, max(groups, 1))


def _gemm(node: Node, slot: int) -> Axes:
    flipped = node.attrs.get("transB" if slot == 1 else "transA", 0)
    if not isinstance(flipped, int):
        return UNKNOWN
    channel_first = bool(flipped) if slot == 1 else not flipped
    return Axes(0, 1) if channel_first else Axes(1, 0)


def _gather(node: Node, rank: int) -> Axes:
    axis = gather_axis(node, rank) if rank >= 2 else None
    if axis is None:
        return UNKNOWN
    return Axes(rank - 2 if axis == rank - 1 else rank - 1, None)
