"""ort-attention: attention over several heads as one operator."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from attention_models import KNOWN, OP, STEPS, TURN, attention, text_of

from graphopt.testing import apply, assert_missed, model
from passes.fuse.onnxruntime.attention import OrtAttention


def test_the_usual_form() -> None:
    assert attention().body == f"y = {OP}<num_heads=2, scale=0.5>(q, k, v)"
    assert {one.name for one in attention().after.graph.initializer} == set()


@pytest.mark.parametrize("opset", [7, 11, 13, 21])
def test_opsets(opset: int) -> None:
    softmax = "Softmax<axis=3>(s)"
    assert attention({"w": softmax}, opset=opset).body == f"y = {OP}<num_heads=2, scale=0.5>(q, k, v)"


def test_without_a_scale() -> None:
    assert attention({"s": "", "w": "Softmax<axis=-1>(p)"}).body == f"y = {OP}<num_heads=2, scale=1>(q, k, v)"


@pytest.mark.parametrize(
    ("changed", "scale"),
    [
        ({"s": "Div(p, two)"}, "0.5"),
        ({"s": "Mul(half, p)"}, "0.5"),
        ({"p": "MatMul(qs, kt)", "qs": "Mul(qt, half)", "s": "Mul(p, half)"}, "0.25"),
        ({"p": "MatMul(qs, ks)", "qs": "Mul(qt, half)", "ks": "Mul(kt, half)", "s": "Mul(p, two)"}, "0.5"),
        ({"qt": f"{TURN}(qs)", "qs": "Mul(qh, half)"}, "0.25"),
        ({"kt": "Transpose<perm=[0, 1, 3, 2]>(ks)", "ks": f"{TURN}(kh)"}, "0.5"),
        ({"qs": "Mul(qt, minus)", "ks": "Mul(kt, minus)", "p": "MatMul(qs, ks)"}, "0.5"),
    ],
)
def test_scales_in_other_places(changed: dict[str, str], scale: str) -> None:
    assert attention(changed).body == f"y = {OP}<num_heads=2, scale={scale}>(q, k, v)"


MASKED = {"w": "Softmax<axis=-1>(a)", "a": "Add(s, m)"}


@pytest.mark.parametrize("mask", ["B, 2, S, L", "1, 2, S, L", "B, 1, S, L", "1, 1, S, L"])
def test_masks_that_the_kernel_takes(mask: str) -> None:
    done = attention(MASKED, more=f", float[{mask}] m")
    assert done.body == f"y = {OP}<num_heads=2, scale=0.5>(q, k, v, , , m)"
    assert attention(MASKED | {"a": "Add(m, s)"}, more=f", float[{mask}] m").body == done.body


@pytest.mark.parametrize("mask", ["B, 1, 1, L", "1, 1, L", "L", "2, 1, L"])
def test_masks_of_one_row(mask: str) -> None:
    done = attention(MASKED, more=f", float[{mask}] m")
    assert done.body.splitlines() == [
        "queries = Shape<end=2, start=1>(q)",
        "mask_shape = Concat<axis=0>(ones, queries, columns)",
        "m_rows = Expand(m, mask_shape)",
        f"y = {OP}<num_heads=2, scale=0.5>(q, k, v, , , m_rows)",
    ]
    old = attention(MASKED | {"w": "Softmax<axis=3>(a)"}, more=f", float[{mask}] m", opset=11)
    assert old.body.splitlines()[:2] == ["query_dims = Shape(q)", "queries = Gather(query_dims, second)"]


@pytest.mark.parametrize("mask", ["S, L", "1, S, L", "B, 1, 1, L", "B, 2, 1, 1", "1"])
def test_masks_of_known_lengths(mask: str) -> None:
    sizes = {"q": "B, 3, 8", "k": "B, 5, 8", "v": "B, 5, 8", "shape": "B, 3, 8"}
    mask = mask.replace("S", "3").replace("L", "5")
    done = attention(MASKED, more=f", float[{mask}] m", **sizes)
    assert done.body.splitlines() == [
        "m_rows = Expand(m, mask_shape)",
        f"y = {OP}<num_heads=2, scale=0.5>(q, k, v, , , m_rows)",
    ]


@pytest.mark.parametrize(
    ("mask", "why"),
    [
        ("B, 1, S, M", "axis 3 of the mask 'm' is not known to be broadcast"),
        ("B, 1, M, L", "axis 2 of the mask 'm' is not known to be broadcast"),
        ("B, M, S, L", "axis 1 of the mask 'm' is not known to be broadcast"),
        ("M, 1, S, L", "axis 0 of the mask 'm' is not known to be broadcast"),
        ("B, 1, S, 1", "the same for all keys"),
    ],
)
def test_masks_of_other_shapes(mask: str, why: str) -> None:
    done = attention(MASKED, more=f", float[{mask}] m", feeds=_feeds(mask))
    assert not done.applied
    assert_missed(done, "attention", why)


def test_a_mask_of_unknown_shape() -> None:
    changed = {"m": "Reshape(n, shape)"} | MASKED
    done = attention(changed, more=", float[M] n, int64[R] shape", feeds=[])
    assert not done.applied
    assert_missed(done, "attention", "the mask 'm' is not known to have 4 dims or fewer")


def _feeds(mask: str) -> list[dict[str, Any]]:
    rng = np.random.default_rng(1)
    sizes = {
        "B": 3,
        "S": 4,
        "L": 5,
        "M": {"B, 1, S, M": 5, "B, 1, M, L": 4, "B, M, S, L": 2, "M, 1, S, L": 3}.get(mask, 1),
    }
    dims = {"q": "B, S, 8", "k": "B, L, 8", "v": "B, L, 8", "m": mask}
    shapes = {name: [sizes.get(one) or int(one) for one in text.split(", ")] for name, text in dims.items()}
    return [{name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}]


@pytest.mark.parametrize("interleaved", [False, True])
def test_a_mask_that_two_attentions_read(interleaved: bool) -> None:
    first = STEPS | {"s": "Mul(p, half) a = Add(s, m)", "w": "Softmax<axis=-1>(a)"}
    inner = r"\b(qh|kh|vh|qt|kt|vt|p|s|w|o|t|a)\b"
    second = {re.sub(inner, r"\g<1>2", one): re.sub(inner, r"\g<1>2", call) for one, call in first.items()}
    second["z"] = second.pop("y")
    steps = first | second
    if interleaved:  # the second one ends before the first one does
        end = {name: steps.pop(name) for name in ("o", "t", "y")}
        steps |= end
    ins = "float[B, S, 8] q, float[B, L, 8] k, float[B, L, 8] v, float[B, 1, 1, L] m"
    text = text_of(steps, ins, ", float[B, S, 8] z")
    done = apply(OrtAttention(), model(text, **{name: KNOWN[name] for name in ("cut", "join", "half")}))
    assert done.body.count("Expand") == 1
    assert done.body.count(f"{OP}<num_heads=2, scale=0.5>(q, k, v, , , m_rows)") == 2
    assert (done.body.index("z =") < done.body.index("y =")) == interleaved


def test_a_last_reshape_to_two_dims_stays() -> None:
    done = attention(shape="N, 8", join=np.array([-1, 8]))
    assert done.body.splitlines() == [
        f"y_heads = {OP}<num_heads=2, scale=0.5>(q, k, v)",
        "y = Reshape(y_heads, join)",
    ]


@pytest.mark.parametrize("join", [[0, -1, 8], [0, 0, 2, 4], [0, 0, -1]])
def test_other_last_reshapes(join: list[int]) -> None:
    shape = "B, S, 2, 4" if len(join) == 4 else ""
    done = attention(join=np.array(join), shape=shape)
    assert done.body.count(OP) == 1
    assert done.body.count("Reshape") == (len(join) == 4)


def test_a_last_reshape_that_copies_a_dim_of_the_heads() -> None:
    done = attention(shape="B, S, 2, 4", join=np.array([0, 0, 0, 4]))
    assert not done.applied
    assert_missed(done, "attention", "not known to have the heads side by side")


def test_values_of_another_size() -> None:
    done = attention(
        {"vh": "Reshape(v, cut_v)"},
        v="B, L, 6",
        cut_v=np.array([0, 0, 2, 3]),
        join=np.array([0, 0, 6]),
        shape="B, S, 6",
    )
    assert done.body == f"y = {OP}<num_heads=2, scale=0.5>(q, k, v)"


CACHED = {"kt": "Transpose<perm=[0, 1, 3, 2]>(k)", "o": "MatMul(w, v)", "kh": "", "vh": "", "vt": ""}


def test_keys_and_values_with_the_heads_in_front() -> None:
    done = attention(CACHED, k="B, 2, L, 4", v="B, 2, L, 4")
    assert done.body == f"y = {OP}<num_heads=2, scale=0.5>(q, k, v)"


@pytest.mark.parametrize(
    ("k", "v", "why"),
    [
        ("B, 1, L, 4", "B, 2, L, 4", "the numbers of heads"),
        ("B, 2, L, 4", "B, 1, L, 4", "the numbers of heads"),
        ("1, 2, L, 4", "B, 2, L, 4", "the batch sizes"),
        ("B, 2, L, 4", "B, 2, L, 3", "the heads are of a size"),
    ],
)
def test_heads_in_front_that_do_not_fit(k: str, v: str, why: str) -> None:
    join = {"join": np.array([0, 0, 6]), "shape": "B, S, 6"} if v.endswith("3") else {}
    done = attention(CACHED, k=k, v=v, **join)
    assert not done.applied
    assert_missed(done, "attention", why)


def test_a_number_divided_by_the_scores_is_no_scale() -> None:
    assert attention({"s": "Div(half, p)"}).applied == ()
