"""HardSigmoid and HardSwish from the Clip, Add and Mul that they are exported as."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphopt.analysis.pattern import Match, Pattern
from graphopt.ir import Graph, Node
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.fuse.rules import FLOAT, Build, Facts, Rule, fuse, single

_SIGMOIDS = (
    Pattern("a = Add(x, #b)  c = Clip(a, 0.0, #h)  y = Div(c, #h2)"),
    Pattern("a = Add(x, #b)  c = Clip<min=0.0>(a)  y = Div(c, #h2)"),
    Pattern("a = Add(x, #b)  c = Clip(a, 0.0, #h)  y = Mul(c, #r)"),
    Pattern("a = Add(x, #b)  c = Clip<min=0.0>(a)  y = Mul(c, #r)"),
)
_SCALED = (
    Pattern("m = Mul(x, #a)  s = Add(m, #b)  y = Clip(s, 0.0, 1.0)"),
    Pattern("m = Mul(x, #a)  s = Add(m, #b)  y = Clip<min=0.0, max=1.0>(s)"),
    Pattern("m = Div(x, #d)  s = Add(m, #b)  y = Clip(s, 0.0, 1.0)"),
    Pattern("m = Div(x, #d)  s = Add(m, #b)  y = Clip<min=0.0, max=1.0>(s)"),
)
_PRODUCTS = (
    Pattern("a = Add(x, #b)  c = Clip(a, 0.0, #h)  p = Mul(x, c)  y = Div(p, #h2)"),
    Pattern("a = Add(x, #b)  c = Clip<min=0.0>(a)  p = Mul(x, c)  y = Div(p, #h2)"),
    Pattern("a = Add(x, #b)  c = Clip(a, 0.0, #h)  p = Mul(x, c)  y = Mul(p, #r)"),
    Pattern("a = Add(x, #b)  c = Clip<min=0.0>(a)  p = Mul(x, c)  y = Mul(p, #r)"),
    Pattern("a = Add(x, #b)  c = Clip(a, 0.0, #h)  q = Div(x, #h2)  y = Mul(q, c)"),
    Pattern("a = Add(x, #b)  c = Clip(a, 0.0, #h)  q = Mul(x, #r)  y = Mul(q, c)"),
)
_SWISH = (Pattern("s = HardSigmoid(x)  y = Mul(x, s)"),)
_TOLERANCE = 1e-6  # relative: a few roundings of float32


def _slope(match: Match) -> tuple[float, float] | str:
    """Alpha and beta of the HardSigmoid in a match, or why there is none."""
    values = match.values
    bias = match.number("b")
    if "a" in values and "m" in values:
        return match.number("a"), bias
    if "d" in values:
        return (1 / divisor, bias) if (divisor := match.number("d")) else "it divides by zero"
    high = match.number("h") if "h" in values else float(match.node("c").attrs.get("max", 0.0))
    times = 1 / match.number("h2") if match.values.get("h2") is not None and match.number("h2") else 0.0
    times = match.number("r") if "r" in values else times
    if not times or abs(high * times - 1) > _TOLERANCE:
        return f"the upper limit {high:g} times {times:g} is not 1"
    return times, float(np.float32(bias * times))


def _sigmoid(match: Match, facts: Facts) -> Build | str | None:
    slope = _slope(match)
    if isinstance(slope, str):
        return slope
    why = _why_not(match, facts)
    if why is not None:
        return why
    return single("HardSigmoid", [match["x"]], {"alpha": slope[0], "beta": slope[1]})


def _product(match: Match, facts: Facts) -> Build | str | None:
    slope = _slope(match)
    if isinstance(slope, str):
        return slope
    why = _why_not(match, facts)
    if why is not None:
        return why

    def build(scope: Graph) -> list[Node]:
        value = scope.variable(match["c"].name)
        gate = Node("HardSigmoid", match.node("c").name, {"alpha": slope[0], "beta": slope[1]}, [match["x"]], [value])
        return [gate, Node("Mul", "", {}, [match["x"], value], [])]

    return build


def _swish(match: Match, facts: Facts) -> Build | str | None:
    attrs = match.node("s").attrs
    alpha, beta = attrs.get("alpha", 0.2), attrs.get("beta", 0.5)
    if not isinstance(alpha, float) or abs(alpha - 1 / 6) > _TOLERANCE or beta != 0.5:
        return None
    return _why_not(match, facts) or single("HardSwish", [match["x"]])


def _why_not(match: Match, facts: Facts) -> str | None:
    """HardSigmoid is of floating point, and of the shape of its input: a constant may have more axes."""
    x, y = match["x"], match["y"]
    return facts.why_not_dtype(x, FLOAT) or facts.why_not_same_shape(x, y)


RULES = (
    Rule("clip-to-hard-sigmoid", _SIGMOIDS + _SCALED, _sigmoid, "HardSigmoid", 6),
    Rule("clip-times-to-hard-sigmoid", _PRODUCTS, _product, "HardSigmoid", 6),
    Rule("hard-sigmoid-times-to-hard-swish", _SWISH, _swish, "HardSwish", 14),
)


@dataclass(frozen=True)
class HardSwish(Pass):
    """Express clipped straight lines as HardSigmoid, and such a line times its input as HardSwish.

    What it does
        Precondition: a float tensor plus a constant, clipped between 0 and h and divided by h (or
        multiplied by 1/h), or a multiple of it plus a constant, clipped between 0 and 1; the constants
        have one element and add no axes, and nothing else reads the values in between. Rewrite: one
        HardSigmoid with alpha and beta accordingly. Where the clipped value is multiplied by the input
        before it is divided, a HardSigmoid and a Mul. From opset 14 on, an input times HardSigmoid of it
        with alpha 1/6 and beta 1/2 becomes HardSwish. Main graph, bodies and functions, as far as types
        are known.

    Example
        before: a = Add(x, 3)    c = Clip(a, 0, 6)    p = Mul(x, c)    y = Div(p, 6)
        after:  c = HardSigmoid<alpha=0.1667, beta=0.5>(x)    y = Mul(x, c)        (opset 13)
        after:  y = HardSwish(x)                                                   (opset 14)

    When not
        Other element types than float, for which onnxruntime has no HardSigmoid. A limit that does not
        fit the divisor. A value in between that others read.

    Contract
        ROUNDING. The line is scaled before it is clipped, not after.

    Source
        Howard et al., "Searching for MobileNetV3", 2019, section 5.2. ONNX operators HardSigmoid (6, 22),
        HardSwish (14, 22).
    """

    name = "hard-swish"
    contract = Contract.ROUNDING

    def run(self, graph: Graph, ctx: Context) -> None:
        fuse(graph, ctx, RULES)
