"""Arithmetic and comparisons on the elements of small integer tensors.

Elements are expressions, so a rule applies to every run at once. A comparison that comes out
differently in different runs has no elements here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
from onnx import TensorProto

from graphopt.analysis.dim_bounds import at_least, equal, less_or_equal
from graphopt.analysis.dim_functions import floor_div, maximum, minimum, modulo, product, total
from graphopt.analysis.dims import Dim
from graphopt.analysis.inference.fact import (
    INTEGERS,
    MOST_VALUES,
    Call,
    Unknown,
    ValueRule,
    Values,
    axis_of,
    elements,
)


def filled(shape: Sequence[int], elements: Sequence[Dim]) -> Values:
    """An array of these elements."""
    made: Values = np.empty(tuple(shape), np.object_)
    flat = made.reshape(-1)
    for place, one in enumerate(elements):
        flat[place] = one
    return made


def _elementwise(function: Callable[..., Dim]) -> ValueRule:
    def rule(call: Call) -> Values:
        given = [call.value(slot) for slot in range(len(call.inputs))]
        if call.opset < 8 and any(one.shape != given[0].shape for one in given):
            raise Unknown  # how they are spread is said by attributes
        arrays = np.broadcast_arrays(*given)
        if arrays[0].size > MOST_VALUES:
            raise Unknown
        columns = [one.reshape(-1) for one in arrays]
        return filled(arrays[0].shape, [function(*each) for each in zip(*columns, strict=True)])

    return rule


def _divided(one: Dim, other: Dim) -> Dim:
    """Division of integers rounds towards zero."""
    if isinstance(one, int) and isinstance(other, int):
        if other == 0:
            raise Unknown
        return abs(one) // abs(other) * (1 if (one < 0) == (other < 0) else -1)
    if not at_least(one, 0) or not at_least(other, 0):
        raise Unknown
    return floor_div(one, other)


def _rest(call: Call) -> Values:
    if call.integer("fmod", 0):
        raise Unknown
    return cast("Values", _elementwise(modulo)(call))


def _said(answer: bool | None) -> int:
    if answer is None:
        raise Unknown
    return int(answer)


def _before(one: Dim, other: Dim) -> bool | None:
    """Whether `one < other`."""
    turned = less_or_equal(other, one)
    return None if turned is None else not turned


def _chosen(condition: Dim, one: Dim, other: Dim) -> Dim:
    if isinstance(condition, int):
        return one if condition else other
    if one == other:
        return one
    raise Unknown


def _truth(one: Dim) -> bool:
    if isinstance(one, int):
        return one != 0
    raise Unknown


def _cast(call: Call) -> Values:
    to, value = call.attrs.get("to"), call.value(0)
    if to not in INTEGERS:
        raise Unknown
    if to == TensorProto.BOOL:
        return filled(
            value.shape, [_said(None if (zero := equal(one, 0)) is None else not zero) for one in elements(value)]
        )
    return value


def _reduce(function: Callable[[Sequence[Dim]], Dim]) -> ValueRule:
    def rule(call: Call) -> Values:
        data = call.value(0)
        as_input = call.opset >= (13 if call.op == "ReduceSum" else 18)
        axes = call.numbers("" if as_input else "axes", 1)
        if not axes:
            if as_input and call.integer("noop_with_empty_axes", 0):
                return data
            axes = list(range(data.ndim))
        if data.size == 0 and call.op not in ("ReduceProd", "ReduceSum"):
            raise Unknown
        gone = sorted({axis_of(axis, data.ndim) for axis in axes})
        kept = [axis for axis in range(data.ndim) if axis not in gone]
        moved = data.transpose([*kept, *gone])
        shape = tuple(data.shape[axis] for axis in kept)
        rows = moved.reshape(math.prod(shape), math.prod(data.shape[axis] for axis in gone))
        made = filled(shape, [function(list(row)) for row in rows])
        return np.expand_dims(made, tuple(gone)) if call.integer("keepdims", 1) else made

    return rule


def _non_zero(call: Call) -> Values:
    data = call.value(0)
    truths = np.array([_truth(one) for one in elements(data)], np.bool_).reshape(data.shape)
    return np.array(np.nonzero(truths), np.int64).astype(np.object_)


RULES: dict[str, ValueRule] = {
    "Cast": _cast,
    "NonZero": _non_zero,
    "Add": _elementwise(lambda one, other: one + other),
    "Sub": _elementwise(lambda one, other: one - other),
    "Mul": _elementwise(lambda one, other: one * other),
    "Div": _elementwise(_divided),
    "Mod": _rest,
    "Neg": _elementwise(lambda one: -one),
    "Abs": _elementwise(lambda one: maximum(one, -one)),
    "Sum": _elementwise(lambda *each: total(each)),
    "Max": _elementwise(maximum),
    "Min": _elementwise(minimum),
    "Where": _elementwise(_chosen),
    "Equal": _elementwise(lambda one, other: _said(equal(one, other))),
    "LessOrEqual": _elementwise(lambda one, other: _said(less_or_equal(one, other))),
    "GreaterOrEqual": _elementwise(lambda one, other: _said(less_or_equal(other, one))),
    "Less": _elementwise(lambda one, other: _said(_before(one, other))),
    "Greater": _elementwise(lambda one, other: _said(_before(other, one))),
    "Not": _elementwise(lambda one: int(not _truth(one))),
    "And": _elementwise(lambda one, other: int(_truth(one) and _truth(other))),
    "Or": _elementwise(lambda one, other: int(_truth(one) or _truth(other))),
    "ReduceProd": _reduce(product),
    "ReduceSum": _reduce(total),
    "ReduceMax": _reduce(lambda each: maximum(*each)),
    "ReduceMin": _reduce(lambda each: minimum(*each)),
}
