"""How large a decoder-only language model is, and which tensors it has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

_PRODUCT_OPSET = 23  # from which ONNX has RMSNormalization


@dataclass(frozen=True)
class Shape:
    """What the model is like. `past` adds a cache of keys and values as inputs and outputs, `tied` lets the head
    read the embedding, `fused` writes normalizations as one operator (opset 23)."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    ffn: int
    vocab: int
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    opset: int = 17
    past: bool = True
    tied: bool = False
    fused: bool = False

    def __post_init__(self) -> None:
        if self.hidden % self.heads or self.heads % self.kv_heads or (self.hidden // self.heads) % 2:
            raise ValueError("hidden must be heads times an even number, and heads a multiple of kv-heads")
        if self.fused and self.opset < _PRODUCT_OPSET:
            raise ValueError(f"RMSNormalization as one operator needs opset {_PRODUCT_OPSET}")

    @property
    def head(self) -> int:
        """The size of one head."""
        return self.hidden // self.heads

    @property
    def itemsize(self) -> int:
        return 4 if self.dtype == "float32" else 2

    def weights(self) -> Iterator[Weight]:
        """All large tensors, in the order of the file."""
        hidden, kv = self.hidden, self.kv_heads * self.head
        yield Weight("model.embed_tokens.weight", (self.vocab, hidden), "table")
        for layer in range(self.layers):
            stem = f"model.layers.{layer}"
            yield Weight(f"{stem}.input_layernorm.weight", (hidden,), "norm")
            for name, outputs in (("q", hidden), ("k", kv), ("v", kv)):
                yield Weight(f"{stem}.self_attn.{name}_proj.weight", (hidden, outputs))
            yield Weight(f"{stem}.self_attn.o_proj.weight", (hidden, hidden))
            yield Weight(f"{stem}.post_attention_layernorm.weight", (hidden,), "norm")
            for name in ("gate", "up"):
                yield Weight(f"{stem}.mlp.{name}_proj.weight", (hidden, self.ffn))
            yield Weight(f"{stem}.mlp.down_proj.weight", (self.ffn, hidden))
        yield Weight("model.norm.weight", (hidden,), "norm")
        if not self.tied:
            yield Weight("lm_head.weight", (hidden, self.vocab))


@dataclass(frozen=True)
class Weight:
    """One stored tensor: `kind` tells how its values are spread."""

    name: str
    dims: tuple[int, ...]
    kind: Literal["matrix", "table", "norm"] = "matrix"

    @property
    def elements(self) -> int:
        return int(np.prod(self.dims))
