"""Casts that change nothing, and casts on the way that lose nothing."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.analysis.matching import maker, only_reader, operand
from graphopt.ir import Graph, Node, Tensor
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.eliminate.bypass import Facts, Finding, Near, Reading, Same, bypass, number

# ONNX's numbers of element types: bits with sign of the integers, bits of the significand of floats.
_UNSIGNED = {2: 8, 4: 16, 12: 32, 13: 64}
_SIGNED = {3: 8, 5: 16, 6: 32, 7: 64}
_BOOL = 9
_SIGNIFICAND = {10: 11, 16: 8, 1: 24, 11: 53}
_WIDER = {10: (1, 11), 16: (1, 11), 1: (11,), 11: ()}


@dataclass(frozen=True)
class NoOpCasts(Pass):
    """Remove casts to the type that a value has, and casts on the way to another one.

    What it does
        Rule "same-type": the input of a Cast has the wanted type already, or that of a CastLike has
        the type of its second input. Whoever read the output reads the input, and the node goes.
        Rule "round-trip": a Cast leads back to the type from which a Cast led away, and the type
        between holds every value of the first: int32 to int64 to int32, float16 to float to float16,
        bool to int32 to bool. Rule "on-the-way": so it is, but the last type is another one, and
        nobody else reads the value between: the second Cast reads what the first one read, and the
        first goes. Element types are inferred. Main graph, bodies and functions.

    Example
        before: a = Cast<to=int64>(x)    b = Cast<to=int32>(a)    y = Neg(b)    where x is int32
        after:  y = Neg(x)

    When not
        A cast that can lose something stays: int64 to int32 and back, float to float16 and back,
        int32 to float and back. So do casts that involve strings, complex numbers and types of eight
        bits and fewer that are no integers, and a floating-point number that is cast to an integer by
        way of another type, because what is out of range is not defined. An input or an initializer
        cannot become an output of the graph.

    Contract
        EXACT. A value that the type between can hold is the same number when it leaves it; NaN stays
        NaN.

    Source
        ONNX operators: Cast (1, 6, 9, 13, 19, 21, 23 ...), CastLike (15, 19, 21, 23 ...).
    """

    name = "no-op-casts"
    contract = Contract.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        bypass(graph, ctx, ("Cast", "CastLike"), _find)


def _find(node: Node, facts: Facts) -> Finding:
    value = operand(node, 0)
    wanted = _wanted(node, facts)
    if value is None or not wanted:
        return None
    if _type(value, facts) == wanted:
        return Same("same-type", value)
    first = maker(value, "Cast", "CastLike")
    source = None if first is None else operand(first, 0)
    if first is None or source is None:
        return None
    old, between = _type(source, facts), _wanted(first, facts)
    if not old or not between:
        return None
    rule = "round-trip" if old == wanted else "on-the-way"
    if not _holds(between, old):
        known = old in _SIGNED or old in _UNSIGNED or old in _SIGNIFICAND
        return Near(rule, f"the type between, {between}, does not hold every value of {old}") if known else None
    if old == wanted:
        return Same(rule, source, (first,))
    if not _composes(old, wanted):
        return None
    if only_reader(value) is not node:
        return Near(rule, f"{value.name!r} is read by others, too")
    return Reading(rule, (source, *node.inputs[1:]), (first,))


def _type(value: Tensor, facts: Facts) -> int:
    """The element type of a value, also where types are not inferred: in functions."""
    known = facts.dtype(value)
    before = None if known else maker(value, "Cast")
    return known if before is None else _wanted(before, facts)


def _wanted(node: Node, facts: Facts) -> int:
    """The element type that a cast makes, 0 when unknown."""
    if node.op == "CastLike":
        like = operand(node, 1)
        return 0 if like is None else facts.dtype(like)
    return number(node, "to", 0) or 0


def _holds(between: int, old: int) -> bool:
    """Whether every value of one type is a value of the type between, and comes back as it was."""
    if old == between:
        return True
    if old == _BOOL:
        return between in _SIGNED or between in _UNSIGNED or between in _SIGNIFICAND
    if old in _SIGNIFICAND:
        return between in _WIDER[old]
    magnitude = _UNSIGNED.get(old) or _SIGNED.get(old, 1 << 20) - 1
    if between in _SIGNIFICAND:
        return magnitude <= _SIGNIFICAND[between]
    if between in _SIGNED:
        return magnitude <= _SIGNED[between] - 1
    return old in _UNSIGNED and magnitude <= _UNSIGNED.get(between, 0)


def _composes(old: int, wanted: int) -> bool:
    """Whether a cast from `old` to `wanted` is defined for every value, whatever type it starts from."""
    if wanted in _SIGNIFICAND or wanted == _BOOL:
        return True
    integers = wanted in _SIGNED or wanted in _UNSIGNED
    return integers and (old == _BOOL or old in _SIGNED or old in _UNSIGNED)
