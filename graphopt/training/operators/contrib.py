"""onnxruntime's own operators that fused models have, besides attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from graphopt.training.call import Call, Maker, Operators, Run, same
from graphopt.training.operators.convolution import convolved
from graphopt.training.operators.gates import activations
from graphopt.training.operators.linear import gemm


def _gelu(x: Tensor, bias: Tensor | None = None) -> Tensor:
    return functional.gelu(x if bias is None else x + bias)


def _fast_gelu(x: Tensor, bias: Tensor | None = None) -> Tensor:
    return functional.gelu(x if bias is None else x + bias, approximate="tanh")


def _quick_gelu(call: Call) -> Run:
    alpha = call.number("alpha", 1.702)
    return lambda x: x * torch.sigmoid(alpha * x)


def _bias_split_gelu(x: Tensor, bias: Tensor) -> Tensor:
    left, right = (x + bias).chunk(2, -1)
    return left * functional.gelu(right)


def _fused_product(call: Call) -> Run:
    alpha = call.number("alpha", 1.0)
    left, right = call.integer("transA"), call.integer("transB")
    left_batch, right_batch = call.integer("transBatchA"), call.integer("transBatchB")

    def turned(x: Tensor, matrix: int, batch: int) -> Tensor:
        if batch:  # the first axis goes to where the matrix begins
            x = x.movedim(0, -2)
        return x.transpose(-1, -2) if matrix and x.dim() > 1 else x

    def run(a: Tensor, b: Tensor) -> Tensor:
        product = torch.matmul(turned(a, left, left_batch), turned(b, right, right_batch))
        return product if alpha == 1.0 else product * alpha

    return run


def _fused(inner: Maker) -> Maker:
    """An operator with an activation after it, and perhaps a summand before that."""

    def maker(call: Call) -> Run:
        plain: Any = inner(call)
        named = call.text("activation")
        after = _activation(call, named) if named else None

        def run(x: Tensor, w: Tensor, b: Tensor | None = None, added: Tensor | None = None) -> Tensor:
            y: Tensor = plain(x, w, b)
            y = y if added is None else y + added
            return y if after is None else after(y)

        return run

    return maker


def _activation(call: Call, name: str) -> Run:
    given = call.numbers("activation_params") or ()
    if call.op == "FusedGemm":
        given = tuple(
            call.number(f"activation_{key}") for key in ("alpha", "beta") if f"activation_{key}" in call.attrs
        )
    if name == "Clip":
        low, high = given
        return lambda x: torch.clamp(x, low, high)
    attrs = {"activation_alpha": given[:1], "activation_beta": given[1:2]}
    return activations(Call(call.op, call.domain, call.version, call.label, attrs, (), ()), [name])[0]


def _skip_layer(call: Call) -> Run:
    epsilon, centred = call.number("epsilon", 1e-5), not call.op.startswith("SkipSimplified")

    def run(x: Tensor, skip: Tensor, gamma: Tensor, beta: Any = None, bias: Tensor | None = None) -> Any:
        if not centred:
            beta, bias = None, beta
        total = x + skip
        total = total if bias is None else total + bias
        if centred:
            y = functional.layer_norm(total, gamma.shape, gamma, beta, epsilon)
        else:
            y = total * torch.rsqrt(total.square().mean(-1, keepdim=True) + epsilon) * gamma
        if len(call.wanted) < 2:
            return y
        return y, _mean(call, total), _deviation(call, total, epsilon), total

    return run


def _mean(call: Call, x: Tensor) -> Any:
    return x.mean(-1, keepdim=True) if call.wants(1) else None


def _deviation(call: Call, x: Tensor, epsilon: float) -> Any:
    return torch.rsqrt(x.var(-1, unbiased=False, keepdim=True) + epsilon) if call.wants(2) else None


def _simplified_layer(call: Call) -> Run:
    axis, epsilon = call.integer("axis", -1), call.number("epsilon", 1e-5)

    def run(x: Tensor, scale: Tensor) -> Any:
        inverse = torch.rsqrt(x.square().mean(tuple(range(axis % x.dim(), x.dim())), keepdim=True) + epsilon)
        y = x * inverse * scale
        return (y, inverse) if len(call.wanted) > 1 else y

    return run


def _embed_layer(call: Call) -> Run:
    epsilon, by_mask = call.number("epsilon", 1e-12), call.integer("mask_index_type") != 1

    def run(
        ids: Tensor,
        segments: Tensor | None,
        words: Tensor,
        places: Tensor,
        kinds: Tensor | None,
        gamma: Tensor,
        beta: Tensor,
        mask: Tensor | None = None,
        where: Tensor | None = None,
    ) -> Any:
        total = functional.embedding(ids.long(), words)
        order = torch.arange(ids.shape[1]).unsqueeze(0) if where is None else where.long()
        total = total + functional.embedding(order, places)
        if segments is not None and kinds is not None:
            total = total + functional.embedding(segments.long(), kinds)
        y = functional.layer_norm(total, gamma.shape, gamma, beta, epsilon)
        if mask is None or not by_mask:
            lengths = torch.zeros(ids.shape[0], dtype=torch.int32)
        else:
            lengths = mask.sum(1, dtype=torch.int32)
        return y, lengths, total

    return run


OPERATORS: Operators = {
    "Gelu": [(1, same(_gelu))],
    "FastGelu": [(1, same(_fast_gelu))],
    "BiasGelu": [(1, same(_gelu))],
    "QuickGelu": [(1, _quick_gelu)],
    "BiasSplitGelu": [(1, same(_bias_split_gelu))],
    "FusedMatMul": [(1, _fused_product)],
    "FusedConv": [(1, _fused(convolved))],
    "FusedGemm": [(1, _fused(gemm))],
    "SkipLayerNormalization": [(1, _skip_layer)],
    "SkipSimplifiedLayerNormalization": [(1, _skip_layer)],
    "SimplifiedLayerNormalization": [(1, _simplified_layer)],
    "EmbedLayerNormalization": [(1, _embed_layer)],
}
