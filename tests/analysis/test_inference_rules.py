"""Rules of operators at the corners of their specifications, held against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from real_shapes import wrong_facts

from graphopt.analysis.shapes import infer
from graphopt.ir import decode
from graphopt.ir.store import Store
from graphopt.testing import model
from graphopt.testing.feeds import feeds_for

W = np.ones((4, 3, 3, 3), np.float32)
T = np.ones((3, 4, 3, 3), np.float32)
IMAGE = "float[N, 3, H, 9] x"


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


def one(value: float) -> Any:
    return np.float32(value)


# What an operator makes of x: opset, inputs, nodes, the shape of y, weights.
CASES: list[tuple[int, str, str, tuple[Any, ...] | None, dict[str, Any]]] = [
    (9, "float[N, 6] x", "y = Slice<axes = [1], starts = [-4], ends = [100]>(x)", ("N", 4), {}),
    (9, "float[N, 6] x", "y = Slice<axes = [0, 1], starts = [0, 1], ends = [2147483647, -1]>(x)", ("N", 4), {}),
    (13, "float[N, 6] x",
     "y = Slice(x, a, b, c, d)",
     ("N", 3), {"a": ints(-1), "b": ints(-1000), "c": ints(1), "d": ints(-2)}),
    (13, "float[N, 6] x",
     "y = Slice(x, a, b, c, d)",
     ("N", 6), {"a": ints(-1), "b": ints(-(1 << 40)), "c": ints(0), "d": ints(-1)}),
    (13, "float[N, 6] x", "y = Slice(x, a, b)", ("max(1, N) - 1", 6), {"a": ints(1), "b": ints(1 << 62)}),
    (13, "float[N, 6] x", "y = Slice(x, a, b)", None, {"a": ints(-3), "b": ints(1 << 62)}),
    (13, "float[N, 6] x", "y = Slice(x, a, b)", None, {"a": ints(0), "b": ints(2)}),
    (13, "float[N, 6] x", "y = Slice(x, a, b, c, d)", None, {"a": ints(1), "b": ints(5), "c": ints(0), "d": ints(2)}),
    (13, "float[N, 6] x", "y = Slice(x, a, b)", None, {"a": ints(3), "b": ints(1)}),
    (11, "float[N, 6] x", "y, z = Split<axis = 1>(x)", ("N", 3), {}),
    (11, "float[N, 6] x", "y, z = Split<axis = -1, split = [4, 2]>(x)", ("N", 4), {}),
    (13, "float[N, 6] x", "y, z = Split<axis = 1>(x, s)", ("N", 1), {"s": ints(1, 5)}),
    (18, "float[N, 7] x", "y, z = Split<axis = 1, num_outputs = 2>(x)", ("N", 4), {}),
    (18, "float[6, N] x", "y, z = Split<axis = 0, num_outputs = 2>(x)", (3, "N"), {}),
    (18, "float[N, 7] x", "d = Concat<axis = 0>(x, x)  y, z = Split<axis = 0, num_outputs = 2>(d)", ("N", 7), {}),
    (10, "float[N, 6] x", "y = Pad<pads = [0, 1, 2, -2]>(x)", ("N + 2", 5), {}),
    (18, "float[N, 6] x", "y = Pad(x, p, , a)", ("N", 9), {"p": ints(1, 2), "a": ints(-1)}),
    (13, "float[N, 6] x", "y = Tile(x, r)", ("2*N", 18), {"r": ints(2, 3)}),
    (13, "float[N, 1] x", "y = Expand(x, s)", (2, "N", 5), {"s": ints(2, 1, 5)}),
    (13, "float[1, N] x", "s = Shape(x)  t = Concat<axis = 0>(s, k)  y = Expand(x, t)", None, {"k": ints(1)}),
    (13, "float[N, 6] x", "y = Reshape(x, s)", ("N", 2, 3), {"s": ints(0, 2, -1)}),
    (13, "float[N, 6] x", "y = Reshape(x, s)", ("3*N", 2), {"s": ints(-1, 2)}),
    (14, "float[N, 6] x", "y = Reshape<allowzero = 1>(x, s)", ("2*N", 3), {"s": ints(-1, 3)}),
    (13, "float[2, N, 6] x", "y = Flatten<axis = 2>(x)", ("2*N", 6), {}),
    (13, "float[2, N, 6] x", "y = Flatten<axis = -1>(x)", ("2*N", 6), {}),
    (13, "float[2, N, 6] x", "y = Flatten<axis = 0>(x)", (1, "12*N"), {}),
    (11, "float[1, N, 1] x", "y = Squeeze<axes = [0, -1]>(x)", ("N",), {}),
    (13, "float[1, 3, 1] x", "y = Squeeze(x)", (3,), {}),
    (11, "float[N] x", "y = Unsqueeze<axes = [0, -1]>(x)", (1, "N", 1), {}),
    (13, "float[N] x", "y = Unsqueeze(x, a)", (1, "N", 1), {"a": ints(-1, 0)}),
    (13, "float[N, 2, 3] x", "y = Transpose(x)", (3, 2, "N"), {}),
    (13, "float[N, 2, 3] x", "y = Gather<axis = -1>(x, i)", ("N", 2, 2, 1), {"i": ints(0, 2).reshape(2, 1)}),
    (13, "float[N, 2, 3] x", "y = GatherND<batch_dims = 1>(x, i)", None, {"i": ints(1, 0).reshape(2, 1)}),
    (13, "float[2, 2, 3] x", "y = GatherND<batch_dims = 1>(x, i)", (2, 3), {"i": ints(1, 0).reshape(2, 1)}),
    (13, IMAGE, "y = Conv(x, w)", ("N", 4, "H - 2", 7), {"w": W}),
    (13, IMAGE, "y = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(x, w)", ("N", 4, "floor((H + 1)/2)", 5), {"w": W}),
    (13, IMAGE,
     "y = Conv<auto_pad = \"SAME_UPPER\", strides = [2, 2]>(x, w)",
     ("N", 4, "floor((H + 1)/2)", 5), {"w": W}),
    (13, IMAGE, "y = Conv<auto_pad = \"VALID\", strides = [1, 3]>(x, w)", ("N", 4, "H - 2", 3), {"w": W}),
    (13, IMAGE, "y = Conv<dilations = [1, 2], pads = [1, 0, 1, 0]>(x, w)", ("N", 4, "H", 5), {"w": W}),
    (13, IMAGE, "y = ConvTranspose<strides = [2, 2]>(x, w)", ("N", 4, "2*H + 1", 19), {"w": T}),
    (13, IMAGE,
     "y = ConvTranspose<strides = [2, 2], output_padding = [1, 0], pads = [1, 1, 1, 1]>(x, w)",
     ("N", 4, "2*H", 17), {"w": T}),
    (13, IMAGE, "y, z = MaxPool<kernel_shape = [1, 3], strides = [1, 2]>(x)", ("N", 3, "H", 4), {}),
    (13, IMAGE, "y = MaxPool<kernel_shape = [1, 2], strides = [1, 2], ceil_mode = 1>(x)", ("N", 3, None, 5), {}),
    (13, "float[N, 3, 9, 9] x", "y = AveragePool<kernel_shape = [3, 3], strides = [2, 4], ceil_mode = 1>(x)", None, {}),
    (13, "float[N, 3, 2, 2] x", "y = MaxPool<kernel_shape = [1, 1], strides = [3, 3], ceil_mode = 1>(x)", None, {}),
    (13, "float[N, 3, 3, 3] x",
     "y = AveragePool<kernel_shape = [2, 2], strides = [2, 2], pads = [1, 1, 1, 1], ceil_mode = 1>(x)",
     None, {}),
    (13, IMAGE, "y = GlobalAveragePool(x)", ("N", 3, 1, 1), {}),
    (13, "float[N, 4, 2, 3] x", "y = DepthToSpace<blocksize = 2>(x)", ("N", 1, 4, 6), {}),
    (13, "float[N, 1, 4, 6] x", "y = SpaceToDepth<blocksize = 2>(x)", ("N", 4, 2, 3), {}),
    (9, "float[N, 1, 4, 6] x", "y = Upsample(x, s)", ("N", 1, 8, 9), {"s": np.array([1, 1, 2, 1.5], "f")}),
    (10, "float[N, 1, H, 5] x", "y = Resize(x, s)", ("N", 1, "2*H", 8), {"s": np.array([1, 1, 2, 1.7], "f")}),
    (13, "float[N, 1, H, 5] x", "y = Resize(x, , s)", ("N", 1, "2*H", 3), {"s": np.array([1, 1, 2, 0.7], "f")}),
    (13, "float[1, 1, H, 5] x", "y = Resize(x, , , s)", (1, 1, 7, 6), {"s": ints(1, 1, 7, 6)}),
    (18, "float[1, 1, H, 5] x", "y = Resize<axes = [3, 2]>(x, , , s)", (1, 1, 6, 7), {"s": ints(7, 6)}),
    (11, "float[N, 2, 3] x", "y = ReduceSum<axes = [-1], keepdims = 0>(x)", ("N", 2), {}),
    (13, "float[N, 2, 3] x", "y = ReduceSum(x, a)", ("N", 1, 3), {"a": ints(1)}),
    (13, "float[N, 2, 3] x", "y = ReduceSum<noop_with_empty_axes = 1>(x)", ("N", 2, 3), {}),
    (13, "float[N, 2, 3] x", "y = ReduceMax<keepdims = 0>(x)", (), {}),
    (18, "float[N, 2, 3] x", "y = ReduceMean<keepdims = 0>(x, a)", (2,), {"a": ints(0, 2)}),
    (13, "float[N, 2, 3] x", "y = ArgMax<axis = 1, keepdims = 0>(x)", ("N", 3), {}),
    (13, "float[N, 5] x", "y, z = TopK(x, k)", ("N", 2), {"k": ints(2)}),
    (13, "float[N, 5] x", "y = NonZero(x)", (2, None), {}),
    (13, "float[N, 5] x", "y, a, b, c = Unique(x)", (None,), {}),
    (13, "float[N, 5] x", "y = Compress<axis = 1>(x, c)", ("N", None), {"c": np.array([True, False, True])}),
    (13, "int64[N] x", "y = OneHot<axis = 0>(x, d, v)", (4, "N"), {"d": ints(4), "v": np.array([0, 1], "f")}),
    (13, "float[N, 2, 3] x", "y = Einsum<equation = \"bij,kj->bki\">(x, w)", ("N", 5, 2), {"w": np.ones((5, 3), "f")}),
    (13, "float[N, 2, 3] x", "y = Einsum<equation = \"zij,kj\">(x, w)", (2, 5, "N"), {"w": np.ones((5, 3), "f")}),
    (13, "float[N, 3] x", "y = MatMul(x, w)", ("N",), {"w": np.ones(3, "f")}),
    (13, "float[3] x", "y = MatMul(x, w)", (2, 4), {"w": np.ones((2, 3, 4), "f")}),
    (13, "float[3, N] x", "y = Gemm<transA = 1, transB = 1>(x, w)", ("N", 4), {"w": np.ones((4, 3), "f")}),
    (13, "float[N, 3] x", "a, b, c = DynamicQuantizeLinear(x)  y = DequantizeLinear(a, b, c)", ("N", 3), {}),
    (13, "float[N, 3] x", "y = QuantizeLinear(x, s)", ("N", 3), {"s": one(1)}),
    (17, "float[N, 3, 4] x", "y, m, d = LayerNormalization<axis = 1>(x, w)", ("N", 3, 4), {"w": np.ones((3, 4), "f")}),
    (14, "float[N, 3, 4] x",
     "y, h, c = LSTM<hidden_size = 2>(x, w, r)",
     ("N", 1, 3, 2), {"w": np.ones((1, 8, 4), "f"), "r": np.ones((1, 8, 2), "f")}),
    (14, "float[N, 3, 4] x",
     "y, h = GRU<hidden_size = 2, direction = \"bidirectional\">(x, w, r)",
     ("N", 2, 3, 2), {"w": np.ones((2, 6, 4), "f"), "r": np.ones((2, 6, 2), "f")}),
    (15, "float[N, 6] x",
     "n = Shape<end = 1>(x)  s = Slice(w, z, n)  y = Add(x, s)",
     ("N", 6), {"w": np.ones((9, 6), "f"), "z": ints(0)}),
    (15, "float[N, 6] x",
     "n = Shape<end = 1>(x)  s = Slice(w, z, n)  y = Add(x, s)",
     ("broadcast(N, min(1, N))", 6), {"w": np.ones((1, 6), "f"), "z": ints(0)}),
    (15, "float[N, 3, 4] x", "y = Shape<start = -2, end = 100>(x)", (2,), {}),
    (13, "float[N, 3] x", "s = Shape(x)  y = ConstantOfShape(s)", ("N", 3), {}),
    (13, "float[N, 3] x", "s = Size(x)  z = Sub(s, s)  one = Div(s, s)  y = Range(z, s, one)", None, {}),
    (13, "float[N, 3] x", "y = Range(a, b, c)", (None,), {"a": one(0), "b": one(3), "c": one(1)}),
    (13, "float[N, 3] x", "y = Range(a, b, c)", (4,), {"a": np.int64(7), "b": np.int64(0), "c": np.int64(-2)}),
    (13, "float[N, 1] x", "b = Less(x, w)  y = Where(b, x, w)", ("N", 3), {"w": np.ones((1, 3), "f")}),
    (13, "float[N, 3] x", "y = EyeLike<dtype = 7>(x)", ("N", 3), {}),
    (13, "float[N, 3] x", "y = Concat<axis = -1>(x, x, w)", None, {"w": np.ones((1, 3), "f")}),
    (13, "float[N, M] x", "z = Concat<axis = 0>(x, w)  y = Relu(z)", ("N + 1", 3), {"w": np.ones((1, 3), "f")}),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[f"{case[2]} at {case[0]}" for case in CASES])
def test_a_rule(case: tuple[int, str, str, tuple[Any, ...] | None, dict[str, Any]]) -> None:
    opset, inputs, nodes, expected, weights = case
    head = f'<ir_version: 8, opset_import: ["": {opset}]>'
    plain = model(f"{head} g ({inputs}) => (float y) {{ {nodes} }}", **weights)
    plain.graph.output[0].type.Clear()
    root = decode(plain, Store())
    if expected is not None:
        made = next(one for node in root.nodes for one in node.outputs if one.name == "y")
        assert infer(root).shape(made) == expected
    feeds = feeds_for(plain)[:2]
    if "M]" in inputs:
        feeds = [{"x": np.ones((2, 3), np.float32)}]
    if inputs.startswith("int64"):
        feeds = [{"x": ints(1, 2, 0)}]
    if "Concat<axis = -1>" in nodes:
        feeds = [{"x": np.ones((1, 3), np.float32)}]
    if ("batch_dims" in nodes and "N" in inputs) or (inputs == IMAGE and "H - 2" in str(expected)):
        feeds = feeds[:1]
    assert wrong_facts(plain, feeds) == []
