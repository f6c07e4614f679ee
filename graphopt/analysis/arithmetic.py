"""Small values computed here, where the bits of the result leave no choice.

Elements that are only moved, and integers and booleans as far as nothing overflows, divides by zero
or rounds: the shape chains that exporters write consist of these. Everything else, and whatever
looks unusual, is left to onnxruntime. Source: the ONNX operator specifications, opsets 1 to 26.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from graphopt.ir import Constant, Node
from graphopt.ir.dtypes import np_dtype
from graphopt.ir.values import Array

MOST = 256
"""Elements of the largest value that is computed here."""

SIZES = ("Shape", "Size")
"""Operators that look at the dims of their input only."""

_WHOLE = "iu"


class _NotHere(Exception):
    """The case is left to onnxruntime."""


def compute(node: Node, inputs: Sequence[Array | None], opset: int) -> Array | None:
    """The first output of `node` on `inputs` (None: left out) as a read-only array; None when this is
    for onnxruntime to compute, or no valid call.

    `opset` is the version of the default domain that the node follows.
    """
    kernel = _KERNELS.get(node.op) if node.is_standard else None
    if kernel is None or (node.op not in SIZES and any(one is not None and one.size > MOST for one in inputs)):
        return None
    if sum(bool(output.name) for output in node.outputs) != 1 or not node.outputs[0].name:
        return None
    try:
        result = kernel(_Call(node.attrs, inputs, opset))
    except (_NotHere, ValueError, IndexError, TypeError, OverflowError):
        return None  # no valid call, most likely: onnxruntime says what is wrong with it
    if result.size > MOST:
        return None
    result = np.array(result, order="C", copy=True)
    result.flags.writeable = False
    return result


class _Call:
    """The operands of one node."""

    def __init__(self, attrs: Mapping[str, Any], inputs: Sequence[Array | None], opset: int) -> None:
        self.attrs, self.inputs, self.opset = attrs, inputs, opset

    def __getitem__(self, slot: int) -> Array:
        found = self.inputs[slot] if slot < len(self.inputs) else None
        if found is None:
            raise _NotHere
        return found

    def has(self, slot: int) -> bool:
        return slot < len(self.inputs) and self.inputs[slot] is not None

    def integer(self, name: str, default: int) -> int:
        value = self.attrs.get(name, default)
        if not isinstance(value, int):
            raise _NotHere
        return value

    def integers(self, name: str, slot: int) -> list[int] | None:
        """A list that is an attribute at old opsets and an input at newer ones; None when not given."""
        if name in self.attrs:
            value = self.attrs[name]
            if not isinstance(value, list):
                raise _NotHere
            return [int(one) for one in value]
        return [int(one) for one in self[slot].reshape(-1).tolist()] if self.has(slot) else None

    def whole(self, slots: int) -> list[Array]:
        """The first inputs, all of one integer type."""
        found = [self[slot] for slot in range(slots)]
        if any(one.dtype.kind not in _WHOLE or one.dtype != found[0].dtype for one in found):
            raise _NotHere
        return found


def _exact(values: Any, dtype: np.dtype[Any]) -> Array:
    """Python integers as an array of an integer type; not here when one does not fit."""
    found = np.asarray(values, object)
    info = np.iinfo(dtype)
    if any(not info.min <= one <= info.max for one in found.reshape(-1).tolist()):
        raise _NotHere
    return found.astype(dtype)


def _whole(operate: Callable[[Any, Any], Any]) -> Callable[[_Call], Array]:
    """An operator on two arrays of integers, computed on Python's, which do not overflow."""

    def kernel(call: _Call) -> Array:
        _modern(call)
        a, b = call.whole(2)
        return _exact(operate(a.astype(object), b.astype(object)), a.dtype)  # scalars come back as int

    return kernel


def _compare(operate: Callable[[Any, Any], Any]) -> Callable[[_Call], Array]:
    def kernel(call: _Call) -> Array:
        _modern(call)
        a, b = call.whole(2)
        return np.asarray(operate(a, b), bool)

    return kernel


def _logic(operate: Callable[..., Any], slots: int) -> Callable[[_Call], Array]:
    def kernel(call: _Call) -> Array:
        _modern(call)
        operands = [call[slot] for slot in range(slots)]
        if any(one.dtype != np.bool_ for one in operands):
            raise _NotHere
        return np.asarray(operate(*operands), bool)

    return kernel


def _modern(call: _Call) -> None:
    """Broadcasting as of numpy, which operators follow since opset 7."""
    if call.opset < 7:
        raise _NotHere


def _quotient(a: Any, b: Any) -> Any:
    if any(one <= 0 for one in np.asarray(b).reshape(-1).tolist()):
        raise _NotHere
    if any(one < 0 for one in np.asarray(a).reshape(-1).tolist()):
        raise _NotHere  # towards zero, as in C: not what // does
    return a // b


def _identity(call: _Call) -> Array:
    return call[0]


def _cast(call: _Call) -> Array:
    x, target = call[0], np_dtype(call.integer("to", 0))
    if target is None or x.dtype.kind not in "iub" or call.opset < 6:
        raise _NotHere
    if target.kind == "b":
        return np.asarray(x != 0, bool)
    if target.kind in _WHOLE and target.itemsize > 0 and np.dtype(target).isbuiltin == 1:
        return _exact(x.astype(object) if x.dtype.kind != "b" else x.astype(int), target)
    if target in (np.float32, np.float64) and all(abs(int(one)) <= 1 << 24 for one in x.reshape(-1).tolist()):
        return x.astype(target)
    raise _NotHere


