"""layer-normalization over channels of images, and from the mean of squares."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest

from graphopt.testing import Applied, apply, assert_missed, model
from passes.fuse.layer_normalization import LayerNormalization

RNG = np.random.default_rng(7)
PLAIN = """m = ReduceMean(x, axes)  d = Sub(x, m)  q = Pow(d, two)  v = ReduceMean(q, axes)  a = Add(v, eps)
    s = Sqrt(a)  n = Div(d, s)  g = Mul(n, scale)  """
BIASED = PLAIN + "y = Add(g, bias)"
MEANS = {
    "means": "m = ReduceMean(x, axes)  {q}  e = ReduceMean(q, axes)  ",
    "sums": "i = ReduceSum(x, axes)  m = Mul(i, part)  {q}  j = ReduceSum(q, axes)  e = Mul(j, part)  ",
}
SQUARES = {"products": ("q = Mul(x, x)", "p = Mul(m, m)"), "powers": ("q = Pow(x, two)", "p = Pow(m, two)")}
ENDS = (
    "s = Sqrt(a)  r = Reciprocal(s)  f = Mul(r, scale)  g = Mul(d, f)  ",
    "s = Sqrt(a)  r = Reciprocal(s)  n = Mul(d, r)  g = Mul(scale, n)  ",
    "s = Sqrt(a)  n = Div(d, s)  g = Mul(n, scale)  ",
    "r = Pow(a, minus)  f = Mul(r, scale)  g = Mul(d, f)  ",
)
OVER_CHANNELS = "t = Transpose<perm=[0, 2, 3, 1]>(x) n = LayerNormalization<axis=-1>(t, scale, bias)"


def moments(
    how: str = "means", square: str = "products", clamped: bool = True, back: bool = False, end: int = 0
) -> str:
    """E[x^2] - E[x]^2 under the root, with a bias behind."""
    of_x, of_mean = SQUARES[square]
    head = MEANS[how].format(q=of_x) + f"{of_mean}  v = Sub(e, p)  "
    variance = "v"
    if clamped:
        head, variance = head + "c = Max(zero, v)  ", "c"
    if back:
        head = head.replace("(x, axes)", "<keepdims=0>(x, axes)").replace("(q, axes)", "<keepdims=0>(q, axes)")
        head += f"k = Unsqueeze(m, axes)  d = Sub(x, k)  w = Unsqueeze({variance}, axes)  a = Add(w, eps)  "
    else:
        head += f"d = Sub(x, m)  a = Add({variance}, eps)  "
    return head + ENDS[end] + "y = Add(g, bias)"


def fused(nodes: str, shape: str, opset: int = 18, squares: bool = True, **more: Any) -> Applied:
    known: dict[str, Any] = {
        "two": np.float32(2), "zero": np.float32(0), "eps": np.float32(1e-3), "minus": np.float32(-0.5),
        "part": np.float32(1 / 32), "axes": np.array([1]), "scale": RNG.uniform(0.5, 2, (32, 1, 1)).astype(np.float32),
        "bias": RNG.standard_normal((32, 1, 1)).astype(np.float32),
    } | more  # fmt: skip
    tensors = {name: known[name] for name in dict.fromkeys(re.findall(r"\w+", nodes)) if name in known}
    head = f'<ir_version: 9, opset_import: ["": {opset}]>'
    return apply(
        LayerNormalization(squares=squares),
        model(f"{head} g (float[{shape}] x) => (float[{shape}] y) {{ {nodes} }}", **tensors),
    )


def ops(done: Applied) -> list[str]:
    return [node.op_type for node in done.after.graph.node]


TURNED = ["Transpose", "LayerNormalization", "Transpose"]


@pytest.mark.parametrize("nodes", [BIASED, PLAIN.replace("g =", "y =")])
def test_channels_of_images(nodes: str) -> None:
    done = fused(nodes, "N, 32, 3, 2")
    assert ops(done) == TURNED
    assert [list(node.attribute[0].ints) for node in done.after.graph.node if node.op_type == "Transpose"] == [
        [0, 2, 3, 1],
        [0, 3, 1, 2],
    ]
    assert {tuple(one.dims) for one in done.after.graph.initializer} == {(32,)}


def test_two_axes_that_are_not_the_last() -> None:
    more = {name: RNG.uniform(1, 2, (4, 8, 1)).astype(np.float32) for name in ("scale", "bias")}
    done = fused(BIASED, "N, 4, 8, 3", axes=np.array([2, 1]), **more)
    assert ops(done) == TURNED
    assert {tuple(one.dims) for one in done.after.graph.initializer} == {(4, 8)}


def test_parameters_with_axes_of_one_are_stored_flat() -> None:
    more = {name: RNG.uniform(1, 2, (1, 4)).astype(np.float32) for name in ("scale", "bias")}
    done = fused(BIASED, "N, 4", axes=np.array([-1]), **more)
    assert ops(done) == ["LayerNormalization"]
    assert {tuple(one.dims) for one in done.after.graph.initializer} == {(4,)}


@pytest.mark.parametrize(
    ("shape", "more", "why"),
    [
        ("N, 31, 2, 2", {n: np.ones((31, 1, 1), np.float32) for n in ("scale", "bias")}, "of fewer than 32"),
        ("N, K, 2, 2", {"scale": np.float32(1.5), "bias": np.float32(1)}, "of fewer than 32"),
        ("N, 32, 2, 2", {"scale": np.float32(2)}, "'scale' is not of the shape"),
        ("N, 32, 2, 2", {"scale": np.ones((32, 2, 1), np.float32)}, "'scale' is not of the shape"),
    ],
)
def test_what_stays(shape: str, more: dict[str, Any], why: str) -> None:
    done = fused(BIASED, shape, **more)
    assert not done.applied
    assert_missed(done, "scale-and-bias", why)


def test_a_scale_that_others_read() -> None:
    nodes = BIASED.replace("y =", "o =") + "  y = Mul(o, scale)"
    done = fused(nodes, "N, 32, 2, 2")
    assert not done.applied
    assert_missed(done, "scale-and-bias", "'scale' is read by others, and would have to be stored twice")


FORMS = list(itertools.product(MEANS, SQUARES, (False, True), (False, True), range(len(ENDS))))


@pytest.mark.parametrize(("how", "square", "clamped", "back", "end"), FORMS)
def test_the_mean_of_squares(how: str, square: str, clamped: bool, back: bool, end: int) -> None:
    more = {name: RNG.uniform(1, 2, 32).astype(np.float32) for name in ("scale", "bias")}
    done = fused(moments(how, square, clamped, back, end), "2, 3, 32", axes=np.array([2]), **more)
    assert done.body == "y = LayerNormalization<axis=-1, epsilon=0.001>(x, scale, bias)"


@pytest.mark.parametrize("how", MEANS)
def test_the_mean_of_squares_over_channels(how: str) -> None:
    done = fused(moments(how), "N, 32, 3, 2")
    assert ops(done) == TURNED
    assert {tuple(one.dims) for one in done.after.graph.initializer} == {(32,)}


def test_the_mean_of_squares_stays_unless_asked_for() -> None:
    done = fused(moments(), "N, 32, 3, 2", squares=False)
    assert not done.applied
    assert_missed(done, "mean-of-squares", "squares=true takes it")


def test_before_opset_17() -> None:
    done = fused(moments("sums"), "N, 32, 3, 2", opset=13)
    assert not done.applied
    assert_missed(done, "mean-of-squares", "LayerNormalization needs opset 17, the model has 13")


@pytest.mark.parametrize(
    ("nodes", "shape", "more", "why"),
    [
        (moments("sums"), "N, 32, 2, 2", {"part": np.float32(1 / 31)}, "which makes no mean"),
        (
            moments("sums"),
            "N, K, 2, 2",
            {"scale": np.float32(1), "bias": np.float32(1)},
            "it is not known of how many numbers",
        ),
        (
            moments(back=True).replace("Unsqueeze(m, axes)", "Reshape(m, turned)"),
            "2, 32, 32",
            {"turned": np.array([2, 32, 1]), "scale": np.ones((32, 1), np.float32)},
            "may not have the axes of 'x'",
        ),
    ],
)
def test_what_is_no_mean_of_squares(nodes: str, shape: str, more: dict[str, Any], why: str) -> None:
    more = {"scale": np.ones((32,) + (1,) * (shape.count(",") - 1), np.float32), **more}
    done = fused(nodes, shape, **{"bias": more["scale"], "turned": np.array([1])} | more)
    assert not done.applied
    assert_missed(done, "mean-of-squares", why)
