"""Which axis of each value counts samples, through operators that keep samples apart.

A sample is apart from the others where every element of a result depends on one sample only. What is
not known to keep them so is a reason to stop. Source: the ONNX operator specifications.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from graphopt.analysis.constants import constant_values
from graphopt.analysis.matching import integers, operand
from graphopt.analysis.operator_families import BROADCAST, REDUCTIONS, SAMPLES_FIRST, SOFTMAXES, UNARY
from graphopt.analysis.shapes import Shapes
from graphopt.ir import Graph, Node, Tensor
from graphopt.ir.order import reads

_TESTS = 7  # the opset from which on a BatchNormalization takes no statistics unless told to
_ALONE = 13  # the opset from which softmax normalizes one axis, not all from one on


class Mixed(Exception):
    """Samples cannot be told apart here; the text says why, in a clause."""


class BatchAxes:
    """The batch axis of every value of a main graph, found from those of its inputs.

    `axes` has the values that carry samples. `targets` are the constant shapes of Reshape nodes that
    state the batch size and have to copy it instead (0 in the place of the first number).
    """

    def __init__(self, graph: Graph, shapes: Shapes, inputs: dict[Tensor, int], size: int) -> None:
        self.axes: dict[Tensor, int] = dict(inputs)
        self.targets: dict[Node, list[int]] = {}
        self.stop: tuple[Node, str] | None = None
        self._shapes, self._size = shapes, size
        for node in graph.nodes:
            if not any(one in self.axes for one in reads(node)):
                continue
            try:
                self._visit(node)
            except Mixed as mixed:
                self.stop = (node, str(mixed))
                return

    def _visit(self, node: Node) -> None:
        if node.bodies or not node.is_standard:
            raise Mixed(f"what {node.op} does with its samples is not known")
        rule = _RULES.get(node.op)
        if rule is None:
            raise Mixed(f"{node.op} is not known to keep samples apart")
        found = rule(self, node)
        for index, output in enumerate(node.outputs):
            if not output.name:
                continue
            if isinstance(found, tuple) and index >= len(found):
                raise Mixed(f"where {output.name!r} has its samples is not known")
            self.axes[output] = found[index] if isinstance(found, tuple) else found

    def rank(self, tensor: Tensor) -> int:
        rank = self._shapes.rank(tensor)
        if rank is None:
            raise Mixed(f"how many axes {tensor.name!r} has is not known")
        return rank

    def only_first(self, node: Node) -> int:
        """The batch axis of the first input, which alone may have one."""
        if any(one in self.axes for one in node.inputs[1:]) or node.inputs[0] not in self.axes:
            raise Mixed(f"an operand of {node.op} that is a parameter carries samples")
        return self.axes[node.inputs[0]]

    def broadcast(self, node: Node) -> int:
        if node.attrs.get("broadcast") or node.attrs.get("axis") is not None:
            raise Mixed("it broadcasts as before opset 7")
        given = [one for one in node.inputs if one.name or constant_values(one) is not None]
        places = {self.axes[one] - self.rank(one) for one in given if one in self.axes}
        if len(places) != 1:
            raise Mixed("its operands carry samples along different axes")
        place = places.pop()
        for one in given:
            dims = self._shapes.dims(one)
            if dims is None:
                raise Mixed(f"the shape of {one.name!r} is not known")
            if one not in self.axes and len(dims) >= -place and dims[place] != 1:
                raise Mixed(f"{one.name!r} has a size of its own where the other operand has its samples")
        return place + max(self.rank(one) for one in given)

    def axis_other(self, node: Node, default: int) -> tuple[int, int]:
        """The batch axis, and the axis that the operator works along, which is another one."""
        batch, rank = self.only_first(node), self.rank(node.inputs[0])
        axis = node.attrs.get("axis", default)
        if not isinstance(axis, int) or axis % rank == batch:
            raise Mixed(f"{node.op} works along the axis of the samples")
        return batch, axis % rank

    def reshape(self, node: Node) -> int:
        if self.only_first(node) != 0 or node.attrs.get("allowzero"):
            raise Mixed("it reshapes what does not have its samples first")
        target, dims = integers(node, 1, "shape"), self._shapes.dims(node.inputs[0])
        if not target or dims is None:
            raise Mixed("the shape that it makes is computed, or no axis is left")
        kept, rest = (
            list(dims[1:]),
            [dims[i] if one == 0 and i < len(dims) else one for i, one in enumerate(target)][1:],
        )
        if target[0] not in (0, -1, self._size):
            raise Mixed(f"the shape that it makes begins with {target[0]}, where there are {self._size} samples")
        if -1 not in rest and (
            any(not isinstance(one, int) for one in (*kept, *rest)) or math.prod(kept) != math.prod(rest)
        ):
            raise Mixed("it puts elements of different samples together")
        if target[0] == self._size:
            self.targets[node] = [0, *target[1:]]
        return 0


def _first(axes: BatchAxes, node: Node) -> tuple[int]:
    if axes.only_first(node) != 0:
        raise Mixed(f"{node.op} has its samples first, and here they are not")
    opset = node.graph.opset_of() if node.graph is not None else 0
    trains = opset < _TESTS and not node.attrs.get("is_test")
    if node.attrs.get("training_mode") or (node.op == "BatchNormalization" and trains):
        raise Mixed("it takes statistics over all samples")
    return (0,)


def _gemm(axes: BatchAxes, node: Node) -> int:
    batch = axes.only_first(node)
    if batch != (1 if node.attrs.get("transA") else 0):
        raise Mixed("it sums over samples")
    bias = operand(node, 2)
    dims = None if bias is None else axes._shapes.dims(bias)
    if bias is not None and (dims is None or (len(dims) == 2 and dims[0] != 1)):
        raise Mixed(f"{bias.name!r} has a row for each sample")
    return 0


def _matmul(axes: BatchAxes, node: Node) -> int:
    one, other = node.inputs[:2]
    ranks = axes.rank(one), axes.rank(other)
    if one in axes.axes and other in axes.axes:
        batch = axes.axes[one]
        if ranks[0] != ranks[1] or batch != axes.axes[other] or batch >= ranks[0] - 2:
            raise Mixed("it multiplies samples with each other")
        return batch
    if one in axes.axes:
        if axes.axes[one] == ranks[0] - 1 or ranks[1] > 2 or ranks[1] < 1:
            raise Mixed("it sums over samples, or has a matrix for each")
        return axes.axes[one]
    if axes.axes[other] >= ranks[1] - 2 or ranks[0] > 2:
        raise Mixed("it sums over samples, or has a matrix for each")
    return axes.axes[other] if ranks[0] == 2 else _no("a vector times samples")


def _no(why: str) -> int:
    raise Mixed(why)


def _transpose(axes: BatchAxes, node: Node) -> int:
    batch, rank = axes.only_first(node), axes.rank(node.inputs[0])
    perm = node.attrs.get("perm") or list(range(rank))[::-1]
    return int(list(perm).index(batch))


def _flatten(axes: BatchAxes, node: Node) -> int:
    if axes.only_first(node) != 0 or node.attrs.get("axis", 1) != 1:
        raise Mixed("it puts samples and another axis together")
    return 0


def _given_axes(axes: BatchAxes, node: Node, rank: int) -> list[int]:
    found = integers(node, 1, "axes")
    if not found:
        raise Mixed(f"the axes of {node.op} are computed, or all of them")
    return sorted(one % rank for one in found)


def _squeeze(axes: BatchAxes, node: Node) -> int:
    batch = axes.only_first(node)
    gone = _given_axes(axes, node, axes.rank(node.inputs[0]))
    if batch in gone:
        raise Mixed("it takes the axis of the samples away")
    return batch - sum(one < batch for one in gone)


def _unsqueeze(axes: BatchAxes, node: Node) -> int:
    batch, rank = axes.only_first(node), axes.rank(node.inputs[0])
    count = len(integers(node, 1, "axes") or ())
    new = _given_axes(axes, node, rank + count)
    return [one for one in range(rank + count) if one not in new][batch]


def _reduce(axes: BatchAxes, node: Node) -> int:
    batch = axes.only_first(node)
    gone = _given_axes(axes, node, axes.rank(node.inputs[0]))
    if batch in gone:
        raise Mixed("it reduces over samples")
    return batch if node.attrs.get("keepdims", 1) else batch - sum(one < batch for one in gone)


def _arg(axes: BatchAxes, node: Node) -> int:
    batch, axis = axes.axis_other(node, 0)
    return batch if node.attrs.get("keepdims", 1) else batch - (axis < batch)


def _concat(axes: BatchAxes, node: Node) -> int:
    batches = {axes.axes.get(one) for one in node.inputs}
    batch, axis = batches.pop(), node.attrs.get("axis", 1)
    if batches or batch is None or axis % axes.rank(node.inputs[0]) == batch:
        raise Mixed("it joins samples with something else")
    return batch


def _slice(axes: BatchAxes, node: Node) -> int:
    batch, rank = axes.only_first(node), axes.rank(node.inputs[0])
    given = integers(node, 3, "axes")
    if not given or batch in [one % rank for one in given]:
        raise Mixed("it takes some of the samples, or along which axes it slices is not known")
    return batch


def _gather(axes: BatchAxes, node: Node) -> int:
    data, at = node.inputs[:2]
    axis = node.attrs.get("axis", 0) % axes.rank(data)
    if data in axes.axes and at in axes.axes:
        raise Mixed("it looks samples up in samples")
    if data not in axes.axes:
        return int(axis + axes.axes[at])
    batch = axes.axes[data]
    if batch == axis:
        raise Mixed("it takes some of the samples")
    return batch if batch < axis else batch - 1 + axes.rank(at)


def _softmax(axes: BatchAxes, node: Node) -> int:
    alone = node.graph is not None and node.graph.opset_of() >= _ALONE
    batch, axis = axes.axis_other(node, -1 if alone else 1)
    if not alone and axis < batch:
        raise Mixed("it normalizes over samples")
    return batch


def _layer_norm(axes: BatchAxes, node: Node) -> int:
    batch, axis = axes.axis_other(node, -1)
    return batch if batch < axis else _no("it normalizes over samples")


def _pad(axes: BatchAxes, node: Node) -> int:
    batch, rank = axes.only_first(node), axes.rank(node.inputs[0])
    pads = integers(node, 1, "pads")
    if operand(node, 3) is not None or pads is None or len(pads) != 2 * rank or pads[batch] or pads[batch + rank]:
        raise Mixed("it pads the samples, or how it pads is not known")
    return batch


def _quantized(axes: BatchAxes, node: Node) -> int:
    if axes.rank(node.inputs[1]) == 0:
        return axes.only_first(node)
    if axes.rank(node.inputs[1]) != 1 or node.attrs.get("block_size"):
        raise Mixed("its scales may be of single samples")
    return axes.axis_other(node, 1)[0]


def _recurrent(axes: BatchAxes, node: Node) -> tuple[int, ...]:
    carried = [index for index, one in enumerate(node.inputs) if one in axes.axes]
    if node.attrs.get("layout") or any(index not in (0, 5, 6) for index in carried):
        raise Mixed("its samples are somewhere else than in its second axis")
    if any(axes.axes[node.inputs[index]] != 1 for index in carried) or 0 not in carried:
        raise Mixed("its samples are somewhere else than in its second axis")
    if any(operand(node, index) is not None for index in (4, 5, 6) if index not in carried):
        raise Mixed("a state or length is stated for each sample")
    return (2, 1, 1)


_Rule = Callable[[BatchAxes, Node], int | tuple[int, ...]]
_RULES: dict[str, _Rule] = {
    **dict.fromkeys(UNARY, BatchAxes.only_first),
    **dict.fromkeys(BROADCAST, BatchAxes.broadcast),
    **dict.fromkeys(SAMPLES_FIRST, _first),
    **dict.fromkeys(REDUCTIONS, _reduce),
    **dict.fromkeys(SOFTMAXES, _softmax),
    **dict.fromkeys(("ArgMax", "ArgMin"), _arg),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), _quantized),
    "Concat": _concat,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _gemm,
    "LayerNormalization": _layer_norm,
    "MatMul": _matmul,
    "Pad": _pad,
    "Reshape": BatchAxes.reshape,
    "Slice": _slice,
    "Split": lambda axes, node: axes.axis_other(node, 0)[0],
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
