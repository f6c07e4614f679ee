"""Gelu from Erf or Tanh and the arithmetic around it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from graphopt.analysis.pattern import Match, Pattern
from graphopt.ir import Graph, Node
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.fuse.rules import FLOAT, Build, Facts, Rule, fuse, single

_GATES = (
    "d = Mul(x, c)  y = Mul(d, 0.5)",
    "d = Mul(x, 0.5)  y = Mul(d, c)",
    "d = Mul(c, 0.5)  y = Mul(x, d)",
    "d = Mul(x, c)  y = Div(d, 2)",
    "d = Div(x, 2)  y = Mul(d, c)",
)
_ERF = ("a = Div(x, 1.4142135623730951)  b = Erf(a)  ", "a = Mul(x, 0.7071067811865476)  b = Erf(a)  ")
_CUBES = (
    "p = Pow(x, 3)  k = Mul(p, 0.044715)  s = Add(x, k)  ",
    "o = Mul(x, x)  p = Mul(x, o)  k = Mul(p, 0.044715)  s = Add(x, k)  ",
    "o = Mul(x, 0.044715)  p = Mul(x, o)  k = Mul(x, p)  s = Add(x, k)  ",
    "o = Mul(x, x)  k = Mul(o, 0.044715)  l = Add(k, 1)  s = Mul(x, l)  ",
    "o = Pow(x, 2)  k = Mul(o, 0.044715)  l = Add(k, 1)  s = Mul(x, l)  ",
)
_TANH = tuple(cube + "a = Mul(s, 0.7978845608028654)  b = Tanh(a)  " for cube in _CUBES)
_ONE = "c = Add(b, 1)  "

_EXACT = tuple(Pattern(core + _ONE + gate) for core, gate in itertools.product(_ERF, _GATES))
_APPROXIMATE = tuple(Pattern(core + _ONE + gate) for core, gate in itertools.product(_TANH, _GATES))
_HALVED_LATE = tuple(Pattern(core + _ONE + _GATES[2]) for core in _ERF)
_TYPES = (FLOAT,)


def _exact(match: Match, facts: Facts) -> Build | str | None:
    return _why_not(match, facts) or single("Gelu", [match["x"]])


def _approximate(match: Match, facts: Facts) -> Build | str | None:
    return _why_not(match, facts) or single("Gelu", [match["x"]], {"approximate": "tanh"})


def _usual(match: Match, _: Facts) -> Build | str | None:
    """x * c * 0.5 instead of x * (c * 0.5): the order that runtimes know, in as many nodes."""
    half = next(one for one in match.node("d").inputs if one is not match["c"])

    def build(scope: Graph) -> list[Node]:
        value = scope.variable(match["d"].name)
        return [
            Node("Mul", match.node("d").name, {}, [match["x"], match["c"]], [value]),
            Node("Mul", "", {}, [value, half], []),
        ]

    return build


def _why_not(match: Match, facts: Facts) -> str | None:
    x = match["x"]
    return facts.why_not_dtype(x, *_TYPES) or facts.why_not_same_shape(x, match["y"])


RULES = (
    Rule("gelu", _EXACT, _exact, "Gelu", 20),
    Rule("gelu-tanh", _APPROXIMATE, _approximate, "Gelu", 20),
    Rule("usual-order", _HALVED_LATE, _usual, until=20, quiet=True),
)


@dataclass(frozen=True)
class Gelu(Pass):
    """Express the Gaussian error linear unit, exact or approximated by tanh, as Gelu.

    What it does
        Precondition: a float tensor x times half of one plus Erf(x / sqrt(2)), or times half of one plus
        Tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)); the constants are these numbers up to the rounding of
        their type, have one element and add no axes; nothing else reads the values in between. The
        factors may stand in any usual order. Rewrite: one Gelu, with approximate="tanh" in the second
        case. From opset 20 on. Main graph and bodies.

    Example
        before: a = Div(x, 1.4142135)    b = Erf(a)    c = Add(b, 1)    d = Mul(x, c)    y = Mul(d, 0.5)
        after:  y = Gelu(x)

    When not
        An opset before 20. Other types than float, for which onnxruntime has no Gelu. Constants that are
        near these numbers, but not as near as rounding explains.

    Contract
        ROUNDING. The same function in another order of multiplications.

    Source
        Hendrycks and Gimpel, "Gaussian error linear units", 2016. ONNX operator Gelu (20).
    """

    name = "gelu"
    contract = Contract.ROUNDING

    def run(self, graph: Graph, ctx: Context) -> None:
        fuse(graph, ctx, RULES)
