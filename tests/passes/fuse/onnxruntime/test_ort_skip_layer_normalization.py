"""ort-skip-layer-normalization: what is added up and normalized in one node."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from graphopt.testing import Applied, apply, assert_missed, model
from passes.fuse.onnxruntime.layer_normalization import OrtSkipLayerNormalization

G = np.linspace(0.5, 1.5, 4, dtype=np.float32)
B = np.linspace(-1, 1, 4, dtype=np.float32)
NORM = "LayerNormalization<axis=-1, epsilon=0.001>(s, g, b)"
SKIP = "com.microsoft.SkipLayerNormalization"


def norm(text: str, shape: str = "N, M, 4", other: str = "", outputs: str = "", **weights: Any) -> Applied:
    given = {"g": G, "b": B} | weights
    given = {name: value for name, value in given.items() if re.search(rf"\b{name}\b", text)}
    ins = f"float[{shape}] x, float[{other or shape}] z"
    return apply(OrtSkipLayerNormalization(), model(f"g ({ins}) => (float[{shape}] y{outputs}) {{ {text} }}", **given))


@pytest.mark.parametrize("shape", ["N, M, 4", "2, 3, 4", "N, 4"])
def test_a_sum_is_normalized(shape: str) -> None:
    done = norm(f"s = Add(x, z) y = {NORM}", shape)
    assert done.body == f"y = {SKIP}<epsilon=0.001>(x, z, g, b)"


def test_without_bias_and_with_the_axis_from_the_front() -> None:
    done = norm("s = Add(x, z) y = LayerNormalization<axis=2>(s, g)")
    assert done.body == f"y = {SKIP}<epsilon=1e-05>(x, z, g)"


@pytest.mark.parametrize("first", ["a = Add(x, v)", "a = Add(v, x)"])
def test_a_vector_that_was_added_before(first: str) -> None:
    done = norm(f"{first} s = Add(z, a) y = {NORM}", v=B)
    assert done.body == f"y = {SKIP}<epsilon=0.001>(x, z, g, b, v)"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("s = Add(x, z) y = LayerNormalization<axis=1>(s, w, c)", "more than the last axis"),
        ("s = Add(x, z) y, m = LayerNormalization<axis=-1>(s, g, b)", "its mean or deviation has a name"),
    ],
)
def test_what_the_operator_does_not_do(text: str, why: str) -> None:
    weights = {"w": np.ones((3, 4), np.float32), "c": np.ones((3, 4), np.float32)}
    outputs = ", float[2, 3, 1] m" if "m =" in text else ""
    done = norm(text, "2, 3, 4", outputs=outputs, **weights)
    assert_missed(done, "skip", why)
    assert done.after == done.before


def test_a_sum_of_other_shapes_stays() -> None:
    done = norm(f"s = Add(x, z) y = {NORM}", other="M, 4")
    assert_missed(done, "skip", "not known to be the same")
    assert done.after == done.before


def test_four_dims_stay() -> None:
    done = norm(f"s = Add(x, z) y = {NORM}", "N, M, 2, 4")
    assert_missed(done, "skip", "2 or 3 dims")


def test_scales_that_are_not_constant_stay() -> None:
    text = "g (float[N, M, 4] x, float[4] g) => (float[N, M, 4] y) { s = Add(x, x) y = LayerNormalization(s, g) }"
    done = apply(OrtSkipLayerNormalization(), model(text))
    assert_missed(done, "skip", "not a constant vector")


def test_a_sum_that_others_read_is_a_result_too() -> None:
    done = norm(f"s = Add(x, z) n = {NORM} y = Add(n, s)")
    assert done.body == f"n, , , s = {SKIP}<epsilon=0.001>(x, z, g, b)\ny = Add(n, s)"
    done = norm(f"a = Add(x, v) s = Add(z, a) e = Exp(s) n = {NORM} y = Add(n, e)", v=B)
    assert done.body.splitlines()[0] == f"n, , , s = {SKIP}<epsilon=0.001>(x, z, g, b, v)"


def test_a_sum_that_is_a_graph_output() -> None:
    done = norm(f"s = Add(x, z) y = {NORM}", outputs=", float[N, M, 4] s")
    assert done.body == f"y, , , s = {SKIP}<epsilon=0.001>(x, z, g, b)"


def test_two_normalizations_of_one_sum() -> None:
    done = norm(f"s = Add(x, z) n = {NORM} m = LayerNormalization<axis=-1>(s, h) y = Add(n, m)", h=B)
    assert done.body.splitlines()[:2] == [
        f"n, , , s = {SKIP}<epsilon=0.001>(x, z, g, b)",
        "m = LayerNormalization<axis=-1>(s, h)",
    ]


def test_in_a_body_of_a_sum_outside() -> None:
    text = f"""g (float[N, M, 4] x, float[N, M, 4] z, bool p) => (float[N, M, 4] y) {{ s = Add(x, z) y = If(p) <
        then_branch = t () => (float[N, M, 4] u) {{ u = {NORM} }},
        else_branch = e () => (float[N, M, 4] v) {{ v = Exp(s) }} > }}"""
    done = apply(OrtSkipLayerNormalization(), model(text, g=G, b=B))
    assert done.after == done.before
