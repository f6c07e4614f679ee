"""Small values computed here, where the bits of the result leave no choice.

Elements that are only moved; integers and booleans as far as nothing overflows, divides by zero or
rounds: the shape chains that exporters write consist of these; and the operations on floats that IEEE
754 wants correctly rounded: sums, differences, products, quotients, square roots. Everything else, and whatever
looks unusual, is left to onnxruntime. Source: the ONNX operator specifications, opsets 1 to 26.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphopt.analysis.call import Call, NotHere
from graphopt.analysis.moves import MOVES
from graphopt.ir import Constant, Node
from graphopt.ir.dtypes import np_dtype
from graphopt.ir.values import Array

MOST = 256
"""Elements of the largest value that is computed here."""

MOVED = 1 << 16
"""Elements of the largest value whose elements are moved here."""

SIZES = ("Shape", "Size")
"""Operators that look at the dims of their input only."""

_WHOLE = "iu"


def compute(node: Node, inputs: Sequence[Array | None], opset: int) -> Array | None:
    """The first output of `node` on `inputs` (None: left out) as a read-only array; None when this is
    for onnxruntime to compute, or no valid call.

    `opset` is the version of the default domain that the node follows.
    """
    kernel = _KERNELS.get(node.op) if node.is_standard else None
    most = MOVED if node.op in MOVES else MOST
    if kernel is None or (node.op not in SIZES and any(one is not None and one.size > most for one in inputs)):
        return None
    if sum(bool(output.name) for output in node.outputs) != 1 or not node.outputs[0].name:
        return None
    try:
        result = kernel(Call(node.attrs, inputs, opset))
    except (NotHere, ValueError, IndexError, TypeError, OverflowError):
        return None  # no valid call, most likely: onnxruntime says what is wrong with it
    if result.size > most:
        return None
    result = np.array(result, order="C", copy=True)
    result.flags.writeable = False
    return result


def _exact(values: Any, dtype: np.dtype[Any]) -> Array:
    """Python integers as an array of an integer type; not here when one does not fit."""
    found = np.asarray(values, object)
    info = np.iinfo(dtype)
    if any(not info.min <= one <= info.max for one in found.reshape(-1).tolist()):
        raise NotHere
    return found.astype(dtype)


def _rounded(operate: Callable[..., Any], call: Call, slots: int) -> Array | None:
    """An operation that IEEE 754 wants correctly rounded, on floats of 32 or 64 bits; None for others."""
    operands = [call[slot] for slot in range(slots)]
    if any(one.dtype != operands[0].dtype or one.dtype not in (np.float32, np.float64) for one in operands):
        return None
    with np.errstate(all="ignore"):
        return np.asarray(operate(*operands), operands[0].dtype)


def _root(call: Call) -> Array:
    found = _rounded(np.sqrt, call, 1)
    if found is None:
        raise NotHere
    return found


def _whole(operate: Callable[[Any, Any], Any], on_floats: Callable[..., Any]) -> Callable[[Call], Array]:
    """An operator on two arrays, of integers on Python's, which do not overflow."""

    def kernel(call: Call) -> Array:
        _modern(call)
        found = _rounded(on_floats, call, 2)
        if found is not None:
            return found
        a, b = call.whole(2)
        return _exact(operate(a.astype(object), b.astype(object)), a.dtype)  # scalars come back as int

    return kernel


def _compare(operate: Callable[[Any, Any], Any]) -> Callable[[Call], Array]:
    def kernel(call: Call) -> Array:
        _modern(call)
        a, b = call.whole(2)
        return np.asarray(operate(a, b), bool)

    return kernel


def _logic(operate: Callable[..., Any], slots: int) -> Callable[[Call], Array]:
    def kernel(call: Call) -> Array:
        _modern(call)
        operands = [call[slot] for slot in range(slots)]
        if any(one.dtype != np.bool_ for one in operands):
            raise NotHere
        return np.asarray(operate(*operands), bool)

    return kernel


def _modern(call: Call) -> None:
    """Broadcasting as of numpy, which operators follow since opset 7."""
    if call.opset < 7:
        raise NotHere


