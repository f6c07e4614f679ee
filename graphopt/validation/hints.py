"""Sizes that the weights dictate: the channels of a Conv, the depth of a MatMul, the width of an LSTM."""

from __future__ import annotations

from collections import deque
from typing import Final

from graphopt.validation.flow import Flow, Reader, Value
from graphopt.validation.signature import Input

REACH: Final = 4096
Axes = tuple[int | None, ...]  # for each axis of a value, the axis of the input that it is

# (operator, operand slot) -> (axis of that operand, slot of the weight, axis of the weight)
_DEPTHS: Final[dict[tuple[str, int], tuple[tuple[int, int, int], ...]]] = {
    ("ConvTranspose", 0): ((1, 1, 0),),
    ("MatMul", 0): ((-1, 1, -2),),
    ("MatMul", 1): ((-2, 0, -1),),
    ("FusedMatMul", 0): ((-1, 1, -2),),
    ("MatMulInteger", 0): ((-1, 1, -2),),
    ("MatMulIntegerToFloat", 0): ((-1, 1, -2),),
    ("DynamicQuantizeMatMul", 0): ((-1, 1, -2),),
    ("QLinearMatMul", 0): ((-1, 3, -2),),
    ("Attention", 0): ((-1, 1, 0),),
    ("LSTM", 0): ((2, 1, 2),),
    ("GRU", 0): ((2, 1, 2),),
    ("RNN", 0): ((2, 1, 2),),
    ("LSTM", 5): ((0, 2, 0), (2, 2, 2)),
    ("LSTM", 6): ((0, 2, 0), (2, 2, 2)),
    ("GRU", 5): ((0, 2, 0), (2, 2, 2)),
    ("RNN", 5): ((0, 2, 0), (2, 2, 2)),
    ("DynamicQuantizeLSTM", 0): ((2, 1, 1),),
    ("DynamicQuantizeLSTM", 5): ((0, 2, 0), (2, 2, 1)),
    ("DynamicQuantizeLSTM", 6): ((0, 2, 0), (2, 2, 1)),
    ("BatchNormalization", 0): ((1, 1, 0),),
    ("InstanceNormalization", 0): ((1, 1, 0),),
    ("LayerNormalization", 0): ((-1, 1, -1),),
    ("SimplifiedLayerNormalization", 0): ((-1, 1, -1),),
    ("SkipLayerNormalization", 0): ((-1, 2, -1),),
    ("SkipLayerNormalization", 1): ((-1, 2, -1),),
}
_CONVS: Final = {"Conv": 1, "ConvInteger": 1, "FusedConv": 1, "QLinearConv": 3}
_SAME_AXES: Final = frozenset(
    {"Identity", "Cast", "Relu", "LeakyRelu", "Sigmoid", "Tanh", "Erf", "Exp", "Log", "Sqrt", "Abs", "Neg", "Clip"}
    | {"Dropout", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "HardSwish", "HardSigmoid", "Elu"}
    | {"Selu", "Softplus", "Pow", "Round", "Floor", "Ceil", "Gelu", "Softmax"}
)
_BROADCASTING: Final = frozenset(("Add", "Sub", "Mul", "Div", "Max", "Min", "PRelu", "Where"))


def size_hints(inputs: tuple[Input, ...], flow: Flow) -> dict[str, int]:
    """Sizes of symbols, as far as the weights that the inputs meet fix them."""
    hints: dict[str, int] = {}
    for wanted in inputs:
        if wanted.symbols and wanted.dims is not None:
            for axis, size in _sizes(wanted, flow).items():
                symbol = wanted.dims[axis]
                if isinstance(symbol, str) and size > 0:
                    hints.setdefault(symbol, size)
    return hints


