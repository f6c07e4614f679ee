"""Sequences of tensors: what is true of every element."""

from __future__ import annotations

from onnx import TensorProto

from graphopt.analysis.inference.control import meet
from graphopt.analysis.inference.fact import UNKNOWN, Call, Fact, Rule, axis_of


class Elements(Fact):
    """The fact of a sequence, which has no element type or dims of its own; `each` is of its elements."""

    __slots__ = ("each",)

    def __init__(self, each: Fact) -> None:
        super().__init__()
        self.each = each


def _each(call: Call, slot: int = 0) -> Fact:
    found = call.fact(slot)
    return found.each if isinstance(found, Elements) else UNKNOWN


def _construct(call: Call) -> Fact:
    each = call.fact(0)
    for slot in range(1, len(call.inputs)):
        each = meet(each, call.fact(slot), call.fresh)
    return Elements(Fact(each.dtype, each.dims))


def _empty(call: Call) -> Fact:
    return Elements(Fact(call.integer("dtype", TensorProto.FLOAT)))


def _insert(call: Call) -> Fact:
    # Of a sequence without elements anything may be true, so its dims are not known either.
    each = meet(_each(call), call.fact(1), call.fresh)
    return Elements(Fact(each.dtype, each.dims))


def _erase(call: Call) -> Fact:
    return Elements(_each(call))


def _split(call: Call) -> Fact:
    fact = call.fact(0)
    if fact.dims is None or not call.integer("keepdims", 1):
        return Elements(Fact(fact.dtype))
    axis = axis_of(call.integer("axis", 0), len(fact.dims))
    return Elements(Fact(fact.dtype, (*fact.dims[:axis], call.fresh(), *fact.dims[axis + 1 :])))


def _at(call: Call) -> Fact:
    each = _each(call)
    return Fact(each.dtype, each.dims)


def _join(call: Call) -> Fact:
    each = _each(call)
    if each.dims is None:
        return Fact(each.dtype)
    rank, new = len(each.dims), bool(call.integer("new_axis", 0))
    axis = axis_of(call.integer("axis", 0), rank + new)
    rest = each.dims[axis:] if new else each.dims[axis + 1 :]
    return Fact(each.dtype, (*each.dims[:axis], call.fresh(), *rest))


def _length(call: Call) -> Fact:
    return Fact(TensorProto.INT64, ())


RULES: dict[str, Rule] = {
    "SequenceConstruct": _construct,
    "SequenceEmpty": _empty,
    "SequenceInsert": _insert,
    "SequenceErase": _erase,
    "SplitToSequence": _split,
    "SequenceAt": _at,
    "ConcatFromSequence": _join,
    "SequenceLength": _length,
}
