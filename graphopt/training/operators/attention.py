"""ONNX's Attention and RotaryEmbedding."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from graphopt.training.call import Call, Operators, Run
from graphopt.training.tensors import torch_type


def heads_of(x: Tensor, count: int) -> Tensor:
    """From [batch, steps, width] to [batch, heads, steps, size]."""
    return x.reshape(*x.shape[:-1], count, -1).transpose(1, 2)


def joined(x: Tensor) -> Tensor:
    """From [batch, heads, steps, size] to [batch, steps, width]."""
    return x.transpose(1, 2).flatten(2)


def _attention(call: Call) -> Run:
    """Grouped heads, masks of numbers or truth values, causal and windowed forms, a soft cap."""
    q_heads, kv_heads = call.integer("q_num_heads"), call.integer("kv_num_heads")
    cap, scale = call.number("softcap"), call.number("scale")
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
        q, k, v = query, key, value
        if flat:
            q, k, v = heads_of(query, q_heads), heads_of(key, kv_heads), heads_of(value, kv_heads)
        before = torch.zeros((), dtype=torch.int64)
        if past_key is not None and past_value is not None:
            before = before + past_key.shape[2]
            k, v = torch.cat([past_key, k], 2), torch.cat([past_value, v], 2)
        elif lengths is not None:
            before = lengths.reshape(-1, 1, 1, 1) - q.shape[2]
        present = (k, v)
        if k.shape[1] != q.shape[1]:
            k, v = (one.repeat_interleave(q.shape[1] // one.shape[1], 1) for one in (k, v))
        root = math.sqrt(scale or 1 / math.sqrt(q.shape[-1]))
        scores = torch.matmul(q * root, k.transpose(-1, -2) * root)
        capped = cap * torch.tanh(scores / cap) if cap else scores
        masked = _masked(call, capped, mask, before, lengths)
        kind = torch_type(wide, call.compute) if wide else masked.dtype
        shares = torch.softmax(masked.to(kind), -1).to(q.dtype)
        shares = torch.where((masked == float("-inf")).all(-1, keepdim=True), torch.zeros((), dtype=q.dtype), shares)
        y = torch.matmul(shares, v)
        y = joined(y) if flat else y
        if len(call.wanted) < 2:
            return y
        return (y, *present, (scores, capped, masked, shares)[stage])

    return run


def _masked(call: Call, scores: Tensor, mask: Tensor | None, before: Tensor, lengths: Tensor | None) -> Tensor:
    """Scores, with nothing where a key may not be seen; `before` keys are older than the first query."""
    rows, columns = scores.shape[-2:]
    left, right = call.integer("left_window_size", -1), call.integer("right_window_size", -1)
    right = 0 if call.integer("is_causal") else right
    place, key = torch.arange(rows).unsqueeze(1) + before, torch.arange(columns)
    seen: Tensor | None = None
    if right >= 0:
        seen = key <= place + right
    if left >= 0:
        near = key >= place - left
        seen = near if seen is None else seen & near
    if lengths is not None:
        there = key < lengths.reshape(-1, 1, 1, 1)
        seen = there if seen is None else seen & there
    if mask is not None:
        if mask.shape[-1] < columns:
            filler: Any = False if mask.dtype == torch.bool else float("-inf")
            mask = torch.nn.functional.pad(mask, (0, columns - mask.shape[-1]), value=filler)
        if mask.dtype == torch.bool:
            seen = mask if seen is None else seen & mask
        else:
            scores = scores + mask
    return scores if seen is None else torch.where(seen, scores, torch.full((), float("-inf"), dtype=scores.dtype))


def rotary(call: Call) -> Run:
    """ONNX's RotaryEmbedding (23)."""
    heads, part, mixed = (
        call.integer("num_heads"),
        call.integer("rotary_embedding_dim"),
        bool(call.integer("interleaved")),
    )

    def run(x: Tensor, cos: Tensor, sin: Tensor, places: Tensor | None = None) -> Tensor:
        flat = x.dim() == 3
        y = heads_of(x, heads) if flat else x
        size = part or y.shape[-1]
        turning, rest = y[..., :size], y[..., size:]
        cos, sin = (one if places is None else one[places] for one in (cos, sin))
        cos, sin = cos.unsqueeze(1)[..., : size // 2], sin.unsqueeze(1)[..., : size // 2]
        first, second = (turning[..., ::2], turning[..., 1::2]) if mixed else turning.chunk(2, -1)
        real, imaginary = first * cos - second * sin, first * sin + second * cos
        turned = torch.stack([real, imaginary], -1).flatten(-2) if mixed else torch.cat([real, imaginary], -1)
        y = torch.cat([turned, rest], -1)
        return joined(y) if flat else y

    return run


OPERATORS: Operators = {
    "Attention": [(23, _attention)],
    "RotaryEmbedding": [(23, rotary)],
}
