"""Which weights pruning may take, and why it leaves the others."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import ml_dtypes
import numpy as np

from graphopt.analysis.weights import Weight
from graphopt.ir.dtypes import np_dtype
from passes.prune.groups import Blocks, Pattern
from passes.prune.overridable import advised

DOUBLE = np.dtype(np.float64)
_FLOATS = (np.dtype(np.float32), np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16), DOUBLE)


@dataclass(frozen=True)
class Wishes:
    """What the user asked for, as far as it decides which weights are pruned."""

    min_elements: int
    skip: tuple[str, ...]
    embeddings: bool
    pattern: Pattern | Blocks | None


def is_bystander(weight: Weight, wishes: Wishes) -> bool:
    """Whether nobody would expect the tensor to be pruned: nothing reads it, it holds no floats, or
    it is small and no operator reads it as a weight."""
    if not weight.tensor.is_read:
        return True
    small_or_other = weight.elements < wishes.min_elements or dtype_of(weight) not in _FLOATS
    return not weight.sites and small_or_other and not (weight.is_quantized and weight.elements >= wishes.min_elements)


def dtype_of(weight: Weight) -> np.dtype[Any] | None:
    """The numpy dtype of the values, None where numpy has none."""
    return np_dtype(weight.constant.onnx_dtype)


def why_not(weight: Weight, wishes: Wishes) -> str | None:
    """Why a weight must not be pruned, in a clause; None when it may. Reads no values."""
    if weight.obstacle is not None:
        return advised(weight.obstacle)
    dtype = dtype_of(weight)
    if dtype not in _FLOATS:
        return f"it is {'of an unknown type' if dtype is None else dtype}, not floating point"
    if not weight.sites:
        return "only its shape is read"
    pattern = next((p for p in wishes.skip if any(fnmatchcase(name, p) for name in weight.names)), None)
    if pattern is not None:
        return f"skip has {pattern!r}"
    if weight.elements == 0:
        return "it is empty"
    if weight.elements < wishes.min_elements:
        return f"it has {weight.elements} elements, fewer than min-elements={wishes.min_elements}"
    table = next((site.node for site in weight.sites if site.is_table), None)
    if table is not None and not wishes.embeddings:
        return f"it is a table that Gather {table.label!r} looks up, and embeddings is false"
    if isinstance(wishes.pattern, Pattern):
        return _why_no_groups(weight, wishes.pattern)
    return None if wishes.pattern is None else _why_no_blocks(weight, wishes.pattern)


def _why_no_groups(weight: Weight, pattern: Pattern | Blocks) -> str | None:
    axes = {site.inputs for site in weight.sites}
    if None in axes:
        site = next(site for site in weight.sites if site.inputs is None)
        return f"what {site.node.op} {site.node.label!r} sums over is not one axis of it"
    if len(axes) > 1:
        return "its readers sum over different axes of it"
    axis, group = input_axis(weight), pattern.group if isinstance(pattern, Pattern) else pattern.inputs
    length = int(weight.constant.shape[axis])
    for groups in {site.groups: None for site in weight.sites}:
        if length % (groups * group) == 0:
            continue
        parts = f" in {groups} groups" if groups > 1 else ""
        return f"its input axis {axis} has {length} elements{parts}, which {pattern} does not divide"
    return None


def _why_no_blocks(weight: Weight, blocks: Blocks) -> str | None:
    axes = {site.channel for site in weight.sites}
    if None in axes or len(axes) > 1:
        return "its outputs are not along one axis of it"
    axis = channel_axis(weight)
    if axis in {site.inputs for site in weight.sites}:
        return "its outputs and inputs lie along one axis of it"
    length = int(weight.constant.shape[axis])
    for site in weight.sites:
        groups = site.node.attrs.get("group", 1) if site.node.op == "Conv" else 1
        if not isinstance(groups, int) or groups < 1:
            return f"the groups of {site.node.op} {site.node.label!r} are not known"
        if length % (groups * blocks.outputs):
            parts = f" in {groups} groups" if groups > 1 else ""
            return f"its output axis {axis} has {length} elements{parts}, which {blocks} does not divide"
    return _why_no_groups(weight, blocks)


def input_axis(weight: Weight) -> int:
    """The one axis that all readers sum over; only for weights that patterns fit."""
    (axis,) = {site.inputs for site in weight.sites}
    assert axis is not None, "a weight without an input axis fits no pattern"
    return axis


def channel_axis(weight: Weight) -> int:
    """The one axis along which all readers have their outputs; only for weights that blocks fit."""
    (axis,) = {site.channel for site in weight.sites}
    assert axis is not None, "a weight without an output axis fits no blocks"
    return axis
