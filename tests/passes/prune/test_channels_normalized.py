"""channels{normalized=true}: channels under a normalization go, and its figures are those of what is left."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from graphopt.analysis.channels import channel_groups
from graphopt.analysis.shapes import infer
from graphopt.ir import decode
from graphopt.ir.store import Store
from graphopt.testing import apply, model
from graphopt.testing.apply import Applied, assert_missed
from graphopt.testing.running import outputs_of
from passes.prune.channels import Channels

Array = np.ndarray[Any, Any]
NORMALIZED = {
    "an operator": "n = LayerNormalization<epsilon=0.001>(r, g, h)",
    "written out": """m = ReduceMean<axes=[-1]>(r)  d = Sub(r, m)  q = Mul(d, d)  v = ReduceMean<axes=[-1]>(q)
        a = Add(v, eps)  s = Sqrt(a)  u = Div(d, s)  w = Mul(u, g)  n = Add(w, h)""",
    "as sums": """i = ReduceSum<keepdims=0>(r, last)  m = Mul(i, part)  q = Mul(r, r)
        j = ReduceSum<keepdims=0>(q, last)
        e = Mul(j, part)  p = Mul(m, m)  v = Sub(e, p)  c = Max(v, zero)  b = Unsqueeze(c, last)  a = Add(b, eps)
        s = Sqrt(a)  o = Reciprocal(s)  f = Mul(o, g)  k = Unsqueeze(m, last)  d = Sub(r, k)  w = Mul(d, f)
        n = Add(w, h)""",
}


def network(how: str) -> onnx.ModelProto:
    """A dense layer of 16 with a normalization behind, and one that reads it."""
    draw = np.random.default_rng(4)
    made = model(
        f"""<ir_version: 8, opset_import: ["": 17]> agraph (float[B, 12] x) => (float[B, 5] y) {{
            l = Gemm(x, w1, b1)  r = Relu(l)  {NORMALIZED[how]}  y = Gemm(n, w2, b2) }}"""
    )
    weights = {
        "w1": draw.normal(size=(12, 16)), "b1": draw.normal(size=16), "w2": draw.normal(size=(16, 5)),
        "b2": draw.normal(size=5), "g": draw.uniform(0.5, 2, 16), "h": draw.normal(size=16),
        "eps": np.asarray(0.001), "part": np.asarray(1 / 16), "zero": np.asarray(0.0),
    }  # fmt: skip
    used = {name for node in made.graph.node for name in node.input}
    for name, values in weights.items():
        if name in used:
            made.graph.initializer.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
    if "last" in used:
        made.graph.initializer.append(numpy_helper.from_array(np.array([1]), "last"))
    return made


def samples(count: int = 128, seed: int = 1) -> dict[str, Array]:
    return {"x": np.random.default_rng(seed).standard_normal((count, 12)).astype(np.float32)}


def cut(how: str, **options: Any) -> tuple[Applied, Array, Array]:
    """What `channels` did, and what both models give on samples that it did not see."""
    before = network(how)
    done = apply(Channels(share=0.25, multiple=4, **options), before, feeds=[samples()], laws=False)
    first, then = (outputs_of(one.SerializeToString(), [samples(64, 2)])[0]["y"] for one in (before, done.after))
    return done, np.asarray(first), np.asarray(then)


@pytest.mark.parametrize("how", NORMALIZED)
def test_they_stay_unless_asked_for(how: str) -> None:
    done, *_ = cut(how)
    assert not done.applied
    why = "takes its mean and variance over it" if how == "an operator" else "makes one number of all of it"
    assert_missed(done, "channels", f"{why}, which normalized=true lets change")


@pytest.mark.parametrize("how", NORMALIZED)
def test_every_tensor_gets_smaller_and_the_layer_behind_is_fitted(how: str) -> None:
    done, before, after = cut(how, normalized=True)
    assert {one.name: list(one.dims) for one in done.after.graph.initializer}["w2"] == [12, 5]
    assert {one.name: list(one.dims) for one in done.after.graph.initializer}["g"] == [12]
    plain, _, unfitted = cut(how, normalized=True, repair=False)
    assert len(done.applied) == len(plain.applied) + 1  # the layer behind, once
    assert np.square(after - before).sum() < 0.75 * np.square(unfitted - before).sum()


@pytest.mark.parametrize(("how", "count"), [("an operator", 12), ("written out", 12), ("as sums", 16)])
def test_the_figures_are_those_of_what_is_left(how: str, count: int) -> None:
    """A mean is that of fewer; a sum lacks what is gone, as if it had been zero."""
    done, _, after = cut(how, normalized=True, repair=False, importance="magnitude")
    held = {one.name: numpy_helper.to_array(one) for one in done.after.graph.initializer}
    left = np.maximum(samples(64, 2)["x"] @ held["w1"] + held["b1"], 0)
    mean = left.sum(1, keepdims=True) / count
    variance = np.square(left).sum(1, keepdims=True) / count - np.square(mean)
    normal = (left - mean) / np.sqrt(variance + 0.001) * held["g"] + held["h"]
    np.testing.assert_allclose(after, normal @ held["w2"] + held["b2"], rtol=1e-3, atol=1e-4)


def test_what_reaches_an_output_stays_all_the_same() -> None:
    text = """<ir_version: 8, opset_import: ["": 17]> agraph (float[B, 4] x) => (float[B, 8] y) {
        l = MatMul(x, w)  y = LayerNormalization(l, g) }"""
    made = model(text, w=np.ones((4, 8), np.float32), g=np.ones(8, np.float32))
    graph = decode(made, Store())
    (group,) = channel_groups(graph, infer(graph))
    assert not group.figures and group.obstacle == "'y' is a graph output"


def test_of_a_largest_value_there_is_no_other() -> None:
    text = """<ir_version: 8, opset_import: ["": 17]> agraph (float[B, 4] x) => (float[B, 3] y) {
        l = MatMul(x, w)  m = ReduceMax<axes=[1]>(l)  d = Sub(l, m)  y = MatMul(d, v) }"""
    made = model(text, w=np.ones((4, 8), np.float32), v=np.ones((8, 3), np.float32))
    graph = decode(made, Store())
    (group,) = (one for one in channel_groups(graph, infer(graph)) if one.size == 8)
    assert not group.figures and "makes one number of all of it" in str(group.obstacle)
