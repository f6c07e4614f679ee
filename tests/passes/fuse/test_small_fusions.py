"""log-softmax, mish, one-hot-cast and rms-normalization."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest

from graphopt.pipeline import Pass
from graphopt.testing import Applied, apply, assert_missed, model
from passes.fuse.log_softmax import LogSoftmax
from passes.fuse.mish import Mish
from passes.fuse.one_hot_cast import OneHotCast
from passes.fuse.rms_normalization import RmsNormalization

RNG = np.random.default_rng(11)


def fused(tried: Pass, nodes: str, opset: int, kind: str = "float", runs: bool = True, **tensors: Any) -> Applied:
    head = f'<ir_version: 10, opset_import: ["": {opset}]>'
    used = {name: one for name, one in tensors.items() if name in re.findall(r"\w+", nodes)}
    before = model(f"{head} g ({kind}[N, 3, 4] x) => ({kind}[N, 3, 4] y) {{ {nodes} }}", **used)
    return apply(tried, before, feeds=None if runs else ())


@pytest.mark.parametrize("opset", [9, 11, 13])
@pytest.mark.parametrize(("attrs", "kind"), [("<axis=2>", "float"), ("", "float"), ("<axis=1>", "double")])
def test_log_of_softmax(opset: int, attrs: str, kind: str) -> None:
    done = fused(LogSoftmax(), f"s = Softmax{attrs}(x) y = Log(s)", opset, kind)
    assert done.body == f"y = LogSoftmax{attrs}(x)"


def test_probabilities_that_are_read() -> None:
    done = fused(LogSoftmax(), "s = Softmax(x) l = Log(s) y = Mul(l, s)", 13)
    assert not done.applied
    assert_missed(done, "log-of-softmax", "'s' is also read by Mul")


def test_log_of_softmax_of_float16() -> None:
    done = fused(LogSoftmax(), "s = Softmax(x) y = Log(s)", 13, "float16")
    assert not done.applied
    assert_missed(done, "log-of-softmax", "'x' is float16, not float or double")


def test_mish() -> None:
    nodes = "s = Softplus(x) t = Tanh(s) y = Mul(t, x)"
    assert fused(Mish(), nodes, 18).body == "y = Mish(x)"
    assert_missed(fused(Mish(), nodes, 17), "mish", "Mish needs opset 18, the model has 17")
    assert not fused(Mish(), "s = Softplus(x) t = Tanh(s) u = Neg(x) y = Mul(t, u)", 18).applied
    assert_missed(fused(Mish(), nodes, 18, "float16"), "mish", "'x' is float16, not float")
    assert_missed(
        fused(Mish(), "s = Softplus(x) t = Tanh(s) m = Mul(t, x) y = Add(m, s)", 18), "mish", "'s' is also read"
    )


ONE_HOT = "(int64[N] i) => (float[N, 5] y) { o = OneHot<axis=-1>(i, depth, hot)  y = Cast<to=1>(o) }"


def one_hot(text: str = ONE_HOT, **tensors: Any) -> Applied:
    known: dict[str, Any] = {"depth": np.array(5), "hot": np.array([0, 1])} | tensors
    head = '<ir_version: 8, opset_import: ["": 13]>'
    feeds = [{"i": np.array([0, 4, 2, -1])}] if "int64[N] i" in text else ()
    return apply(OneHotCast(), model(f"{head} g {text}", **known), feeds=feeds)


def test_cast_of_one_hot() -> None:
    done = one_hot()
    assert done.body == "y = OneHot<axis=-1>(i, depth, values)"
    left = {one.name: one for one in done.after.graph.initializer}
    assert set(left) == {"depth", "values"} and left["values"].data_type == 1
    assert one_hot(ONE_HOT.replace("to=1", "to=11").replace("float[", "double[")).applied == ()


def test_values_that_float_does_not_hold() -> None:
    done = one_hot(hot=np.array([0, (1 << 24) + 1]))
    assert not done.applied
    assert_missed(done, "cast-of-one-hot", "'hot' holds numbers that float does not")


def test_values_that_others_read() -> None:
    done = one_hot(ONE_HOT.replace("=> (", "=> (int64[2] z, ").replace("}", "z = Neg(hot) }"))
    assert not done.applied
    assert_missed(done, "cast-of-one-hot", "would have to be stored twice")


@pytest.mark.parametrize("length", [1, 8, 40])
def test_values_that_others_read_never_make_the_file_grow(length: int) -> None:
    """Whatever the nodes and values are called: `apply` looks at the bytes."""
    kept = ONE_HOT.replace("=> (", "=> (int64[2] z, ").replace("}", "z = Neg(hot) }")
    one_hot(kept.replace("y = Cast", f"[{'n' * length}] y = Cast"))
    middle = "m" * length
    one_hot(kept.replace("{ o =", f"{{ {middle} =").replace("(o)", f"({middle})"))


def test_indices_of_another_type() -> None:
    done = one_hot(ONE_HOT.replace("int64[N] i", "int32[N] i"))
    assert not done.applied
    assert_missed(done, "cast-of-one-hot", "the indices and the depth are not int64")


SQUARES = ["q = Pow(z, two)", "q = Mul(z, z)"]
QUOTIENTS = [
    "s = Sqrt(a) n = Div(z, s)",
    "s = Sqrt(a) r = Reciprocal(s) n = Mul(r, z)",
    "s = Sqrt(a) r = Div(one, s) n = Mul(z, r)",
    "r = Pow(a, minus) n = Mul(z, r)",
]
NUMBERS = {
    "two": np.float32(2), "one": np.float32(1), "minus": np.float32(-0.5), "eps": np.float32(1e-6),
    "axes": np.array([-1]), "middle": np.array([1]),
}  # fmt: skip


def rms(square: str = SQUARES[0], quotient: str = QUOTIENTS[0], axes: str = "axes") -> str:
    return f"{square} v = ReduceMean(q, {axes}) a = Add(v, eps) {quotient}"


def scaled(nodes: str, opset: int = 23, kind: str = "float", scale: Any = None) -> Applied:
    dtype = np.float16 if kind == "float16" else np.float32
    tensors: dict[str, Any] = NUMBERS | {"scale": np.ones(4, dtype) if scale is None else scale}
    return fused(RmsNormalization(), nodes, opset, kind, **tensors)


@pytest.mark.parametrize(("square", "quotient"), list(itertools.product(SQUARES, QUOTIENTS)))
def test_root_mean_square(square: str, quotient: str) -> None:
    nodes = rms(square, quotient)
    done = scaled(f"{re.sub(r'z', 'x', nodes)} y = Mul(n, scale)")
    assert done.body == "y = RMSNormalization<axis=-1, epsilon=1e-06>(x, scale)"


def test_root_mean_square_of_float16() -> None:
    done = scaled(f"z = Cast<to=1>(x) {rms()} k = Cast<to=10>(n) y = Mul(scale, k)", kind="float16")
    assert done.body == "y = RMSNormalization<axis=-1, epsilon=1e-06>(x, scale)"


def test_what_is_no_root_mean_square() -> None:
    nodes = rms().replace("z", "x")
    assert_missed(scaled(f"{nodes} y = Mul(n, scale)", 22), "root-mean-square", "RMSNormalization needs opset 23")
    done = scaled(f"{nodes} y = Mul(n, scale)", scale=np.ones(1, np.float32))
    assert_missed(done, "root-mean-square", "'scale' is not of the shape")
    done = scaled(f"{rms(axes='middle').replace('z', 'x')} y = Mul(n, scale)")
    assert_missed(done, "root-mean-square", "are not the last ones")
    done = scaled(f"{nodes} g = Mul(n, scale) y = Add(g, s)")
    assert_missed(done, "root-mean-square", "'s' is also read by Add")
