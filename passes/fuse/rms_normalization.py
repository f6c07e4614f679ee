"""RMSNormalization from a mean of squares and its root."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from graphopt.analysis.pattern import Match, Pattern
from graphopt.ir import Graph
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.fuse.rules import FLOAT, FLOAT16, Build, Facts, Rule, fuse, single
from passes.fuse.trailing_axes import first_axis, why_no_parameter

_SQUARES = ("q = Pow(z, 2)  ", "q = Mul(z, z)  ")
_MEAN = "v = ReduceMean<keepdims=1>(q, _)  a = Add(v, #eps)  "
_QUOTIENTS = (
    "s = Sqrt(a)  n = Div(z, s)  ",
    "s = Sqrt(a)  r = Reciprocal(s)  n = Mul(z, r)  ",
    "s = Sqrt(a)  r = Div(1, s)  n = Mul(z, r)  ",
    "r = Pow(a, -0.5)  n = Mul(z, r)  ",
)
_CORES = tuple(square + _MEAN + quotient for square, quotient in itertools.product(_SQUARES, _QUOTIENTS))
_PLAIN = tuple(Pattern(core.replace("z", "x") + "y = Mul(n, scale)") for core in _CORES)
_WIDENED = tuple(Pattern(f"z = Cast<to=1>(x)  {core}k = Cast<to=10>(n)  y = Mul(k, scale)") for core in _CORES)


def _plain(match: Match, facts: Facts) -> Build | str | None:
    return facts.why_not_dtype(match["x"], FLOAT) or _normalization(match, facts)


def _widened(match: Match, facts: Facts) -> Build | str | None:
    """Computed in float and rounded to float16 before it is scaled, which is what stash_type 1 means."""
    return facts.why_not_dtype(match["x"], FLOAT16) or _normalization(match, facts)


def _normalization(match: Match, facts: Facts) -> Build | str | None:
    x, scale = match["x"], match["scale"]
    why = facts.why_not_same_shape(x, match["y"])
    rank = facts.shapes.rank(x)
    if why is not None or rank is None:
        return why or f"the rank of {x.name!r} is not known"
    axis = first_axis([match.node("v")], rank)
    if isinstance(axis, str):
        return axis
    attrs: dict[str, object] = {"axis": axis - rank, "epsilon": float(np.float32(match.number("eps")))}
    return why_no_parameter(scale, x, axis, facts) or single("RMSNormalization", [x, scale], attrs)


RULES = (
    Rule("root-mean-square", _PLAIN, _plain, "RMSNormalization", 23),
    Rule("root-mean-square-of-float16", _WIDENED, _widened, "RMSNormalization", 23),
)


@dataclass(frozen=True)
class RmsNormalization(Pass):
    """Express a division by the root of the mean of squares as RMSNormalization.

    What it does
        Precondition: a float value is divided by the root of the mean of its squares plus a constant, and
        multiplied by a scale of the shape of the axes that the mean is over, which are the last ones;
        or a float16 value is cast to float for that, and cast back before it is scaled; nothing else
        reads the values in between. Rewrite: one RMSNormalization, from opset 23 on. Main graph and bodies.

    Example
        before: q = Pow(x, 2)    v = ReduceMean(q, [-1])    a = Add(v, 1e-6)    s = Sqrt(a)
                r = Reciprocal(s)    n = Mul(x, r)    y = Mul(n, scale)
        after:  y = RMSNormalization<axis=-1, epsilon=1e-6>(x, scale)

    When not
        An opset before 23. A mean over other axes than the last ones, a scale of another shape, other
        element types.

    Contract
        ROUNDING. One kernel adds up in another order.

    Source
        Zhang and Sennrich, "Root mean square layer normalization", 2019. ONNX operator RMSNormalization (23).
    """

    name = "rms-normalization"
    contract = Contract.ROUNDING

    def run(self, graph: Graph, ctx: Context) -> None:
        fuse(graph, ctx, RULES)
