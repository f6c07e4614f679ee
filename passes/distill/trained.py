"""Which stored tensors are trained, and why others are not."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final, Literal

import ml_dtypes
import numpy as np

from graphopt.analysis.constants import constant_of
from graphopt.analysis.lesson import Array, Grid, Trainable
from graphopt.analysis.matching import only_reader
from graphopt.analysis.movement import is_mover
from graphopt.analysis.quantized import QuantizedWeight, quantized_weight
from graphopt.analysis.weight_axes import is_weight_slot
from graphopt.ir import Constant, Graph, Node, Tensor
from graphopt.ir.tensors import SparseStored
from graphopt.pipeline.protocol import Context

RULE: Final = "distill"

Masks = Literal["auto", "keep", "none"]

# Inputs that may take other values: weights, and what belongs to them.
_SLOTS: Final[dict[str, tuple[int, ...]]] = {
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Gemm": (0, 1, 2),
    "MatMul": (0, 1),
    "LSTM": (1, 2, 3, 7),
    "GRU": (1, 2, 3),
    "RNN": (1, 2, 3),
    "PRelu": (1,),
    "BatchNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "GroupNormalization": (1, 2),
    "LayerNormalization": (1, 2),
    "RMSNormalization": (1,),
    "Add": (0, 1),
    "Sub": (0, 1),
    "Mul": (0, 1),
}
_INTEGERS: Final = frozenset(
    {
        "ConvInteger",
        "DynamicQuantizeLSTM",
        "DynamicQuantizeMatMul",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "MatMulNBits",
        "QLinearConv",
        "QLinearMatMul",
    }
)
_LARGEST: Final = 1e4  # what an Add of larger numbers does is to mask
_FLOATS: Final = tuple(np.dtype(kind) for kind in (np.float32, np.float16, ml_dtypes.bfloat16, np.float64))
_CODES: Final = ("int8", "uint8", "int16", "uint16", "int32", "int4", "uint4", "int2", "uint2")


@dataclass(frozen=True)
class Wishes:
    """What the user asked for, as far as it decides what is trained."""

    masks: Masks = "auto"
    scales: bool = False
    embeddings: bool = False
    skip: tuple[str, ...] = ()
    only: tuple[str, ...] = ()


def trained(graph: Graph, wishes: Wishes, ctx: Context) -> list[Trainable]:
    """The weights of the main graph that are trained; near misses are told to `ctx`."""
    found = list[Trainable]()
    for scope in graph.scopes():
        for tensor in _stored(scope):
            why, readers = _followed(tensor, wishes)
            if not any(is_weight_slot(node, slot) for node, slot in readers) and (why is not None or not readers):
                continue  # a number that is part of the computation, and no weight
            made = _trainable(graph, tensor, readers, wishes, ctx) if why is None else why
            if isinstance(made, str):
                ctx.missed(RULE, tensor.inputs[0] if tensor.inputs else tensor, made)
            elif scope is not graph.root:
                ctx.missed(RULE, tensor.inputs[0] if tensor.inputs else tensor, "it is in a body or a function")
            elif made is not None:
                found.append(made)
        for node in scope.nodes:
            if node.op in _INTEGERS:
                ctx.missed(RULE, node, f"{node.op} keeps its weight as integers: train before the pass that makes it")
    return found


def _stored(scope: Graph) -> list[Tensor]:
    """What nodes read of stored floats: initializers, inputs that have a default, Constant nodes, and codes as
    DequantizeLinear makes floats of them."""
    found: list[Tensor] = [one for one in scope.initializers if one.is_read]
    found += list(scope.defaults)
    for node in scope.nodes:
        holds = node.is_op("Constant") and isinstance(node.attrs.get("value"), Constant)
        if node.outputs and (holds or quantized_weight(node.outputs[0]) is not None):
            found.append(node.outputs[0])
    return found


def _followed(tensor: Tensor, wishes: Wishes) -> tuple[str | None, list[tuple[Node, int]]]:
    """Where a stored tensor is read, rearranged or not; and why it must stay as it is, in a clause."""
    places, why = list[tuple[Node, int]](), None
    pending, seen = [tensor], {tensor}
    while pending:
        one = pending.pop()
        if one.graph_outputs:
            why = why or f"{one.name!r}, which holds its values, is a graph output"
        for node in one.readers:
            for slot, read in enumerate(node.inputs):
                if read is not one:
                    continue
                places.append((node, slot))
                if slot == 0 and (is_mover(node) or node.is_op("Cast")):
                    pending += [out for out in node.outputs[:1] if out not in seen]
                    seen.update(node.outputs[:1])
                elif node.is_op("Gather") and slot == 0:
                    if not wishes.embeddings:
                        why = why or f"it is a table that Gather {node.label!r} looks up, and embeddings is false"
                elif not (node.is_standard and slot in _SLOTS.get(node.op, ())):
                    why = why or f"{node.op} {node.label!r} reads it, and not as a weight"
    return why, places


def _trainable(
    graph: Graph, tensor: Tensor, readers: list[tuple[Node, int]], wishes: Wishes, ctx: Context
) -> Trainable | str | None:
    """The weight that a tensor is, a clause that says why it is left, or None for what nobody would train."""
    stored = quantized_weight(tensor) if tensor.inputs and not tensor.inputs[0].is_op("Constant") else None
    constant = constant_of(tensor) if stored is None else constant_of(stored.codes)
    if constant is None:
        return "it is also a graph input, whose value callers may give"
    shape = [int(size) for size in constant.shape]
    if stored is None and (constant.dtype not in _FLOATS or int(np.prod(shape)) < 2):
        return None
    names = [tensor.name, constant.name, *(node.label for node, _ in readers)]
    pattern = _matching(names, wishes.skip)
    if pattern is not None:
        return f"skip has {pattern!r}"
    if wishes.only and _matching(names, wishes.only) is None:
        return None
    if isinstance(constant.stored, SparseStored):
        return "it is stored as a sparse tensor"
    decays = len(shape) > 1 and not any(node.is_op("Gather") for node, _ in readers)
    if stored is not None:
        return _quantized(tensor, stored, decays, wishes, ctx)
    values = constant.values
    constant.forget()
    if not np.isfinite(values.astype(np.float64)).all():
        return "it has a NaN or infinity"
    if not any(is_weight_slot(*one) for one in readers) and float(np.abs(values.astype(np.float64)).max()) > _LARGEST:
        return None
    masked = wishes.masks == "keep" or (wishes.masks == "auto" and len(shape) > 1)
    held = constant if isinstance(tensor, Constant) else tensor
    return Trainable(tensor, held, values, None, masked and bool((values == 0).any()), decays)


def _quantized(
    tensor: Tensor, stored: QuantizedWeight, decays: bool, wishes: Wishes, ctx: Context
) -> Trainable | str | None:
    codes = stored.values
    held = constant_of(stored.codes)
    if codes.dtype.name not in _CODES:
        return f"codes of {codes.dtype.name} are not trained"
    if codes.size < 2:
        return None
    if stored.scale.dtype not in (np.dtype(np.float32), np.dtype(np.float16)):
        return f"scales of {stored.scale.dtype.name} are not trained with"
    if not (np.isfinite(stored.scale).all() and (stored.scale > 0).all()):
        return "a scale is not positive"
    if held is None or only_reader(stored.codes) is not stored.node or stored.codes.graph_outputs:
        return "something else reads its codes, too"
    whole = codes.astype(np.int64)
    scale_held = _scales(stored) if wishes.scales else None
    grid = Grid(
        codes, stored.scale, stored.zero, stored.axis, stored.block, int(whole.min()), int(whole.max()), scale_held
    )
    masked = wishes.masks == "keep" or (wishes.masks == "auto" and _is_pruned(stored))
    names = ctx.originals(tensor)
    return Trainable(
        tensor, stored.codes if not isinstance(stored.codes, Constant) else held, codes, grid, masked, decays, names
    )


def _scales(stored: QuantizedWeight) -> Constant | None:
    """The scales, where they can be trained: they are this weight's alone, and no bias of 32 bits was made for them."""
    scale = stored.node.inputs[1]
    alone = isinstance(scale, Constant) and only_reader(scale) is stored.node and not scale.graph_outputs
    biased = any(
        (bias := quantized_weight(one)) is not None and bias.values.dtype == np.dtype(np.int32)
        for node in stored.node.outputs[0].readers
        for one in node.inputs
    )
    return scale if alone and not biased and isinstance(scale, Constant) else None


def _is_pruned(stored: QuantizedWeight) -> bool:
    """Whether codes are zero by far more often than numbers that were only rounded: more than twice as often as
    either neighbour."""
    codes = stored.values.astype(np.int64)
    zero: Any = 0
    if stored.zero is not None:
        zero = _zeros(stored, codes)
    steps = codes - zero
    counts = [int(np.count_nonzero(steps == one)) for one in (-1, 0, 1)]
    return counts[1] > 2 * max(counts[0], counts[2])


def _zeros(stored: QuantizedWeight, codes: Array) -> Array:
    assert stored.zero is not None
    zero = stored.zero.astype(np.int64)
    if stored.axis is None or zero.ndim == 0:
        return zero.reshape(())
    if stored.block:
        return np.repeat(zero, stored.block, axis=stored.axis).take(np.arange(codes.shape[stored.axis]), stored.axis)
    return zero.reshape([-1 if at == stored.axis else 1 for at in range(codes.ndim)])


def _matching(names: list[str], patterns: tuple[str, ...]) -> str | None:
    return next((one for one in patterns if any(fnmatchcase(name, one) for name in names)), None)
