"""One theorem for every operator: to take units out is to silence all their weights.

Each case has the sizes of the groups that can be narrowed, in the order of their first makers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from narrowed_models import assert_narrowing_is_silencing, obstacles

from graphopt.testing import model

Array = np.ndarray[Any, Any]


def some(*shape: int, seed: int = 0, low: float = 0.0) -> Array:
    """Numbers that look random; at least `low` in magnitude where that is given."""
    values = np.random.default_rng((*shape, seed)).standard_normal(shape).astype(np.float32)
    return values if not low else np.abs(values) + np.float32(low)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


V = some(5, 8, 1, 1, seed=9)  # reads 8 channels, makes the output

CASES: dict[str, tuple[list[int], str, dict[str, Array]]] = {
    "a chain": (
        [8, 6],
        "a = Conv(x, w, b)  n = BatchNormalization(a, s, t, m, v)  r = Relu(n)  c = Conv<pads=[1,1,1,1]>(r, u)"
        " d = PRelu(c, p)  y = Conv(d, o)",
        {
            "w": some(8, 3, 3, 3),
            "b": some(8),
            "s": some(8, seed=1),
            "t": some(8, seed=2),
            "m": some(8, seed=3),
            "v": some(8, low=0.5),
            "u": some(6, 8, 3, 3),
            "p": some(6, 1, 1),
            "o": some(5, 6, 1, 1),
        },
    ),
    "residual additions": (
        [8, 4],
        "a = Conv(x, w)  c = Conv(a, u)  d = Relu(c)  e = Conv(d, t)  f = Add(a, e)  g = Add(f, k)  y = Conv(g, o)",
        {
            "w": some(8, 3, 1, 1),
            "u": some(4, 8, 1, 1),
            "t": some(8, 4, 1, 1),
            "k": some(8, 1, 1),
            "o": V,
        },
    ),
    "broadcasting with ones": (
        [8],
        "a = Conv(x, w)  b = Mul(a, k)  c = Add(b, one)  d = Max(c, a, row)  y = Conv(d, o)",
        {"w": some(8, 3, 1, 1), "k": some(1, 8, 1, 1), "one": some(1), "row": some(1, 1, 1, 6), "o": V},
    ),
    "where and comparisons": (
        [8],
        "a = Conv(x, w)  g = Greater(a, k)  z = Neg(a)  b = Where(g, a, z)  y = Conv(b, o)",
        {"w": some(8, 3, 1, 1), "k": some(8, 1, 1), "o": V},
    ),
    "a clip, a cast, a dropout": (
        [8],
        "a = Conv(x, w)  b = Clip(a, low, high)  c = Cast<to=11>(b)  d = Cast<to=1>(c)  e = Dropout(d)  y = Conv(e, o)",
        {"w": some(8, 3, 1, 1), "low": np.float32(-1), "high": np.float32(1), "o": V},
    ),
    "depthwise": (
        [8],
        "a = Conv(x, w)  b = Conv<group=8, pads=[1,1,1,1]>(a, d, e)  c = Relu(b)  y = Conv(c, o)",
        {"w": some(8, 3, 1, 1), "d": some(8, 1, 3, 3), "e": some(8), "o": V},
    ),
    "depthwise with two outputs each": (
        [4],
        "a = Conv(x, w)  b = Conv<group=4>(a, d, e)  y = Conv(b, o)",
        {"w": some(4, 3, 1, 1), "d": some(8, 1, 3, 3), "e": some(8), "o": V},
    ),
    "grouped": (
        [4],
        "a = Conv(x, w)  b = Conv<group=4>(a, d)  y = Conv(b, o)",
        {"w": some(12, 3, 1, 1), "d": some(8, 3, 3, 3), "o": V},
    ),
    "grouped behind grouped": (
        [2],
        "a = Conv(x, w)  b = Conv<group=4>(a, d)  c = Conv<group=2>(b, e)  y = Conv(c, o)",
        {"w": some(12, 3, 1, 1), "d": some(8, 3, 1, 1), "e": some(8, 4, 1, 1), "o": V},
    ),
    "transposed": (
        [8, 6],
        "a = ConvTranspose<strides=[2,2]>(x, w, b)  c = ConvTranspose(a, u)  y = Conv(c, o)",
        {"w": some(3, 8, 2, 2), "b": some(8), "u": some(8, 6, 3, 3), "o": some(5, 6, 1, 1)},
    ),
    "transposed, grouped": (
        [4],
        "a = Conv(x, w)  b = ConvTranspose<group=4>(a, d, e)  y = Conv(b, o)",
        {"w": some(8, 3, 1, 1), "d": some(8, 2, 2, 2), "e": some(8), "o": V},
    ),
    "squeeze and excite": (
        [8, 4],
        "a = Conv(x, w)  g = GlobalAveragePool(a)  r = Conv(g, u, b)  f = Relu(r)  e = Conv(f, t, c)"
        "  s = HardSigmoid(e)  m = Mul(a, s)  y = Conv(m, o)",
        {
            "w": some(8, 3, 1, 1),
            "u": some(4, 8, 1, 1),
            "b": some(4),
            "t": some(8, 4, 1, 1),
            "c": some(8),
            "o": V,
        },
    ),
    "squeeze and excite by means": (
        [8],
        "a = Conv(x, w)  g = ReduceMean<keepdims=0>(a, over)  e = MatMul(g, t)  s = Sigmoid(e)  u = Unsqueeze(s, last)"
        "  m = Mul(a, u)  y = Conv(m, o)",
        {"w": some(8, 3, 1, 1), "over": ints(2, 3), "t": some(8, 8), "last": ints(2, 3), "o": V},
    ),
    "pools": (
        [8],
        "a = Conv(x, w)  b = MaxPool<kernel_shape=[2,2]>(a)  c = AveragePool<kernel_shape=[2,2]>(b)  y = Conv(c, o)",
        {"w": some(8, 3, 1, 1), "o": V},
    ),
    "instance normalization": (
        [8],
        "a = Conv(x, w)  b = InstanceNormalization(a, s, t)  y = Conv(b, o)",
        {"w": some(8, 3, 1, 1), "s": some(8), "t": some(8, seed=1), "o": V},
    ),
    "group normalization": (
        [4],
        "a = Conv(x, w)  b = GroupNormalization<num_groups=4>(a, s, t)  y = Conv(b, o)",
        {"w": some(8, 3, 1, 1), "s": some(8), "t": some(8, seed=1), "o": V},
    ),
    "group normalization in pieces": (
        [4],
        "a = Conv(x, w)  c = Reshape(a, shape)  n = InstanceNormalization(c, s, t)  d = Reshape(n, back)  e = Mul(d, k)"
        "  y = Conv(e, o)",
        {
            "w": some(8, 3, 1, 1),
            "shape": ints(0, 4, -1),
            "s": np.ones(4, np.float32),
            "t": np.zeros(4, np.float32),
            "back": ints(2, 8, 6, 6),
            "k": some(8, 1, 1),
            "o": V,
        },
    ),
    "concat": (
        [8, 4],
        "a = Conv(x, w)  b = Conv(x, u)  r = Relu(a)  c = Concat<axis=1>(r, b)  y = Conv(c, o)",
        {"w": some(8, 3, 1, 1), "u": some(4, 3, 1, 1), "o": some(5, 12, 1, 1)},
    ),
    "concat with an input": (
        [8],
        "a = Conv(x, w)  c = Concat<axis=1>(x, a, x)  y = Conv(c, o)",
        {"w": some(8, 3, 1, 1), "o": some(5, 14, 1, 1)},
    ),
    "concat of residuals": (
        [4, 4, 6],
        "a = Conv(x, w)  b = Conv(x, u)  c = Concat<axis=1>(a, b)  d = Conv(c, t)  r = Relu(d)  e = Conv(r, v)"
        "  f = Add(c, e)  y = Conv(f, o)",
        {
            "w": some(4, 3, 1, 1),
            "u": some(4, 3, 1, 1, seed=1),
            "t": some(6, 8, 1, 1),
            "v": some(8, 6, 1, 1),
            "o": V,
        },
    ),
    "concat of one part twice": (
        [4],
        "a = Conv(x, w)  r = Relu(a)  c = Concat<axis=1>(a, r)  y = Conv(c, o)",
        {"w": some(4, 3, 1, 1), "o": V},
    ),
    "split": (
        [4, 4],
        "a = Conv(x, w)  b, c = Split<axis=1, num_outputs=2>(a)  d = Relu(b)  e = Concat<axis=1>(d, c)  y = Conv(e, o)",
        {"w": some(8, 3, 1, 1), "o": V},
    ),
    "split into sizes that are shared": (
        [2, 6],
        "a = Conv(x, w)  b, c = Split<axis=1>(a, n)  f, g = Split<axis=-3>(a, n)  d = Relu(b)  h = Conv(f, u)"
        "  p = Conv(g, t)  e = Concat<axis=1>(d, c)  q = Conv(e, o)  k = Add(p, h)  y = Add(q, k)",
        {
            "w": some(8, 3, 1, 1),
            "n": ints(2, 6),
            "o": V,
            "u": some(5, 2, 1, 1),
            "t": some(5, 6, 1, 1),
        },
    ),
    "split and multiplied": (
        [8],
        "a = Conv(x, w)  b, c = Split<axis=1, num_outputs=2>(a)  s = Sigmoid(c)  d = Mul(b, s)  y = Conv(d, o)",
        {"w": some(16, 3, 1, 1), "o": V},
    ),
    "slices": (
        [3, 5],
        "a = Conv(x, w)  b = Slice(a, zero, three, one)  c = Slice(a, three, end, one)  d = Relu(c)"
        "  e = Concat<axis=1>(b, d)  y = Conv(e, o)",
        {"w": some(8, 3, 1, 1), "zero": ints(0), "three": ints(3), "one": ints(1), "end": ints(1 << 60), "o": V},
    ),
    "overlapping slices": (
        [2, 4, 2],
        "a = Conv(x, w)  b = Slice(a, zero, six, one)  c = Slice(a, minus, end, one)  d = Conv(b, u)  e = Conv(c, t)"
        "  y = Add(d, e)",
        {
            "w": some(8, 3, 1, 1),
            "zero": ints(0),
            "six": ints(6),
            "minus": ints(-6),
            "end": ints(8),
            "one": ints(1),
            "u": some(5, 6, 1, 1),
            "t": some(5, 6, 1, 1, seed=1),
        },
    ),
    "picked and mixed": (
        [8],
        "a = Conv(x, w)  b = Gather<axis=1>(a, order)  c = Add(b, k)  y = Conv(c, o)",
        {"w": some(8, 3, 1, 1), "order": ints(3, 0, 7, -2, 1, 5, 2, 4), "k": some(8, 1, 1), "o": V},
    ),
    "one taken out": (
        [7],
        "a = Conv(x, w)  b = Gather<axis=1>(a, two)  c = Unsqueeze(b, one)  d = Mul(a, c)  y = Conv(d, o)",
        {"w": some(8, 3, 1, 1), "two": np.array(2, np.int64), "one": ints(1), "o": V},
    ),
    "padded channels": (
        [8],
        "a = Conv(x, w)  b = Pad(a, pads)  y = Conv(b, o)",
        {"w": some(8, 3, 1, 1), "pads": ints(0, 1, 1, 0, 0, 2, 0, 1), "o": some(5, 11, 1, 1)},
    ),
    "flattened": (
        [8],
        "a = Conv(x, w)  b = Flatten(a)  y = Gemm<transB=1>(b, o, c)",
        {"w": some(8, 3, 3, 3), "o": some(5, 128), "c": some(5)},
    ),
    "flattened by a reshape": (
        [8],
        "a = Conv(x, w)  b = Reshape(a, shape)  y = MatMul(b, o)",
        {"w": some(8, 3, 3, 3), "shape": ints(2, 128), "o": some(128, 5)},
    ),
    "pixel shuffle": (
        [2],
        "a = Conv(x, w)  b = DepthToSpace<blocksize=2>(a)  y = Conv(b, o)",
        {"w": some(8, 3, 1, 1), "o": some(5, 2, 1, 1)},
    ),
    "pixel shuffle of the other order": (
        [2],
        """a = Conv(x, w)  b = DepthToSpace<blocksize=2, mode="CRD">(a)  y = Conv(b, o)""",
        {"w": some(8, 3, 1, 1), "o": some(5, 2, 1, 1)},
    ),
    "space to depth": (
        [8],
        "a = Conv(x, w)  b = SpaceToDepth<blocksize=2>(a)  y = Conv(b, o)",
        {"w": some(8, 3, 1, 1), "o": some(5, 32, 1, 1)},
    ),
    "channel shuffle": (
        [2],
        "a = Conv(x, w)  b = Reshape(a, cut)  c = Transpose<perm=[0,2,1,3,4]>(b)  d = Reshape(c, back)  y = Conv(d, o)",
        {"w": some(8, 3, 1, 1), "cut": ints(2, 2, 4, 6, 6), "back": ints(2, -1, 6, 6), "o": V},
    ),
    "channels last": (
        [8, 6],
        "a = Conv(x, w)  b = Transpose<perm=[0,2,3,1]>(a)  c = MatMul(b, u)  d = Add(c, k)  e = Gelu(d)"
        "  f = MatMul(e, t)  g = Add(b, f)  h = Transpose<perm=[0,3,1,2]>(g)  y = Conv(h, o)",
        {"w": some(8, 3, 1, 1), "u": some(8, 6), "k": some(6), "t": some(6, 8), "o": V},
    ),
    "resized": (
        [8],
        """a = Conv(x, w)  b = Resize<mode="nearest">(a, , scales)  y = Conv(b, o)""",
        {"w": some(8, 3, 1, 1), "scales": np.array([1, 1, 2, 2], np.float32), "o": V},
    ),
    "resized to sizes": (
        [8],
        """a = Conv(x, w)  b = Resize<mode="nearest">(a, , , sizes)  y = Conv(b, o)""",
        {"w": some(8, 3, 1, 1), "sizes": ints(2, 8, 9, 9), "o": V},
    ),
    "softmax over places": (
        [8],
        "a = Conv(x, w)  b = Softmax<axis=3>(a)  y = Conv(b, o)",
        {"w": some(8, 3, 1, 1), "o": V},
    ),
    "expanded and tiled": (
        [8],
        "a = Conv(x, w)  g = GlobalAveragePool(a)  e = Expand(g, shape)  t = Tile(e, times)  y = Conv(t, o)",
        {"w": some(8, 3, 1, 1), "shape": ints(2, 8, 6, 6), "times": ints(1, 2, 1, 1), "o": some(5, 16, 1, 1)},
    ),
    "quantized and dequantized": (
        [8],
        "a = Conv(x, dw, b)  q = QuantizeLinear(a, s, z)  d = DequantizeLinear(q, s, z)  y = Conv(d, o)"
        "  dw = DequantizeLinear<axis=0>(w, ws, wz)",
        {
            "w": np.random.default_rng(5).integers(-128, 128, (8, 3, 1, 1)).astype(np.int8),
            "ws": some(8, low=0.01) / 100,
            "wz": np.zeros(8, np.int8),
            "b": some(8),
            "s": np.float32(0.05),
            "z": np.uint8(128),
            "o": V,
        },
    ),
    "weights through a transpose": (
        [8],
        "t = Transpose(w)  a = Flatten<axis=1>(x)  b = MatMul(a, t)  y = Gemm(b, o)",
        {"w": some(8, 108), "o": some(8, 5)},
    ),
    "one weight, read twice": (
        [8],
        "a = Conv(x, u)  b = Conv(a, w)  c = Relu(b)  d = Conv(c, w)  y = Conv(d, o)",
        {"u": some(8, 3, 1, 1), "w": some(8, 8, 1, 1), "o": V},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_taking_units_out_is_silencing_them(name: str) -> None:
    sizes, text, weights = CASES[name]
    rank = 2 if "Gemm" in text or "MatMul(b, o)" in text else 4
    nodes = sorted(text.split("  "), key=lambda node: not node.strip().startswith(("dw =", "t = Transpose(w)")))
    result = ",".join("PQRS"[:rank])
    case = model(f"g (float[2,3,6,6] x) => (float[{result}] y) {{ {' '.join(nodes)} }}", **weights)
    assert assert_narrowing_is_silencing(case) == sizes, obstacles(case)