def _shape(call: _Call) -> Array:
    dims, rank = call[0].shape, call[0].ndim
    start, end = call.integer("start", 0), call.integer("end", rank)
    start, end = (min(max(one + rank if one < 0 else one, 0), rank) for one in (start, end))
    return np.asarray(dims[start : max(end, start)], np.int64)


def _gather(call: _Call) -> Array:
    x, at = call[0], call[1]
    axis = call.integer("axis", 0)
    if not -x.ndim <= axis < x.ndim:
        raise _NotHere
    size = x.shape[axis]
    if at.size * (x.size // max(size, 1)) > MOST or at.dtype not in (np.int32, np.int64):
        raise _NotHere
    if bool((at < -size).any() or (at >= size).any()):
        raise _NotHere
    return np.take(x, np.where(at < 0, at + size, at), axis)


def _concat(call: _Call) -> Array:
    parts = [call[slot] for slot in range(len(call.inputs))]
    if any(one.dtype != parts[0].dtype for one in parts) or ("axis" not in call.attrs):
        raise _NotHere
    return np.concatenate(parts, call.integer("axis", 0))


def _squeeze(call: _Call) -> Array:
    axes = call.integers("axes", 1)
    if axes == []:
        raise _NotHere
    return np.squeeze(call[0], None if axes is None else tuple(axes))


def _unsqueeze(call: _Call) -> Array:
    axes = call.integers("axes", 1)
    if not axes:
        raise _NotHere
    return np.expand_dims(call[0], tuple(axes))


def _reshape(call: _Call) -> Array:
    x, shape = call[0], call.integers("shape", 1)
    if shape is None or call.integer("allowzero", 0) or x.size == 0 or any(one < -1 for one in shape):
        raise _NotHere
    return x.reshape([x.shape[axis] if one == 0 else one for axis, one in enumerate(shape)])


def _transpose(call: _Call) -> Array:
    order = call.attrs.get("perm")
    return np.transpose(call[0], order if order is None else [int(one) for one in order])


def _slice(call: _Call) -> Array:
    x, starts, ends = call[0], call.integers("starts", 1), call.integers("ends", 2)
    axes, steps = call.integers("axes", 3), call.integers("steps", 4)
    if starts is None or ends is None or len(starts) != len(ends):
        raise _NotHere
    places: list[slice] = [slice(None)] * x.ndim
    for index, axis in enumerate(axes if axes is not None else range(len(starts))):
        step = steps[index] if steps is not None else 1
        if step <= 0 or not -x.ndim <= axis < x.ndim:
            raise _NotHere  # backwards, the ends mean something else than in Python
        places[axis] = slice(starts[index], ends[index], step)
    return x[tuple(places)]


def _where(call: _Call) -> Array:
    choice, a, b = call[0], call[1], call[2]
    if choice.dtype != np.bool_ or a.dtype != b.dtype or a.dtype.kind not in "iub":
        raise _NotHere
    return np.where(choice, a, b)


def _range(call: _Call) -> Array:
    start, limit, delta = (int(one.reshape(())) for one in call.whole(3))
    if delta == 0 or len(range(start, limit, delta)) > MOST:
        raise _NotHere
    return _exact(list(range(start, limit, delta)), call[0].dtype)


def _filled(call: _Call) -> Array:
    """ConstantOfShape."""
    shape = [int(one) for one in call[0].reshape(-1).tolist()]
    if any(one < 0 for one in shape) or math.prod(shape) > MOST:
        raise _NotHere
    value = call.attrs.get("value")
    one = value.values.reshape(-1) if isinstance(value, Constant) else np.zeros(1, np.float32)
    if one.size != 1:
        raise _NotHere
    return np.full(shape, one[0], one.dtype)


def _product(call: _Call) -> Array:
    """ReduceProd over everything."""
    (x,) = call.whole(1)
    axes = call.integers("axes", 1)
    if x.ndim != 1 or axes not in (None, [0], [-1]) or call.integer("noop_with_empty_axes", 0):
        raise _NotHere
    return _exact([math.prod(x.tolist())] if call.integer("keepdims", 1) else math.prod(x.tolist()), x.dtype)


_KERNELS: dict[str, Callable[[_Call], Array]] = {
    "Identity": _identity,
    "Cast": _cast,
    "Shape": _shape,
    "Size": lambda call: np.asarray(call[0].size, np.int64),
    "Gather": _gather,
    "Concat": _concat,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Slice": _slice,
    "Where": _where,
    "Range": _range,
    "ConstantOfShape": _filled,
    "ReduceProd": _product,
    "Add": _whole(lambda a, b: a + b),
    "Sub": _whole(lambda a, b: a - b),
    "Mul": _whole(lambda a, b: a * b),
    "Div": _whole(_quotient),
    "Equal": _compare(lambda a, b: a == b),
    "Less": _compare(lambda a, b: a < b),
    "Greater": _compare(lambda a, b: a > b),
    "LessOrEqual": _compare(lambda a, b: a <= b),
    "GreaterOrEqual": _compare(lambda a, b: a >= b),
    "And": _logic(np.logical_and, 2),
    "Or": _logic(np.logical_or, 2),
    "Not": _logic(np.logical_not, 1),
}
