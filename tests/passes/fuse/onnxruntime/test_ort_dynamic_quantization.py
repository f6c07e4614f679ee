"""ort-dynamic-quantization: products of values that are quantized on the way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.testing import Applied, apply, assert_missed, model
from passes.fuse.onnxruntime.dynamic_quantization import OrtDynamicQuantization

RNG = np.random.default_rng(0)
HEAD = "g (float[N, M, 8] x) => (float[N, M, 6] y)"
DYNAMIC = "q, s, z = DynamicQuantizeLinear(x)"
PRODUCT = "m = MatMulInteger(q, w, z, v) c = Cast<to=1>(m) k = Mul(s, t)"
BIAS = RNG.standard_normal(6).astype(np.float32)


def weights(dtype: Any = np.int8, columns: bool = False) -> dict[str, Any]:
    info = np.iinfo(dtype)
    w = RNG.integers(info.min, info.max, (8, 6), dtype=dtype)
    if columns:
        return {"w": w, "t": np.linspace(0.01, 0.02, 6, dtype=np.float32), "v": np.zeros(6, dtype)}
    return {"w": w, "t": np.float32(0.02), "v": dtype(1)}


def fused(text: str, head: str = HEAD, **given: Any) -> Applied:
    return apply(OrtDynamicQuantization(), model(f"{head} {{ {text} }}", **given))


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("end", ["y = Mul(c, k)", "y = Mul(k, c)"])
def test_a_product(end: str, dtype: Any, columns: bool) -> None:
    done = fused(f"{DYNAMIC} {PRODUCT} {end}", **weights(dtype, columns))
    assert done.body == "y = com.microsoft.DynamicQuantizeMatMul(x, w, t, v)"


def test_no_zero_point() -> None:
    given = {name: value for name, value in weights().items() if name != "v"}
    done = fused(f"{DYNAMIC} {PRODUCT} y = Mul(c, k)".replace(", v)", ")"), **given)
    assert done.body == "y = com.microsoft.DynamicQuantizeMatMul(x, w, t)"


@pytest.mark.parametrize("add", ["y = Add(b, p)", "y = Add(p, b)"])
def test_a_bias(add: str) -> None:
    done = fused(f"{DYNAMIC} {PRODUCT} p = Mul(c, k) {add}", b=BIAS, **weights())
    assert done.body == "y = com.microsoft.DynamicQuantizeMatMul(x, w, t, v, b)"


@pytest.mark.parametrize("bias", [BIAS[:1], BIAS.reshape(1, 6)])
def test_what_is_no_vector_is_added_after(bias: Any) -> None:
    done = fused(f"{DYNAMIC} {PRODUCT} p = Mul(c, k) y = Add(p, b)", b=bias, **weights())
    assert done.body == "p = com.microsoft.DynamicQuantizeMatMul(x, w, t, v)\ny = Add(p, b)"


def test_two_products_share_the_quantized_values() -> None:
    second = "m2 = MatMulInteger(q, w2, z) c2 = Cast<to=1>(m2) k2 = Mul(s, t) y2 = Mul(c2, k2)"
    head = "g (float[N, M, 8] x) => (float[N, M, 6] y, float[N, M, 6] y2)"
    given = weights()
    done = fused(f"{DYNAMIC} {PRODUCT} y = Mul(c, k) {second}", head, w2=given["w"][:, ::-1], **given)
    assert done.body.splitlines() == [
        "q, s, z = DynamicQuantizeLinear(x)",
        "y = com.microsoft.MatMulIntegerToFloat(q, w, s, t, z, v)",
        "y2 = com.microsoft.MatMulIntegerToFloat(q, w2, s, t, z)",
    ]


def test_scale_of_something_else_stays() -> None:
    text = f"{DYNAMIC} q2, s2, z2 = DynamicQuantizeLinear(o) {PRODUCT.replace('(s,', '(s2,')} y = Mul(c, k)"
    done = fused(text, "g (float[N, M, 8] x, float[N, M, 8] o) => (float[N, M, 6] y)", **weights())
    assert_missed(done, "product", "not of one DynamicQuantizeLinear")
    assert done.after == done.before


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"t": np.full((1, 6), 0.01, np.float32)}, "neither one number nor one for each column"),
        ({"v": np.zeros(6, np.int8)}, "one scale and several zero points"),
    ],
)
def test_other_scales_stay(change: dict[str, Any], why: str) -> None:
    done = fused(f"{DYNAMIC} {PRODUCT} y = Mul(c, k)", **(weights() | change))
    assert_missed(done, "product", why)
    assert done.after == done.before


def test_a_value_that_others_read_stays() -> None:
    head = "g (float[N, M, 8] x) => (float[N, M, 6] y, float[N, M, 6] c)"
    done = fused(f"{DYNAMIC} {PRODUCT} y = Mul(c, k)", head, **weights())
    assert_missed(done, "product", "'c' is a graph output")
    assert done.after == done.before


@pytest.mark.parametrize("output", ["q", "s", "z"])
def test_a_part_of_the_quantized_value_that_is_an_output_too(output: str) -> None:
    kind = {"q": "uint8[a, b, c] q", "s": "float s", "z": "uint8 z"}[output]
    head = HEAD.replace("y)", f"y, {kind})")
    done = fused(f"{DYNAMIC} {PRODUCT} y = Mul(c, k)", head, **weights())
    assert done.body.splitlines()[0] == "q, s, z = DynamicQuantizeLinear(x)"
    assert "MatMulIntegerToFloat" in done.body
