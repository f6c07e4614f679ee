"""In which order layers are rounded when later ones are to see what rounding the earlier ones did."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from graphopt.analysis.weights import Weight
from graphopt.ir import Graph, Node, Tensor
from passes.quantize.candidates import Plan


def staged(graph: Graph, plans: Sequence[Plan], most: int) -> list[list[Plan]]:
    """The plans in at most `most` groups (0: as many as there are levels), shallow ones first.

    The level of a layer is how many layers lie on the longest way to it; layers of one level do not
    depend on each other. Within a group the order of the plans stays.
    """
    levels = _levels(graph, {site.node for plan in plans for site in plan.weight.sites})
    level = [_level(plan.weight, levels) for plan in plans]
    distinct = sorted(set(level))
    count = min(most or len(distinct), len(distinct))
    group = {one: index * count // len(distinct) for index, one in enumerate(distinct)}
    made: list[list[Plan]] = [[] for _ in range(count)]
    for plan, one in zip(plans, level, strict=True):
        made[group[one]].append(plan)
    return made


def _level(weight: Weight, levels: dict[Node, int]) -> int:
    return max((levels.get(_outermost(site.node), 0) for site in weight.sites), default=0)


def _levels(graph: Graph, layers: Collection[Node]) -> dict[Node, int]:
    """For each node of the main graph, the layers on the longest way to it, itself included; what is in
    its bodies counts as its own."""
    main = graph.root
    outer = {_outermost(node) for node in layers}
    depth: dict[Tensor, int] = {}
    levels: dict[Node, int] = {}
    for node in main.nodes:
        read = [
            *node.inputs,
            *(tensor for body in node.subgraphs(recursive=True) for one in body.nodes for tensor in one.inputs),
        ]
        level = max((depth.get(tensor, 0) for tensor in read), default=0) + (node in outer)
        levels[node] = level
        for tensor in node.outputs:
            depth[tensor] = level
    return levels


def _outermost(node: Node) -> Node:
    """The node of the main graph or of a function that `node` is, or is in a body of."""
    while node.graph is not None and isinstance(node.graph.parent, Node):
        node = node.graph.parent
    return node
