"""What is wrong inside an If, a Loop or a Scan is named there, on what the reference gives the body."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from graphopt.session.comparing import localize
from graphopt.testing import model

_WEIGHT = np.random.default_rng(2).standard_normal((4, 4)).astype(np.float32)

LOOP = """g (float[2,4] x) => (float[2,4] y) {
    n = Constant <value = int64 {{3}}> ()
    true = Constant <value = bool {{1}}> ()
    a = Tanh(x)
    y = Loop (n, true, a) <body = step (int64 i, bool c, float[2,4] s) => (bool d, float[2,4] t) {{
        d = Identity(c)  p = MatMul(s, w)  q = {}(p)  t = Add(q, a)
    }}>
}}"""
IF = """g (float[2,4] x) => (float[2,4] y) {
    zero = Constant <value = float {{0.0}}> ()
    m = ReduceMax <keepdims = 0> (x)
    c = Less(m, zero)
    y = If (c) <
        then_branch = low () => (float[2,4] l) {{ l = Neg(x) }},
        else_branch = high () => (float[2,4] h) {{ p = MatMul(x, w)  q = {}(p)  h = Add(q, x) }}>
}}"""
SCAN = """g (float[5,4] x, float[4] s) => (float[4] e, float[5,4] y) {
    e, y = Scan <num_scan_inputs = 1, body = step (float[4] b, float[4] v) => (float[4] t, float[4] o) {{
        p = MatMul(v, w)  q = {}(p)  t = Add(q, b)  o = Identity(t)
    }}> (s, x)
}}"""


def _saved(text: str, operator: str, path: Path) -> Path:
    onnx.save(model(text.replace("{}", operator).replace("{{", "{").replace("}}", "}"), w=_WEIGHT), path)
    return path


@pytest.mark.parametrize(
    ("text", "attribute"), [(LOOP, "Loop 'y' body"), (IF, "If 'y' else_branch"), (SCAN, "Scan 'e' body")]
)
def test_the_value_in_the_body_is_named(text: str, attribute: str, tmp_path: Path) -> None:
    before, after = _saved(text, "Tanh", tmp_path / "a.onnx"), _saved(text, "Sigmoid", tmp_path / "b.onnx")
    found = localize(before, after)
    assert found.first is not None
    assert found.first.value == "q"
    assert found.first.within == (attribute,)
    assert found.others == []


def test_a_body_that_cannot_be_compared_is_one_node(tmp_path: Path) -> None:
    before = _saved(LOOP, "Tanh", tmp_path / "a.onnx")
    after = _saved(
        LOOP.replace("Constant <value = int64 {{3}}>", "Constant <value = int64 {{2}}>"), "Tanh", tmp_path / "b"
    )
    found = localize(before, after)
    assert found.first is not None
    assert found.first.value == "n"
    same_body = LOOP.replace("y = Loop (n, true, a)", "k = Neg(a)  y = Loop (n, true, k)")
    found = localize(before, _saved(same_body, "Tanh", tmp_path / "c.onnx"))
    assert found.first is not None
    assert found.first.value == "y"
    assert found.first.within == ()
