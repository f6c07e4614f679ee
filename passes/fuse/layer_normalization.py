"""LayerNormalization from means, differences and square roots."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from graphopt.analysis.constants import constant_of
from graphopt.analysis.file_bytes import described_bytes, fresh, initializer_bytes, plain_bytes
from graphopt.analysis.pattern import Match, Pattern
from graphopt.ir import Graph, Node
from graphopt.pipeline.protocol import Context, Contract, Pass, option
from passes.fuse import moments
from passes.fuse.normalized_axes import biased, normalization
from passes.fuse.rules import BFLOAT16, FLOAT, FLOAT16, Build, Facts, Rule, fuse
from passes.fuse.trailing_axes import reduced_axes

_MEAN = "m = ReduceMean<keepdims=1>(x, _)  d = Sub(x, m)  "
_SQUARES = ("e = Sub(x, m)  q = Pow(e, 2)  ", "e = Sub(x, m)  q = Mul(e, e)  ")  # e may be d
_ROOT = "v = ReduceMean<keepdims=1>(q, _)  a = Add(v, #eps)  s = Sqrt(a)  "
_QUOTIENTS = (
    "n = Div(d, s)  ",
    "r = Reciprocal(s)  n = Mul(d, r)  ",
    "r = Div(1, s)  n = Mul(d, r)  ",
    "r = Pow(a, -0.5)  n = Mul(d, r)  ",
)


def _patterns(tail: str) -> tuple[Pattern, ...]:
    """Every way to write the normalized value, and then `tail`."""
    found = []
    for square, quotient in itertools.product(_SQUARES, _QUOTIENTS):
        root = _ROOT.replace("s = Sqrt(a)  ", "") if "Pow(a" in quotient else _ROOT
        found.append(Pattern(_MEAN + square + root + quotient + tail))
    return tuple(found)


PLAIN = _patterns("g = Mul(n, scale)  y = Add(g, bias)")
_WITHOUT_BIAS = _patterns("y = Mul(n, scale)")
_LATE_BIAS = (
    Pattern("n = LayerNormalization(x, scale)  y = Add(n, bias)"),
    Pattern("n = LayerNormalization(x, scale)  t = Transpose(n)  y = Add(t, bias)"),
)
_FOLDED = tuple(
    # x * f + (bias - m * f) is (x - m) * f + bias
    Pattern(_MEAN + square + _ROOT + inverse + "u = Mul(x, f)  w = Mul(m, f)  b = Sub(bias, w)  y = Add(u, b)")
    for square in ("q = Pow(d, 2)  ", "q = Mul(d, d)  ")
    for inverse in ("r = Reciprocal(s)  f = Mul(r, scale)  ", "f = Div(scale, s)  ")
)
_INVERSE = tuple(
    Pattern(_MEAN + square + _ROOT + "r = Reciprocal(s)  n = Mul(d, r)  g = Mul(n, scale)  y = Add(g, bias)")
    for square in ("q = Pow(d, 2)  ", "q = Mul(d, d)  ")
)


def _normalization(match: Match, facts: Facts) -> Build | str | None:
    """LayerNormalization over trailing axes, whose scale and bias are of the shape of these axes."""
    x = match["x"]
    why, rank = facts.why_not_dtype(x, FLOAT, FLOAT16, BFLOAT16), facts.shapes.rank(x)
    if why is not None or rank is None:
        return why or f"the rank of {x.name!r} is not known"
    axes = reduced_axes([match.node("m"), match.node("v")], rank)
    if isinstance(axes, str):
        return axes
    bias = match.values.get("bias")
    return normalization(x, match["y"], axes, match["scale"], bias, match.number("eps"), facts)


def _late_bias(match: Match, facts: Facts) -> Build | str | None:
    transpose = match.node("t") if "t" in match.calls else None
    return biased(match.node("n"), transpose, match["bias"], match["y"], facts)


def _growth(match: Match, square: Node) -> int:
    """Bytes by which the file grows with the shorter form: names of new values, and the constant of a square."""
    kept = {match.node(name) for name in ("m", "d", "v", "a", "s")}
    d, s, q = (match[name].name for name in ("d", "s", "q"))
    two = square.inputs[1].name if square.op == "Pow" else fresh("two")
    n, g = (match[name].name if name in match.values else fresh(s) for name in ("n", "g"))
    new = described_bytes("Pow", [d, two, q], {}, square.name) + described_bytes("Div", [d, s, n], {})
    new += described_bytes("Mul", [n, match["scale"].name, g], {})
    new += described_bytes("Add", [g, match["bias"].name, match["y"].name], {}, match.root.name)
    new += initializer_bytes(two, [], 4) if square.op == "Mul" else 0
    return new - sum(plain_bytes(one) for one in match.nodes if one not in kept)


def _usual(match: Match, _: Facts) -> Build | str | None:
    """(x - m) / s * scale + bias: fewer nodes, and the form that runtimes know.

    Everything is broadcast as it was, whatever the shapes; the scale has the element type of it all.
    """
    node, scale = match.node, constant_of(match["scale"])
    if scale is None or scale.onnx_dtype != FLOAT:
        return None
    square = node("q")
    if _growth(match, square) > 0:
        return None

    def build(scope: Graph) -> list[Node]:
        two = square.inputs[1] if square.op == "Pow" else scope.constant(np.asarray(2, np.float32), "two")
        made = {name: match[name] for name in ("q", "v", "a", "s", "n", "g") if name in match.values}
        quotient, product = (made.get(name) or scope.variable(match["s"].name) for name in ("n", "g"))
        old = {name: (node(name).name, dict(node(name).attrs), list(node(name).inputs)) for name in made}
        for name in made:
            node(name).outputs.clear()
        return [
            Node("Pow", old["q"][0], {}, [match["d"], two], [made["q"]]),
            Node("ReduceMean", *old["v"], [made["v"]]),
            Node("Add", *old["a"], [made["a"]]),
            Node("Sqrt", *old["s"], [made["s"]]),
            Node("Div", "", {}, [match["d"], made["s"]], [quotient]),
            Node("Mul", "", {}, [quotient, match["scale"]], [product]),
            Node("Add", "", {}, [product, match["bias"]], []),
        ]

    return build


RULES = (
    Rule("scale-and-bias", PLAIN, _normalization, "LayerNormalization", 17),
    Rule("folded-scale", _FOLDED, _normalization, "LayerNormalization", 17),
    Rule("usual-form", _FOLDED + _INVERSE, _usual, until=17, quiet=True),
    Rule("scale-alone", _WITHOUT_BIAS, _normalization, "LayerNormalization", 17),
    Rule("mean-of-squares", moments.PATTERNS, moments.not_asked_for, "LayerNormalization", 17),
    Rule("bias-behind", _LATE_BIAS, _late_bias, "LayerNormalization", 17),
)
_ASKED = Rule("mean-of-squares", moments.PATTERNS, moments.moments, "LayerNormalization", 17)


@dataclass(frozen=True)
class LayerNormalization(Pass):
    """Express the steps of a layer normalization as LayerNormalization, or in fewer steps.

    What it does
        Precondition: a float, float16 or bfloat16 value minus its mean, divided by the root of the mean of
        the square of that plus a constant, times a scale, plus a bias if there is one. Both means are
        over the same axes, and scale and bias are one number for each place along these, as inferred from
        the inputs; nothing else reads the values in between. All usual ways to write it are known: Pow or Mul for the
        square, Div or Reciprocal, the difference computed once or twice, and the scale multiplied into the
        inverse root first. Rewrite: one LayerNormalization (opset 17 on); over other axes than the last
        ones, such as channels of images, between two Transposes, if there are 32 numbers or more along
        them. Before opset 17: where the scale is multiplied into the inverse root, or there is a Reciprocal, the
        same in fewer nodes, as a difference, a Pow, a Div, a Mul and an Add. Main graph and bodies.

        With squares=true also where the variance is the mean of squares less the square of the mean, both
        maybe as sums times the inverse of a length, maybe not less than 0.

    Example
        before: m = ReduceMean<axes=[-1]>(x)    d = Sub(x, m)    q = Pow(d, 2)    v = ReduceMean<axes=[-1]>(q)
                a = Add(v, 1e-5)    s = Sqrt(a)    n = Div(d, s)    g = Mul(n, scale)    y = Add(g, bias)
        after:  y = LayerNormalization<axis=-1, epsilon=1e-5>(x, scale, bias)

    When not
        Double, which the operator computes in float. A scale or bias of another shape, or over other axes one that
        is not stored. No scale at all: one would have to be stored. An opset before 17, apart from
        the shorter form. squares=true where values hardly vary around a large mean: the difference of
        two means is then mostly rounding, of which no other order of computing gives the same.

    Contract
        ROUNDING. One kernel adds up in another order, in float also for narrower types.

    Source
        Ba, Kiros and Hinton, "Layer normalization", 2016. ONNX operator LayerNormalization (17).
    """

    name = "layer-normalization"
    contract = Contract.ROUNDING

    squares: bool = option(False, "also where the variance is the mean of squares less the square of the mean")

    def run(self, graph: Graph, ctx: Context) -> None:
        fuse(graph, ctx, tuple(_ASKED if rule.name == _ASKED.name and self.squares else rule for rule in RULES))
