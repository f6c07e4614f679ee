"""A fixed batch size becomes a symbol."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphopt.analysis.annotations import Annotations
from graphopt.analysis.batch_axis import BatchAxes
from graphopt.ir import Constant, Graph, Node, Tensor
from graphopt.ir.dimensions import redeclare
from graphopt.ir.dissolve import constants_are_nodes
from graphopt.pipeline.protocol import Context, Contract, Pass, option

RULE = "free"


@dataclass(frozen=True)
class DynamicBatch(Pass):
    """Let a model of a fixed batch size take any.

    What it does
        Precondition: all inputs with axes have the same number in front, and every operator on the way to the
        outputs is known to keep samples apart: each element of its result depends on one sample. Rewrite: that
        number becomes `symbol` in the declarations of inputs, outputs and values between, and the first number
        of Reshape targets that state it becomes 0, which copies it. All or nothing: where one operator does not
        allow it, nothing changes, and a remark names it.

    Example
        `dynamic-batch{symbol="N"}`
        before: float[1, 3, 4] x    t = [1, 12]    y = Reshape(x, t)    outputs: float[1, 12] y
        after:  float[N, 3, 4] x    t = [0, 12]    y = Reshape(x, t)    outputs: float[N, 12] y

    When not
        Operators that work along the axis of the samples, constants with a value for each sample, shapes that
        are computed, bodies and functions (see inline-functions), and operators that the pass does not know.

    Contract
        EXACT, for the batch size of before. Inputs and outputs are declared differently afterwards. The file
        may grow by the symbol and by a target that others read as it was.

    Source
        ONNX IR specification, "Tensor shapes" (`dim_param`, `dim_value`).
    """

    name = "dynamic-batch"
    contract = Contract.EXACT
    changes = ("inputs", "outputs")
    grows = True

    symbol: str = option("N", "what the batch size is called afterwards")

    def run(self, graph: Graph, ctx: Context) -> None:
        inputs = [one for one in graph.inputs if one not in graph.defaults]
        if not inputs or any(self.symbol in (one.shape or ()) for one in inputs):
            return
        shaped = [one for one in inputs if one.shape != []]
        sizes = {one.shape[0] if one.shape else None for one in shaped}
        size = next(iter(sizes), None)
        if len(sizes) != 1 or not isinstance(size, int):
            if any(isinstance(one, int) for one in sizes):
                ctx.missed(RULE, shaped[0], "the inputs do not all begin with the same number")
            return
        found = BatchAxes(graph, ctx.shapes, dict.fromkeys(shaped, 0), size)
        annotations = Annotations(graph)
        if found.stop is not None:
            ctx.missed(RULE, *found.stop)
        elif ctx.rewrite(RULE, shaped[0], f"{size} becomes {self.symbol}"):
            for node, target in found.targets.items():
                _retarget(graph, node, target, annotations)
            axes, symbol = found.axes, self.symbol
            redeclare(graph, lambda tensor, axis, dim: symbol if axes.get(tensor) == axis else dim)


def _retarget(graph: Graph, node: Node, target: list[int], annotations: Annotations) -> None:
    """Give a Reshape another constant target; the old one goes where nobody else reads it."""
    if len(node.inputs) < 2:
        node.attrs["shape"] = target
        return
    old, values = node.inputs[1], np.array(target, np.int64)
    if constants_are_nodes(graph):
        new: Tensor = graph.variable(old.name)
        graph.insert(Node("Constant", "", {"value": Constant("", values)}, [], [new]), before=node)
    else:
        new = graph.constant(values, old.name)
    graph.rewire(node, 1, new)
    if isinstance(old, Constant) and not old.is_read and annotations.needs(old) is None:
        graph.remove_initializer(old)
    elif old.inputs and old.inputs[0].is_op("Constant") and not old.is_read:
        graph.remove(old.inputs[0])
