"""The part each input plays: an index into a table, a mask, a length, a switch, or just numbers.

An input is followed forwards through nodes that only move its elements (`operands.CARRIERS`)
or add and multiply constants, into bodies and functions, to the operands that want something
particular of it. Where the graph says nothing its name may.
"""

from __future__ import annotations

import math
import re
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from graphopt.validation.flow import Flow, Reader, Value
from graphopt.validation.operands import CARRIERS, COMPARISONS, CONTROLS, WANTS, Want
from graphopt.validation.signature import Dim, Input
from graphopt.validation.values import Array

REACH: Final = 4096  # values followed from one input before the search gives up
# of several parts found for one input the first in this order is taken
_PRECEDENCE: Final = (
    "index", "length", "pattern", "fill", "mask", "switch", "position", "positive", "unit", "nonzero", "around", "free",
)  # fmt: skip
_RATES: Final = frozenset(("sr", "fs", "sample_rate", "sampling_rate", "samplerate"))
_LENGTH: Final = re.compile(r"(^|[_.\-/])(x_)?(seq_?)?(len|lens|length|lengths)($|[_.\-/:])|seq_?lens?$", re.IGNORECASE)
_OFF: Final = re.compile(r"training|is_train|use_cache|use_past", re.IGNORECASE)
_NEUTRAL: Final = re.compile(r"temperature|speed|scale|ratio|alpha", re.IGNORECASE)


@dataclass(frozen=True)
class Bound:
    """An element e must keep e * scale + shift below `size`."""

    size: Dim
    scale: float = 1.0
    shift: float = 0.0

    def limit(self, sizes: dict[str, int]) -> int:
        """The first integer that is too large, at least 1."""
        size = sizes.get(self.size, 1) if isinstance(self.size, str) else self.size
        return max(1, math.floor((size - 1 - self.shift) / self.scale) + 1)


@dataclass(frozen=True)
class Role:
    """What to draw for an input. `kind` is one of `operands.Want`'s, or switch, position, around, free.

    `bounds` limit an index, position or length; `value` fills; `choices` are the values of a
    switch, or the thresholds to draw numbers around; `dims` are those of the operand that a
    pattern refers to, `axis` and `parts` its attributes.
    """

    kind: str = "free"
    bounds: tuple[Bound, ...] = ()
    value: float = 0.0
    pattern: str = ""
    choices: tuple[float, ...] = ()
    dims: tuple[Dim, ...] = ()
    axis: int = 0
    parts: int = 0

    def limit(self, sizes: dict[str, int], otherwise: int) -> int:
        """The smallest bound, or `otherwise` where none is known."""
        return min((bound.limit(sizes) for bound in self.bounds), default=otherwise)


@dataclass
class _Trail:
    """Where an element of the input is, and what became of it: e * scale + shift."""

    value: Value
    scale: float = 1.0
    shift: float = 0.0


@dataclass
class _Evidence:
    roles: list[Role] = field(default_factory=list)
    compared: set[float] = field(default_factory=set)


def role_of(wanted: Input, flow: Flow, inputs: tuple[Input, ...]) -> Role:
    """The role of one input of the model behind `flow`."""
    evidence = _follow(wanted, flow)
    if evidence.compared:
        evidence.roles.append(_compared(wanted, evidence.compared))
    named = _from_name(wanted, inputs, evidence)
    roles = [role for role in evidence.roles if _suits(role, wanted)] + ([named] if named else [])
    if not roles:
        return Role()
    kind = min((role.kind for role in roles), key=_PRECEDENCE.index)
    chosen = next(role for role in roles if role.kind == kind)
    if (
        named is not None
        and named.kind in ("mask", "position", "switch", "fill")
        and kind in ("index", "positive", named.kind)
    ):
        kind, chosen = named.kind, named  # ids of positions still obey the tables they index
    bounds = tuple(bound for role in roles for bound in role.bounds if role.kind in ("index", kind))
    return replace(chosen, bounds=bounds)


def _follow(wanted: Input, flow: Flow) -> _Evidence:
    evidence, start = _Evidence(), Value(0, wanted.name)
    pending, seen = deque([_Trail(start)]), {start}
    while pending and len(seen) < REACH:
        trail = pending.popleft()
        for reader in flow.readers(trail.value):
            _note(reader, trail, flow, evidence)
            onward = [_Trail(each, trail.scale, trail.shift) for each in flow.inner(reader)]
            onward += _carried(reader, trail, flow)
            for each in onward:
                if each.value not in seen:
                    seen.add(each.value)
                    pending.append(each)
    return evidence


