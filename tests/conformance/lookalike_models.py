"""Small models that invite a rewrite that would be wrong, by the reason why it would be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def floats(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


@dataclass(frozen=True)
class Lookalike:
    """A model as text, its weights, and inputs that tell right from wrong (drawn where there are none)."""

    text: str
    weights: Mapping[str, Any] = field(default_factory=dict)
    feeds: tuple[Mapping[str, Any], ...] | None = None


ONE, ZERO = np.float32(1), np.float32(0)
BATCHNORM = {"s": floats(4), "b": floats(4, seed=1), "m": floats(4, seed=2), "v": np.abs(floats(4, seed=3)) + 0.5}

BROADCASTING = {
    "a zero that adds a dimension": Lookalike(
        "g (float[N] x) => (float[3, N] y) { y = Add(x, z) }", {"z": np.zeros((3, 1), np.float32)}
    ),
    "a one that repeats rows": Lookalike(
        "g (float[1, 5] x) => (float[2, 5] y) { y = Mul(o, x) }", {"o": np.ones((2, 1), np.float32)}
    ),
    "a condition that repeats what it chooses": Lookalike(
        "g (float[4] x) => (float[3, 4] y) { y = Where(c, x, z) }", {"c": np.ones((3, 1), bool), "z": ZERO}
    ),
    "a scale along the width, as wide as there are channels": Lookalike(
        "g (float[N, 4, 4, 4] x) => (float[N, 4, 4, 4] y) { a = Conv(x, w)  y = Mul(a, k) }",
        {"w": floats(4, 4, 1, 1), "k": floats(4)},
    ),
    "a bias that makes the product larger": Lookalike(
        "g (float[2, 3] x) => (float[5, 2, 4] y) { a = MatMul(x, w)  y = Add(a, b) }",
        {"w": floats(3, 4), "b": floats(5, 1, 4)},
    ),
    "a bias of a vector times a matrix": Lookalike(
        "g (float[3] x) => (float[4] y) { a = MatMul(x, w)  y = Add(a, b) }", {"w": floats(3, 4), "b": floats(4)}
    ),
    "a mean that lost its axis": Lookalike(
        """g (float[4, 4] x) => (float[4, 4] y) {
            m = ReduceMean<keepdims = 0>(x, last)  d = Sub(x, m)  q = Mul(d, d)  v = ReduceMean<keepdims = 0>(q, last)
            e = Add(v, eps)  r = Sqrt(e)  n = Div(d, r)  y = Mul(n, g)
        }""",
        {"last": ints(-1), "eps": np.float32(1e-5), "g": floats(4)},
    ),
}

SIGNS_AND_TYPES = {
    "adding zero turns -0.0 into 0.0": Lookalike(
        "g (float[2] x) => (float[2] y) { a = Add(x, z)  y = Reciprocal(a) }",
        {"z": ZERO},
        ({"x": np.array([-0.0, 2], np.float32)},),
    ),
    "0.0 and -0.0 are two constants": Lookalike(
        "g (float[2] x) => (float[2] p, float[2] q) { p = Div(x, a)  q = Div(x, b) }",
        {"a": np.zeros(2, np.float32), "b": -np.zeros(2, np.float32)},
    ),
    "the same bytes as another type": Lookalike(
        "g (float[2] x) => (float[2] y, float[2] z) { f = Cast<to = 1>(i)  y = Add(x, f)  z = Add(x, w) }",
        {"i": np.array([1065353216], np.int32), "w": np.array([1], np.float32)},
    ),
    "to integers and back": Lookalike(
        "g (float[6] x) => (float[6] y) { a = Cast<to = 7>(x)  y = Cast<to = 1>(a) }",
        feeds=({"x": np.array([-2.7, -0.3, 0, 0.6, 1.9, 40], np.float32)},),
    ),
    "through half precision": Lookalike(
        "g (float[4] x) => (float[4] y) { a = Cast<to = 10>(x)  y = Cast<to = 1>(a) }",
        feeds=({"x": np.array([1e-9, 7e4, 1.0001, 3.14159], np.float32)},),
    ),
    "integers that divide with a rest": Lookalike(
        "g (int64[5] x) => (int64[5] y) { a = Div(x, o)  p = Div(a, t)  y = Mul(p, t) }",
        {"o": np.int64(1), "t": np.int64(3)},
        ({"x": ints(8, -8, 2, 0, 10)},),
    ),
    "a product of integers is no Gemm": Lookalike(
        "g (int32[2, 3] x) => (int32[2, 4] y) { a = MatMul(x, w)  y = Add(a, b) }",
        {"w": np.arange(12, dtype=np.int32).reshape(3, 4), "b": np.arange(4, dtype=np.int32)},
    ),
    "a Clip whose bounds lie below the next one's": Lookalike(
        "g (float[5] x) => (float[5] y) { a = Clip(x, p, q)  y = Clip(a, r, s) }",
        {"p": ZERO, "q": ONE, "r": np.float32(2), "s": np.float32(3)},
        ({"x": np.array([-5, 0.5, 1.5, 2.5, 9], np.float32)},),
    ),
}

PADDING = {
    "a shift before a padded convolution": Lookalike(
        "g (float[N, 3, 5, 5] x) => (float[N, 2, 5, 5] y) { a = Add(x, k)  y = Conv<pads = [1, 1, 1, 1]>(a, w) }",
        {"k": floats(1, 3, 1, 1), "w": floats(2, 3, 3, 3)},
    ),
    "padding that mirrors": Lookalike(
        'g (float[1, 2, 6, 6] x) => (float[1, 2, A, B] y) { a = Pad<mode = "reflect">(x, p)  y = Conv(a, w) }',
        {"p": ints(0, 0, 1, 1, 0, 0, 1, 1), "w": floats(2, 2, 3, 3)},
    ),
    "padding with another value": Lookalike(
        "g (float[1, 2, 6, 6] x) => (float[1, 2, A, B] y) { a = Pad(x, p, v)  y = Conv(a, w) }",
        {"p": ints(0, 0, 1, 1, 0, 0, 1, 1), "v": np.float32(2), "w": floats(2, 2, 3, 3)},
    ),
    "padding that cuts": Lookalike(
        "g (float[1, 2, 9, 9] x) => (float[1, 2, A, B] y) { a = Pad(x, p)  y = Conv(a, w) }",
        {"p": ints(0, 0, -1, -1, 0, 0, -2, -1), "w": floats(2, 2, 3, 3)},
    ),
    "padding of one axis by name": Lookalike(
        "g (float[1, 2, 6, 6] x) => (float[1, 2, A, B] y) { a = Pad(x, p, , d)  y = Conv(a, w) }",
        {"p": ints(1, 2), "d": ints(-1), "w": floats(2, 2, 3, 3)},
    ),
    "an average that does not count its padding": Lookalike(
        "g (float[1, 1, 4, 4] x) => (float[1, 1, A, B] y) { a = Pad(x, p)  y = AveragePool<kernel_shape = [3, 3]>(a) }",
        {"p": ints(0, 0, 1, 1, 0, 0, 1, 1)},
    ),
    "zeros before a maximum": Lookalike(
        "g (float[1, 1, 4, 4] x) => (float[1, 1, A, B] y) { a = Pad(x, p)  y = MaxPool<kernel_shape = [3, 3]>(a) }",
        {"p": ints(0, 0, 1, 1, 0, 0, 1, 1)},
        ({"x": -1 - np.abs(floats(1, 1, 4, 4))},),
    ),
    "channels of a grouped transposed convolution": Lookalike(
        """g (float[N, 4, 5, 5] x) => (float[N, 4, A, B] y) {
            a = ConvTranspose<group = 2, strides = [2, 2]>(x, w, c)  y = BatchNormalization(a, s, b, m, v)
        }""",
        {"w": floats(4, 2, 3, 3), "c": floats(4), **BATCHNORM},
    ),
    "a convolution whose result is also an output": Lookalike(
        """g (float[N, 3, 6, 6] x) => (float[N, 4, 4, 4] y, float[N, 4, 4, 4] a) {
            a = Conv(x, w)  y = BatchNormalization(a, s, b, m, v)
        }""",
        {"w": floats(4, 3, 3, 3), **BATCHNORM},
    ),
    "statistics of the batch": Lookalike(
        """g (float[2, 4, 3, 3] x) => (float[2, 4, 3, 3] y, float[4] p, float[4] q) {
            a = Conv(x, w)  y, p, q = BatchNormalization<training_mode = 1>(a, s, b, m, v)
        }""",
        {"w": floats(4, 4, 1, 1), **BATCHNORM},
    ),
}

SHAPES = {
    "a zero that copies the size in between": Lookalike(
        "g (float[2, 6, 4] x) => (float[A, B, C] y) { a = Reshape(x, s)  y = Reshape(a, t) }",
        {"s": ints(4, 12), "t": ints(0, 3, -1)},
    ),
    "two sizes that one rest cannot tell": Lookalike(
        "g (float[N] x, float[A, B] r) => (float[A, B] y) { s = Shape(r)  y = Reshape(x, s) }",
        feeds=tuple({"x": floats(6), "r": floats(*shape)} for shape in ((2, 3), (3, 2), (6, 1))),
    ),
    "a batch of nothing": Lookalike(
        """g (float[N, 3, 4] x) => (float[N, 12] y) {
            s = Shape(x)  n = Gather(s, i)  t = Concat<axis = 0>(n, k)  y = Reshape(x, t)
        }""",
        {"i": ints(0), "k": ints(12)},
        ({"x": floats(2, 3, 4)}, {"x": floats(0, 3, 4)}),
    ),
    "a squeeze of whatever is one": Lookalike(
        "g (float[N, 1, 3] x) => (float[1, A, B] y) { a = Squeeze(x)  y = Unsqueeze(a, d) }",
        {"d": ints(0)},
        ({"x": floats(2, 1, 3)},),
    ),
    "axes counted from the end": Lookalike(
        "g (float[3, 4] x) => (float[A, B, C, D, E, F] y) { a = Unsqueeze(x, p)  y = Unsqueeze(a, q) }",
        {"p": ints(-1, 0), "q": ints(-2, 1)},
    ),
    "slices that run backwards": Lookalike(
        "g (float[20] x) => (float[N] y) { a = Slice(x, p, q, d, r)  y = Slice(a, s, t, d, u) }",
        {"p": ints(-3), "q": ints(-20), "r": ints(-2), "s": ints(1), "t": ints(99), "u": ints(3), "d": ints(0)},
    ),
    "concatenations along two axes": Lookalike(
        "g (float[2, 3] x) => (float[4, 6] y) { a = Concat<axis = 0>(x, x)  y = Concat<axis = 1>(a, a) }"
    ),
    "reductions of two kinds": Lookalike(
        "g (float[2, 3, 4] x) => (float[2] y) { a = ReduceMax<keepdims = 0>(x, d)  y = ReduceSum<keepdims = 0>(a, d) }",
        {"d": ints(1)},
    ),
    "no axes, which is none or all": Lookalike(
        """g (float[2, 3] x) => (float[2, 3] a, float[1, 1] y) {
            a = ReduceSum<noop_with_empty_axes = 1>(x, d)  y = ReduceSum(x, d)
        }""",
        {"d": ints()},
    ),
    "transposes inside and outside of a Gemm": Lookalike(
        "g (float[2, 3] x) => (float[A, B] y) { t = Transpose<perm = [1, 0]>(x)  "
        "y = Gemm<alpha = 0.5, beta = 2.0, transA = 1, transB = 1>(t, w, b) }",
        {"w": floats(4, 3), "b": floats(4)},
    ),
    "a dim that the exporter says is one": Lookalike(
        "g (float[N, 3] x) => (float[N, 3] y) { a = Relu(x)  s = Shape(a)  e = Expand(k, s)  y = Add(a, e) }",
        {"k": ONE},
    ),
}

SCOPES = {
    "a branch that captures": Lookalike(
        """g (float[2] x) => (float[2] y) {
            a = If(c)<then_branch = t () => (float[2] p) { p = Add(x, w) },
                      else_branch = e () => (float[2] q) { q = Sub(x, w) }>
            y = Mul(a, w)
        }""",
        {"c": np.bool_(True), "w": floats(2)},
    ),
    "a branch that reads what goes": Lookalike(
        """g (bool c, float[2] x) => (float[2] y) {
            p = Identity(x)  w = Mul(v, v)  k = Identity(v)
            y = If(c)<then_branch = t () => (float[2] r) { r = Add(p, w) },
                      else_branch = e () => (float[2] s) { s = Mul(p, k) }>
        }""",
        {"v": floats(2)},
    ),
    "an input that callers may leave out": Lookalike(
        "g (float[2] x, float[2] k) => (float[2] y) { y = Mul(x, k) }",
        {"k": np.ones(2, np.float32)},
        ({"x": floats(2), "k": floats(2, seed=1)}, {"x": floats(2)}),
    ),
    "an initializer that is an output": Lookalike(
        "g (float[2] x) => (float[2] y, float[2] k) { y = Relu(x) }", {"k": floats(2)}
    ),
    "one input, two outputs": Lookalike(
        "g (float[2] x) => (float[2] y, float[2] z) { y = Identity(x)  z = Identity(x) }"
    ),
    "an input that nobody reads": Lookalike("g (float[2] x, float[3] idle) => (float[2] y) { y = Relu(x) }"),
    "the same operator, another attribute": Lookalike(
        """g (float[5] x) => (float[2] v, float[2] w, int32[5] a, int64[5] b) {
            v, i = TopK<largest = 1>(x, k)  w, j = TopK<largest = 0>(x, k)  a = Cast<to = 6>(x)  b = Cast<to = 7>(x)
        }""",
        {"k": ints(2)},
    ),
    "one function, two attributes": Lookalike(
        """<ir_version: 10, opset_import: ["": 21, "own": 1]>
        g (float[4] x) => (float[4] y) { a = own.Leaky<slope = 0.3>(x)  y = own.Leaky<slope = 0.7>(a) }
        <domain: "own", opset_import: ["": 21]>
        Leaky <slope> (p) => (q) {
            k = Constant<value_float = 2.0>()  t = Mul(p, k)  q = LeakyRelu<alpha: float = @slope>(t)
        }
        """
    ),
    "chance twice": Lookalike(
        """g (float[1] x) => (float[1] y, bool k) {
            a = RandomNormal<shape = [64]>()  b = RandomNormal<shape = [64]>()  d = Sub(a, b)  e = Abs(d)
            m = ReduceMax<keepdims = 0>(e)  k = Greater(m, z)  y = Identity(x)
        }""",
        {"z": ZERO},
    ),
    "a mask that is read": Lookalike(
        "g (float[4] x) => (float[4] y, float[4] z) { a, m = Dropout(x)  y = Cast<to = 1>(m)  z = Relu(a) }"
    ),
}

LOOKALIKES = {**BROADCASTING, **SIGNS_AND_TYPES, **PADDING, **SHAPES, **SCOPES}
