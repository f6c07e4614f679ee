"""Operators as quantization sees them: what they read as activations, weight and bias, and what they make."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import numpy as np

from graphopt.analysis.constants import constant_of, constant_values
from graphopt.analysis.matching import only_reader
from graphopt.analysis.quantized import quantized_weight
from graphopt.ir import Node, Tensor
from graphopt.ir.values import Array
from graphopt.pipeline.protocol import Context
from passes.quantize.static.schemes import Scheme

FLOAT = 1  # ONNX's number of float32

_NEVER = ("Constant", "ConstantOfShape", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
_BIASED = frozenset({"Conv", "ConvTranspose", "Gemm", "LayerNormalization", "InstanceNormalization"})
_EVERY_INPUT = frozenset({"Add", "Sub", "Mul", "Div", "Max", "Min", "Concat", "PRelu", "Pow"})


@dataclass(frozen=True, eq=False)
class Unit:
    """One operator that may be computed in integers.

    `data` are the slots that read activations, `constants` those that read constants which are
    quantized as activations are; `weight` and `bias` are slots too, None where there is none. `results` are
    the values that it makes, after `absorbed`: a Relu or Clip that the range of the result replaces, `bounds`
    being what it limits to.
    """

    node: Node
    kind: str  # "weighted", "follower" or "mover"
    data: tuple[int, ...]
    constants: tuple[int, ...]
    weight: int | None
    bias: int | None
    results: tuple[Tensor, ...]
    absorbed: Node | None = None
    bounds: tuple[float, float] = (-math.inf, math.inf)
    read: tuple[Tensor, ...] = field(default=())

    @property
    def op(self) -> str:
        return self.node.op


def unit_of(node: Node, scheme: Scheme, ctx: Context) -> Unit | str | None:
    """The unit of a node, or a clause that says why it is none; None for what computes no floats."""
    if not node.is_standard or node.bodies or node.is_op(*_NEVER):
        return None
    made = [out for out in node.outputs if out.name]
    if not made or not any(ctx.shapes.onnx_dtype(out) in (0, 1, 10, 11, 16) for out in made):
        return None
    kind = _kind(node, scheme)
    if kind is None:
        return f"there is no integer kernel for {node.op}"
    if any(ctx.shapes.onnx_dtype(out) != FLOAT for out in made):
        return "its type is not known" if ctx.shapes.onnx_dtype(made[0]) == 0 else "it does not compute in float32"
    if len(made) > 1 and node.op != "Split":
        return "it makes more than one value"
    return _split(node, kind, scheme)


def _kind(node: Node, scheme: Scheme) -> str | None:
    if node.op in scheme.weighted:
        return "weighted"
    if node.op in scheme.movers and _only_moves(node):
        return "mover"
    return "follower" if node.op in scheme.followers else None


def _only_moves(node: Node) -> bool:
    if node.op == "Resize":
        return bool(node.attrs.get("mode", "nearest") == "nearest")
    if node.op == "Pad":
        return "mode" in node.attrs and node.attrs["mode"] != "constant"
    if node.op == "MaxPool":
        opset = 0 if node.graph is None else node.graph.opset_of()
        return opset >= 12 and sum(bool(out.name) for out in node.outputs) == 1
    return True


def _split(node: Node, kind: str, scheme: Scheme) -> Unit | str:
    slots: tuple[int, ...] = tuple(range(len(node.inputs))) if node.op in _EVERY_INPUT else (0,)
    weight = bias = None
    if kind == "weighted":
        slots, weight, bias = (0,), 1, 2 if node.op in _BIASED and _has(node, 2) else None
        if node.op == "MatMul":
            fixed = [slot for slot in (0, 1) if is_constant(node.inputs[slot])]
            if len(fixed) == 2:
                return "it reads constants only"
            weight = fixed[0] if fixed else None
            slots = tuple(slot for slot in (0, 1) if slot != weight)
    read = [slot for slot in slots if node.inputs[slot].name or is_constant(node.inputs[slot])]
    constants = tuple(slot for slot in read if is_constant(node.inputs[slot]))
    data = tuple(slot for slot in read if slot not in constants)
    if not data:
        return "it reads constants only"
    taken = next((one for slot in data if (one := node.inputs[slot]) and _is_dequantized(one)), None)
    if taken is not None:
        return f"{taken.name!r}, which it reads, is quantized already"
    why = _why_not_weighted(node, weight, bias, scheme) if kind == "weighted" else None
    if why is not None:
        return why
    for slot in constants:
        values = constant_values(node.inputs[slot])
        if values is None or values.dtype != np.float32 or not values.size or not np.isfinite(values).all():
            return f"its input {slot} is not an array of finite float32"
    results = tuple(out for out in node.outputs if out.name)
    if any(reader.is_op("QuantizeLinear") for out in results for reader in out.readers):
        return "its result is quantized already"
    absorbed, bounds = _limit(results[0]) if len(results) == 1 and kind != "mover" else (None, (-math.inf, math.inf))
    if absorbed is not None:
        results = (absorbed.outputs[0],)
        if any(reader.is_op("QuantizeLinear") for reader in results[0].readers):
            return "its result is quantized already"
    inputs = tuple(dict.fromkeys(node.inputs[slot] for slot in data))
    return Unit(node, kind, data, constants, weight, bias, results, absorbed, bounds, inputs)


def _why_not_weighted(node: Node, weight: int | None, bias: int | None, scheme: Scheme) -> str | None:
    if weight is None:
        return None if scheme.products else "it multiplies two activations, which products=true asks for"
    if not _has(node, weight) or not is_constant(node.inputs[weight]):
        tensor = node.inputs[weight] if _has(node, weight) else None
        if tensor is not None and not tensor.inputs:
            return "its weight is a graph input, whose value callers may give: run initializers-from-inputs first"
        return "its weight is computed: run fold-constants first"
    if node.op == "Gemm" and node.attrs.get("alpha", 1.0) != 1.0:
        return "its alpha is not 1"
    if scheme.bias and bias is not None and constant_values(node.inputs[bias]) is None:
        return "its bias is not a constant"
    return None


def _has(node: Node, slot: int) -> bool:
    return slot < len(node.inputs) and (bool(node.inputs[slot].name) or is_constant(node.inputs[slot]))


def is_constant(tensor: Tensor) -> bool:
    """Whether the value is part of the model: floats, or codes behind DequantizeLinear."""
    return constant_of(tensor) is not None or quantized_weight(tensor) is not None


def _is_dequantized(tensor: Tensor) -> bool:
    return len(tensor.inputs) == 1 and tensor.inputs[0].is_op("DequantizeLinear")


def _limit(tensor: Tensor) -> tuple[Node | None, tuple[float, float]]:
    """The Relu or Clip that alone reads `tensor`, and its bounds."""
    reader = only_reader(tensor)
    if reader is None or reader.graph is not tensor.inputs[0].graph or reader.inputs[0] is not tensor:
        return None, (-math.inf, math.inf)
    if reader.is_op("Relu"):
        return reader, (0.0, math.inf)
    if reader.is_op("Clip"):
        low, high = (_bound(reader, slot, name) for slot, name in ((1, "min"), (2, "max")))
        if low is not None and high is not None and low < high and low <= 0 <= high:
            return reader, (low, high)
    return None, (-math.inf, math.inf)


def _bound(clip: Node, slot: int, name: str) -> float | None:
    free = -math.inf if name == "min" else math.inf
    if slot < len(clip.inputs) and (clip.inputs[slot].name or is_constant(clip.inputs[slot])):
        values: Array | None = constant_values(clip.inputs[slot])
        return None if values is None or values.size != 1 else float(values.reshape(-1)[0])
    given = clip.attrs.get(name, free)
    return float(given) if isinstance(given, int | float) else None


def names_of(unit_node: Node) -> Iterator[str]:
    """The names that users may know a node by: its own, its values', its constants'."""
    yield unit_node.label
    for tensor in (*unit_node.outputs, *unit_node.inputs):
        if tensor.name:
            yield tensor.name


def matching(node: Node, patterns: tuple[str, ...]) -> str | None:
    """The first of the patterns that one of the node's names matches."""
    names = list(names_of(node))
    return next((pattern for pattern in patterns if any(fnmatchcase(name, pattern) for name in names)), None)
