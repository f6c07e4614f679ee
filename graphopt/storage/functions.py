"""Model-local functions that call each other: no recursion, and no more calls than can be inlined.

Everything that reads a model inlines its functions sooner or later, so forty functions that each
call the next one twice are a model of 2^40 nodes. The size is computed, never built.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from graphopt.errors import BadModel, OverLimit
from graphopt.ir.wording import shown

Key = tuple[str, str, str]


def check_functions(proto: onnx.ModelProto, what: str, limit: int) -> None:
    """Check that functions do not call themselves and that inlining them stays under `limit` nodes.

    Raises BadModel naming a function of the cycle, OverLimit with the size it would have.
    """
    if not proto.functions:
        return
    functions = {_key(f.domain, f.name, f.overload): f for f in proto.functions}
    sizes: dict[Key, int] = {}
    entered: set[Key] = set()
    pending: list[tuple[Key, bool]] = [(key, False) for key in functions]
    while pending:
        key, left = pending.pop()
        if key in sizes:
            continue
        nodes = list(_nodes(functions[key].node))
        calls = [_key(n.domain, n.op_type, n.overload) for n in nodes]
        if left:
            sizes[key] = len(nodes) + sum(sizes.get(call, 0) for call in calls)
            continue
        if key in entered:
            continue
        entered.add(key)
        pending.append((key, True))
        for call in calls:
            if call in functions and call not in sizes:
                if call in entered:
                    raise BadModel(
                        f"{what} has a function {shown(call[1])} that calls itself; functions cannot recurse"
                    )
                pending.append((call, False))
    total = sum(1 + sizes.get(_key(n.domain, n.op_type, n.overload), 0) for n in _nodes(proto.graph.node))
    if total > limit:
        raise OverLimit(f"{what} has {total:.4g} nodes once its functions are inlined, more than the limit of {limit}")


def _key(domain: str, name: str, overload: str) -> Key:
    return ("" if domain == "ai.onnx" else domain, name, overload)


def _nodes(nodes: object) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph or function with those of the bodies in them."""
    pending = [nodes]
    while pending:
        for node in pending.pop():  # type: ignore[attr-defined]
            yield node
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    pending.append(attribute.g.node)
                pending.extend(graph.node for graph in attribute.graphs)
