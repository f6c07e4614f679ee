"""A second opinion on what a model means: onnx's reference evaluator, operator by operator.

Where it and onnxruntime disagree about the original, the case is unsure and says nothing about a pass.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import ModelProto, helper
from onnx.reference import ReferenceEvaluator

from graphopt.errors import GraphoptError
from graphopt.testing.running import outputs_of

_LOOSE = 1e-3
"""How far apart two ways of computing may be, of the largest number: opinions differ about meaning, not ulps."""
_TURNS = 12


@dataclass(frozen=True)
class Opinion:
    """Whether the reference evaluator agrees; `operator` is the first one about which it does not."""

    agrees: bool
    operator: str = ""
    told: bool = True  # False where it cannot run the model


def second_opinion(model: ModelProto, feeds: Mapping[str, Any]) -> Opinion:
    """Hold what onnxruntime makes of a model on `feeds` against what the reference evaluator does."""
    open_ = ModelProto()
    open_.CopyFrom(model)
    known = {one.name for one in open_.graph.output}
    makers = {name: node for node in open_.graph.node for name in node.output if name}
    open_.graph.output.extend(
        helper.make_value_info(name, helper.make_tensor_type_proto(1, None)) for name in makers if name not in known
    )
    for info in open_.graph.output:
        if info.name not in known:
            info.ClearField("type")
    try:
        (ours,) = outputs_of(open_.SerializeToString(), [feeds])
    except GraphoptError:
        return Opinion(True, told=False)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            names = list(ours)
            theirs = dict(zip(names, ReferenceEvaluator(open_).run(names, dict(feeds)), strict=True))
        except Exception:  # noqa: BLE001  (it raises what it likes at what it does not know)
            return Opinion(True, told=False)
    for node in model.graph.node:
        for name in node.output:
            if name in ours and not alike(ours[name], theirs[name]):
                return Opinion(False, node.op_type)
    return Opinion(True)


def wavers(data: bytes, feeds: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a model gives one thing and then another, as where a kernel leaves memory as it found it. For models
    that run in this process, whose memory is written to in between."""
    first: list[dict[str, bytes]] | None = None
    for turn in range(_TURNS):
        _scribble(turn)
        told = [_bytes(one) for one in outputs_of(data, feeds)]
        if first is not None and told != first:
            return True
        first = told
    return False


def _bytes(outputs: Mapping[str, Any]) -> dict[str, bytes]:
    plain = {name: one for name, one in outputs.items() if isinstance(one, np.ndarray) and one.dtype.kind != "O"}
    return {name: one.tobytes() for name, one in plain.items()}


def _scribble(turn: int) -> None:
    """Leave numbers in memory that is free."""
    sizes = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 256, 512)
    held = [np.full(size, 1000.0 + turn, np.float32) for size in sizes for _ in range(4)]
    del held


def alike(one: Any, other: Any) -> bool:
    """Whether two values mean the same, rounding aside."""
    if isinstance(one, list) or isinstance(other, list):
        both = isinstance(one, list) and isinstance(other, list) and len(one) == len(other)
        return both and all(alike(a, b) for a, b in zip(one, other, strict=True))
    if not isinstance(one, np.ndarray) or not isinstance(other, (np.ndarray, np.generic)):
        return type(one) is type(other)
    other = np.asarray(other)
    if one.shape != other.shape or (one.dtype != other.dtype and one.dtype.kind != "O"):
        return False
    if one.dtype.kind in "biuOSU" or not one.size:
        return bool(np.array_equal(one, other))
    a, b = (np.asarray(each).astype(np.complex128 if each.dtype.kind == "c" else np.float64) for each in (one, other))
    loose = _LOOSE if one.dtype.itemsize >= 4 else 0.05
    finite = np.abs(a[np.isfinite(a)])
    scale = float(finite.max()) if finite.size else 0.0
    return bool(np.allclose(a, b, rtol=loose, atol=loose * scale + 1e-30, equal_nan=True))
