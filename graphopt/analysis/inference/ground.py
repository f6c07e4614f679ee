"""What facts rest on: attributes as they are now, constants, and elements that a type can hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from graphopt.analysis.dim_bounds import at_least
from graphopt.analysis.inference.fact import INTEGERS, MOST_VALUES, Call, Fact, Unknown, Values, concrete, elements
from graphopt.analysis.inference.values import RULES
from graphopt.ir import Constant

FAULTS = (Unknown, ArithmeticError, LookupError, TypeError, ValueError, StopIteration)
"""What a rule may raise: it cannot tell, or the call is not a valid one."""

_FLOATS = 8  # elements of a constant that is no integer up to which they are looked at
_BITS = {2: (8, False), 3: (8, True), 4: (16, False), 5: (16, True), 6: (32, True), 7: (64, True)}
_BITS |= {9: (1, False), 12: (32, False), 13: (64, False), 21: (4, False), 22: (4, True)}
_SIZES_FIT = 32  # bits that are taken to hold the sizes of tensors


def frozen(attrs: Mapping[str, Any]) -> tuple[Any, ...]:
    """The attributes of a node such that a later change of them is noticed."""
    return tuple((name, value if isinstance(value, int) else _still(value)) for name, value in attrs.items())


def _still(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, Constant):
        small = math.prod(value.shape) <= MOST_VALUES and value.dtype.kind != "O"
        return (
            value.onnx_dtype,
            tuple(value.shape),
            value.values.tobytes() if small else id(value.__dict__["_values"]),
        )
    return value


def of_constant(held: Constant) -> Fact:
    shape = tuple(int(one) for one in held.shape)
    if math.prod(shape) > MOST_VALUES or (held.onnx_dtype not in INTEGERS and math.prod(shape) > _FLOATS):
        return Fact(held.onnx_dtype, shape)
    return of_array(held.onnx_dtype, held.values)


def of_array(number: int, array: Any) -> Fact:
    if number in INTEGERS:
        return Fact(number, array.shape, np.asarray(array.astype(np.int64 if number != 13 else np.uint64), np.object_))
    if array.dtype.kind == "f":
        return Fact(number, array.shape, None, tuple(float(one) for one in array.reshape(-1)))
    return Fact(number, array.shape)


def with_values(call: Call, made: list[Fact]) -> list[Fact]:
    """The facts with the elements of small integer tensors, where they can be told."""
    shapes = [concrete(one.dims) if one.dtype in INTEGERS else None for one in made]
    if not made or any(one is None or math.prod(one) > MOST_VALUES for one in shapes):
        return made
    try:
        found = RULES[call.op](call)
    except FAULTS:
        return made
    arrays: list[Values] = [found] if isinstance(found, np.ndarray) else found
    return [
        Fact(one.dtype, one.dims, array) if array.shape == shape and _fits(array, one.dtype) else one
        for one, array, shape in zip(made, arrays, shapes, strict=False)
    ]


def _fits(array: Values, dtype: int) -> bool:
    """Whether the type holds the elements; sizes are taken to fit into 32 bits."""
    bits, signed = _BITS[dtype]
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    for one in elements(array):
        if isinstance(one, int):
            if not low <= one <= high:
                return False
        elif bits < _SIZES_FIT or (not signed and not at_least(one, 0)):
            return False
    return True