def _sizes(wanted: Input, flow: Flow) -> dict[int, int]:
    """Axis of the input -> size that some weight asks for."""
    rank = len(wanted.dims or ())
    found: dict[int, int] = {}
    start = Value(0, wanted.name)
    pending: deque[tuple[Value, Axes]] = deque([(start, tuple(range(rank)))])
    seen = {start}
    while pending and len(seen) < REACH:
        value, axes = pending.popleft()
        for reader in flow.readers(value):
            for axis, size in _asked(reader, axes, flow):
                if axis is not None:
                    found.setdefault(axis, size)
            onward = [(each, axes) for each in flow.inner(reader) if reader.node.op_type != "Scan"]
            for each in [*onward, *_onward(reader, axes, flow)]:
                if each[0] not in seen:
                    seen.add(each[0])
                    pending.append(each)
    return found


def _asked(reader: Reader, axes: Axes, flow: Flow) -> list[tuple[int | None, int]]:
    """Pairs (axis of the input, size) that this operand slot fixes."""
    op, slot, rank = reader.node.op_type, reader.slot, len(axes)
    asked: list[tuple[int, int]] = []
    if op in _CONVS and slot == 0:
        weight = flow.dims(reader.operand(_CONVS[op]))
        if weight and len(weight) > 1 and isinstance(weight[1], int):
            asked.append((1, weight[1] * reader.attribute("group", 1)))
    elif op in ("Gemm", "FusedGemm") and slot == 0:
        weight = flow.dims(reader.operand(1))
        depth = 1 if reader.attribute("transB", 0) else 0
        if weight and len(weight) == 2 and isinstance(size := weight[depth], int):
            asked.append((0 if reader.attribute("transA", 0) else 1, size))
    elif op == "MatMulNBits" and slot == 0:
        asked.append((-1, reader.attribute("K", 0)))
    elif op in _BROADCASTING:
        other = next((dims for dims in map(flow.dims, _others(reader)) if dims), ())
        asked += [(-i, size) for i, size in enumerate(reversed(other), 1) if isinstance(size, int) and size > 1]
    for axis, weight_slot, weight_axis in _DEPTHS.get((op, slot), ()):
        weight = flow.dims(reader.operand(weight_slot))
        if weight:
            place = 0 if len(weight) == 1 else weight_axis
            if -len(weight) <= place < len(weight) and isinstance(size := weight[place], int):
                asked.append((axis, size))
    return [(axes[axis], size) for axis, size in asked if -rank <= axis < rank]


def _others(reader: Reader) -> list[Value | None]:
    return [reader.operand(slot) for slot in range(len(reader.node.input)) if slot != reader.slot]


def _onward(reader: Reader, axes: Axes, flow: Flow) -> list[tuple[Value, Axes]]:
    """The output of a node that keeps or moves whole axes."""
    node, op = reader.node, reader.node.op_type
    if op in _BROADCASTING:
        others = [flow.dims(each) for each in _others(reader)]
        if any(dims is None or len(dims) > len(axes) for dims in others):
            return []
    elif op == "Transpose":
        perm = next((list(each.ints) for each in node.attribute if each.name == "perm"), [])
        perm = perm or list(range(len(axes) - 1, -1, -1))
        if sorted(perm) != list(range(len(axes))):
            return []
        axes = tuple(axes[axis] for axis in perm)
    elif op in ("Unsqueeze", "Squeeze") and reader.slot == 0:
        moved = _reranked(reader, axes, flow)
        if moved is None:
            return []
        axes = moved
    elif op not in _SAME_AXES or reader.slot != 0:
        return []
    return [(Value(reader.scope, node.output[0]), axes)] if node.output else []


def _reranked(reader: Reader, axes: Axes, flow: Flow) -> Axes | None:
    given = next((list(each.ints) for each in reader.node.attribute if each.name == "axes"), None)
    if given is None:
        constant = flow.constant(reader.operand(1))
        if constant is None:
            return None
        given = [int(axis) for axis in constant.reshape(-1)]
    if reader.node.op_type == "Squeeze":
        gone = {axis % len(axes) for axis in given} if axes else set()
        return tuple(axis for place, axis in enumerate(axes) if place not in gone)
    rank = len(axes) + len(given)
    added, rest = {axis % rank for axis in given}, iter(axes)
    return tuple(None if place in added else next(rest) for place in range(rank))
