"""onnxruntime's own operators, and attention, against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from one_operator import agree, floats

pytest.importorskip("torch", reason="needs the extra: pip install 'graphopt[distill]'")

X = floats(2, 3, 8)
D = floats(8, seed=7)
OWN: dict[str, Any] = {"domain": "com.microsoft"}


def test_gelus() -> None:
    agree("Gelu", X, **OWN)
    agree("FastGelu", X, tolerance=1e-5, **OWN)
    agree("FastGelu", X, D, tolerance=1e-5, **OWN)
    agree("BiasGelu", X, D, **OWN)
    agree("QuickGelu", X, alpha=1.5, **OWN)


@pytest.mark.parametrize("left", [0, 1])
@pytest.mark.parametrize("right", [0, 1])
def test_fused_products(left: int, right: int) -> None:
    a, b = floats(2, *((4, 3) if left else (3, 4))), floats(2, *((5, 4) if right else (4, 5)), seed=1)
    agree("FusedMatMul", a, b, transA=left, transB=right, alpha=0.3, **OWN)


def test_fused_products_with_the_batch_inside() -> None:
    agree("FusedMatMul", floats(3, 2, 4), floats(2, 4, 5, seed=1), transBatchA=1, **OWN)
    agree("FusedMatMul", floats(3, 2, 4), floats(5, 2, 4, seed=1), transBatchA=1, transBatchB=1, transB=1, **OWN)


@pytest.mark.parametrize(
    ("name", "given"),
    [("Relu", []), ("Tanh", []), ("LeakyRelu", [0.2]), ("Clip", [-0.3, 0.6]), ("HardSigmoid", [0.3, 0.4])],
)
def test_fused_convolutions(name: str, given: list[float]) -> None:
    attrs: dict[str, Any] = {"activation_params": given} if given else {}
    x, w = floats(1, 3, 6, 6), floats(4, 3, 3, 3, seed=1)
    agree("FusedConv", x, w, floats(4, seed=2), activation=name, pads=[1, 1, 1, 1], tolerance=1e-5, **attrs, **OWN)


def test_fused_convolution_with_a_summand() -> None:
    x, w, more = floats(1, 3, 6, 6), floats(4, 3, 3, 3, seed=1), floats(1, 4, 4, 4, seed=3)
    agree("FusedConv", x, w, floats(4, seed=2), more, activation="Relu", **OWN)


def test_fused_gemm() -> None:
    a, b = floats(3, 4), floats(4, 5, seed=1)
    agree("FusedGemm", a, b, floats(5), activation="Relu", **OWN)
    agree("FusedGemm", a, b, floats(5), activation="LeakyRelu", activation_alpha=0.2, **OWN)


def test_skip_layer_normalizations() -> None:
    agree("SkipLayerNormalization", X, X[::-1].copy(), D, D, **OWN)
    agree("SkipSimplifiedLayerNormalization", X, X[::-1].copy(), D, D, tolerance=1e-5, **OWN)


def masks(kind: str) -> np.ndarray[Any, Any]:
    return {
        "lengths": np.array([3, 2], np.int32),
        "ends": np.array([3, 2, 0, 1], np.int32),
        "steps": np.array([[1, 1, 1], [0, 1, 1]], np.int32),
        "pairs": np.array([[[1, 1, 0], [1, 1, 1], [0, 1, 1]]] * 2, np.int32),
    }[kind]


@pytest.mark.parametrize("kind", ["", "lengths", "ends", "steps", "pairs"])
@pytest.mark.parametrize("ahead", [0, 1])
def test_attention_with_projections(kind: str, ahead: int) -> None:
    mask = masks(kind) if kind else None
    weight, bias = floats(8, 24, seed=1), floats(24, seed=2)
    agree("Attention", X, weight, bias, mask, num_heads=2, unidirectional=ahead, **OWN)


def test_attention_with_a_past() -> None:
    past = floats(2, 2, 2, 3, 4, seed=3)
    agree(
        "Attention", X, floats(8, 24, seed=1), floats(24), None, past, num_heads=2, unidirectional=1, outputs=2, **OWN
    )


def test_multi_head_attention() -> None:
    k, v = floats(2, 5, 8, seed=1), floats(2, 5, 8, seed=2)
    bias = floats(24, seed=3)
    agree("MultiHeadAttention", X, k, v, num_heads=2, **OWN)
    agree("MultiHeadAttention", X, k, v, bias, num_heads=2, scale=0.3, **OWN)
    agree(
        "MultiHeadAttention", X, k, v, None, np.array([[1, 1, 1, 0, 0], [1, 1, 0, 0, 0]], np.int32), num_heads=2, **OWN
    )
    agree("MultiHeadAttention", X, k, v, None, None, floats(1, 2, 3, 5, seed=4), num_heads=2, **OWN)
    agree("MultiHeadAttention", X, X, X, num_heads=2, unidirectional=1, **OWN)


def test_rotary_embedding() -> None:
    cos, sin = floats(10, 2, seed=1), floats(10, 2, seed=2)
    places = np.array([[0, 1, 2], [3, 4, 5]])
    for mixed in (0, 1):
        agree("RotaryEmbedding", X, places, cos, sin, interleaved=mixed, **OWN)
        agree("RotaryEmbedding", floats(2, 2, 3, 4), np.array([4]), cos, sin, interleaved=mixed, **OWN)


def test_embeddings() -> None:
    ids, kinds = np.array([[1, 5, 2], [0, 3, 3]], np.int32), np.array([[0, 0, 1], [1, 1, 1]], np.int32)
    tables = floats(6, 8), floats(4, 8, seed=1), floats(2, 8, seed=2)
    mask = np.array([[1, 1, 0], [1, 1, 1]], np.int32)
    agree("EmbedLayerNormalization", ids, kinds, *tables, D, D, mask, outputs=2, **OWN)
    agree("EmbedLayerNormalization", ids, None, tables[0], tables[1], None, D, D, outputs=2, **OWN)


@pytest.mark.parametrize("causal", [0, 1])
def test_standard_attention(causal: int) -> None:
    q, k, v = floats(2, 4, 3, 8), floats(2, 2, 3, 8, seed=1), floats(2, 2, 3, 8, seed=2)
    agree("Attention", q, k, v, is_causal=causal, opset=23)
    agree("Attention", q, k, v, np.array([[True, False, True]] * 3), opset=23)
    agree("Attention", q, k, v, floats(3, 3, seed=3), is_causal=causal, scale=0.4, opset=23)
    agree("Attention", floats(2, 3, 16), floats(2, 3, 8), floats(2, 3, 8), q_num_heads=4, kv_num_heads=2, opset=23)
