"""Model-local functions that call each other: no recursion, and no more calls than can be inlined.

Everything that reads a model inlines its functions sooner or later, so forty functions that each
call the next one twice are a model of 2^40 nodes. The size is computed, never built.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import onnx

from graphopt.errors import BadModel, OverLimit
from graphopt.ir.wording import shown
from graphopt.limits import Limits, how_to_move

Key = tuple[str, str, str]


def check_functions(proto: onnx.ModelProto, what: str, limits: Limits) -> None:
    """Check that functions do not call themselves, nor each other in too long a row, and that inlining them
    stays within the limit of nodes.

    Raises BadModel naming a function of the cycle, OverLimit with the size or the row it would have.
    """
    if not proto.functions:
        return
    functions = {_key(f.domain, f.name, f.overload): f for f in proto.functions}
    sizes: dict[Key, int] = {}
    rows: dict[Key, int] = {}
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
            rows[key] = 1 + max((rows.get(call, 0) for call in calls), default=0)
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
    longest = max(rows.values())
    if longest > limits.calls:
        raise OverLimit(
            f"{what} has {longest} functions that call one another in a row, more than the limit of {limits.calls}"
        )
    if total > limits.inlined_nodes:
        size = str(total) if total < 10**15 else f"{Decimal(total):.3e}"
        raise OverLimit(
            f"{what} has {size} nodes once its functions are inlined, "
            f"more than the limit of {limits.inlined_nodes}; {how_to_move('inlined_nodes')}"
        )


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
