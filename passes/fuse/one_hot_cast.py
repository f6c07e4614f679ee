"""One-hot encodings of the element type that is wanted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphopt.analysis.constants import constant_values
from graphopt.analysis.file_bytes import described_bytes, fresh, initializer_bytes, plain_bytes
from graphopt.analysis.pattern import Match, Pattern
from graphopt.ir import Graph, Node
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.fuse.rules import Build, Facts, Rule, fuse

_INT64 = 7
_PATTERNS = (Pattern("o = OneHot(indices, depth, ?values)  y = Cast<to=1>(o)"),)


def _cast(match: Match, facts: Facts) -> Build | str | None:
    values = constant_values(match["values"])
    if values is None or values.dtype != np.int64 or values.size != 2:
        return None
    cast = values.astype(np.float32)
    if not np.array_equal(cast.astype(np.int64), values):
        return f"{match['values'].name!r} holds numbers that float does not"
    if facts.dtype(match["indices"]) != _INT64 or facts.dtype(match["depth"]) != _INT64:
        return "the indices and the depth are not int64"
    node, root = match.node("o"), match.root
    reads = [match["indices"].name, match["depth"].name, fresh("values"), root.outputs[0].name]
    made = described_bytes("OneHot", reads, node.attrs, root.name) + initializer_bytes(fresh("values"), [2], 8)
    if len(match["values"].outputs) > 1 and made > plain_bytes(node) + plain_bytes(root):
        return f"{match['values'].name!r} is read by others, and would have to be stored twice"

    def build(scope: Graph) -> list[Node]:
        stored = scope.constant(cast, "values")
        return [Node("OneHot", "", dict(node.attrs), [match["indices"], match["depth"], stored], [])]

    return build


RULES = (Rule("cast-of-one-hot", _PATTERNS, _cast, "OneHot", 9),)


@dataclass(frozen=True)
class OneHotCast(Pass):
    """Let OneHot write floats where its integers are cast to float.

    What it does
        Precondition: a OneHot of int64 indices and depth, whose two values are a constant of int64 that
        float can hold, is read by one Cast to float and by nothing else. Rewrite: the values are stored
        as float, and the Cast goes. Main graph and bodies.

    Example
        before: o = OneHot(i, depth, [0, 1])    y = Cast<to=1>(o)
        after:  y = OneHot(i, depth, [0.0, 1.0])

    When not
        Other element types, for which onnxruntime may have no OneHot. Values that others read too, where
        storing them again would take more bytes than the Cast.

    Contract
        EXACT. Both values are the same numbers, and a OneHot only copies them.

    Source
        ONNX operators OneHot (9, 11), Cast (6, 9, 13, 19, 21, 23).
    """

    name = "one-hot-cast"
    contract = Contract.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        fuse(graph, ctx, RULES)
