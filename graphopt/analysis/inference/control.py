"""If, Loop and Scan: what their bodies get, and what comes out of them."""

from __future__ import annotations

from collections.abc import Sequence

from onnx import TensorProto

from graphopt.analysis.inference.fact import UNKNOWN, Call, Fact, Fresh, axis_of
from graphopt.ir import Node, Variable

_SCAN_WITHOUT_BATCH_SINCE = 9


def meet(one: Fact, other: Fact, fresh: Fresh) -> Fact:
    """What is true of a value that is one of two."""
    dtype = one.dtype if one.dtype == other.dtype else 0
    if one.dims is None or other.dims is None or len(one.dims) != len(other.dims):
        return Fact(dtype)
    dims = tuple(a if a == b else fresh() for a, b in zip(one.dims, other.dims, strict=True))
    same = (
        one.value is not None
        and other.value is not None
        and one.value.shape == other.value.shape
        and all(a == b for a, b in zip(one.value.flat, other.value.flat, strict=True))
    )
    return Fact(dtype, dims, one.value if same else None)


def outputs(call: Call, bodies: Sequence[Sequence[Fact]]) -> list[Fact]:
    """Facts of the outputs, from those of the inputs and of what the bodies give."""
    if call.op == "If" and len(bodies) == 2:
        return [meet(a, b, call.fresh) for a, b in zip(*bodies, strict=False)]
    if call.op == "Loop" and bodies:
        carried = len(call.inputs) - 2
        made = bodies[0][1:]
        found = [meet(call.fact(slot + 2), one, call.fresh) for slot, one in enumerate(made[:carried])]
        # A loop of no rounds gives a tensor whose shape says nothing.
        return found + [Fact(one.dtype) for one in made[carried:]]
    if call.op == "Scan" and bodies and call.opset >= _SCAN_WITHOUT_BATCH_SINCE:
        return _scan(call, bodies[0])
    return []


def _scan(call: Call, made: Sequence[Fact]) -> list[Fact]:
    scanned = call.integer("num_scan_inputs", 0)
    states = len(call.inputs) - scanned
    axes = call.listed("scan_input_axes") or [0] * scanned
    found = [Fact(call.dtype(slot), call.fact(slot).dims) for slot in range(states)]
    first = call.fact(states).dims
    length = call.fresh() if first is None else first[axis_of(axes[0], len(first))]
    given = call.listed("scan_output_axes") or [0] * (len(made) - states)
    for one, axis in zip(made[states:], given, strict=True):
        if one.dims is None:
            found.append(Fact(one.dtype))
            continue
        inner = [dim if isinstance(dim, int) else call.fresh() for dim in one.dims]
        place = axis_of(axis, len(inner) + 1)
        found.append(Fact(one.dtype, (*inner[:place], length, *inner[place:])))
    return found


def carried(
    facts: Sequence[Fact], made: Sequence[Fact], varying: set[tuple[int, int]], fresh: Fresh
) -> list[Fact] | None:
    """What a Loop carries, given what its body makes of `facts`; None where they hold for all rounds.

    `varying` remembers the axes (value, axis) that are known to change from round to round.
    """
    again, changed = list(facts), False
    for place, (one, result) in enumerate(zip(facts, made, strict=True)):
        if one.dims is None:
            continue
        if result.dims is None or len(result.dims) != len(one.dims) or result.dtype != one.dtype:
            again[place], changed = Fact(one.dtype), True
            continue
        moves = {axis for axis, (a, b) in enumerate(zip(one.dims, result.dims, strict=True)) if a != b}
        new = {(place, axis) for axis in moves} - varying
        if new:
            varying |= new
            dims = tuple(fresh() if (place, axis) in new else dim for axis, dim in enumerate(one.dims))
            again[place], changed = Fact(one.dtype, dims), True
    return again if changed else None


def body_input(node: Node, index: int, opset: int, variable: Variable, outer: Fact) -> Fact:
    """What a body may rely on of its input `index`; `outer` is the fact of its source."""
    if node.is_op("Loop"):
        declared = variable.shape
        dims = (1,) if declared is not None and len(declared) == 1 else ()  # as onnxruntime makes it
        return Fact(TensorProto.BOOL if index else TensorProto.INT64, dims)
    if not node.is_op("Scan") or opset < _SCAN_WITHOUT_BATCH_SINCE:
        return UNKNOWN
    scanned = node.attrs.get("num_scan_inputs")
    if not isinstance(scanned, int):
        return UNKNOWN
    states = len(node.inputs) - scanned
    if index < states or outer.dims is None:
        return Fact(outer.dtype, outer.dims if index < states else None)
    axes = node.attrs.get("scan_input_axes") or [0] * scanned
    axis = axes[index - states] % len(outer.dims) if outer.dims else 0
    return Fact(outer.dtype, (*outer.dims[:axis], *outer.dims[axis + 1 :]))
