"""Normalizations, as in inference."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from graphopt.training.call import Call, Operators, Run


def _along(values: Tensor, x: Tensor) -> Tensor:
    """One value for each channel, against `x`."""
    return values.reshape(-1, *[1] * (x.dim() - 2))


def _batch(call: Call) -> Run:
    if call.integer("training_mode") or (call.version < 14 and any(call.wants(index) for index in range(1, 5))):
        raise call.refuse("it is in training mode")
    if call.version < 9 and call.integer("spatial", 1) != 1:
        raise call.refuse("spatial=0 is not known here")
    epsilon = call.number("epsilon", 1e-5)

    def run(x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        if x.dim() >= 2 and not mean.requires_grad and not variance.requires_grad:
            return functional.batch_norm(x, mean, variance, scale, bias, False, 0.0, epsilon)
        slope = scale / torch.sqrt(variance + epsilon)
        if x.dim() == 1:
            return (x - mean) * slope + bias
        return (x - _along(mean, x)) * _along(slope, x) + _along(bias, x)

    return run


def _instance(call: Call) -> Run:
    epsilon = call.number("epsilon", 1e-5)

    def run(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        axes = tuple(range(2, x.dim()))
        mean = x.mean(axes, keepdim=True)
        variance = (x - mean).square().mean(axes, keepdim=True)
        return (x - mean) / torch.sqrt(variance + epsilon) * _along(scale, x) + _along(bias, x)

    return run


def _layer(call: Call) -> Run:
    axis, epsilon = call.integer("axis", -1), call.number("epsilon", 1e-5)
    statistics = call.wants(1) or call.wants(2)
    wide = torch_wide(call)

    def run(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Any:
        first = axis + x.dim() if axis < 0 else axis
        shape = x.shape[first:]
        if not statistics and scale.shape == shape and (bias is None or bias.shape == shape):
            return functional.layer_norm(x, shape, scale, bias, epsilon)
        axes = tuple(range(first, x.dim()))
        values = x.to(wide) if wide is not None and x.dtype in (torch.float16, torch.bfloat16) else x
        mean = values.mean(axes, keepdim=True)
        inverse = torch.rsqrt((values - mean).square().mean(axes, keepdim=True) + epsilon)
        y = ((values - mean) * inverse).to(x.dtype) * scale
        y = y if bias is None else y + bias
        return (y, mean, inverse)[: len(call.wanted)] if len(call.wanted) > 1 else y

    return run


def torch_wide(call: Call) -> torch.dtype | None:
    """In which type a normalization sums up narrow floats (`stash_type`)."""
    return torch.float32 if call.integer("stash_type", 1) == 1 else None


def _root_mean_square(call: Call) -> Run:
    axis, epsilon, wide = call.integer("axis", -1), call.number("epsilon", 1e-5), torch_wide(call)

    def run(x: Tensor, scale: Tensor) -> Tensor:
        axes = tuple(range(axis % x.dim(), x.dim()))
        values = x.to(wide) if wide is not None and x.dtype in (torch.float16, torch.bfloat16) else x
        inverse = torch.rsqrt(values.square().mean(axes, keepdim=True) + epsilon)
        return (values * inverse).to(x.dtype) * scale

    return run


def _group(call: Call) -> Run:
    groups, epsilon = call.integer("num_groups"), call.number("epsilon", 1e-5)

    def run(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        if call.version < 21:  # one scale for each group then
            each = x.shape[1] // groups
            scale, bias = scale.repeat_interleave(each), bias.repeat_interleave(each)
        return functional.group_norm(x, groups, scale, bias, epsilon)

    return run


def _lp(call: Call) -> Run:
    axis, power = call.integer("axis", -1), call.integer("p", 2)

    def run(x: Tensor) -> Tensor:
        norm = x.abs().sum(axis, keepdim=True) if power == 1 else torch.sqrt((x * x).sum(axis, keepdim=True))
        return torch.where(norm == 0, torch.zeros((), dtype=x.dtype), x / torch.where(norm == 0, 1, norm))

    return run


def _local_response(call: Call) -> Run:
    alpha, beta = call.number("alpha", 0.0001), call.number("beta", 0.75)
    bias, size = call.number("bias", 1.0), call.integer("size")

    def run(x: Tensor) -> Tensor:
        before = (size - 1) // 2
        squares = functional.pad((x * x).transpose(1, -1), (before, size - 1 - before))
        total = squares.unfold(-1, size, 1).sum(-1).transpose(1, -1)
        return x / (bias + alpha / size * total) ** beta

    return run


def _mean_variance(call: Call) -> Run:
    axes = call.integers("axes") or (0, 2, 3)

    def run(x: Tensor) -> Tensor:
        mean = x.mean(axes, keepdim=True)
        deviation = torch.sqrt((x * x).mean(axes, keepdim=True) - mean * mean)
        return (x - mean) / (deviation + 1e-9)

    return run


OPERATORS: Operators = {
    "BatchNormalization": [(7, _batch)],
    "InstanceNormalization": [(6, _instance)],
    "LayerNormalization": [(17, _layer)],
    "RMSNormalization": [(23, _root_mean_square)],
    "GroupNormalization": [(18, _group)],
    "LpNormalization": [(1, _lp)],
    "LRN": [(1, _local_response)],
    "MeanVarianceNormalization": [(9, _mean_variance)],
}
