"""Conditions that are the same in every run, and those that the place of a node decides."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from graphopt.analysis.constants import constant_of, constant_values
from graphopt.analysis.determined import Determined
from graphopt.analysis.dim_bounds import equal, less_or_equal
from graphopt.analysis.dim_functions import product
from graphopt.analysis.dims import Dim, Unwieldy
from graphopt.analysis.evaluated import Evaluated
from graphopt.analysis.shapes import Shapes
from graphopt.ir import Constant, Graph, Node, Tensor
from graphopt.ir.tensors import SparseStored

Values = np.ndarray[Any, np.dtype[np.object_]]
"""Small tensors: booleans, integers and expressions of sizes as objects, None for what is unknown."""

_DEEP = 64  # nodes behind one condition that are looked at
_SMALL = 64  # elements
_BOOL, _INT64 = 9, 7  # ONNX IR, TensorProto.DataType
_ARITHMETIC = ("Add", "Sub", "Mul")
_MOVING = ("Identity", "Squeeze", "Unsqueeze", "Reshape", "Flatten")


class Conditions:
    """Tells what small boolean and integer values are, from constants and from sizes of the inputs.

    Good for one revision of the graph: `shapes` gives its shapes, and is only asked where they matter;
    `evaluate` computes what is computed from constants only.
    """

    def __init__(
        self,
        graph: Graph,
        shapes: Callable[[], Shapes],
        evaluate: Callable[[Iterable[Tensor]], Evaluated] | None = None,
    ) -> None:
        self._ask, self._evaluate = shapes, evaluate
        self._determined = Determined(graph)
        self._known: dict[Tensor, Values | None] = {}

    @functools.cached_property
    def _shapes(self) -> Shapes:
        return self._ask()

    def truth(self, tensor: Tensor) -> bool | None:
        """Whether the one element of `tensor` is true in every run, in none, or (None) unknown."""
        found = self.values(tensor)
        if found is None and self._evaluate is not None and self._determined.why_not(tensor) is None:
            array = self._evaluate([tensor]).get(tensor)
            found = None if array is None or array.dtype != bool else array.astype(object)
        if found is None or found.size != 1:
            return None
        one = found.reshape(-1)[0]
        return one if isinstance(one, bool) else None

    def values(self, tensor: Tensor) -> Values | None:
        """The elements of a small boolean or integer tensor; None when nothing is known of them."""
        known = self._known
        pending, entered = [tensor], set[Node]()
        while pending:
            one = pending[-1]
            if one in known:
                pending.pop()
                continue
            found, waiting = self._stated(one), list[Tensor]()
            maker = one.inputs[0] if len(one.inputs) == 1 else None
            if found is None and maker is not None and maker.is_standard and maker.op in _KERNELS:
                waiting = [each for each in _operands(maker) if each not in known]
                if waiting and maker not in entered and len(entered) < _DEEP:
                    entered.add(maker)
                    pending.extend(waiting)
                    continue
                found = None if waiting else self._compute(maker)
            if found is None and maker is not None:
                found = self._followed(one)
            known[one] = found
            pending.pop()
        return known[tensor]

    def _followed(self, tensor: Tensor) -> Values | None:
        """What shapes know of a value; booleans may come as 0 and 1."""
        found = self._shapes.value(tensor)
        if found is None or self._shapes.onnx_dtype(tensor) != _BOOL:
            return found
        return _each(_as_boolean)(Node("Cast"), [found])

    def _stated(self, tensor: Tensor) -> Values | None:
        held = constant_of(tensor)
        if held is not None and (isinstance(held.stored, SparseStored) or math.prod(map(int, held.shape)) > _SMALL):
            return None
        array = constant_values(tensor)
        if array is not None:
            return array.astype(object) if array.dtype.kind in "biu" and array.size <= _SMALL else None
        return None

    def _compute(self, node: Node) -> Values | None:
        try:
            if node.op == "Shape":
                return self._shape(node)
            if node.op == "Size":
                dims = self._shapes.dims(node.inputs[0])
                return None if dims is None else _array(product(dims))
            operands = [self._known[one] for one in _operands(node)]
            if any(one is None for one in operands):
                return self._one_sided(node, operands)
            if node.op in _ARITHMETIC and self._shapes.onnx_dtype(node.outputs[0]) != _INT64:
                return None  # narrow integers wrap around
            return _KERNELS[node.op](node, operands)
        except (Unwieldy, ZeroDivisionError, ValueError, IndexError, TypeError):
            return None

    def _shape(self, node: Node) -> Values | None:
        dims = self._shapes.dims(node.inputs[0])
        if dims is None:
            return None
        start, end = node.attrs.get("start", 0), node.attrs.get("end", len(dims))
        if not isinstance(start, int) or not isinstance(end, int):
            return None
        return _array(*dims[start:end], vector=True) if len(dims) <= _SMALL else None

    def _one_sided(self, node: Node, operands: list[Values | None]) -> Values | None:
        """A conjunction with something false, a disjunction with something true; all are one element."""
        if node.op not in ("And", "Or"):
            return None
        decides = node.op == "Or"
        scalar = all(self._shapes.rank(one) == 0 for one in node.inputs)
        for one in operands:
            if scalar and one is not None and one.size == 1 and one.reshape(-1)[0] is decides:
                return _array(decides)
        return None


def _operands(node: Node) -> list[Tensor]:
    return [] if node.op in ("Shape", "Size") else [one for one in node.inputs if one.name or isinstance(one, Constant)]


def _array(*values: Any, vector: bool = False) -> Values:
    found = np.empty(len(values), object)
    found[:] = values
    return found if vector else found.reshape(())


def _each(function: Callable[..., Any]) -> Callable[[Node, list[Any]], Values | None]:
    def kernel(node: Node, operands: list[Any]) -> Values | None:
        if node.attrs.get("broadcast") or node.attrs.get("axis") is not None:
            return None  # before opset 7 broadcasting was another one
        wide = np.broadcast_arrays(*operands)
        found = np.empty(wide[0].shape, object)
        if found.size > _SMALL:
            return None
        for place in np.ndindex(*found.shape):
            values = [one[place] for one in wide]
            found[place] = None if any(one is None for one in values) else function(*values)
        return found

    return kernel


def _less(one: Dim, other: Dim) -> bool | None:
    found = less_or_equal(other, one)
    return None if found is None else not found


def _same(one: Any, other: Any) -> bool | None:
    return one is other if isinstance(one, bool) else equal(one, other)


def _copied(node: Node, operands: list[Any]) -> Values | None:
    """Operators that leave one element or the elements of a vector where they are."""
    data = operands[0]
    if node.op == "Identity" or data.size == 1:
        rank = {"Identity": data.ndim, "Squeeze": 0}.get(node.op, 1)
        found: Values = data.reshape((1,) * rank) if data.size == 1 and node.op != "Identity" else data
        return found
    return None


def _gathered(node: Node, operands: list[Any]) -> Values | None:
    data, at = operands
    if data.ndim != 1 or any(not isinstance(one, int) for one in at.reshape(-1)):
        return None
    found = np.empty(at.shape, object)
    for place in np.ndindex(*at.shape):
        found[place] = data[at[place]]
    return found


def _sliced(node: Node, operands: list[Any]) -> Values | None:
    if len(operands) < 3 or operands[0].ndim != 1 or any(one.size != 1 for one in operands[1:]):
        return None
    start, end, *rest = (one.reshape(-1)[0] for one in operands[1:])
    step = rest[1] if len(rest) > 1 else 1
    if not all(isinstance(one, int) for one in (start, end, step)) or step < 1:
        return None
    found: Values = operands[0][start:end:step]
    return found


def _joined(node: Node, operands: list[Any]) -> Values | None:
    return np.concatenate(operands) if all(one.ndim == 1 for one in operands) else None


def _cast(node: Node, operands: list[Any]) -> Values | None:
    to = node.attrs.get("to")
    if to == _BOOL:
        return _each(_is_true)(Node("Cast"), operands)
    return _each(_as_integer)(Node("Cast"), operands) if to == _INT64 else None


def _is_true(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    zero = equal(value, 0)
    return None if zero is None else not zero


def _as_boolean(value: Any) -> bool | None:
    return bool(value) if isinstance(value, int) else None


def _as_integer(value: Any) -> Any:
    return int(value) if isinstance(value, bool) else value


def _fits(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def checked(one: Any, other: Any) -> Any:
        found = function(one, other)
        return found if not isinstance(found, int) or -(1 << 31) <= found < 1 << 31 else None

    return checked


_KERNELS: dict[str, Callable[[Node, list[Any]], Values | None]] = {
    "Add": _each(_fits(lambda one, other: one + other)),
    "And": _each(lambda one, other: one and other),
    "Cast": _cast,
    "Concat": _joined,
    "Equal": _each(_same),
    "Gather": _gathered,
    "Greater": _each(lambda one, other: _less(other, one)),
    "GreaterOrEqual": _each(lambda one, other: less_or_equal(other, one)),
    "Less": _each(_less),
    "LessOrEqual": _each(less_or_equal),
    "Mul": _each(_fits(lambda one, other: one * other)),
    "Not": _each(lambda one: not one),
    "Or": _each(lambda one, other: one or other),
    "Shape": _copied,
    "Size": _copied,
    "Slice": _sliced,
    "Sub": _each(_fits(lambda one, other: one - other)),
    "Xor": _each(lambda one, other: one is not other),
    **dict.fromkeys(_MOVING, _copied),
}
