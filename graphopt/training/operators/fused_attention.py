"""onnxruntime's attention operators, as fused models have them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from graphopt.training.call import Call, Operators, Run
from graphopt.training.operators.attention import heads_of, joined, rotary


def _attended(q: Tensor, k: Tensor, v: Tensor, scale: float, added: Tensor | None) -> Tensor:
    """What each query gets, for queries, keys and values of [batch, heads, steps, size]."""
    scores = torch.matmul(q * scale, k.transpose(-1, -2))
    scores = scores if added is None else scores + added
    return torch.matmul(torch.softmax(scores, -1), v)


def _causal(rows: int, columns: int, kind: torch.dtype, past: int) -> Tensor:
    """What hides later steps from earlier ones, when `past` steps went before."""
    hidden = torch.arange(columns) > torch.arange(rows).unsqueeze(1) + past
    return torch.zeros(rows, columns, dtype=kind).masked_fill(hidden, torch.finfo(kind).min)


def _mask(mask: Tensor | None, rows: int, columns: int, batch: int, filler: float, kind: torch.dtype) -> Tensor | None:
    """What is added to the scores for a mask in any of the forms of onnxruntime."""
    if mask is None:
        return None
    if mask.dim() == 1:
        place = torch.arange(columns)
        end = mask[:batch].unsqueeze(1)
        kept = place < end
        if mask.shape[0] == 2 * batch:
            kept = kept & (place >= mask[batch:].unsqueeze(1))
        kept = kept[:, None, None, :]
    elif mask.dim() == 2:
        kept = (mask != 0)[:, None, None, :]
    elif mask.dim() == 3:
        kept = (mask != 0)[:, None]
    else:
        kept = mask[:, :, columns - rows : columns, :columns] != 0
    return torch.where(kept, torch.zeros((), dtype=kind), torch.tensor(filler, dtype=kind))


def _sum(*parts: Tensor | None) -> Tensor | None:
    total: Tensor | None = None
    for part in parts:
        if part is not None:
            total = part if total is None else total + part
    return total


def _projecting(call: Call) -> Run:
    """com.microsoft.Attention: the projections are a part of it."""
    heads, ahead = call.integer("num_heads"), bool(call.integer("unidirectional"))
    filler, sizes, given_scale = (
        call.number("mask_filter_value", -10000.0),
        call.integers("qkv_hidden_sizes"),
        call.number("scale"),
    )
    if call.integer("do_rotary") or call.integer("past_present_share_buffer"):
        raise call.refuse("rotary embeddings and shared buffers inside it are not known here")

    def run(
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        mask: Tensor | None = None,
        past: Tensor | None = None,
        added: Tensor | None = None,
        length: Tensor | None = None,
    ) -> Any:
        product = torch.matmul(x, weight)
        product = product if bias is None else product + bias
        parts = torch.split(product, list(sizes) if sizes else weight.shape[1] // 3, -1)
        q, k, v = (heads_of(part, heads) for part in parts)
        if past is not None:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        rows, columns = q.shape[2], k.shape[2]
        hidden = _causal(rows, columns, x.dtype, columns - rows) if ahead else None
        bias_of_scores = _sum(_mask(mask, rows, columns, x.shape[0], filler, x.dtype), hidden, added)
        y = joined(_attended(q, k, v, given_scale or 1 / math.sqrt(q.shape[-1]), bias_of_scores))
        return (y, torch.stack([k, v])) if len(call.wanted) > 1 else y

    return run


def _multi_head(call: Call) -> Run:
    """com.microsoft.MultiHeadAttention: queries, keys and values apart, or packed."""
    heads, ahead = call.integer("num_heads"), bool(call.integer("unidirectional"))
    filler, given_scale = call.number("mask_filter_value", -10000.0), call.number("scale")

    def run(
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        bias: Tensor | None = None,
        mask: Tensor | None = None,
        added: Tensor | None = None,
        past_key: Tensor | None = None,
        past_value: Tensor | None = None,
        *rest: Any,
    ) -> Any:
        q, k, v = _apart(query, key, value, heads, bias)
        if past_key is not None and past_value is not None:
            k, v = torch.cat([past_key, k], 2), torch.cat([past_value, v], 2)
        rows, columns = q.shape[2], k.shape[2]
        hidden = _causal(rows, columns, q.dtype, columns - rows) if ahead else None
        total = _sum(_mask(mask, rows, columns, q.shape[0], filler, q.dtype), hidden, added)
        y = joined(_attended(q, k, v, given_scale or 1 / math.sqrt(q.shape[-1]), total))
        return (y, k, v) if len(call.wanted) > 1 else y

    return run


def _apart(
    query: Tensor, key: Tensor | None, value: Tensor | None, heads: int, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    if query.dim() == 5:  # [batch, steps, heads, 3, size]
        q, k, v = (query[:, :, :, place].transpose(1, 2) for place in range(3))
    elif key is not None and key.dim() == 5:  # [batch, steps, heads, 2, size]
        q, k, v = heads_of(query, heads), key[:, :, :, 0].transpose(1, 2), key[:, :, :, 1].transpose(1, 2)
    else:
        assert key is not None and value is not None
        q = heads_of(query, heads)
        k = key if key.dim() == 4 else heads_of(key, heads)
        v = value if value.dim() == 4 else heads_of(value, heads)
    if bias is not None:
        width = q.shape[1] * q.shape[3]
        parts = torch.split(bias, [width, width, bias.shape[0] - 2 * width])
        q, k, v = (x + part.reshape(1, heads, 1, -1) for x, part in zip((q, k, v), parts, strict=True))
    return q, k, v


def _rotary(call: Call) -> Run:
    """com.microsoft.RotaryEmbedding: the same, with the places before the tables."""
    if call.integer("is_packed_batching") or call.number("scale", 1.0) != 1.0:
        raise call.refuse("packed batches and scaled tables are not known here")
    standard = rotary(call)

    def run(x: Tensor, places: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        if places.numel() == 1 and places.dim() == 1:
            steps = x.shape[-2] if x.dim() == 4 else x.shape[1]
            places = (torch.arange(steps) + places).unsqueeze(0).expand(x.shape[0], -1)
        if x.dim() == 3 and not call.integer("num_heads"):
            size = 2 * cos.shape[-1]
            parts = heads_of(x, x.shape[-1] // size)
            found: Tensor = standard(parts, cos, sin, places)
            return joined(found)
        whole: Tensor = standard(x, cos, sin, places)
        return whole

    return run


OPERATORS: Operators = {
    "Attention": [(1, _projecting)],
    "MultiHeadAttention": [(1, _multi_head)],
    "RotaryEmbedding": [(1, _rotary)],
}
