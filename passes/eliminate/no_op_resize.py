"""Resizing to the size that is there."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.analysis.matching import operand
from graphopt.ir import Graph, Node, Tensor
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.eliminate.bypass import Facts, Finding, Near, Same, bypass, opset
from passes.eliminate.uniform import uniform

_SHIFTED = ("tf_crop_and_resize", "tf_half_pixel_for_nn")


@dataclass(frozen=True)
class NoOpResize(Pass):
    """Remove a Resize or Upsample that leaves every axis as long as it is.

    What it does
        Precondition: the scales are constant and all 1, or the sizes are provably those of the input;
        and the mode of coordinates maps every place to itself at that scale. Rewrite: whoever read the
        output reads the input, and the node goes. Shapes are inferred, symbolic dims included. Main
        graph, bodies and functions.

    Example
        before: a = Resize(x, , scales)    y = Relu(a)    where scales is float[4] {1, 1, 1, 1}
        after:  y = Relu(x)

    When not
        With `tf_crop_and_resize` a region is cut out, and with `tf_half_pixel_for_nn` every place moves
        by half a pixel, so these stay. A Resize that is told sizes may have other scales than 1 where
        an axis is not known.

    Contract
        EXACT. At scale 1 the nearest element is the element itself, and linear and cubic interpolation
        give its neighbours no weight; onnxruntime copies.

    Source
        ONNX operators: Resize (10, 11, 13, 18, 19), Upsample (7, 9).
    """

    name = "no-op-resize"
    contract = Contract.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        bypass(graph, ctx, ("Resize", "Upsample"), _find)


def _find(node: Node, facts: Facts) -> Finding:
    value = operand(node, 0)
    if value is None:
        return None
    rule = node.op.lower()
    if not _same_size(node, value, facts):
        return None
    mode = node.attrs.get("coordinate_transformation_mode", "half_pixel")
    if not isinstance(mode, str) or mode in _SHIFTED:
        return Near(rule, f"its places are moved by coordinate_transformation_mode={mode}")
    return Same(rule, value)


def _same_size(node: Node, value: Tensor, facts: Facts) -> bool:
    if node.op == "Upsample" and opset(node) < 9:
        given = node.attrs.get("scales")
        return isinstance(given, list) and bool(given) and all(one == 1.0 for one in given)
    scales = operand(node, 1 if node.op == "Upsample" or opset(node) < 11 else 2)
    if scales is not None and uniform(scales, lambda one: bool(one == 1)) is not None:
        return True
    sizes = operand(node, 3)
    if node.op == "Upsample" or sizes is None or "axes" in node.attrs:
        return False
    wanted, dims = facts.list_of(sizes), facts.dims(value)
    return wanted is not None and dims is not None and tuple(wanted) == dims
