"""Arithmetic and logic with a unit: plus zero, times one, and true."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.analysis.matching import maker, only_reader, operand
from graphopt.ir import Graph, Node, Tensor
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.eliminate.bypass import Facts, Finding, Near, Reading, Same, bypass, opset
from passes.eliminate.uniform import FLOATS, INTEGERS, uniform

_BROADCASTS = 7  # the version from which on operands are broadcast as in numpy


@dataclass(frozen=True)
class NoOpArithmetic(Pass):
    """Remove operations with their unit: plus zero, times one, and true, or false.

    What it does
        Rule "unit": one operand is a constant that holds the operator's unit in every element, and the
        result has the shape of the other operand: x + 0, x - 0, x * 1, x / 1, x to the power of 1,
        and true, or false, xor false, equal to true, bits shifted by 0, bitwise and with all ones, or
        and xor with 0, the minimum with the largest and the maximum with the smallest value, PRelu
        and LeakyRelu with a slope of 1. Rule "one-operand": Sum, Mean, Max and Min of one input. Rule
        "same-operands": Min, Max, And, Or and their bitwise kin of a value and itself. Rule "where": the
        condition is constant, or both branches are the same value, and the branch has the shape of the
        result. In these cases whoever read the result reads the operand, and the node goes. Rule
        "where-not": a Where on a negated condition that nobody else reads, not of floating-point numbers:
        the branches change places, and the Not goes. Shapes are inferred. Main graph, bodies and functions.

    Example
        before: a = Mul(x, one)    y = Relu(a)    where one is float[1] {1} and x is [N, 4]
        after:  y = Relu(x)

    When not
        A constant with more axes, or longer ones, enlarges the result, so the node stays; also where
        the shape of the operand is not known. Plus 0.0 turns -0.0 into 0.0, so only minus 0.0 and plus
        -0.0 are units; see `no-op-but-zero-sign` for the other. An integer to the power of 1 is computed
        in floating point by some runtimes. A Where of floating-point numbers may lose the sign of zeros in
        onnxruntime, of those in its first branch only. Before opset 7 operands are broadcast by other rules.

    Contract
        EXACT, the signs of zeros, infinities and NaN included.

    Source
        IEEE 754, 6.3 (the sign of zero). ONNX operators: Add, Sub, Mul, Div (7, 13, 14), Pow, And, Or,
        Xor, Equal, BitShift, BitwiseAnd, BitwiseOr, BitwiseXor, Min, Max, Sum, Mean, Where, PRelu.
    """

    name = "no-op-arithmetic"
    contract = Contract.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        bypass(graph, ctx, _OPS, _find)


def _find(node: Node, facts: Facts) -> Finding:
    if opset(node) < _BROADCASTS:
        return None
    if node.op == "LeakyRelu":
        value = operand(node, 0)
        return Same("unit", value) if value is not None and node.attrs.get("alpha", 0.01) == 1.0 else None
    if node.op == "Where":
        return where(node, facts, lambda number: number not in FLOATS) or where_not(node, facts, floats=False)
    if len(node.inputs) == 1:
        value = operand(node, 0)
        return Same("one-operand", value) if value is not None and node.op in _VARIADIC else None
    if len(node.inputs) != 2:
        return None
    left, right = operand(node, 0), operand(node, 1)
    if left is None or right is None:
        return None
    if left is right:
        return Same("same-operands", left) if node.op in _IDEMPOTENT else None
    for value, unit in ((left, right), (right, left)):
        if value is right and node.op in _ONE_SIDED:
            break
        if node.op in _UNITS and _is_unit(node, unit, facts) and _defined(node, value, facts):
            if not facts.keeps_shape(value, unit):
                return Near("unit", f"it may change the shape of {value.name!r}, or that shape is not known")
            return Same("unit", value)
    return None


def where(node: Node, facts: Facts, admits: Callable[[int], bool]) -> Finding:
    """The branch that a Where always takes, where the element type is one that `admits` says."""
    condition, yes, no = (operand(node, index) for index in range(3))
    if condition is None or yes is None or no is None:
        return None
    taken: Tensor | None = yes
    if yes is not no:
        always = uniform(condition, lambda one: bool(one.dtype == np.bool_))
        taken = None if always is None else yes if bool(always) else no
    if taken is None:
        return None
    dtype = facts.dtype(taken)
    if not dtype or not admits(dtype):
        return None
    if not facts.keeps_shape(taken, condition, yes, no):
        return Near("where", f"the branch {taken.name!r} may be smaller than the result")
    return Same("where", taken)


def where_not(node: Node, facts: Facts, floats: bool) -> Finding:
    """A Where on a negated condition, of floating-point numbers or of others."""
    condition = operand(node, 0)
    negation = None if condition is None else maker(condition, "Not")
    plain = None if negation is None else operand(negation, 0)
    if condition is None or negation is None or plain is None:
        return None
    if not (dtype := facts.dtype(node.inputs[1])) or (dtype in FLOATS) != floats:
        return None
    if only_reader(condition) is not node:
        return Near("where-not", f"{condition.name!r} is read by others, too")
    return Reading("where-not", (plain, node.inputs[2], node.inputs[1]), (negation,))


def _is_unit(node: Node, tensor: Tensor, facts: Facts) -> bool:
    return uniform(tensor, lambda one: _UNITS[node.op](one, facts.dtype(tensor))) is not None


def _defined(node: Node, value: Tensor, facts: Facts) -> bool:
    """Whether the unit is exact for the type of the operand, which may differ from the unit's."""
    return node.op != "Pow" or facts.dtype(value) in FLOATS


