"""Attention, recurrent operators and computed targets: taking units out is silencing all their weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from narrowed_models import assert_narrowing_is_silencing, grouped, obstacles

from graphopt.testing import model

Array = np.ndarray[Any, Any]


def some(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng((*shape, seed)).standard_normal(shape).astype(np.float32)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


PROJECTED = (
    "q0 = MatMul(x, wq)  q1 = Add(q0, bq)  q2 = Reshape(q1, cut)  q = Transpose<perm=[0,2,1,3]>(q2)"
    "  k0 = MatMul(x, wk)  k2 = Reshape(k0, cut)  k = Transpose<perm=[0,2,3,1]>(k2)"
    "  v0 = MatMul(x, wv)  v2 = Reshape(v0, cut)  v = Transpose<perm=[0,2,1,3]>(v2)"
)
MULTIPLIED = (
    "  a = MatMul(q, k)  b = Mul(a, scale)  c = Add(b, mask)  p = Softmax(c)  e = MatMul(p, v)"
    "  f = Transpose<perm=[0,2,1,3]>(e)  h = Reshape(f, back)  y = MatMul(h, wo)"
)
ATTENTION = {
    "wq": some(12, 24),
    "bq": some(24),
    "wk": some(12, 24, seed=1),
    "wv": some(12, 24, seed=2),
    "cut": ints(0, 0, 6, 4),
    "scale": np.float32(0.5),
    "mask": some(1, 1, 5, 5),
    "back": ints(0, 0, 24),
    "wo": some(24, 12),
}


def attention(text: str, **changed: Any) -> Any:
    return model(f"g (float[2,5,12] x) => (float[2,5,12] y) {{ {text} }}", **{**ATTENTION, **changed})


def test_heads_are_the_units_of_attention() -> None:
    case = attention(PROJECTED + MULTIPLIED)
    assert assert_narrowing_is_silencing(case) == [6], obstacles(case)
    group = next(one for one in grouped(case)[1] if one.obstacle is None)
    assert [(site.node.inputs[1].name, site.positions.shape) for site in group.makers] == [
        ("wq", (6, 4)),
        ("wk", (6, 4)),
        ("wv", (6, 4)),
    ]
    assert [site.node.inputs[1].name for site in group.readers] == ["wo"]
    assert group.subject is group.makers[0].node


@pytest.mark.parametrize(("cut", "back"), [((2, 5, 6, -1), (2, 5, -1)), ((0, -1, 6, 4), (-1, 5, 24))])
def test_targets_with_zeros_and_minus_ones(cut: tuple[int, ...], back: tuple[int, ...]) -> None:
    case = attention(PROJECTED + MULTIPLIED, cut=ints(*cut), back=ints(*back))
    assert assert_narrowing_is_silencing(case) == [6], obstacles(case)


def test_a_minus_one_for_the_heads() -> None:
    case = attention(PROJECTED + MULTIPLIED, cut=ints(0, 0, -1, 4))
    assert assert_narrowing_is_silencing(case) == [6], obstacles(case)


def test_heads_of_one_projection_of_all_three() -> None:
    text = (
        "w0 = MatMul(x, w)  w1 = Reshape(w0, cut)  w2 = Transpose<perm=[2,0,3,1,4]>(w1)  q = Gather(w2, i)"
        "  k1 = Gather(w2, j)  k = Transpose<perm=[0,1,3,2]>(k1)  v = Gather(w2, l)" + MULTIPLIED
    )
    case = attention(
        text,
        w=some(12, 72),
        cut=ints(0, 0, 3, 6, 4),
        i=np.array(0, np.int64),
        j=np.array(1, np.int64),
        l=np.array(2, np.int64),
    )
    assert assert_narrowing_is_silencing(case) == [6], obstacles(case)


def test_heads_cut_from_a_split_projection() -> None:
    text = (
        "w0 = MatMul(x, w)  q0, k0, v0 = Split<axis=2, num_outputs=3>(w0)"
        "  q2 = Reshape(q0, cut)  q = Transpose<perm=[0,2,1,3]>(q2)"
        "  k2 = Reshape(k0, cut)  k = Transpose<perm=[0,2,3,1]>(k2)"
        "  v2 = Reshape(v0, cut)  v = Transpose<perm=[0,2,1,3]>(v2)" + MULTIPLIED
    )
    case = attention(text, w=some(12, 72))
    assert assert_narrowing_is_silencing(case) == [6], obstacles(case)


def test_heads_that_share_keys_and_values() -> None:
    text = (
        "q0 = MatMul(x, wq)  q2 = Reshape(q0, cut)  q = Transpose<perm=[0,2,1,3]>(q2)"
        "  k0 = MatMul(x, wk)  k2 = Reshape(k0, few)  k3 = Transpose<perm=[0,2,3,1]>(k2)"
        "  k4 = Unsqueeze(k3, two)  k5 = Expand(k4, often)  k = Reshape(k5, all)"
        "  v0 = MatMul(x, wv)  v2 = Reshape(v0, few)  v3 = Transpose<perm=[0,2,1,3]>(v2)"
        "  v4 = Unsqueeze(v3, two)  v5 = Expand(v4, oftenv)  v = Reshape(v5, allv)" + MULTIPLIED
    )
    case = attention(
        text,
        wk=some(12, 12),
        wv=some(12, 12, seed=1),
        few=ints(0, 0, 3, 4),
        two=ints(2),
        often=ints(2, 3, 2, 4, 5),
        all=ints(2, 6, 4, 5),
        oftenv=ints(2, 3, 2, 5, 4),
        allv=ints(2, 6, 5, 4),
    )
    assert assert_narrowing_is_silencing(case) == [3], obstacles(case)
    group = next(one for one in grouped(case)[1] if one.obstacle is None)
    assert {site.node.inputs[1].name: site.positions.shape for site in group.makers} == {
        "wq": (3, 8),
        "wk": (3, 4),
        "wv": (3, 4),
    }


def test_targets_that_are_put_together_from_sizes_and_numbers() -> None:
    computed = (
        "s = Shape(x)  n = Gather(s, first)  m = Gather(s, second)  n1 = Unsqueeze(n, front)  m1 = Unsqueeze(m, front)"
        "  cut = Concat<axis=0>(n1, m1, heads, width)  back = Concat<axis=0>(n1, m1, all)  "
    )
    weights = {key: value for key, value in ATTENTION.items() if key not in ("cut", "back")}
    case = model(
        f"g (float[B,5,12] x) => (float[B,5,12] y) {{ {computed} {PROJECTED} {MULTIPLIED} }}",
        **weights,
        first=np.array(0, np.int64),
        second=np.array(1, np.int64),
        front=ints(0),
        heads=ints(6),
        width=ints(4),
        all=ints(24),
    )
    assert assert_narrowing_is_silencing(case) == [6], obstacles(case)


def test_a_computed_target_that_two_reshapes_read_is_copied() -> None:
    """The 6 in it is the number of heads of both. Where somebody computes with it, they stay."""
    text = (
        "s = Shape(x)  n = Slice(s, zero, two)  cut = Concat<axis=0>(n, heads, width)  z = Concat<axis=0>(n, flat)"
        " a = MatMul(x, w)  b = Reshape(a, cut)  c = Mul(b, k)  d = Reshape(c, z)  e = MatMul(d, o)"
        " f = MatMul(x, u)  g = Reshape(f, cut)  h = Mul(g, l)  i = Reshape(h, z)  j = MatMul(i, p)  y = Add(e, j)"
    )
    weights = {
        "zero": ints(0),
        "two": ints(2),
        "heads": ints(6),
        "width": ints(4),
        "flat": ints(24),
        "w": some(12, 24),
        "k": some(6, 1),
        "o": some(24, 12),
        "u": some(12, 24, seed=1),
        "l": some(1, 4),
        "p": some(24, 12, seed=1),
    }
    case = model(f"g (float[B,5,12] x) => (float[B,5,12] y) {{ {text} }}", **weights)
    assert assert_narrowing_is_silencing(case) == [6, 6], obstacles(case)
    cast = text.replace("(f, cut)", "(f, cut2)").replace(
        " e = MatMul", " c1 = Cast<to=6>(cut) cut2 = Cast<to=7>(c1)  e = MatMul"
    )
    case = model(f"g (float[B,5,12] x) => (float[B,5,12] y) {{ {cast} }}", **weights)
    assert assert_narrowing_is_silencing(case) == [6], obstacles(case)
    more = " q = ReduceProd<keepdims=0>(cut)"
    case = model(f"g (float[B,5,12] x) => (float[B,5,12] y, int64 q) {{ {text} {more} }}", **weights)
    assert assert_narrowing_is_silencing(case) == [], obstacles(case)
    assert "ReduceProd 'ReduceProd(q)' computes with its size" in obstacles(case)


def test_a_target_that_is_the_shape_of_what_gets_shorter_follows_by_itself() -> None:
    case = model(
        "g (float[N,12] x) => (float[N,4] y) { a = MatMul(x, w)  b = Relu(a)  s = Shape(b)  c = Reshape(a, s)"
        " d = Mul(c, k)  t = Shape<start=1>(d)  z = ConstantOfShape(t)  e = Add(d, z)  y = MatMul(e, o) }",
        w=some(12, 8),
        k=some(8),
        o=some(8, 4),
    )
    assert assert_narrowing_is_silencing(case) == [8], obstacles(case)


def lstm(op: str, hidden: int, directions: int, gates: int, bias: bool = True) -> dict[str, Array]:
    found = {
        "w": some(directions, gates * hidden, 8),
        "r": some(directions, gates * hidden, hidden),
        "b": some(directions, 2 * gates * hidden),
        "z": some(directions, 2, hidden),
    }
    return found if bias else {key: value for key, value in found.items() if key != "b"}


@pytest.mark.parametrize(("op", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_hidden_units(op: str, gates: int) -> None:
    case = model(
        f"g (float[5,2,3] x) => (float[5,2,4] y) {{ a = MatMul(x, u)  h, last = {op}<hidden_size=6>(a, w, r, b)"
        " s = Squeeze(h, one)  l = Relu(last)  m = Add(s, l)  y = MatMul(m, o) }",
        **lstm(op, 6, 1, gates),
        u=some(3, 8),
        one=ints(1),
        o=some(6, 4),
    )
    case.graph.initializer.remove(next(one for one in case.graph.initializer if one.name == "z"))
    assert assert_narrowing_is_silencing(case) == [8, 6], obstacles(case)


def test_hidden_units_in_both_directions_with_peepholes_and_states() -> None:
    case = model(
        "g (float[5,2,8] x) => (float[5,2,4] y) {"
        """ h, last, cell = LSTM<hidden_size=6, direction="bidirectional">(x, w, r, b, , z, c, p)"""
        " t = Transpose<perm=[0,2,1,3]>(h)  s = Reshape(t, flat)  m = MatMul(s, o)  n = ReduceSum(last, zero)"
        " d = MatMul(n, q)  e = Mul(cell, cell)  k = Gather(e, first)  f = MatMul(k, q)  i = Add(m, d)"
        " y = Add(i, f) }",
        **lstm("LSTM", 6, 2, 4),
        c=some(2, 2, 6, seed=1),
        p=some(2, 18),
        flat=ints(5, 2, 12),
        zero=ints(0),
        first=np.array(1, np.int64),
        o=some(12, 4),
        q=some(6, 4),
    )
    assert assert_narrowing_is_silencing(case) == [6], obstacles(case)


def test_states_that_callers_give_keep_their_size() -> None:
    case = model(
        "g (float[5,2,8] x, float[1,2,6] z) => (float[1,2,6] last, float[5,1,2,4] y) {"
        " h, last = GRU<hidden_size=6>(x, w, r, b, , z)  y = MatMul(h, o) }",
        **{key: value for key, value in lstm("GRU", 6, 1, 3).items() if key != "z"},
        o=some(6, 4),
    )
    assert obstacles(case)[0] == "'z' is a graph input"


def test_embeddings_and_positions_get_narrower() -> None:
    case = model(
        "g (int64[2,5] x) => (float[2,5,4] y) { a = Gather(t, x)  b = Add(a, p)  c = Mul(b, s)  y = MatMul(c, o) }",
        t=some(7, 8),
        p=some(1, 5, 8),
        s=some(8),
        o=some(8, 4),
    )
    feeds = {"x": np.array([[0, 6, 2, 3, 1], [5, 4, 4, 2, 0]])}
    assert assert_narrowing_is_silencing(case, feeds=feeds) == [8], obstacles(case)


def test_attention_in_einsums() -> None:
    case = model(
        """g (float[2,5,12] x) => (float[2,5,12] y) {
        q = Einsum<equation = "bld,dhk->blhk">(x, wq)  k = Einsum<equation = "bld,dhk->blhk">(x, wk)
        v = Einsum<equation = "bld, dhk -> blhk">(x, wv)  s = Einsum<equation = "bqhk,bmhk->bhqm">(q, k)
        p = Softmax(s)  a = Einsum<equation = "bhqm,bmhk->bqhk">(p, v)
        y = Einsum<equation = "bqhk,hkd->bqd">(a, wo) }""",
        wq=some(12, 6, 4),
        wk=some(12, 6, 4, seed=1),
        wv=some(12, 6, 4, seed=2),
        wo=some(6, 4, 12),
    )
    assert assert_narrowing_is_silencing(case) == [6, 4, 4], obstacles(case)
    heads, sizes, values = (one for one in grouped(case)[1] if one.obstacle is None)
    assert [site.tensor.name for site in heads.makers] == ["wq", "wk", "wv"]
    assert [site.tensor.name for site in heads.readers] == ["wo"]
    assert [site.tensor.name for site in sizes.makers] == ["wq", "wk"]
    assert [site.tensor.name for site in values.readers] == ["wo"]


def test_turned_heads_and_a_gated_layer_behind_them() -> None:
    """A decoder block as exporters write it: rotary embeddings in pieces, few keys and values, a gate."""

    def turned(name: str, heads: str) -> str:
        return (
            f" {name}0 = MatMul(n, w{name})  {name}1 = Reshape({name}0, {heads})"
            f" {name}2 = Transpose<perm = [0, 2, 1, 3]>({name}1)"
            f" {name}a = Slice({name}2, zero, two, last)  {name}b = Slice({name}2, two, end, last)"
            f" {name}c = Neg({name}b)  {name}d = Concat<axis = -1>({name}c, {name}a)"
            f" {name}e = Mul({name}2, cos)  {name}f = Mul({name}d, sin)  {name}g = Add({name}e, {name}f)"
        )

    def often(name: str, source: str) -> str:
        return f" {name}x = Unsqueeze({source}, two)  {name}y = Expand({name}x, often)  {name}z = Reshape({name}y, all)"

    case = model(
        "g (float[2,5,12] x) => (float[2,5,12] y) { n = RMSNormalization(x, s)"
        + turned("q", "many")
        + turned("k", "few")
        + " v0 = MatMul(n, wv)  v1 = Reshape(v0, few)  v2 = Transpose<perm = [0, 2, 1, 3]>(v1)"
        + often("k", "kg")
        + often("v", "v2")
        + " kt = Transpose<perm = [0, 1, 3, 2]>(kz)  a = MatMul(qg, kt)  b = Mul(a, scale)  p = Softmax(b)"
        " c = MatMul(p, vz)  d = Transpose<perm = [0, 2, 1, 3]>(c)  e = Reshape(d, back)  o = MatMul(e, wo)"
        " r = Add(x, o)  m = RMSNormalization(r, s2)  g0 = MatMul(m, wg)  g1 = Sigmoid(g0)  g2 = Mul(g0, g1)"
        " u = MatMul(m, wu)  h = Mul(g2, u)  l = MatMul(h, wd)  y = Add(r, l) }",
        wq=some(12, 24),
        wk=some(12, 12),
        wv=some(12, 12, seed=1),
        wo=some(24, 12),
        s=some(12),
        s2=some(12, seed=1),
        cos=some(5, 4),
        sin=some(5, 4, seed=1),
        wg=some(12, 16),
        wu=some(12, 16, seed=1),
        wd=some(16, 12),
        many=ints(0, 0, 6, 4),
        few=ints(0, 0, 3, 4),
        back=ints(0, 0, -1),
        scale=np.float32(0.5),
        zero=ints(0),
        two=ints(2),
        end=ints(1 << 62),
        last=ints(-1),
        often=ints(2, 3, 2, 5, 4),
        all=ints(2, -1, 5, 4),
    )
    case.opset_import[0].version = 23
    assert assert_narrowing_is_silencing(case) == [3, 16], obstacles(case)
