"""InstanceNormalization from means over the places of each channel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphopt.analysis.constants import constant_of, constant_values
from graphopt.analysis.dim_bounds import at_least
from graphopt.analysis.file_bytes import plain_bytes
from graphopt.analysis.matching import integers
from graphopt.analysis.pattern import Match
from graphopt.analysis.pattern_terms import is_constant
from graphopt.ir import Graph, Node, Tensor
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.fuse.layer_normalization import PLAIN
from passes.fuse.rules import FLOAT, Build, Facts, Rule, fuse

_LEAST_RANK = 3
_ROOM = 24  # bytes of dims and names that two constants of one axis may take more


def _normalization(match: Match, facts: Facts) -> Build | str | None:
    x, scale, bias = match["x"], match["scale"], match["bias"]
    rank, dims = facts.shapes.rank(x), facts.dims(x)
    if rank is None or dims is None:
        return f"the rank of {x.name!r} is not known"
    axes = [_axes(match.node(name), rank) for name in ("m", "v")]
    if rank < _LEAST_RANK or axes != [list(range(2, rank))] * 2:
        return None
    why = facts.why_not_dtype(x, FLOAT) or facts.why_not_same_shape(x, match["y"])
    if why is None and not all(at_least(dim, 1) for dim in dims[2:]):
        why = f"{x.name!r} may have channels without places, of which the operator's kernel may crash"
    for tensor in (scale, bias):
        if why is None and not _is_per_channel(tensor, rank, dims[1]):
            why = f"{tensor.name!r} is not one number for each channel"
        if why is None and len(tensor.outputs) > 1 and not _is_flat(tensor):
            why = f"{tensor.name!r} is read by others, and would have to be stored twice"
    if why is None and sum(map(plain_bytes, match.nodes[1:])) < _ROOM:
        why = "the file would grow"
    epsilon = float(np.float32(match.number("eps")))

    def build(scope: Graph) -> list[Node]:
        flat = [one if _is_flat(one) else scope.constant(_values(one).reshape(-1), one.name) for one in (scale, bias)]
        return [Node("InstanceNormalization", "", {"epsilon": epsilon}, [x, *flat], [])]

    return why or build


def _axes(node: Node, rank: int) -> list[int] | None:
    axes = integers(node, 1, "axes")
    return None if axes is None else sorted(axis % rank for axis in axes)


def _is_per_channel(tensor: Tensor, rank: int, channels: object) -> bool:
    """Whether a constant is broadcast along every axis of `rank` but the second one."""
    if not is_constant(tensor):
        return False
    shape = _values(tensor).shape
    return len(shape) <= rank and [1] * (rank - len(shape)) + list(shape) == [1, channels] + [1] * (rank - 2)


def _is_flat(tensor: Tensor) -> bool:
    return _values(tensor).ndim == 1


def _values(tensor: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    held = constant_of(tensor)
    values = held.values if held is not None else constant_values(tensor)
    assert values is not None, "a constant has values"
    return values


RULES = (Rule("mean-of-each-channel", PLAIN, _normalization, "InstanceNormalization", 6),)


@dataclass(frozen=True)
class InstanceNormalization(Pass):
    """Express the steps of an instance normalization as InstanceNormalization.

    What it does
        Precondition: a float value with batch, channels and at least one more axis, minus its mean over all
        axes after the second, divided by the root of the mean of the square of that plus a constant,
        times one constant for each channel, plus another one; nothing else reads the values in between.
        All usual ways to write it are known, see layer-normalization. Rewrite: one
        InstanceNormalization; scale and bias are stored with one axis. Main graph and bodies.

    Example
        before: m = ReduceMean<axes=[2, 3]>(x)    d = Sub(x, m)    q = Mul(d, d)    v = ReduceMean<axes=[2, 3]>(q)
                a = Add(v, 1e-5)    s = Sqrt(a)    n = Div(d, s)    g = Mul(n, scale)    y = Add(g, bias)
        after:  y = InstanceNormalization<epsilon=1e-5>(x, scale, bias)

    When not
        Other element types than float, which onnxruntime computes with casts or not at all. Channels that
        come last, scales that are computed, or none: they would have to be stored. Sizes after the channels
        that are not known to be 1 or more: onnxruntime's kernel may crash where there is nothing to add up.

    Contract
        ROUNDING. One kernel adds up in another order.

    Source
        Ulyanov, Vedaldi and Lempitsky, "Instance normalization: the missing ingredient for fast stylization",
        2016. ONNX operator InstanceNormalization (6, 22).
    """

    name = "instance-normalization"
    contract = Contract.ROUNDING

    def run(self, graph: Graph, ctx: Context) -> None:
        fuse(graph, ctx, RULES)