def _zero(one: Any, dtype: int) -> bool:
    """What can be added to any number: of floats only -0.0."""
    return bool(one == 0) and (dtype in INTEGERS or (dtype in FLOATS and bool(np.signbit(one))))


def _subtracted(one: Any, dtype: int) -> bool:
    return bool(one == 0) and (dtype in INTEGERS or (dtype in FLOATS and not np.signbit(one)))


def _one(one: Any, dtype: int) -> bool:
    return (dtype in INTEGERS or dtype in FLOATS) and bool(one == 1)


def _least(one: Any, dtype: int) -> bool:
    return bool(one == -np.inf) if dtype in FLOATS else dtype in INTEGERS and bool(one == np.iinfo(one.dtype).min)


def _greatest(one: Any, dtype: int) -> bool:
    return bool(one == np.inf) if dtype in FLOATS else dtype in INTEGERS and bool(one == np.iinfo(one.dtype).max)


def _bits(all_ones: bool) -> Callable[[Any, int], bool]:
    def test(one: Any, dtype: int) -> bool:
        return dtype in INTEGERS and bool((~one if all_ones else one) == 0)

    return test


def _truth(wanted: bool) -> Callable[[Any, int], bool]:
    return lambda one, dtype: bool(one.dtype == np.bool_ and one == wanted)


_UNITS: dict[str, Callable[[Any, int], bool]] = {
    "Add": _zero,
    "Sub": _subtracted,
    "Mul": _one,
    "Div": _one,
    "Pow": _one,
    "PRelu": _one,
    "And": _truth(True),
    "Or": _truth(False),
    "Xor": _truth(False),
    "Equal": _truth(True),
    "BitShift": _bits(all_ones=False),
    "BitwiseAnd": _bits(all_ones=True),
    "BitwiseOr": _bits(all_ones=False),
    "BitwiseXor": _bits(all_ones=False),
    "Max": _least,
    "Min": _greatest,
}
_ONE_SIDED = frozenset(("Sub", "Div", "Pow", "PRelu", "BitShift"))
_VARIADIC = frozenset(("Sum", "Mean", "Max", "Min"))
_IDEMPOTENT = frozenset(("Max", "Min", "And", "Or", "BitwiseAnd", "BitwiseOr"))
_OPS = frozenset((*_UNITS, *_VARIADIC, "LeakyRelu", "Where"))
