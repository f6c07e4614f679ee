"""Activation functions as onnxruntime's fused operators take them: a name and its numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from graphopt.analysis.matching import operand, scalar
from graphopt.analysis.pattern_terms import attribute
from graphopt.ir import Node, Tensor

_LIMIT = float(np.finfo(np.float32).max)  # what Clip takes for a bound that is left out
_SINCE = 6  # the version since which these operators are written as they are now
_NUMBERS: Final = {
    "Relu": (),
    "Sigmoid": (),
    "Tanh": (),
    "Softplus": (),
    "Softsign": (),
    "LeakyRelu": ("alpha",),
    "Elu": ("alpha",),
    "ThresholdedRelu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
    "Selu": ("alpha", "gamma"),
}
IN_CONV: Final = ("Relu", "Sigmoid", "Tanh", "LeakyRelu", "HardSigmoid", "Clip")
IN_GEMM: Final = tuple(_NUMBERS)


@dataclass(frozen=True)
class Activation:
    """What is applied to `value`; `numbers` are the operator's attributes, Clip's as `min` and `max`."""

    op: str
    value: Tensor
    numbers: dict[str, float]


def activation(node: Node, ops: tuple[str, ...]) -> Activation | str | None:
    """The activation function that `node` is, if it is one of `ops`; in a clause why it cannot be
    written as numbers; None for another operator."""
    if not node.is_op(*ops) or node.graph is None or node.graph.opset < _SINCE or not node.inputs:
        return None
    if node.op == "Clip":
        return _clip(node)
    numbers = {}
    for name in _NUMBERS[node.op]:
        number = attribute(node, name)
        if not isinstance(number, int | float):
            return f"{name} is not known"
        numbers[name] = float(number)
    return Activation(node.op, node.inputs[0], numbers)


def _clip(node: Node) -> Activation | str:
    """A Clip whose bounds are known, since version 11 as inputs."""
    bounds: list[float] = []
    for index, (name, default) in enumerate((("min", -_LIMIT), ("max", _LIMIT)), 1):
        tensor = operand(node, index)
        number = scalar(tensor) if tensor is not None else node.attrs.get(name, default)
        if not isinstance(number, int | float):
            return f"its {name} is not constant"
        bounds.append(float(number))
    if any(math.isnan(one) for one in bounds) or bounds[0] > bounds[1]:
        return f"its bounds are {bounds[0]} and {bounds[1]}"
    return Activation("Clip", node.inputs[0], {"min": bounds[0], "max": bounds[1]})
