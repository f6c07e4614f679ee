"""Which weights a weight-only quantization may take, and why it leaves the others."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import ml_dtypes
import numpy as np

from graphopt.analysis.weights import Weight
from graphopt.ir.dtypes import np_dtype

_SINGLE = np.dtype(np.float32)
_HALVES = (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))
_DOUBLE = np.dtype(np.float64)
_FLOATS = (_SINGLE, *_HALVES, _DOUBLE)

_FIRST = 10  # the opset in which DequantizeLinear appeared, with one scale a tensor
_AXIS = 13  # ... could have one scale for each index of an axis
_HALF = 19  # ... could have scales and results of float16 and bfloat16
_WIDE = 21  # ... could read 16-bit integers
_INITIALIZERS = 4  # the IR version in which initializers need not be graph inputs


@dataclass(frozen=True)
class Wishes:
    """What the user asked for: the options that every weight-only quantization has."""

    min_elements: int
    skip: tuple[str, ...]
    bits: int
    per_channel: bool


@dataclass(frozen=True)
class Plan:
    """How one weight can be quantized: along `axis` of the stored tensor, None for one scale.

    `note` says in a clause why the scale is not per channel although that was asked for.
    """

    weight: Weight
    dtype: np.dtype[Any]
    axis: int | None
    note: str = ""


def plan(weight: Weight, wishes: Wishes) -> Plan | str | None:
    """The plan for one stored tensor, or a clause that says why there is none.

    None for what nobody would expect to be quantized: tensors that are not read, integers, and
    small tensors that no operator reads as a weight. No values are read.
    """
    dtype = np_dtype(weight.constant.onnx_dtype)
    if not weight.tensor.is_read or _is_bystander(weight, dtype, wishes):
        return None
    why = _why_not(weight, dtype, wishes)
    if why is not None or dtype is None:
        return why
    axis, note = _axis(weight) if wishes.per_channel else (None, "")
    why = _why_not_here(weight, dtype, axis, wishes.bits) or _why_not_smaller(weight, dtype, axis, wishes.bits)
    return why or Plan(weight, dtype, axis, note)


def _is_bystander(weight: Weight, dtype: np.dtype[Any] | None, wishes: Wishes) -> bool:
    if weight.sites:
        return False
    return weight.elements < wishes.min_elements or (dtype not in _FLOATS and not weight.is_quantized)


def _why_not(weight: Weight, dtype: np.dtype[Any] | None, wishes: Wishes) -> str | None:
    if weight.obstacle is not None:
        return weight.obstacle
    if dtype not in _FLOATS:
        kind = "of an unknown type" if dtype is None else str(dtype)
        return f"it is {kind} already, not floating point"
    if not weight.sites:
        return "only its shape is read"
    pattern = next((p for p in wishes.skip if any(fnmatchcase(name, p) for name in weight.names)), None)
    if pattern is not None:
        return f"skip has {pattern!r}"
    if weight.elements == 0:
        return "it is empty"
    if weight.elements < wishes.min_elements:
        return f"it has {weight.elements} elements, fewer than min-elements={wishes.min_elements}"
    if dtype == _DOUBLE:
        return "it is float64, and DequantizeLinear makes no float64"
    return None


def _axis(weight: Weight) -> tuple[int | None, str]:
    """The axis that every reader has its channels along, or None and why there is none."""
    axes = {site.channel for site in weight.sites}
    if len(axes) > 1:
        readers = " and ".join(dict.fromkeys(repr(site.node.label) for site in weight.sites[:4]))
        return None, f"its readers {readers} have their channels along different axes"
    (axis,) = axes
    if axis is None:
        return None, f"the channels of {weight.sites[0].node.label!r} are not one axis of it"
    return (axis, "") if weight.constant.shape[axis] > 1 else (None, "it has one channel")


def _why_not_here(weight: Weight, dtype: np.dtype[Any], axis: int | None, bits: int) -> str | None:
    """What the versions that the model imports are too old for."""
    version = weight.home.root.ir_version
    if version is not None and version < _INITIALIZERS:
        return f"the model has IR version {version}, where every initializer is an input"
    needs = [(_FIRST, "DequantizeLinear")]
    if axis is not None:
        needs.append((_AXIS, "one scale a channel"))
    if dtype in _HALVES:
        needs.append((_HALF, f"DequantizeLinear to {dtype}"))
    if bits == 16:
        needs.append((_WIDE, "DequantizeLinear from 16 bits"))
    opset = weight.home.opset_of()
    found = next(((least, what) for least, what in reversed(needs) if opset < least), None)
    if found is None:
        return None
    least = max(least for least, _ in needs)
    advice = f"raise it with opset{{to={least}}} first"
    if axis is not None and least == _AXIS and opset >= _FIRST:
        advice += " or ask for granularity=tensor"
    return f"{found[1]} needs opset {found[0]} and the model has {opset}: {advice}"


def _why_not_smaller(weight: Weight, dtype: np.dtype[Any], axis: int | None, bits: int) -> str | None:
    """The file must not grow: codes, scales, zero points and the nodes that join them are counted."""
    now = weight.constant.nbytes
    channels = 1 if axis is None else int(weight.constant.shape[axis])
    name = len(weight.tensor.name.encode()) + 24
    around = 3 * (name + 40) + len(weight.sites) * (4 * name + 80)
    then = weight.elements * bits // 8 + channels * (dtype.itemsize + 1) + around
    return None if then < now else f"it would not be smaller: {now} bytes now, about {then} quantized"
