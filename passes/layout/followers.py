"""Operators that do the same on transposed operands, once their axes are renamed.

An operand that a Transpose with `perm` made has the axis `perm[a]` of the value before it as its axis
`a`. `follow` says how the operator works on the value before, and in which order of axes its results
then are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphopt.analysis.constants import constant_of, constant_values
from graphopt.analysis.matching import integers, operand
from graphopt.ir import Node, Tensor
from graphopt.ir.tensors import SparseStored
from graphopt.ir.values import Array, onnx_number
from passes.layout.facts import Facts

Perm = tuple[int, ...]

_SAME = (
    "Abs Neg Relu LeakyRelu ThresholdedRelu Not Floor Ceil Round Sign Sqrt Cast Identity IsNaN IsInf BitwiseNot Clip"
)
_PAIRS = "Add Sub Mul Div Min Max Sum And Or Xor Equal Less LessOrEqual Greater GreaterOrEqual Where PRelu"
_CLOSE = "Exp Log Sigmoid Tanh Erf Sin Cos Tan Sinh Cosh Asin Acos Atan Elu Selu Celu Softplus Softsign HardSigmoid"
_CLOSE_TOO = "HardSwish Mish Gelu Swish Reciprocal"
_SUMS = "ReduceSum ReduceMean ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum ReduceLogSumExp"
_EXTREMES = "ReduceMax ReduceMin"


@dataclass(frozen=True)
class Follow:
    """How a node works on what is before the Transposes.

    `constants` are operands that come to be other arrays, by input slot; `lists` those that come to be
    other lists of integers. `results` is the Transpose that makes of each new output what it was.
    """

    results: tuple[Perm, ...]
    attrs: dict[str, Any] = field(default_factory=dict)
    constants: dict[int, Array] = field(default_factory=dict)
    lists: dict[int, list[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Ask:
    """One question: a node, the Transpose behind each of its operands (None: there is none)."""

    node: Node
    perms: Sequence[Perm | None]
    shapes: Facts
    opset: int

    @property
    def perm(self) -> Perm:
        """The Transpose behind the first operand that has one."""
        return next(one for one in self.perms if one is not None)

    def alone(self) -> bool:
        """Whether the first operand is the only one behind a Transpose."""
        return self.perms[0] is not None and all(one is None for one in self.perms[1:])

    def axis(self, default: int) -> int | None:
        """The axis that the node names, counted from the front."""
        given = self.node.attrs.get("axis", default)
        rank = len(self.perm)
        return given % rank if isinstance(given, int) and -rank <= given < rank else None

    def everywhere(self, **attrs: Any) -> Follow:
        """All outputs in the order of the operand."""
        return Follow((self.perm,) * len(self.node.outputs), attrs)


def follow(ask: Ask, exact: bool) -> Follow | None:
    """How a node follows its operands to before their Transposes; None where it cannot.

    With `exact`, only operators whose results do not depend on where an element lies in memory.
    """
    node = ask.node
    if not node.is_standard or not any(ask.perms):
        return None
    rule = _RULES.get(node.op)
    if rule is None or (exact and node.op in _CLOSE_OPS):
        return None
    return rule(ask)


def _same(ask: Ask) -> Follow | None:
    return ask.everywhere() if ask.alone() else None


def _broadcast(ask: Ask) -> Follow | None:
    """Operands are aligned at their last axes, so a constant of fewer axes gets leading ones first."""
    if ask.opset < 8:  # older versions broadcast in other ways, or not at all
        return None
    perm, constants = ask.perm, dict[int, Array]()
    for slot, one in enumerate(ask.perms):
        if one is not None:
            if one != perm:
                return None
            continue
        tensor = operand(ask.node, slot)
        if tensor is None:
            return None
        held = constant_of(tensor)
        dims = ask.shapes.dims(tensor) if held is None else tuple(held.shape)
        if dims is not None and len(dims) <= len(perm) and all(dim == 1 for dim in dims):
            continue
        values = _array(tensor)
        if values is None or values.ndim > len(perm):
            return None
        moved = np.transpose(values.reshape((1,) * (len(perm) - values.ndim) + values.shape), np.argsort(perm))
        ones = next((axis for axis, size in enumerate(moved.shape) if size != 1), moved.ndim)
        moved = np.ascontiguousarray(moved.reshape(moved.shape[ones:]))
        if moved.shape != values.shape or moved.tobytes() != values.tobytes():
            constants[slot] = moved
    return Follow((perm,) * len(ask.node.outputs), {}, constants)


def _concat(ask: Ask) -> Follow | None:
    axis, perm, constants = ask.axis(1), ask.perm, dict[int, Array]()
    if axis is None or ("axis" not in ask.node.attrs and ask.opset >= 4):
        return None
    for slot, one in enumerate(ask.perms):
        if one is None:
            tensor = operand(ask.node, slot)
            values = None if tensor is None else _array(tensor)
            if values is None or values.ndim != len(perm):
                return None
            constants[slot] = np.ascontiguousarray(np.transpose(values, np.argsort(perm)))
        elif one != perm:
            return None
    return Follow((perm,), {"axis": perm[axis]}, constants)


def _one_axis(default: int) -> Callable[[Ask], Follow | None]:
    def rule(ask: Ask) -> Follow | None:
        axis = ask.axis(default)
        return ask.everywhere(axis=ask.perm[axis]) if axis is not None and ask.alone() else None

    return rule


def _softmax(ask: Ask) -> Follow | None:
    """Before opset 13 all axes from `axis` on are one: the same only where it is the last before and after."""
    axis = ask.axis(-1 if ask.opset >= 13 else 1)
    if axis is None:
        return None
    last = len(ask.perm) - 1
    if ask.opset < 13 and (axis != last or ask.perm[axis] != last):
        return None
    return ask.everywhere(axis=ask.perm[axis])


def _quantize(ask: Ask) -> Follow | None:
    if not ask.alone() or ask.node.attrs.get("block_size", 0) != 0:
        return None
    scale = operand(ask.node, 1)
    rank = None if scale is None else _rank(ask, scale)
    if rank == 0:
        return ask.everywhere()
    axis = ask.axis(1)
    return ask.everywhere(axis=ask.perm[axis]) if rank == 1 and axis is not None and ask.opset >= 13 else None


def _pad(ask: Ask) -> Follow | None:
    pads, rank = integers(ask.node, 1, "pads"), len(ask.perm)
    if not ask.alone() or pads is None or len(pads) != 2 * rank or operand(ask.node, 3) is not None:
        return None
    moved = [0] * (2 * rank)
    for axis, place in enumerate(ask.perm):
        moved[place], moved[rank + place] = pads[axis], pads[rank + axis]
    return _listed(ask, 1, "pads", moved, ask.opset < 11)


def _slice(ask: Ask) -> Follow | None:
    starts, axes = integers(ask.node, 1, "starts"), integers(ask.node, 3, "axes")
    if not ask.alone() or starts is None:
        return None
    given = operand(ask.node, 1)
    if given is not None and (values := constant_values(given)) is not None and values.dtype != np.int64:
        return None  # axes are of the same type
    if axes is None:
        if operand(ask.node, 3) is not None or "axes" in ask.node.attrs:
            return None
        axes = list(range(len(starts)))
    moved = _renamed(axes, ask.perm)
    return None if moved is None else _listed(ask, 3, "axes", moved, ask.opset < 10)


def _reduce(ask: Ask) -> Follow | None:
    rank, keep = len(ask.perm), ask.node.attrs.get("keepdims", 1)
    as_attribute = ask.opset < (13 if ask.node.op == "ReduceSum" else 18)
    axes = integers(ask.node, 1, "axes")
    if not ask.alone() or not isinstance(keep, int):
        return None
    if axes is None:
        given = operand(ask.node, 1) is not None or "axes" in ask.node.attrs
        if given or ask.node.attrs.get("noop_with_empty_axes", 0) != 0:
            return None
        return ask.everywhere() if keep else Follow(((),))
    moved = _renamed(axes, ask.perm)
    if not axes or moved is None:
        return None
    listed = _listed(ask, 1, "axes", sorted(moved), as_attribute)
    return listed if keep else _without(listed, ask.perm, {axis % rank for axis in axes})


def _arg(ask: Ask) -> Follow | None:
    axis, keep = ask.axis(0), ask.node.attrs.get("keepdims", 1)
    if axis is None or not ask.alone() or not isinstance(keep, int):
        return None
    found = ask.everywhere(axis=ask.perm[axis])
    return found if keep else _without(found, ask.perm, {axis})


def _gather(ask: Ask) -> Follow | None:
    axis, indices = ask.axis(0), operand(ask.node, 1)
    rank = None if indices is None else _rank(ask, indices)
    if axis is None or not ask.alone() or rank not in (0, 1):
        return None
    found = ask.everywhere(axis=ask.perm[axis])
    return found if rank == 1 else _without(found, ask.perm, {axis})


def _squeeze(ask: Ask) -> Follow | None:
    axes = integers(ask.node, 1, "axes")
    moved = None if axes is None else _renamed(axes, ask.perm)
    if not axes or moved is None or not ask.alone():
        return None
    listed = _listed(ask, 1, "axes", sorted(moved), ask.opset < 13)
    return _without(listed, ask.perm, {axis % len(ask.perm) for axis in axes})


def _listed(ask: Ask, slot: int, name: str, values: list[int], as_attribute: bool) -> Follow:
    results = (ask.perm,) * len(ask.node.outputs)
    return Follow(results, {name: values}) if as_attribute else Follow(results, lists={slot: values})


def _renamed(axes: Sequence[int], perm: Perm) -> list[int] | None:
    rank = len(perm)
    if any(not -rank <= axis < rank for axis in axes) or len({axis % rank for axis in axes}) != len(axes):
        return None
    return [perm[axis % rank] for axis in axes]


def _without(found: Follow, perm: Perm, gone: set[int]) -> Follow:
    """The results lose the axes `gone`, as the operand before the Transpose loses theirs."""
    kept = [place for axis, place in enumerate(perm) if axis not in gone]
    order = sorted(kept)
    result = tuple(order.index(place) for place in kept)
    return Follow((result,) * len(found.results), found.attrs, found.constants, found.lists)


def _rank(ask: Ask, tensor: Tensor) -> int | None:
    held = constant_of(tensor)
    return ask.shapes.rank(tensor) if held is None else len(held.shape)


def _array(tensor: Tensor) -> Array | None:
    """The elements of a constant that can be stored in another order."""
    held = constant_of(tensor)
    if held is None or isinstance(held.stored, SparseStored):
        return None
    values = held.values
    if values.dtype.kind in "OUST" or held.onnx_dtype != onnx_number(values.dtype) or values.nbytes != held.nbytes:
        return None
    return values


_CLOSE_OPS = frozenset(f"{_CLOSE} {_CLOSE_TOO} {_SUMS} {_EXTREMES} Pow Softmax LogSoftmax".split())
_RULES: dict[str, Callable[[Ask], Follow | None]] = {
    **dict.fromkeys(f"{_SAME} {_CLOSE} {_CLOSE_TOO}".split(), _same),
    **dict.fromkeys(f"{_PAIRS} Pow".split(), _broadcast),
    **dict.fromkeys(f"{_SUMS} {_EXTREMES}".split(), _reduce),
    "Concat": _concat,
    "Split": _one_axis(0),
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _quantize,
    "Pad": _pad,
    "Slice": _slice,
    "ArgMax": _arg,
    "ArgMin": _arg,
    "Gather": _gather,
    "Squeeze": _squeeze,
}
