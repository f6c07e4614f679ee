"""Element-wise functions of values that such a function has been applied to already."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import NamedTuple

from graphopt.analysis.matching import maker, only_reader, operand, scalar
from graphopt.ir import Graph, Node, Tensor
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.eliminate.bypass import Facts, Finding, Near, Reading, Same, bypass, opset
from passes.eliminate.no_op_quantization import grid_of
from passes.eliminate.uniform import INTEGERS

_INVERSES = frozenset(("Neg", "Not", "BitwiseNot"))
_ROUNDERS = frozenset(("Ceil", "Floor", "Round"))
_TWICE_IS_ONCE = frozenset(("Relu", "Abs", "Sign", *_ROUNDERS))
_NO_MINUS_ZERO = frozenset(("Exp", "Sigmoid", "Softmax"))  # nor anything below zero
_UNSIGNED = frozenset((2, 4, 12, 13))
_MOVERS = frozenset(("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten"))
_FAR = 8  # movers that a value is followed through
_LARGEST = {1: 3.4028234663852886e38, 10: 65504.0, 11: sys.float_info.max, 16: 3.3895313892515355e38}
_CLIP_INPUTS = 11  # Clip takes its bounds as inputs from this version on


class Range(NamedTuple):
    """The least and the greatest number that a value can hold; NaN may be among them anyway."""

    low: float
    high: float

    def inside(self, other: Range) -> bool:
        return other.low <= self.low and self.high <= other.high


_RANGES = {
    "Relu": Range(0.0, math.inf),
    "Abs": Range(0.0, math.inf),
    "Exp": Range(0.0, math.inf),
    "Sqrt": Range(0.0, math.inf),
    "Sigmoid": Range(0.0, 1.0),
    "Softmax": Range(0.0, math.inf),
}


@dataclass(frozen=True)
class Idempotent(Pass):
    """Remove functions that have nothing left to do: Relu of Relu, Not of Not, Clip of what is in range.

    What it does
        "repeated": a Relu, Abs or Sign of itself; Ceil, Floor or Round of one of these, or of a Cast
        from integers. "inverse": Neg of Neg, Not of Not, BitwiseNot of BitwiseNot. "in-range": a Relu,
        Abs or Clip of what is in its range before, because it comes from Relu, Abs, Exp, Sqrt, Sigmoid,
        Softmax, a Clip, or a DequantizeLinear of 8 or 16 bits with one scale, perhaps by way of views;
        a Clip whose bounds are infinite, or as far as its integer type goes; an Abs of unsigned
        integers. In all of these whoever read the result reads the operand, and the node goes.
        "covered": a Clip takes away what the Relu or wider Clip before it would, or an Abs what a Neg
        before it does, and nobody else reads the value between: the one before goes. Main graph, bodies
        and functions.

    Example
        before: a = Sigmoid(x)    b = Relu(a)    c = Relu(b)    y = Clip(c, 0, 6)
        after:  y = Sigmoid(x)

    When not
        Bounds that are not constant, or the least above the greatest, are not looked at. The largest
        finite number as a bound cuts infinities off, and so does a bound that is left out, in
        onnxruntime, so such a Clip of floating-point numbers stays. An Abs of a Relu stays: a Relu may
        hand -0.0 on.

    Contract
        EXACT. Each rule holds for both zeros, infinities and NaN as onnxruntime computes them: Relu and
        Clip hand NaN on, and -0.0 where it is not below their bound.

    Source
        ONNX operators: Relu, Abs, Sign, Ceil, Floor, Round, Neg, Not, BitwiseNot, Clip (6, 11, 12, 13).
    """

    name = "idempotent"
    contract = Contract.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        bypass(graph, ctx, _TWICE_IS_ONCE | _INVERSES | {"Clip"}, _find)


def _find(node: Node, facts: Facts) -> Finding:
    value = operand(node, 0)
    if value is None:
        return None
    before = maker(value)
    if node.op in _INVERSES:
        plain = operand(before, 0) if before is not None and before.op == node.op else None
        return None if before is None or plain is None else Same("inverse", plain, (before,))
    if node.op in _TWICE_IS_ONCE and before is not None and _has_done(node, before, facts):
        return Same("repeated", value)
    if node.op == "Abs":
        return _abs(node, value, before, facts)
    if node.op == "Relu":
        known = _range(value, facts)
        return Same("in-range", value) if known is not None and known.low >= 0 else None
    return _clip(node, value, before, facts) if node.op == "Clip" else None


def _has_done(node: Node, before: Node, facts: Facts) -> bool:
    if node.op not in _ROUNDERS:
        return before.op == node.op
    if before.op in _ROUNDERS:
        return True
    source = operand(before, 0)
    return before.op == "Cast" and source is not None and facts.dtype(source) in INTEGERS


def _abs(node: Node, value: Tensor, before: Node | None, facts: Facts) -> Finding:
    if before is not None and before.op in _NO_MINUS_ZERO:
        return Same("in-range", value)
    if facts.dtype(value) in _UNSIGNED:
        return Same("in-range", value)
    if before is not None and before.op == "Neg":
        return _covered(node, value, before)
    return None


def _clip(node: Node, value: Tensor, before: Node | None, facts: Facts) -> Finding:
    bounds = _bounds(node, facts)
    if bounds is None or bounds.low > bounds.high:
        return None
    known = _range(value, facts)
    if bounds == Range(-math.inf, math.inf) or (known is not None and known.inside(bounds)):
        return Same("in-range", value)
    if _spans(bounds, facts.dtype(value)):
        return Same("in-range", value)
    if before is None or before.op not in ("Relu", "Clip"):
        return None
    wider = _RANGES["Relu"] if before.op == "Relu" else _bounds(before, facts)
    # What lies below the wider range comes out at the lower bound of the narrower one either way.
    if wider is None or wider.low > bounds.low or bounds.high > wider.high:
        return None
    return _covered(node, value, before)


def _covered(node: Node, value: Tensor, before: Node) -> Finding:
    source = operand(before, 0)
    if source is None:
        return None
    if only_reader(value) is not node:
        return Near("covered", f"{value.name!r} is read by others, too")
    return Reading("covered", (source, *node.inputs[1:]), (before,))


def _spans(bounds: Range, dtype: int) -> bool:
    """Whether bounds are as far apart as the numbers of an integer type."""
    if dtype not in INTEGERS:
        return False
    bits = {2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 12: 32, 13: 64}[dtype]
    least, greatest = (0, 2**bits - 1) if dtype in _UNSIGNED else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return bounds.low <= least and bounds.high >= greatest


def _range(value: Tensor, facts: Facts) -> Range | None:
    """What is known of the numbers in a value, NaN aside, from the node that computes it."""
    before = maker(value)
    for _ in range(_FAR):
        if before is None or before.op not in _MOVERS:
            break
        source = operand(before, 0)
        before = None if source is None else maker(source)
    if before is None:
        return None
    if before.op == "Clip":
        bounds = _bounds(before, facts)
        return bounds if bounds is not None and bounds.low <= bounds.high else None
    if before.op == "DequantizeLinear":
        grid = grid_of(before, facts)
        values = None if grid is None else grid.values()
        return None if values is None else Range(float(values[0]), float(values[-1]))
    return _RANGES.get(before.op)


def _bounds(clip: Node, facts: Facts) -> Range | None:
    """The bounds of a Clip, None when they are not constant.

    A bound that is left out is the last finite number of the type: infinities are cut off.
    """
    found = []
    for index, name, far in ((1, "min", -math.inf), (2, "max", math.inf)):
        given: object
        if opset(clip) < _CLIP_INPUTS:
            given = clip.attrs.get(name, math.copysign(_LARGEST[1], far))
        else:
            tensor = operand(clip, index)
            given = _left_out(facts.dtype(clip.inputs[0]), far) if tensor is None else scalar(tensor)
        if not isinstance(given, int | float) or math.isnan(given):
            return None
        if given == 0 and math.copysign(1.0, given) < 0:
            return None  # which zero comes out is up to the kernel
        found.append(given)
    return Range(*found)


def _left_out(dtype: int, far: float) -> float | None:
    if dtype in INTEGERS:
        return far
    return math.copysign(_LARGEST[dtype], far) if dtype in _LARGEST else None
