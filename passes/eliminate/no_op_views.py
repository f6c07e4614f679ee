"""Views that show a tensor as it is: same elements, same order, same shape."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.analysis.dim_bounds import at_least
from graphopt.analysis.matching import integers, operand
from graphopt.ir import Graph, Node, Tensor
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.eliminate.bypass import Facts, Finding, Same, bypass, number, opset


@dataclass(frozen=True)
class NoOpViews(Pass):
    """Remove reshapes to the same shape, transposes that move nothing, repetitions of once.

    What it does
        One rule for each operator, named after it. "transpose": only axes of size 1 change places.
        "reshape", "flatten": the shape that comes out is provably the one that went in; a -1 counts
        as the axis that is left when all others are the same, and a Reshape of a tensor of one axis to
        [-1] is one, too. "squeeze": no axes are named, and none can be of size 1, or the list is
        empty. "unsqueeze": the list of axes is empty. "expand": every wanted size is 1 or the size
        that the axis has. "tile": every repetition is 1. "depth-to-space", "space-to-depth": the
        block size is 1. Whoever read the output reads the input, and the node goes. Shapes are
        inferred from the inputs of the model, symbolic dims included. Main graph, bodies and
        functions.

    Example
        before: a = Reshape(x, [-1, 4])    y = Relu(a)    where x is [N, 4]
        after:  y = Relu(x)

    When not
        Where a shape is only known at run time, and may be another one, the node stays: an Expand
        enlarges a symbolic axis that happens to be 1. Two views in a row are not looked at together.
        An input or an initializer cannot become an output of the graph.

    Contract
        EXACT. The operators copy; the elements, their order and the shape are the same.

    Source
        ONNX operators: Transpose, Reshape (5, 13, 14, 19 ...), Flatten, Squeeze and Unsqueeze (1, 11,
        13 ...), Expand, Tile (6, 13), DepthToSpace, SpaceToDepth.
    """

    name = "no-op-views"
    contract = Contract.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        bypass(graph, ctx, _KEEPS, _find)


def _find(node: Node, facts: Facts) -> Finding:
    value = operand(node, 0)
    rule, keeps = _KEEPS[node.op]
    if value is None or not keeps(node, value, facts):
        return None
    return Same(rule, value)


def _transpose(node: Node, value: Tensor, facts: Facts) -> bool:
    order = node.attrs.get("perm")
    if isinstance(order, list) and order == list(range(len(order))):
        return True
    dims = facts.dims(value)
    if dims is None or not (order is None or isinstance(order, list)):
        return False
    order = list(reversed(range(len(dims)))) if order is None else order
    if sorted(order) != list(range(len(dims))):
        return False
    return all(axis == place or dims[axis] == 1 for place, axis in enumerate(order))


def _same(node: Node, value: Tensor, facts: Facts) -> bool:
    return facts.same_shape(value, node.outputs[0])


def _squeeze(node: Node, value: Tensor, facts: Facts) -> bool:
    dims = facts.dims(value)
    # Only axes of size 1 can be named; with no names, some take no axis and others every one of size 1.
    return dims is not None and all(dim == 0 or at_least(dim, 2) for dim in dims)


def _unsqueeze(node: Node, value: Tensor, facts: Facts) -> bool:
    return integers(node, 1, "axes") == []


def _expand(node: Node, value: Tensor, facts: Facts) -> bool:
    shape = operand(node, 1)
    if shape is None:
        return False
    sizes = facts.dims(shape)
    if sizes == (0,):
        return True
    return facts.same_shape(value, node.outputs[0])


def _tile(node: Node, value: Tensor, facts: Facts) -> bool:
    repeats = operand(node, 1)
    if opset(node) < 6 or repeats is None:
        return False
    times = facts.list_of(repeats)
    return times is not None and all(one == 1 for one in times)


def _block(node: Node, value: Tensor, facts: Facts) -> bool:
    return number(node, "blocksize", 0) == 1


_KEEPS = {
    "Transpose": ("transpose", _transpose),
    "Reshape": ("reshape", _same),
    "Flatten": ("flatten", _same),
    "Squeeze": ("squeeze", _squeeze),
    "Unsqueeze": ("unsqueeze", _unsqueeze),
    "Expand": ("expand", _expand),
    "Tile": ("tile", _tile),
    "DepthToSpace": ("depth-to-space", _block),
    "SpaceToDepth": ("space-to-depth", _block),
}
