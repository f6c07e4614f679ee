"""Which inputs and outputs of an operator may change from float32 to 16 bits, by its schema."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from graphopt.ir import Node
from graphopt.ir.schema import schema

_FLOAT = "tensor(float)"


@dataclass(frozen=True)
class Slots:
    """Input and output slots that hold float32 and may hold the 16-bit type instead, all at once.

    `why_not` is a clause that says why the node has to stay in float32, None when it need not.
    """

    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    why_not: str | None = None


def slots(node: Node, opset: int, to: str, floats: tuple[tuple[int, ...], tuple[int, ...]]) -> Slots:
    """The slots of `node` that can change to `to` ("float16" or "bfloat16").

    `floats` are the input and output slots that hold float32 in this model. All slots of one type
    variable of the schema change together; a variable that an attribute decides (Cast's `to`) or that
    stands for outputs only does not change.
    """
    if node.domain not in (None, "", "ai.onnx"):
        return Slots(why_not=f"{node.op} is not an operator of ONNX")
    known = _variables(node.op, opset, len(node.inputs), len(node.outputs), f"tensor({to})")
    if known is None:
        return Slots(why_not=f"ONNX has no {node.op} of tensors only at opset {opset}")
    before, after, switchable = known
    inputs, outputs = floats
    variables = {before[slot] for slot in inputs} & switchable
    made = {after[slot] for slot in outputs}
    if not variables:
        return Slots(why_not=f"{node.op} has no inputs that may be {to}")
    others = {before[slot] for slot, one in enumerate(node.inputs) if one.name and slot not in inputs}
    others |= {after[slot] for slot, one in enumerate(node.outputs) if one.name and slot not in outputs}
    if others & variables:
        return Slots(why_not="the types of its values are not all known")
    if not made <= variables:
        return Slots(why_not=f"{node.op} gives float32 whatever it reads")
    return Slots(
        tuple(slot for slot in inputs if before[slot] in variables),
        tuple(slot for slot in outputs if after[slot] in variables),
    )


_Known = tuple[tuple[str, ...], tuple[str, ...], frozenset[str]]


@cache
def _variables(op: str, opset: int, inputs: int, outputs: int, wanted: str) -> _Known | None:
    """The type variable of each slot, and those that may be float32 as well as the wanted type."""
    known = schema(op, "", opset)
    if known is None:
        return None
    allowed: dict[str, Any] = {one.type_param_str: set(one.allowed_type_strs) for one in known.type_constraints}
    if any(not name.startswith("tensor(") for types in allowed.values() for name in types if "float)" in name):
        return None
    switchable = frozenset(name for name, types in allowed.items() if _FLOAT in types and wanted in types)
    return _of_slots(known.inputs, inputs), _of_slots(known.outputs, outputs), switchable


def _of_slots(formal: Any, count: int) -> tuple[str, ...]:
    """One type variable a slot; further slots are those of a variadic last parameter."""
    if not formal:
        return ("",) * count
    return tuple(str(formal[min(slot, len(formal) - 1)].type_str) for slot in range(count))
