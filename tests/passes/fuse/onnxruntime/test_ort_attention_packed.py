"""ort-attention: query, key and value as three parts of one value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from attention_models import OP, TURN

from graphopt.testing import Applied, apply, assert_missed, model
from passes.fuse.onnxruntime.attention import OrtAttention

FRONT = "r = Reshape(x, cut) u = Transpose<perm=[2, 0, 3, 1, 4]>(r)"
SPLIT = {
    11: "a, b, c = Split<axis=0>(u) q = Squeeze<axes=[0]>(a) k = Squeeze<axes=[0]>(b) v = Squeeze<axes=[0]>(c)",
    13: "a, b, c = Split<axis=0>(u) q = Squeeze(a, zero) k = Squeeze(b, zero) v = Squeeze(c, zero)",
    21: "a, b, c = Split<axis=0, num_outputs=3>(u) q = Squeeze(a, zero) k = Squeeze(b, zero) v = Squeeze(c, zero)",
}
GATHER = "q = Gather(u, i0) k = Gather(u, i1) v = Gather<axis=0>(u, i2)"
BACK = f"""m = Mul(q, half) e = Transpose<perm=[0, 1, 3, 2]>(k) p = MatMul(m, e) w = Softmax<axis=3>(p)
    o = MatMul(w, v) t = {TURN}(o) y = Reshape(t, join)"""
PARTS = "x_part, x_part_1, x_part_2"


def packed(
    parts: str, front: str = FRONT, back: str = BACK, opset: int = 17, outputs: str = "", width: int = 24, **more: Any
) -> Applied:
    text = f"""<ir_version: 8, opset_import: ["": {opset}]>
    g (float[B, S, {width}] x) => (float[B, S, 8] y{outputs}) {{ {front} {parts} {back} }}"""
    known: dict[str, Any] = {
        "cut": np.array([0, 0, 3, 2, 4]),
        "join": np.array([0, 0, 8]),
        "half": np.float32(0.5),
        "zero": np.array([0]),
        "i0": np.array(0),
        "i1": np.array(1),
        "i2": np.array(-1),
    } | more
    words = text.replace(",", " ").replace("(", " ").replace(")", " ").split()
    return apply(OrtAttention(), model(text, **{name: one for name, one in known.items() if name in words}))


@pytest.mark.parametrize("opset", sorted(SPLIT))
def test_parts_of_a_split(opset: int) -> None:
    number = ", num_outputs=3" if opset >= 18 else ""
    assert packed(SPLIT[opset], opset=opset).body.splitlines() == [
        f"{PARTS} = Split<axis=-1{number}>(x)",
        f"y = {OP}<num_heads=2, scale=0.5>({PARTS})",
    ]


def test_parts_by_gather() -> None:
    assert packed(GATHER).body.splitlines() == [
        f"{PARTS} = Split<axis=-1>(x)",
        f"y = {OP}<num_heads=2, scale=0.5>({PARTS})",
    ]


def test_parts_in_another_order() -> None:
    done = packed(GATHER, i0=np.array(2), i1=np.array(0), i2=np.array(1))
    assert done.body.splitlines()[1] == f"y = {OP}<num_heads=2, scale=0.5>(x_part_2, x_part, x_part_1)"


@pytest.mark.parametrize(
    ("parts", "more", "why"),
    [
        (GATHER, {"i2": np.array(1)}, "not the three parts of one value"),
        (GATHER, {"cut": np.array([0, 0, 4, 2, 3]), "join": np.array([0, 0, 6])}, "made in different ways"),
    ],
)
def test_parts_that_do_not_fit(parts: str, more: dict[str, Any], why: str) -> None:
    if "join" in more:
        text_back = BACK.replace("y = Reshape(t, join)", "j = Reshape(t, join) y = Concat<axis=-1>(j, n)")
        done = packed(
            parts, back=f"n = Slice(x, zero, two, last) {text_back}", two=np.array([2]), last=np.array([2]), **more
        )
    else:
        done = packed(parts, **more)
    assert not done.applied
    assert_missed(done, "attention", why)


@pytest.mark.parametrize("perm", ["[2, 0, 1, 3, 4]", "[2, 1, 3, 0, 4]"])
def test_other_orders_of_the_axes(perm: str) -> None:
    done = packed(GATHER, front=FRONT.replace("[2, 0, 3, 1, 4]", perm), join=np.array([-1, 1, 8]))
    assert not done.applied


def test_the_three_not_in_front_of_the_heads() -> None:
    front = "r = Reshape(x, cut) u = Transpose<perm=[3, 0, 2, 1, 4]>(r)"
    done = packed(GATHER, front=front, cut=np.array([0, 0, 2, 3, 4]))
    assert not done.applied
    assert_missed(done, "attention", "made in different ways")


@pytest.mark.parametrize("name", ["r", "u", "q", "k", "v"])
def test_inner_values_that_others_read(name: str) -> None:
    for outputs, more in (
        (f", float[{', '.join('ABCDE'[: 5 if name in 'ru' else 4])}] {name}", ""),
        ("", f"z = Exp({name})"),
    ):
        done = packed(GATHER, outputs=outputs, back=f"{more} {BACK}")
        assert not done.applied
        assert done.after == done.before


def test_a_part_that_is_read_twice() -> None:
    done = packed(GATHER, back=BACK.replace("MatMul(w, v)", "MatMul(w, q)"))
    assert not done.applied
