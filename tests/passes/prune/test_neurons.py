"""neurons: feed-forward blocks that get narrower, found by their structure."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from graphopt.testing import apply, model
from graphopt.testing.apply import Applied, assert_missed
from graphopt.testing.running import outputs_of
from passes.prune.neurons import Neurons

PLAIN: dict[str, Any] = {"importance": "magnitude", "repair": False, "multiple": 1}


def filled(text: str, opset: int = 17, ir: int = 8, **weights: Any) -> onnx.ModelProto:
    """A model with the initializers that are given."""
    return model(f'<ir_version: {ir}, opset_import: ["": {opset}]> {text}', **weights)


def draws(**shapes: tuple[int, ...]) -> dict[str, Any]:
    draw = np.random.default_rng(0)
    return {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


MLP = """agraph (float[B, T, 8] x) => (float[B, T, 8] y) {
    m = MatMul(x, w1)  h = Add(b1, m)  r = Relu(h)  o = MatMul(r, w2)  y = Add(o, b2) }"""


def mlp(text: str = MLP, opset: int = 17, width: int = 32) -> onnx.ModelProto:
    return filled(text, opset, **draws(w1=(8, width), b1=(width,), w2=(width, 8), b2=(8,)))


def rows(count: int = 3, seed: int = 1, last: int = 8) -> list[dict[str, np.ndarray]]:
    """Feeds with fewer directions than channels, so that neurons say the same things twice."""
    draw = np.random.default_rng(seed)
    mixed = np.random.default_rng(5).normal(size=(3, last))
    return [{"x": (draw.normal(size=(4, 40, 3)) @ mixed).astype(np.float32)} for _ in range(count)]


def full(count: int = 3) -> list[dict[str, np.ndarray]]:
    """Feeds whose channels have nothing to do with each other."""
    draw = np.random.default_rng(2)
    return [{"x": draw.normal(size=(4, 80, 8)).astype(np.float32)} for _ in range(count)]


def weight(done: Applied | onnx.ModelProto, name: str) -> np.ndarray:
    proto = done if isinstance(done, onnx.ModelProto) else done.after
    return next(numpy_helper.to_array(one) for one in proto.graph.initializer if one.name == name)


def error(done: Applied, feeds: list[dict[str, np.ndarray]], name: str = "y") -> float:
    before = outputs_of(done.before.SerializeToString(), feeds)
    after = outputs_of(done.after.SerializeToString(), feeds)
    return float(
        sum(
            np.square(np.asarray(a[name], np.float64) - np.asarray(b[name])).sum()
            for a, b in zip(before, after, strict=True)
        )
    )


def kept_columns(before: np.ndarray, after: np.ndarray) -> list[int]:
    """Which columns of a weight are left, which must be among the old ones."""
    found = [next(i for i in range(before.shape[1]) if (before[:, i] == column).all()) for column in after.T]
    assert found == sorted(found)
    return found


def zeroed(before: onnx.ModelProto, name: str, kept: list[int], axis: int = 0) -> onnx.ModelProto:
    """The wide model, which does not listen to the neurons that went."""
    made = onnx.ModelProto()
    made.CopyFrom(before)
    for one in made.graph.initializer:
        if one.name == name:
            values = np.array(numpy_helper.to_array(one))
            gone = np.setdiff1d(np.arange(values.shape[axis]), kept)
            np.moveaxis(values, axis, 0)[gone] = 0
            one.CopyFrom(numpy_helper.from_array(values, name))
    return made


def assert_same(one: onnx.ModelProto, other: onnx.ModelProto, feeds: list[dict[str, np.ndarray]]) -> None:
    for a, b in zip(
        outputs_of(one.SerializeToString(), feeds), outputs_of(other.SerializeToString(), feeds), strict=True
    ):
        for name in a:
            np.testing.assert_allclose(np.asarray(a[name]), np.asarray(b[name]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("opset", [7, 13, 17, 21])
@pytest.mark.parametrize("importance", ["magnitude", "activation", "second-order"])
def test_narrow_is_the_wide_model_that_does_not_listen(importance: Any, opset: int) -> None:
    before = mlp(opset=opset)
    done = apply(Neurons(importance=importance, repair=False, share=0.25), before, feeds=rows())
    assert weight(done, "w1").shape == (8, 24)
    assert weight(done, "b1").shape == (24,)
    assert weight(done, "w2").shape == (24, 8)
    kept = kept_columns(weight(before, "w1"), weight(done, "w1"))
    np.testing.assert_array_equal(weight(before, "w2")[kept], weight(done, "w2"))
    assert_same(zeroed(before, "w2", kept), done.after, rows())


def test_repair_never_makes_the_error_larger_and_mostly_removes_it() -> None:
    feeds = rows()
    plain = apply(Neurons(repair=False), mlp(), feeds=feeds)
    done = apply(Neurons(), mlp(), feeds=feeds)
    assert error(done, feeds) < 0.05 * error(plain, feeds)
    assert error(done, rows(seed=9)) < 0.1 * error(plain, rows(seed=9))  # and on others like these
    assert "dB below the result" in done.applied[0].why and "after repair" in done.applied[0].why


def test_second_order_costs_less_than_activation_and_that_less_than_magnitude() -> None:
    feeds, draw = rows(), np.random.default_rng(3)
    before = mlp(width=64)
    big = draw.normal(size=(8, 64)) * np.exp(draw.normal(size=64))
    for one in before.graph.initializer:
        if one.name == "w1":
            one.CopyFrom(numpy_helper.from_array(big.astype(np.float32), "w1"))
    found = {
        how: error(apply(Neurons(importance=how, share=0.5, damping=0.001), before, feeds=feeds), feeds)
        for how in ("magnitude", "second-order")
    }
    plain = {
        how: error(apply(Neurons(importance=how, share=0.5, repair=False), before, feeds=feeds), feeds)
        for how in ("magnitude", "activation")
    }
    assert found["second-order"] < found["magnitude"]
    assert plain["activation"] < plain["magnitude"]


ERF = """agraph (float[B, T, 8] x) => (float[B, T, 8] y)
<float r = {1.4142135}, float one = {1.0}, float half = {0.5}> {
    m = MatMul(x, w1)  h = Add(m, b1)  d = Div(h, r)  e = Erf(d)  p = Add(e, one)  t = Mul(h, p)
    g = Mul(t, half)  o = MatMul(g, w2)  y = Add(o, b2) }"""
TANH = """agraph (float[B, T, 8] x) => (float[B, T, 8] y)
<float k = {0.7978846}, float c = {0.044715}, float one = {1.0}, float half = {0.5}, float three = {3.0}> {
    m = MatMul(x, w1)  h = Add(m, b1)  q = Pow(h, three)  s = Mul(q, c)  u = Add(h, s)  v = Mul(u, k)
    e = Tanh(v)  p = Add(e, one)  t = Mul(h, p)  g = Mul(t, half)  o = MatMul(g, w2)  y = Add(o, b2) }"""
SILU = """agraph (float[B, T, 8] x) => (float[B, T, 8] y) {
    m = MatMul(x, w1)  h = Add(m, b1)  s = Sigmoid(h)  g = Mul(h, s)  o = MatMul(g, w2)  y = Add(o, b2) }"""
GEMM = """agraph (float[B, 8] x) => (float[B, 8] y) {
    h = Gemm(x, w1, b1)  r = Relu(h)  y = Gemm(r, w2, b2) }"""
SLOPES = """agraph (float[B, T, 8] x) => (float[B, T, 8] y) {
    m = MatMul(x, w1)  r = PRelu(m, b1)  o = MatMul(r, w2)  y = Add(o, b2) }"""


@pytest.mark.parametrize("text", [ERF, TANH, SILU, SLOPES])
def test_activations_written_out(text: str) -> None:
    before = mlp(text)
    done = apply(Neurons(**PLAIN), before, feeds=rows())
    assert weight(done, "w2").shape == (24, 8)
    assert_same(zeroed(before, "w2", kept_columns(weight(before, "w1"), weight(done, "w1"))), done.after, rows())


def test_gemm() -> None:
    feeds = [{"x": one["x"].reshape(-1, 8)} for one in rows()]
    done = apply(Neurons(), mlp(GEMM), feeds=feeds)
    assert weight(done, "w1").shape == (8, 24)
    assert done.sqnr_db("y") > 20


def test_gemm_with_turned_weights() -> None:
    text = """agraph (float[B, 8] x) => (float[B, 8] y) {
        h = Gemm<transB = 1>(x, w1, b1)  r = Relu(h)  y = Gemm<transB = 1>(r, w2, b2) }"""
    before = filled(text, **draws(w1=(32, 8), b1=(32,), w2=(8, 32), b2=(8,)))
    feeds = [{"x": one["x"].reshape(-1, 8)} for one in rows()]
    done = apply(Neurons(**PLAIN), before, feeds=feeds)
    assert weight(done, "w1").shape == (24, 8) and weight(done, "w2").shape == (8, 24)
    kept = kept_columns(weight(before, "w1").T, weight(done, "w1").T)
    assert_same(zeroed(before, "w2", kept, axis=1), done.after, feeds)
    assert apply(Neurons(), before, feeds=feeds).sqnr_db("y") > 20


GATED = """agraph (float[B, T, 8] x) => (float[B, T, 8] y) {
    a = MatMul(x, w1)  u = MatMul(x, w3)  s = Sigmoid(a)  g = Mul(a, s)  h = Mul(g, u)  y = MatMul(h, w2) }"""


def test_gates_lose_their_neurons_with_the_values() -> None:
    before = filled(GATED, **draws(w1=(8, 32), w3=(8, 32), w2=(32, 8)))
    done = apply(Neurons(**PLAIN), before, feeds=rows())
    kept = kept_columns(weight(before, "w1"), weight(done, "w1"))
    assert kept_columns(weight(before, "w3"), weight(done, "w3")) == kept
    assert_same(zeroed(before, "w2", kept), done.after, rows())


MERGED = """agraph (float[B, T, 8] x) => (float[B, T, 8] y) {
    m = MatMul(x, w1)  a, u = Split<axis = -1>(m)  s = Sigmoid(a)  g = Mul(a, s)  h = Mul(g, u)  y = MatMul(h, w2) }"""


@pytest.mark.parametrize("opset", [11, 13, 17])
def test_gates_and_values_of_one_layer(opset: int) -> None:
    before = filled(MERGED, opset, **draws(w1=(8, 64), w2=(32, 8)))
    done = apply(Neurons(**PLAIN), before, feeds=rows())
    assert weight(done, "w1").shape == (8, 48)
    kept = kept_columns(weight(before, "w1"), weight(done, "w1"))
    assert [one + 32 for one in kept[:24]] == kept[24:]
    assert_same(zeroed(before, "w2", kept[:24]), done.after, rows())


def test_a_bias_that_two_blocks_share_is_copied() -> None:
    text = """agraph (float[B, T, 8] x) => (float[B, T, 8] y) {
        m = MatMul(x, w1)  h = Add(m, b)  r = Relu(h)  o = MatMul(r, w2)
        n = MatMul(o, v1)  k = Add(n, b)  s = Relu(k)  y = MatMul(s, v2) }"""
    before = filled(text, **draws(w1=(8, 32), b=(32,), w2=(32, 8), v1=(8, 32), v2=(32, 8)))
    done = apply(Neurons(allocation="uniform"), before, feeds=rows())
    assert len(done.applied) == 2
    assert weight(done, "v2").shape == (24, 8)


def test_blocks_are_repaired_one_after_the_other() -> None:
    text = """agraph (float[B, T, 8] x) => (float[B, T, 8] y) {
        m = MatMul(x, w1)  r = Relu(m)  o = MatMul(r, w2)  p = Add(o, x)
        n = MatMul(p, v1)  s = Relu(n)  q = MatMul(s, v2)  y = Add(q, p) }"""
    before = filled(text, **draws(w1=(8, 64), w2=(64, 8), v1=(8, 64), v2=(64, 8)))
    plain = apply(Neurons(repair=False), before, feeds=rows())
    done = apply(Neurons(), before, feeds=rows())
    assert error(done, rows(seed=4)) < 0.1 * error(plain, rows(seed=4))


def test_with_allocation_by_error_the_block_that_can_spare_them_loses_more() -> None:
    text = """agraph (float[B, T, 8] x) => (float[B, T, 8] y) {
        m = MatMul(x, w1)  r = Relu(m)  o = MatMul(r, w2)  p = Add(o, x)
        n = MatMul(p, v1)  s = Relu(n)  q = MatMul(s, v2)  y = Add(q, p) }"""
    weights = draws(w1=(8, 64), w2=(64, 8), v1=(8, 64), v2=(64, 8))
    weights["w1"][:, 32:] = weights["w1"][:, :32]  # every neuron of the first block is there twice
    done = apply(Neurons(allocation="error", multiple=4), filled(text, **weights), feeds=full())
    first, second = weight(done, "w2").shape[0], weight(done, "v2").shape[0]
    assert first < 48 < second
    assert first + second == 96


def test_a_channel_that_is_larger_than_all_others_does_not_hide_them() -> None:
    """Four neurons make a channel of a thousand; that the others make all others would not show in a sum of squares."""
    text = """agraph (float[B, T, 8] x) => (float[B, T, 8] y) {
        m = MatMul(x, w1)  r = Relu(m)  o = MatMul(r, w2)  p = Add(o, x)
        n = MatMul(p, v1)  s = Relu(n)  q = MatMul(s, v2)  y = Add(q, p) }"""
    weights = draws(w1=(8, 32), w2=(32, 8), v1=(8, 32), v2=(32, 8))
    weights["w2"][:, 0] = 0
    weights["w2"][:4, 0] = 1000
    weights["v1"][0] = 0
    weights["v2"][16:] *= 0.2  # half of the second block matters less
    done = apply(Neurons(multiple=4), filled(text, **weights), feeds=full())
    assert weight(done, "w2").shape[0] > weight(done, "v2").shape[0]


@pytest.mark.parametrize(
    ("multiple", "share", "left"), [(8, 0.25, 24), (8, 0.2, 24), (1, 0.2, 26), (16, 0.3, 16), (5, 0.9, 5)]
)
def test_what_is_left_is_a_multiple(multiple: int, share: float, left: int) -> None:
    done = apply(Neurons(**{**PLAIN, "multiple": multiple}, share=share), mlp(), feeds=rows())
    assert weight(done, "w1").shape == (8, left)


def test_nothing_goes_at_no_share() -> None:
    done = apply(Neurons(share=0.0), mlp(), feeds=rows())
    assert not done.applied
    assert_missed(done, "neurons", "of 32 neurons none goes at share=0")


def test_a_narrow_block_cannot_be_rounded() -> None:
    done = apply(Neurons(share=0.1, multiple=16), mlp(width=16), feeds=rows())
    assert_missed(done, "neurons", "none goes at share=0.1 and multiple=16")


def test_a_model_that_was_pruned_before_is_fitted_to_the_original() -> None:
    from graphopt.pipeline import Pipeline

    done = apply(Pipeline((Neurons(share=0.25), Neurons(share=0.25))), mlp(width=64), feeds=rows())
    assert weight(done, "w2").shape == (40, 8)  # 36 rounded to eights
    assert done.sqnr_db("y") > 15


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (MLP.replace("(float[B, T, 8] y)", "(float[B, T, 8] y, float[B, T, 32] r)"), "is a graph output"),
        (MLP.replace("y = Add(o, b2)", "z = ReduceMax(r)  q = Add(o, b2)  y = Add(q, z)"), "ReduceMax"),
    ],
)
def test_neurons_that_something_else_needs_stay(text: str, why: str) -> None:
    done = apply(Neurons(), mlp(text), feeds=rows())
    assert not done.applied
    assert_missed(done, "neurons", why)


def test_weights_that_callers_may_override_stay() -> None:
    before = filled(MLP, 8, 3, **draws(w1=(8, 32), b1=(32,), w2=(32, 8), b2=(8,)))
    for one in before.graph.initializer:
        before.graph.input.append(onnx.helper.make_tensor_value_info(one.name, 1, list(one.dims)))
    done = apply(Neurons(), before, feeds=rows())
    assert not done.applied
    assert_missed(done, "neurons", "callers may give")


def test_a_model_without_blocks_says_so() -> None:
    done = apply(Neurons(), model("agraph (float[N] x) => (float[N] y) { y = Relu(x) }"))
    assert_missed(done, "neurons", "no two linear layers have only elementwise operators between them")


@pytest.mark.parametrize(
    ("options", "why"),
    [({"skip": ("w1",)}, "skip has 'w1'"), ({"only": ("other*",)}, "only has no pattern for it")],
)
def test_skip_and_only(options: dict[str, Any], why: str) -> None:
    done = apply(Neurons(**options), mlp(), feeds=rows())
    assert not done.applied
    assert_missed(done, "neurons", why)


def test_weights_that_are_no_numbers() -> None:
    before = mlp()
    for one in before.graph.initializer:
        if one.name == "w1":
            values = np.array(numpy_helper.to_array(one))
            values[0, 0] = np.nan
            one.CopyFrom(numpy_helper.from_array(values, "w1"))
    done = apply(Neurons(), before, feeds=rows(), laws=False)
    assert not done.applied
    assert_missed(done, "neurons", "NaN")


def test_a_body_is_fitted_to_what_it_made_itself() -> None:
    text = """agraph (float[B, T, 8] x, bool c) => (float[B, T, 8] y) {
        y = If(c) <
            then_branch = t () => (float[B, T, 8] p) {
                m = MatMul(x, w1)  r = Relu(m)  p = MatMul(r, w2) },
            else_branch = e () => (float[B, T, 8] q) { q = Identity(x) }
        > }"""
    before = filled(text, **draws(w1=(8, 32), w2=(32, 8)))
    feeds = [{**one, "c": np.array(True)} for one in rows()]
    done = apply(Neurons(), before, feeds=feeds)
    if done.applied:
        assert done.sqnr_db("y") > 20
    else:  # weights of the main graph that a body captures
        assert_missed(done, "neurons", "")


def test_equal_runs_give_equal_bytes() -> None:
    one, other = (apply(Neurons(), mlp(), feeds=rows(), laws=False).after for _ in range(2))
    assert one.SerializeToString() == other.SerializeToString()


@pytest.mark.parametrize("options", [{"share": 1.0}, {"share": -0.1}, {"damping": -1.0}, {"rows": -1}, {"multiple": 0}])
def test_options_that_mean_nothing(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        Neurons(**options)
