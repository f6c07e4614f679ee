"""Common subexpressions: the same operator on the same values."""

from __future__ import annotations

import struct
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from graphopt.analysis.annotations import Annotations
from graphopt.analysis.determined import Determined
from graphopt.analysis.spelling import longer_names
from graphopt.ir import Constant, Graph, Node
from graphopt.ir.attributes import Opaque
from graphopt.ir.tensors import Stored
from graphopt.ir.values import Array
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.eliminate.sight import Sight

RULE = "same"
_COMPARED = 4096  # bytes of a tensor attribute up to which it is compared


@dataclass(frozen=True)
class CommonSubexpressions(Pass):
    """Compute once what is computed twice.

    What it does
        Precondition: two nodes have the same operator, domain and overload, attributes of the same
        bits, the same values in the same input slots, and name the same output slots; the operator is
        a function of its inputs; and the first node can be seen from the second one: it stands
        earlier in the same graph, or in a graph around it. Rewrite: whoever read the second node
        reads the first, and the second goes. Main graph, bodies and functions.

    Example
        before: a = Exp(x)    b = Exp(x)    y = Mul(a, b)
        after:  a = Exp(x)    y = Mul(a, a)

    When not
        Operators that draw random numbers, with a seed or without, and those of unknown domains.
        Nodes with bodies are not compared, nor Constant nodes (see duplicate-initializers). Where
        both results are outputs of the graph, each needs a node of its own. The order of operands
        counts, also where it makes no difference. Where so many readers would spell out a longer
        name that the file grew, the nodes stay.

    Contract
        EXACT. One node with the same inputs takes the place of another.

    Source
        Local value numbering: Cocke and Schwartz, "Programming Languages and Their Compilers", 1970.
    """

    name = "common-subexpressions"
    contract = Contract.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        # Again, because an output that hands its name on can free what a name stood in the way of.
        while _Work(graph, ctx).sweep():
            pass


class _Work:
    def __init__(self, graph: Graph, ctx: Context) -> None:
        self.graph, self.ctx = graph, ctx
        self.determined = Determined(graph)
        self.annotations = Annotations(graph)

    def sweep(self) -> int:
        """Go over the model once; how many nodes went."""
        removed = 0
        for top in (self.graph, *self.graph.functions):
            sight = Sight[Node]()
            for node in sight.walk(top):
                if isinstance(node, Graph) or (key := self.key(node)) is None:
                    continue
                first = sight.find(key)
                if first is None:
                    sight.note(key, node)
                elif (why := self.why_not(node, first)) is not None:
                    self.ctx.missed(RULE, node, why)
                elif self.ctx.rewrite(RULE, node, f"as {first.label}"):
                    self.merge(node, first)
                    removed += 1
        return removed

    def key(self, node: Node) -> Hashable:
        """What nodes that compute the same have in common; None for one that is not compared."""
        if node.is_op("Constant") or node.bodies or not any(output.name for output in node.outputs):
            return None
        attributes = []
        for name in sorted(node.attrs):
            value = _bits(node.attrs[name])
            if value is None:
                return None
            attributes.append((name, value))
        inputs = [one if one.name or isinstance(one, Constant) else None for one in node.inputs]
        while inputs and inputs[-1] is None:
            inputs.pop()
        named = tuple(bool(output.name) for output in node.outputs)
        domain = "" if node.is_standard else node.domain
        return (domain, node.op, node.overload, tuple(inputs), tuple(attributes), named)

    def why_not(self, node: Node, first: Node) -> str | None:
        """Why `first` cannot stand for `node`, in a clause."""
        why = self.determined.obstacle(node)
        if why is not None:
            return why
        pairs = [(old, new) for old, new in zip(node.outputs, first.outputs, strict=True) if old.name]
        for old, new in pairs:
            scope = node.graph
            assert scope is not None, "a node that is walked is in a graph"
            why = self.annotations.about(old) or scope.why_not_replace(old, new)
            if why is not None:
                return why
        own = len(node.op) + sum(len(one.name.encode()) + 2 for one in (*node.inputs, *node.outputs))
        if sum(longer_names(old, new) for old, new in pairs) > own:
            return f"the file would grow: its readers would spell out the longer names of {first.label!r}"
        return None

    def merge(self, node: Node, first: Node) -> None:
        scope = node.graph
        assert scope is not None, "a node that is walked is in a graph"
        for old, new in list(zip(node.outputs, first.outputs, strict=True)):
            if old.name:
                scope.replace_uses(old, new)
        scope.remove(node)


def _bits(value: Any) -> Hashable:
    """The value of an attribute such that equal ones are the same to the last bit; None for one that
    is not compared."""
    if isinstance(value, bool | int):
        return ("i", int(value))
    if isinstance(value, float):
        return ("f", struct.pack("<d", value))
    if isinstance(value, str | bytes):
        return ("s", value.encode() if isinstance(value, str) else value)
    if isinstance(value, list | tuple):
        parts = tuple(_bits(one) for one in value)
        return None if None in parts else ("l", parts)
    if isinstance(value, Constant):
        return _tensor_bits(value)
    if isinstance(value, Opaque):
        return ("o", value.proto.SerializeToString(deterministic=True))
    return None


def _tensor_bits(held: Constant) -> Hashable:
    if held.nbytes > _COMPARED:
        return None
    stored = held.stored
    raw = stored.payload() if isinstance(stored, Stored) else None
    if raw is not None:
        return ("t", held.onnx_dtype, tuple(held.shape), bytes(raw))
    values: Array = held.values
    if values.dtype == object:
        return ("t", held.onnx_dtype, tuple(held.shape), tuple(values.ravel().tolist()))
    return ("t", held.onnx_dtype, tuple(held.shape), values.tobytes())
