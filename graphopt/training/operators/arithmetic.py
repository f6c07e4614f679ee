"""Elementwise arithmetic."""

from __future__ import annotations

from functools import reduce
from typing import Any

import torch
from torch import Tensor

from graphopt.training.call import Call, Maker, Operators, Run, same


def _divide(a: Tensor, b: Tensor) -> Tensor:
    return torch.div(a, b) if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _power(base: Tensor, exponent: Tensor) -> Tensor:
    if exponent.numel() == 1 and exponent.dim() <= base.dim() and not exponent.requires_grad:
        number = exponent.item()
        if number == 2:
            return base * base
        return torch.pow(base, number).to(base.dtype)
    return torch.pow(base, exponent).to(base.dtype)


def _modulo(call: Call) -> Run:
    run: Run = torch.fmod if call.integer("fmod") else torch.remainder
    return run


def _folded(function: Run) -> Maker:
    def maker(call: Call) -> Run:
        return lambda *inputs: reduce(function, inputs)

    return maker


def _sum(*inputs: Tensor) -> Tensor:
    return reduce(torch.add, inputs)


def _mean(*inputs: Tensor) -> Tensor:
    return _sum(*inputs) / len(inputs)


def _shift(call: Call) -> Run:
    run: Run = torch.bitwise_left_shift if call.text("direction") == "LEFT" else torch.bitwise_right_shift
    return run


def _cumulative(call: Call) -> Run:
    exclusive, backwards = call.integer("exclusive"), call.integer("reverse")
    product = call.op == "CumProd"

    def run(x: Tensor, axis_of: Tensor) -> Tensor:
        axis = int(axis_of.item()) % max(x.dim(), 1)
        x = x.flip(axis) if backwards else x
        if exclusive:
            start = torch.full_like(x.narrow(axis, 0, min(1, x.shape[axis])), 1 if product else 0)
            x = torch.cat([start, x.narrow(axis, 0, max(x.shape[axis] - 1, 0))], axis)
        y = torch.cumprod(x, axis, dtype=x.dtype) if product else torch.cumsum(x, axis, dtype=x.dtype)
        return y.flip(axis) if backwards else y

    return run


def _clip_attributes(call: Call) -> Run:
    least, most = call.attrs.get("min"), call.attrs.get("max")
    return lambda x: _clamped(x, least, most)


def _clamped(x: Tensor, least: float | None, most: float | None) -> Tensor:
    limits: Any = torch.finfo(x.dtype) if x.is_floating_point() else torch.iinfo(x.dtype)
    return torch.clamp(x, limits.min if least is None else least, limits.max if most is None else most)


def _clip(x: Tensor, least: Tensor | None = None, most: Tensor | None = None) -> Tensor:
    if (least is None or not least.requires_grad) and (most is None or not most.requires_grad):
        return _clamped(x, None if least is None else least.item(), None if most is None else most.item())
    x = x if least is None else torch.maximum(x, least)
    return x if most is None else torch.minimum(x, most)


def _round(x: Tensor) -> Tensor:
    return torch.round(x)  # halves to even, as ONNX says


def _sign(x: Any) -> Tensor:
    return torch.sign(x)


OPERATORS: Operators = {
    "Add": [(7, same(torch.add))],
    "Sub": [(7, same(torch.sub))],
    "Mul": [(7, same(torch.mul))],
    "Div": [(7, same(_divide))],
    "Mod": [(10, _modulo)],
    "Pow": [(7, same(_power))],
    "Neg": [(6, same(torch.neg))],
    "Abs": [(6, same(torch.abs))],
    "Sqrt": [(6, same(torch.sqrt))],
    "Exp": [(6, same(torch.exp))],
    "Log": [(6, same(torch.log))],
    "Reciprocal": [(6, same(torch.reciprocal))],
    "Floor": [(6, same(torch.floor))],
    "Ceil": [(6, same(torch.ceil))],
    "Round": [(11, same(_round))],
    "Sign": [(9, same(_sign))],
    "Sin": [(7, same(torch.sin))],
    "Cos": [(7, same(torch.cos))],
    "Tan": [(7, same(torch.tan))],
    "Asin": [(7, same(torch.asin))],
    "Acos": [(7, same(torch.acos))],
    "Atan": [(7, same(torch.atan))],
    "Sinh": [(9, same(torch.sinh))],
    "Cosh": [(9, same(torch.cosh))],
    "Asinh": [(9, same(torch.asinh))],
    "Acosh": [(9, same(torch.acosh))],
    "Atanh": [(9, same(torch.atanh))],
    "Max": [(8, _folded(torch.maximum))],
    "Min": [(8, _folded(torch.minimum))],
    "Sum": [(8, same(_sum))],
    "Mean": [(8, same(_mean))],
    "BitShift": [(11, _shift)],
    "CumSum": [(11, _cumulative)],
    "CumProd": [(26, _cumulative)],
    "Clip": [(6, _clip_attributes), (11, same(_clip))],
}
