"""Which weights a weight-only quantization may take, and why it leaves the others."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import ml_dtypes
import numpy as np

from graphopt.analysis.constants import constant_of
from graphopt.analysis.matching import maker
from graphopt.analysis.movement import is_mover
from graphopt.analysis.shapes import Shapes
from graphopt.analysis.weights import Site, Weight
from graphopt.ir.dtypes import np_dtype
from passes.quantize.pieces import steps_shape
from passes.quantize.versions import Coding, Form, Kind, needs_of, why_too_old

_SINGLE = np.dtype(np.float32)
_HALVES = (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))
_DOUBLE = np.dtype(np.float64)
_FLOATS = (_SINGLE, *_HALVES, _DOUBLE)

_INITIALIZERS = 4  # the IR version in which initializers need not be graph inputs


@dataclass(frozen=True)
class Wishes:
    """What the user asked for: the options that every weight-only quantization has.

    With a `block`, each run of that many inputs of a channel has a scale, where an operator has
    such an axis; other weights get what `per_channel` says. `form` is what makes floats of codes, and
    `kind` what codes are.
    """

    min_elements: int
    skip: tuple[str, ...]
    bits: int
    per_channel: bool
    block: int = 0
    form: Form = "dequantize"
    kind: Kind = "integer"


@dataclass(frozen=True)
class Plan:
    """How one weight can be quantized: along `axis` of the stored tensor, None for one scale.

    With a `block`, scales are for runs of that many elements along the axis, else for each index.
    `note` says in a clause why the scales are fewer than was asked for.
    """

    weight: Weight
    dtype: np.dtype[Any]
    axis: int | None
    note: str = ""
    block: int = 0


def plan(weight: Weight, wishes: Wishes, shapes: Shapes) -> Plan | str | None:
    """The plan for one stored tensor, or a clause that says why there is none.

    None for what nobody would expect to be quantized: tensors that are not read, integers, and
    small tensors that no operator reads as a weight. No values of the weight are read.
    """
    dtype = np_dtype(weight.constant.onnx_dtype)
    if not weight.tensor.is_read or _is_bystander(weight, dtype, wishes):
        return None
    why = _why_not(weight, dtype, wishes)
    if why is not None or dtype is None:
        return why
    made = _plan(weight, dtype, wishes, shapes)
    return _why_not_here(made, wishes) or _why_not_moved(made, wishes) or _why_not_smaller(made, wishes) or made


def _plan(weight: Weight, dtype: np.dtype[Any], wishes: Wishes, shapes: Shapes) -> Plan:
    note = ""
    if wishes.block:
        along, note = _block_axis(weight)
        if along is not None:
            size = int(weight.constant.shape[along])
            if wishes.block < size or not _may_look_alone(weight, shapes):
                return Plan(weight, dtype, along, "", wishes.block)
            if len(weight.constant.shape) > 1:
                return Plan(weight, dtype, along, "", -(-size // 2))
            note = "it is one block"
    axis, without = _axis(weight) if wishes.per_channel else (None, "")
    return Plan(weight, dtype, axis, note if axis is not None else without or note)


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
    if all(_looks_up_constants(site) for site in weight.sites):
        return "it is the codebook of a weight, not a weight"
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


def _looks_up_constants(site: Site) -> bool:
    """Whether a Gather reads stored indices, cast to a type that it takes."""
    cast = maker(site.node.inputs[1], "Cast") if site.is_table else None
    return cast is not None and constant_of(cast.inputs[0]) is not None


def _block_axis(weight: Weight) -> tuple[int | None, str]:
    """The axis along which every reader allows blocks, or None and why there is none."""
    if weight.in_parts and len(weight.constant.shape) > 1:
        return len(weight.constant.shape) - 1, ""
    axes = {_block_axis_at(weight, site) for site in weight.sites}
    if len(axes) > 1:
        return None, f"its readers {_readers(weight)} would have blocks along different axes"
    (axis,) = axes
    label = weight.sites[0].node.label
    return axis, "" if axis is not None else f"blocks of {label!r} are not along one axis of it"


def _block_axis_at(weight: Weight, site: Site) -> int | None:
    """Blocks lie along the axis that the operator sums over, and along the rows of a table. A
    convolution has such blocks only where its kernel is one point: scales lie at every point."""
    if site.is_table:
        return site.channel
    if site.node.is_op("Conv", "ConvTranspose"):
        points = math.prod(int(size) for size in weight.constant.shape[2:])
        return site.inputs if points == 1 and site.node.op == "Conv" else None
    return site.inputs


def _may_look_alone(weight: Weight, shapes: Shapes) -> bool:
    """Whether a reader may be left with one axis of the weight: a single block of that would
    be one scale, which has another form."""
    if len(weight.constant.shape) == 1:
        return True
    for site in weight.sites:
        if site.is_table and len(weight.constant.shape) == 2:
            indices = shapes.shape(site.node.inputs[1]) if len(site.node.inputs) > 1 else None
            if not indices:
                return True
    return False


def _readers(weight: Weight) -> str:
    return " and ".join(dict.fromkeys(repr(site.node.label) for site in weight.sites[:4]))


def _axis(weight: Weight) -> tuple[int | None, str]:
    """The axis that every reader has its channels along, or None and why there is none.

    What is read in parts becomes floats before it is taken apart, so that scales along any axis do: rows.
    """
    if weight.in_parts and len(weight.constant.shape) > 1:
        return 0, ""
    axes = {site.channel for site in weight.sites}
    if len(axes) > 1:
        return None, f"its readers {_readers(weight)} have their channels along different axes"
    (axis,) = axes
    if axis is None:
        return None, f"the channels of {weight.sites[0].node.label!r} are not one axis of it"
    return (axis, "") if weight.constant.shape[axis] > 1 else (None, "it has one channel")


def _why_not_here(made: Plan, wishes: Wishes) -> str | None:
    """What the versions that the model imports are too old for, and blocks that the form cannot have."""
    weight = made.weight
    version = weight.home.root.ir_version
    if version is not None and version < _INITIALIZERS:
        return f"the model has IR version {version}, where every initializer is an input"
    scales = made.axis is not None
    coding = Coding(wishes.form, wishes.bits, made.dtype, scales, bool(made.block), wishes.kind)
    return why_too_old(needs_of(coding), weight.home.opset_of())


def _why_not_moved(made: Plan, wishes: Wishes) -> str | None:
    """Runtimes put a Transpose before DequantizeLinear, where they cannot transpose codes of 2 bits."""
    mover = next((node for node in made.weight.tensor.readers if is_mover(node)), None)
    if wishes.form != "dequantize" or wishes.bits > 2 or made.block or mover is None:
        return None
    return (
        f"it is read through {mover.op} {mover.label!r}, and runtimes cannot move codes of 2 bits: fold constants first"
    )


def _why_not_smaller(made: Plan, wishes: Wishes) -> str | None:
    """The file must not grow: codes, scales, zero points and the nodes that join them are counted."""
    weight, bits = made.weight, wishes.bits
    if wishes.form == "table" and wishes.kind == "integer":
        return None  # what a table takes depends on the values
    now = weight.constant.nbytes
    shape = tuple(int(size) for size in weight.constant.shape)
    scales = math.prod(steps_shape(shape, made.axis, made.block))
    name = len(weight.tensor.name.encode()) + 24
    around = 3 * (name + 40) + len(weight.sites) * (4 * name + 80) * (2 if made.block else 1)
    if made.block and made.axis is not None and wishes.form != "dequantize":
        around += 4 * shape[made.axis]  # which block each index lies in
    if wishes.form == "table":
        around += 4 << bits
    each = 1 if wishes.kind == "micro" else made.dtype.itemsize
    then = weight.elements * bits // 8 + scales * each + -(-scales * bits // 8) + around
    return None if then < now else f"it would not be smaller: {now} bytes now, about {then} quantized"