def _note(reader: Reader, trail: _Trail, flow: Flow, evidence: _Evidence) -> None:
    """What this operand slot says about the input."""
    op = reader.node.op_type
    if op in COMPARISONS:
        other = flow.constant(reader.operand(1 - reader.slot))
        numbers = other is not None and other.dtype.kind in "iufb"
        if other is not None and numbers and other.size == 1:
            evidence.compared.add((float(other.reshape(())) - trail.shift) / trail.scale)
        elif other is not None and numbers and other.size > 1:
            evidence.roles.append(_among(other.reshape(-1).astype(np.float64)))
    if op == "Sub" and reader.slot == 1:
        whole = flow.constant(reader.operand(0))
        if whole is not None and bool(np.all(whole == 1)):
            evidence.roles.append(Role("mask"))
    if op.startswith("TreeEnsemble") and reader.slot == 0:
        values = next((each.floats for each in reader.node.attribute if each.name == "nodes_values"), ())
        evidence.roles.append(Role("around", choices=tuple(values)[:4096]) if values else Role())
    want = WANTS.get((op, reader.slot))
    if want is None:
        return
    if op == "Pow":
        power = flow.constant(reader.operand(1))
        if power is not None and bool(np.all(power == np.round(power))):
            return
    evidence.roles.append(_role(want, reader, trail, flow))


def _among(constants: Array) -> Role:
    """An input compared with many constants: the rows of a one-hot, or the thresholds of trees."""
    if np.array_equal(constants, np.arange(constants.size)):
        return Role("index", (Bound(constants.size),))
    usable = constants[np.isfinite(constants)]
    return Role("around", choices=tuple(usable.tolist())) if usable.size else Role()


def _role(want: Want, reader: Reader, trail: _Trail, flow: Flow) -> Role:
    if reader.node.op_type == "OneHot" and want.kind == "index":
        depth = flow.constant(reader.operand(1))
        size = 5 if depth is None or depth.size != 1 else int(depth.reshape(()))
        return Role("index", (Bound(size, trail.scale, trail.shift),))
    dims = flow.dims(reader.operand(want.data)) if want.data >= 0 else None
    axis = reader.attribute(*want.axis) if isinstance(want.axis, tuple) else want.axis
    bounds: tuple[Bound, ...] = ()
    if want.kind in ("index", "length") and dims:
        chosen = dims if axis is None else dims[axis : axis + 1 or None]
        bounds = tuple(Bound(size, trail.scale, trail.shift) for size in chosen)
    return Role(
        want.kind, bounds, want.value, want.pattern, dims=dims or (),
        axis=reader.attribute("axis", 0), parts=len(reader.node.output),
    )  # fmt: skip


def _carried(reader: Reader, trail: _Trail, flow: Flow) -> list[_Trail]:
    """The outputs that hold the input's elements, possibly scaled and shifted by constants."""
    node, op, slot = reader.node, reader.node.op_type, reader.slot
    scale, shift = trail.scale, trail.shift
    if op in ("Add", "Sub", "Mul", "Div"):
        other = flow.constant(reader.operand(1 - slot))
        if other is None or not other.size or other.dtype.kind not in "iuf" or (slot == 1 and op in ("Sub", "Div")):
            return []
        number = float(other.max())
        if op in ("Mul", "Div"):
            number = number if op == "Mul" else 1.0 / number if number else 0.0
            if number <= 0.0:
                return []
            scale, shift = scale * number, shift * number
        else:
            shift += number if op == "Add" else -number
    elif op not in CARRIERS or (op, slot) in CONTROLS:
        return []
    return [_Trail(Value(reader.scope, name), scale, shift) for name in node.output if name]


def _suits(role: Role, wanted: Input) -> bool:
    """Whether a role makes sense for the input's element type."""
    kind = wanted.dtype.kind
    if role.kind in ("index", "length", "nonzero", "position"):
        return kind in "iu" or (role.kind == "index" and kind == "f")
    if role.kind in ("positive", "unit", "around"):
        return kind == "f" or kind == "V"
    if role.kind == "mask":
        return kind in "iubf"
    return kind != "O"


def _compared(wanted: Input, values: set[float]) -> Role:
    """An input compared with constants: a switch when it is one number, a mask when compared with 0 only."""
    if wanted.dims is not None and all(dim == 1 for dim in wanted.dims):
        return Role("switch", choices=tuple(sorted(values, reverse=True)))
    if values == {0.0} and wanted.dtype.kind in "iu":
        return Role("mask")
    return Role()


def _from_name(wanted: Input, inputs: tuple[Input, ...], evidence: _Evidence) -> Role | None:
    """What the name suggests, None where nothing."""
    name, kind = wanted.name.lower(), wanted.dtype.kind
    small = wanted.dims is not None and len(wanted.dims) <= 1
    found = {role.kind for role in evidence.roles}
    if "mask" in name and kind in "iubf":
        return Role("mask")
    if kind in "iu" and "position" in name and ("index" in found or not found - {"free"}):
        return Role("position")
    if kind in "iu" and ("token_type" in name or "segment" in name) and "index" not in found:
        return Role("index", (Bound(2),))
    if small and name in _RATES and "switch" not in found:
        return Role("fill", value=16000)
    if small and kind in "iu" and _LENGTH.search(name) and not found & {"index", "length", "pattern", "fill"}:
        longest = next((each.dims[1] for each in inputs if each.dims and len(each.dims) > 1), 1)
        return Role("length", (Bound(longest),))
    if kind == "b" and _OFF.search(name):
        return Role("fill", value=0)
    if small and kind == "f" and not found - {"free"} and _NEUTRAL.search(name):
        return Role("fill", value=1)
    return None
