"""Attention: ONNX's own operator, and onnxruntime's two."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from graphopt.training.call import Call, Operators, Run
from graphopt.training.tensors import torch_type


def _attended(q: Tensor, k: Tensor, v: Tensor, scale: float, added: Tensor | None) -> Tensor:
    """What each query gets, for queries, keys and values of [batch, heads, steps, size]."""
    scores = torch.matmul(q * scale, k.transpose(-1, -2))
    scores = scores if added is None else scores + added
    return torch.matmul(torch.softmax(scores, -1), v)


def _heads(x: Tensor, count: int) -> Tensor:
    return x.reshape(*x.shape[:-1], count, -1).transpose(1, 2)


def _joined(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


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
        q, k, v = (_heads(part, heads) for part in parts)
        if past is not None:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        rows, columns = q.shape[2], k.shape[2]
        hidden = _causal(rows, columns, x.dtype, columns - rows) if ahead else None
        bias_of_scores = _sum(_mask(mask, rows, columns, x.shape[0], filler, x.dtype), hidden, added)
        y = _joined(_attended(q, k, v, given_scale or 1 / math.sqrt(q.shape[-1]), bias_of_scores))
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
        y = _joined(_attended(q, k, v, given_scale or 1 / math.sqrt(q.shape[-1]), total))
        return (y, k, v) if len(call.wanted) > 1 else y

    return run


def _apart(
    query: Tensor, key: Tensor | None, value: Tensor | None, heads: int, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    if query.dim() == 5:  # [batch, steps, heads, 3, size]
        q, k, v = (query[:, :, :, place].transpose(1, 2) for place in range(3))
    elif key is not None and key.dim() == 5:  # [batch, steps, heads, 2, size]
        q, k, v = _heads(query, heads), key[:, :, :, 0].transpose(1, 2), key[:, :, :, 1].transpose(1, 2)
    else:
        assert key is not None and value is not None
        q = _heads(query, heads)
        k = key if key.dim() == 4 else _heads(key, heads)
        v = value if value.dim() == 4 else _heads(value, heads)
    if bias is not None:
        width = q.shape[1] * q.shape[3]
        parts = torch.split(bias, [width, width, bias.shape[0] - 2 * width])
        q, k, v = (x + part.reshape(1, heads, 1, -1) for x, part in zip((q, k, v), parts, strict=True))
    return q, k, v


def _standard(call: Call) -> Run:
    """ONNX's Attention (23): grouped heads, a causal form, a soft cap, masks of numbers or truth values."""
    q_heads, kv_heads = call.integer("q_num_heads"), call.integer("kv_num_heads")
    ahead, cap, scale = bool(call.integer("is_causal")), call.number("softcap"), call.number("scale")
    stage, wide = call.integer("qk_matmul_output_mode"), call.integer("softmax_precision")

    def run(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None = None,
        past_key: Tensor | None = None,
        past_value: Tensor | None = None,
        lengths: Tensor | None = None,
    ) -> Any:
        flat = query.dim() == 3
        q, k, v = (
            (_heads(query, q_heads), _heads(key, kv_heads), _heads(value, kv_heads)) if flat else (query, key, value)
        )
        past = 0
        if past_key is not None and past_value is not None:
            past = past_key.shape[2]
            k, v = torch.cat([past_key, k], 2), torch.cat([past_value, v], 2)
        present = (k, v)
        if k.shape[1] != q.shape[1]:
            k, v = (one.repeat_interleave(q.shape[1] // one.shape[1], 1) for one in (k, v))
        root = math.sqrt(scale or 1 / math.sqrt(q.shape[-1]))
        scores = torch.matmul(q * root, k.transpose(-1, -2) * root)
        rows, columns = scores.shape[-2:]
        masked = scores
        bias = _added(mask, scores, columns)
        if ahead:
            bias = _sum(
                bias,
                torch.zeros(rows, columns, dtype=q.dtype).masked_fill(
                    torch.arange(columns) > torch.arange(rows).unsqueeze(1) + past, float("-inf")
                ),
            )
        if lengths is not None:
            over = torch.arange(columns) >= lengths.reshape(-1, 1, 1, 1)
            bias = _sum(bias, torch.zeros(over.shape, dtype=q.dtype).masked_fill(over, float("-inf")))
        masked = scores if bias is None else scores + bias
        capped = masked if not cap else cap * torch.tanh(masked / cap)
        kind = torch_type(wide, call.compute) if wide else capped.dtype
        shares = torch.softmax(capped.to(kind), -1).to(q.dtype)
        y = torch.matmul(shares, v)
        y = _joined(y) if flat else y
        if len(call.wanted) < 2:
            return y
        return (y, *present, (scores, masked, capped, shares)[stage])

    return run


def _added(mask: Tensor | None, scores: Tensor, columns: int) -> Tensor | None:
    if mask is None:
        return None
    if mask.dtype == torch.bool:
        mask = torch.zeros(mask.shape, dtype=scores.dtype).masked_fill(~mask, float("-inf"))
    if mask.shape[-1] < columns:
        mask = torch.nn.functional.pad(mask, (0, columns - mask.shape[-1]), value=float("-inf"))
    return mask


def _rotary(call: Call) -> Run:
    """ONNX's RotaryEmbedding (23)."""
    heads, part, mixed = (
        call.integer("num_heads"),
        call.integer("rotary_embedding_dim"),
        bool(call.integer("interleaved")),
    )

    def run(x: Tensor, cos: Tensor, sin: Tensor, places: Tensor | None = None) -> Tensor:
        flat = x.dim() == 3
        y = _heads(x, heads) if flat else x
        size = part or y.shape[-1]
        turning, rest = y[..., :size], y[..., size:]
        cos, sin = (one if places is None else one[places] for one in (cos, sin))
        cos, sin = cos.unsqueeze(1)[..., : size // 2], sin.unsqueeze(1)[..., : size // 2]
        first, second = (turning[..., ::2], turning[..., 1::2]) if mixed else turning.chunk(2, -1)
        real, imaginary = first * cos - second * sin, first * sin + second * cos
        turned = torch.stack([real, imaginary], -1).flatten(-2) if mixed else torch.cat([real, imaginary], -1)
        y = torch.cat([turned, rest], -1)
        return _joined(y) if flat else y

    return run


def _old_rotary(call: Call) -> Run:
    """com.microsoft.RotaryEmbedding: the same, with the places before the tables."""
    if call.integer("is_packed_batching") or call.number("scale", 1.0) != 1.0:
        raise call.refuse("packed batches and scaled tables are not known here")
    standard = _rotary(call)

    def run(x: Tensor, places: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        if places.numel() == 1 and places.dim() == 1:
            steps = x.shape[-2] if x.dim() == 4 else x.shape[1]
            places = (torch.arange(steps) + places).unsqueeze(0).expand(x.shape[0], -1)
        if x.dim() == 3 and not call.integer("num_heads"):
            size = 2 * cos.shape[-1]
            parts = _heads(x, x.shape[-1] // size)
            found: Tensor = standard(parts, cos, sin, places)
            return _joined(found)
        whole: Tensor = standard(x, cos, sin, places)
        return whole

    return run


OPERATORS: Operators = {
    "Attention": [(23, _standard)],
    "RotaryEmbedding": [(23, _rotary)],
}

CONTRIB: Operators = {
    "Attention": [(1, _projecting)],
    "MultiHeadAttention": [(1, _multi_head)],
    "RotaryEmbedding": [(1, _old_rotary)],
}