def _quotient(a: Any, b: Any) -> Any:
    if any(one <= 0 for one in np.asarray(b).reshape(-1).tolist()):
        raise NotHere
    if any(one < 0 for one in np.asarray(a).reshape(-1).tolist()):
        raise NotHere  # towards zero, as in C: not what // does
    return a // b


def _cast(call: Call) -> Array:
    x, target = call[0], np_dtype(call.integer("to", 0))
    if target is None or x.dtype.kind not in "iub" or call.opset < 6:
        raise NotHere
    if target.kind == "b":
        return np.asarray(x != 0, bool)
    if target.kind in _WHOLE and target.itemsize > 0 and np.dtype(target).isbuiltin == 1:
        return _exact(x.astype(object) if x.dtype.kind != "b" else x.astype(int), target)
    if target in (np.float32, np.float64) and all(abs(int(one)) <= 1 << 24 for one in x.reshape(-1).tolist()):
        return x.astype(target)
    raise NotHere


def _shape(call: Call) -> Array:
    dims, rank = call[0].shape, call[0].ndim
    start, end = call.integer("start", 0), call.integer("end", rank)
    start, end = (min(max(one + rank if one < 0 else one, 0), rank) for one in (start, end))
    return np.asarray(dims[start : max(end, start)], np.int64)


def _gather(call: Call) -> Array:
    x, at = call[0], call[1]
    axis = call.integer("axis", 0)
    if not -x.ndim <= axis < x.ndim:
        raise NotHere
    size = x.shape[axis]
    if at.size * (x.size // max(size, 1)) > MOST or at.dtype not in (np.int32, np.int64):
        raise NotHere
    if bool((at < -size).any() or (at >= size).any()):
        raise NotHere
    return np.take(x, np.where(at < 0, at + size, at), axis)


def _where(call: Call) -> Array:
    choice, a, b = call[0], call[1], call[2]
    if choice.dtype != np.bool_ or a.dtype != b.dtype or a.dtype.kind not in "iub":
        raise NotHere
    return np.where(choice, a, b)


def _range(call: Call) -> Array:
    start, limit, delta = (int(one.reshape(())) for one in call.whole(3))
    if delta == 0 or len(range(start, limit, delta)) > MOST:
        raise NotHere
    return _exact(list(range(start, limit, delta)), call[0].dtype)


def _filled(call: Call) -> Array:
    """ConstantOfShape."""
    shape = [int(one) for one in call[0].reshape(-1).tolist()]
    if any(one < 0 for one in shape) or math.prod(shape) > MOST:
        raise NotHere
    value = call.attrs.get("value")
    one = value.values.reshape(-1) if isinstance(value, Constant) else np.zeros(1, np.float32)
    if one.size != 1:
        raise NotHere
    return np.full(shape, one[0], one.dtype)


def _product(call: Call) -> Array:
    """ReduceProd over everything."""
    (x,) = call.whole(1)
    axes = call.integers("axes", 1)
    if x.ndim != 1 or axes not in (None, [0], [-1]) or call.integer("noop_with_empty_axes", 0):
        raise NotHere
    return _exact([math.prod(x.tolist())] if call.integer("keepdims", 1) else math.prod(x.tolist()), x.dtype)


_KERNELS: dict[str, Callable[[Call], Array]] = {
    **MOVES,
    "Cast": _cast,
    "Shape": _shape,
    "Size": lambda call: np.asarray(call[0].size, np.int64),
    "Gather": _gather,
    "Where": _where,
    "Range": _range,
    "ConstantOfShape": _filled,
    "ReduceProd": _product,
    "Add": _whole(lambda a, b: a + b, np.add),
    "Sub": _whole(lambda a, b: a - b, np.subtract),
    "Mul": _whole(lambda a, b: a * b, np.multiply),
    "Div": _whole(_quotient, np.divide),
    "Sqrt": _root,
    "Equal": _compare(lambda a, b: a == b),
    "Less": _compare(lambda a, b: a < b),
    "Greater": _compare(lambda a, b: a > b),
    "LessOrEqual": _compare(lambda a, b: a <= b),
    "GreaterOrEqual": _compare(lambda a, b: a >= b),
    "And": _logic(np.logical_and, 2),
    "Or": _logic(np.logical_or, 2),
    "Not": _logic(np.logical_not, 1),
}
