"""Activation functions and softmax."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from graphopt.training.call import Call, Operators, Run, same


def _leaky(call: Call) -> Run:
    slope = call.number("alpha", 0.01)
    return lambda x: functional.leaky_relu(x, slope)


def _elu(call: Call) -> Run:
    alpha = call.number("alpha", 1.0)
    return lambda x: functional.elu(x, alpha)


def _celu(call: Call) -> Run:
    alpha = call.number("alpha", 1.0)
    return lambda x: functional.celu(x, alpha)


def _selu(call: Call) -> Run:
    alpha = call.number("alpha", 1.67326319217681884765625)
    gamma = call.number("gamma", 1.05070102214813232421875)
    return lambda x: gamma * functional.elu(x, alpha)


def _hard_sigmoid(call: Call) -> Run:
    alpha, beta = call.number("alpha", 0.2), call.number("beta", 0.5)
    return lambda x: torch.clamp(x * alpha + beta, 0, 1)


def _hard_swish(x: Tensor) -> Tensor:
    return x * torch.clamp(x / 6 + 0.5, 0, 1)


def _parametric(x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, x * slope, x)


def _thresholded(call: Call) -> Run:
    alpha = call.number("alpha", 1.0)
    return lambda x: torch.where(x > alpha, x, torch.zeros((), dtype=x.dtype))


def _shrink(call: Call) -> Run:
    bias, limit = call.number("bias"), call.number("lambd", 0.5)

    def run(x: Tensor) -> Tensor:
        zero = torch.zeros((), dtype=x.dtype)
        return torch.where(x < -limit, x + bias, torch.where(x > limit, x - bias, zero)).to(x.dtype)

    return run


def _gelu(call: Call) -> Run:
    how = call.text("approximate", "none")
    return lambda x: functional.gelu(x, approximate=how)


def _swish(call: Call) -> Run:
    alpha = call.number("alpha", 1.0)
    return lambda x: x * torch.sigmoid(alpha * x)


def _mish(x: Tensor) -> Tensor:
    return functional.mish(x)


def _softplus(x: Tensor) -> Tensor:
    return torch.logaddexp(x, torch.zeros((), dtype=x.dtype))


def _soft(call: Call) -> Run:
    axis = call.integer("axis", -1)
    function = functional.softmax if call.op == "Softmax" else functional.log_softmax
    return lambda x: function(x, dim=axis)


def _soft_flat(call: Call) -> Run:
    """Before version 13, all axes from `axis` on are one."""
    axis = call.integer("axis", 1)
    function = functional.softmax if call.op == "Softmax" else functional.log_softmax

    def run(x: Tensor) -> Tensor:
        first = axis + x.dim() if axis < 0 else axis
        if first == x.dim() - 1:
            return function(x, dim=-1)
        return function(x.flatten(first), dim=-1).reshape(x.shape)

    return run


def _hardmax(call: Call) -> Run:
    old = call.version < 13
    axis = call.integer("axis", 1 if old else -1)

    def run(x: Tensor) -> Tensor:
        first = axis + x.dim() if axis < 0 else axis
        flat = x.flatten(first) if old else x
        along = first
        place = flat.argmax(along, keepdim=True)
        return torch.zeros_like(flat).scatter(along, place, 1.0).reshape(x.shape)

    return run


OPERATORS: Operators = {
    "Relu": [(6, same(torch.relu))],
    "Sigmoid": [(6, same(torch.sigmoid))],
    "Tanh": [(6, same(torch.tanh))],
    "Erf": [(9, same(torch.erf))],
    "LeakyRelu": [(6, _leaky)],
    "Elu": [(6, _elu)],
    "Celu": [(12, _celu)],
    "Selu": [(6, _selu)],
    "HardSigmoid": [(6, _hard_sigmoid)],
    "HardSwish": [(14, same(_hard_swish))],
    "PRelu": [(7, same(_parametric))],
    "ThresholdedRelu": [(10, _thresholded)],
    "Shrink": [(9, _shrink)],
    "Gelu": [(20, _gelu)],
    "Swish": [(24, _swish)],
    "Mish": [(18, same(_mish))],
    "Softplus": [(1, same(_softplus))],
    "Softsign": [(1, same(functional.softsign))],
    "Softmax": [(1, _soft_flat), (13, _soft)],
    "LogSoftmax": [(1, _soft_flat), (13, _soft)],
    "Hardmax": [(1, _hardmax)],
}
