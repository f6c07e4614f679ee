"""Comparisons, truth values and choices."""

from __future__ import annotations

import torch
from onnx import TensorProto
from torch import Tensor

from graphopt.training.call import Call, Operators, Run, same


def _where(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(condition, a, b)


def _infinite(call: Call) -> Run:
    negative, positive = call.integer("detect_negative", 1), call.integer("detect_positive", 1)
    if not negative and not positive:
        return lambda x: torch.zeros(x.shape, dtype=torch.bool)
    one_sided = torch.isposinf if positive else torch.isneginf
    run: Run = torch.isinf if negative and positive else one_sided
    return run


def _flipped(call: Call) -> Run:
    all_ones: dict[int, int] = {TensorProto.UINT16: 0xFFFF, TensorProto.UINT32: 0xFFFFFFFF}
    every = all_ones.get(call.kind(0))  # a wider type carries them
    if every is None:
        plain: Run = torch.bitwise_not
        return plain
    return lambda x: torch.bitwise_xor(x, torch.tensor(every))


OPERATORS: Operators = {
    "Equal": [(7, same(torch.eq))],
    "Less": [(7, same(torch.lt))],
    "LessOrEqual": [(12, same(torch.le))],
    "Greater": [(7, same(torch.gt))],
    "GreaterOrEqual": [(12, same(torch.ge))],
    "And": [(7, same(torch.logical_and))],
    "Or": [(7, same(torch.logical_or))],
    "Xor": [(7, same(torch.logical_xor))],
    "Not": [(1, same(torch.logical_not))],
    "BitwiseAnd": [(18, same(torch.bitwise_and))],
    "BitwiseOr": [(18, same(torch.bitwise_or))],
    "BitwiseXor": [(18, same(torch.bitwise_xor))],
    "BitwiseNot": [(18, _flipped)],
    "Where": [(9, same(_where))],
    "IsNaN": [(9, same(torch.isnan))],
    "IsInf": [(10, _infinite)],
}
