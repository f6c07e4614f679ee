"""Layer normalization by the mean of squares less the square of the mean, as sums over any axes."""

from __future__ import annotations

import itertools
from typing import Final

from graphopt.analysis.pattern import Match, Pattern
from graphopt.ir import Tensor
from passes.fuse.normalized_axes import normalization
from passes.fuse.rules import Build, Facts
from passes.fuse.trailing_axes import reduced_axes

_MEANS: Final = (  # of x and of its squares
    "m = ReduceMean<keepdims=1>(x, _)  q = {square}(x, {x})  e = ReduceMean<keepdims=1>(q, _)  ",
    "i = ReduceSum<keepdims=1>(x, _)  m = Mul(i, #count)  q = {square}(x, {x})  "
    "j = ReduceSum<keepdims=1>(q, _)  e = Mul(j, #count)  ",
)
_SQUARES: Final = (("Mul", "x", "m"), ("Pow", "2", "2"))
_KEPT: Final = "d = Sub(x, m)  a = Add({v}, #eps)  "
_PUT_BACK: Final = "b = Reshape|Unsqueeze(m, _)  d = Sub(x, b)  w = Reshape|Unsqueeze({v}, _)  a = Add(w, #eps)  "
_ENDS: Final = (
    "s = Sqrt(a)  r = Reciprocal(s)  f = Mul(r, scale)  y = Mul(d, f)",
    "s = Sqrt(a)  r = Reciprocal(s)  n = Mul(d, r)  y = Mul(n, scale)",
    "s = Sqrt(a)  n = Div(d, s)  y = Mul(n, scale)",
    "r = Pow(a, -0.5)  f = Mul(r, scale)  y = Mul(d, f)",
)


def _patterns() -> tuple[Pattern, ...]:
    found = []
    for mean, square, clamped, put_back, end in itertools.product(
        _MEANS, _SQUARES, (False, True), (False, True), _ENDS
    ):
        op, x, m = square
        text = mean.format(square=op, x=x)
        if put_back:
            text = text.replace("keepdims=1", "keepdims=0")
        text += f"p = {op}(m, {m})  v = Sub(e, p)  " + ("c = Max(v, 0)  " if clamped else "")
        rest = _PUT_BACK if put_back else _KEPT
        found.append(Pattern(text + rest.format(v="c" if clamped else "v") + end))
    return tuple(found)


PATTERNS: Final = _patterns()


def not_asked_for(_: Match, __: Facts) -> str:
    """Why it stays by default."""
    return "the variance is a difference of means, whose rounding may be anything: squares=true takes it"


def moments(match: Match, facts: Facts) -> Build | str | None:
    """LayerNormalization, over the last axes or between Transposes."""
    x, dims = match["x"], facts.dims(match["x"])
    if dims is None:
        return f"the rank of {x.name!r} is not known"
    sums = "i" in match.calls
    axes = reduced_axes([match.node(name) for name in ("ij" if sums else "me")], len(dims))
    if isinstance(axes, str):
        return axes
    if sums:
        count = 1.0
        for axis in axes:
            size = dims[axis]
            if not isinstance(size, int):
                return f"it is not known of how many numbers {match.node('i').label!r} is the sum"
            count *= size
        if abs(match.number("count") * count - 1) > 1e-6:
            return f"the sum of {count:g} numbers is multiplied by {match.number('count'):g}, which makes no mean"
    for name in ("b", "w"):
        if name in match.calls and not _put_back(match[name], dims, axes, facts):
            return f"{match[name].name!r} may not have the axes of {x.name!r}"
    return normalization(x, match["y"], axes, match["scale"], None, match.number("eps"), facts)


def _put_back(tensor: Tensor, dims: tuple[object, ...], axes: list[int], facts: Facts) -> bool:
    """Whether a value that lost `axes` has them again, with one number along each.

    All numbers are still there, in the same order: if all sizes but one are known to be right, that one is, too.
    """
    found = facts.dims(tensor)
    if found is None or len(found) != len(dims) or any(found[axis] != 1 for axis in axes):
        return False
    return sum(found[axis] != dims[axis] for axis in range(len(dims)) if axis not in axes) <= 1
