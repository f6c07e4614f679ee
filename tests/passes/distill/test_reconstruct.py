"""reconstruct: a compressed model fitted to the original, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest

from graphopt.analysis.layer_fit import LayerFit
from graphopt.analysis.layer_inputs import Vectors
from graphopt.analysis.least_squares import fitted
from graphopt.analysis.masked_least_squares import held
from graphopt.analysis.scale_fit import ScaleFit
from graphopt.ir import Graph, Node, Variable
from graphopt.pipeline import Pipeline
from graphopt.pipeline.protocol import Context, Contract, Pass
from graphopt.testing import apply, model
from graphopt.testing.apply import Applied, assert_missed
from graphopt.testing.running import outputs_of
from passes.distill.reconstruct import Reconstruct
from passes.prune.magnitude import Magnitude
from passes.prune.neurons import Neurons

PRUNED = Magnitude(sparsity=0.5, scope="layer", min_elements=1)


def filled(text: str, opset: int = 17, **shapes: tuple[int, ...]) -> onnx.ModelProto:
    """A model with drawn initializers."""
    draw = np.random.default_rng(0)
    weights = {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return model(f'<ir_version: 8, opset_import: ["": {opset}]> {text}', **weights)


MLP = """agraph (float[B, 12] x) => (float[B, 6] y) {
    m = MatMul(x, w1)  h = Add(m, b1)  r = Relu(h)  n = MatMul(r, w2)  y = Add(n, b2) }"""


def mlp(opset: int = 17) -> onnx.ModelProto:
    return filled(MLP, opset, w1=(12, 24), b1=(24,), w2=(24, 6), b2=(6,))


def rows(count: int = 3, width: int = 12, seed: int = 1) -> list[dict[str, np.ndarray]]:
    """Feeds of channels that depend on each other."""
    draw = np.random.default_rng(seed)
    mixed = np.random.default_rng(5).normal(size=(width // 2, width))
    return [
        {"x": (draw.normal(size=(200, width // 2)) @ mixed + 0.1 * draw.normal(size=(200, width))).astype(np.float32)}
        for _ in range(count)
    ]


def weight(proto: onnx.ModelProto, name: str) -> np.ndarray:
    return next(onnx.numpy_helper.to_array(one) for one in proto.graph.initializer if one.name == name)


def error(done: Applied, feeds: Sequence[dict[str, np.ndarray]], name: str = "y") -> float:
    before = outputs_of(done.before.SerializeToString(), feeds)
    after = outputs_of(done.after.SerializeToString(), feeds)
    pairs = zip(before, after, strict=True)
    return float(sum(np.square(np.asarray(a[name], np.float64) - np.asarray(b[name])).sum() for a, b in pairs))


@pytest.mark.parametrize("opset", [7, 13, 17, 21])
def test_zeros_stay_zero_and_the_error_gets_smaller(opset: int) -> None:
    before, feeds = mlp(opset), rows()
    pruned = apply(PRUNED, before, feeds=feeds)
    done = apply(Pipeline((PRUNED, Reconstruct())), before, feeds=feeds)
    for name in ("w1", "w2"):
        np.testing.assert_array_equal(weight(pruned.after, name) == 0, weight(done.after, name) == 0)
    assert error(done, feeds) < 0.5 * error(pruned, feeds)
    assert error(done, rows(seed=9)) < 0.6 * error(pruned, rows(seed=9))  # and on others


def test_masked_least_squares_are_those_of_each_output_by_itself() -> None:
    draw = np.random.default_rng(0)
    x, truth = draw.normal(size=(300, 10)).astype(np.float32), draw.normal(size=(10, 4))
    y = (x @ truth + 0.3 * draw.normal(size=(300, 4)) + 1).astype(np.float32)
    seen = LayerFit(Vectors())
    seen.update(x, y)
    free = draw.random((1, 10, 4)) < 0.6
    start = np.where(free, 0.1, 0.0)
    found = fitted(seen, start, np.zeros((1, 4)), True, 1e-9, free)
    assert not isinstance(found, str)
    for output in range(4):
        chosen = np.flatnonzero(free[0, :, output])
        design = np.concatenate([x[:, chosen], np.ones((300, 1))], axis=1).astype(np.float64)
        best = np.linalg.lstsq(design, y[:, output], rcond=None)[0]
        np.testing.assert_allclose(found.weights[0, chosen, output], best[:-1], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(found.bias[0, output], best[-1], rtol=1e-3, atol=1e-4)
    assert (found.weights[~free] == 0).all()


def test_few_held_weights_are_solved_for_at_once_and_as_well() -> None:
    draw = np.random.default_rng(3)
    data = draw.normal(size=(200, 24))
    gram, weights = (data.T @ data)[None], draw.normal(size=(1, 24, 5))
    linear = gram @ draw.normal(size=(1, 24, 5))
    free = np.ones((1, 24, 5), np.bool_)
    free[0, [3, 7, 11], [0, 2, 2]] = False
    found = held(gram, linear, weights, free)
    for output in range(5):
        chosen, fixed = np.flatnonzero(free[0, :, output]), np.flatnonzero(~free[0, :, output])
        np.testing.assert_array_equal(found[0, fixed, output], weights[0, fixed, output])
        wanted = linear[0, chosen, output] - gram[0][np.ix_(chosen, fixed)] @ weights[0, fixed, output]
        best = np.linalg.solve(gram[0][np.ix_(chosen, chosen)], wanted)
        np.testing.assert_allclose(found[0, chosen, output], best, rtol=1e-6, atol=1e-8)


@dataclass(frozen=True)
class Turned(Pass):
    """Multiply the first weight by a matrix and the second by nearly its inverse."""

    name = "turned"
    contract = Contract.LOSSY

    def run(self, graph: Graph, ctx: Context) -> None:
        first, second = (one for one in graph.nodes if one.is_op("MatMul"))
        if not ctx.rewrite("turned", first):
            return
        draw = np.random.default_rng(2)
        turn = np.eye(12) + 0.2 * draw.normal(size=(12, 12))
        back = np.linalg.inv(turn) * (1 + 0.001 * draw.normal(size=(12, 12)))
        graph.set_values(first.inputs[1], (first.inputs[1].values @ turn).astype(np.float32))
        graph.set_values(second.inputs[1], (back @ second.inputs[1].values).astype(np.float32))


def test_a_fit_by_which_the_outputs_lose_is_left_out() -> None:
    text = "agraph (float[B, 12] x) => (float[B, 6] y) { m = MatMul(x, w1)  y = MatMul(m, w2) }"
    before, feeds = filled(text, w1=(12, 12), w2=(12, 6)), rows()
    plain = apply(Turned(), before, feeds=feeds)
    done = apply(Pipeline((Turned(), Reconstruct())), before, feeds=feeds)
    assert_missed(done, "reconstruct", "a fit would leave an error")
    assert [one.node for one in done.applied if one.pass_name == "reconstruct"] in ([], ["MatMul(y)"])
    assert error(done, feeds) <= error(plain, feeds)


@pytest.mark.parametrize("seed", range(4))
def test_the_error_of_the_outputs_never_grows(seed: int) -> None:
    text = """agraph (float[B, 12] x) => (float[B, 12] y) {
        m = MatMul(x, w1)  r = Relu(m)  n = MatMul(r, w2)  p = Add(n, m)  k = MatMul(p, w3)  s = Tanh(k)
        o = MatMul(s, w4)  y = Add(o, p) }"""
    before = filled(text, w1=(12, 12), w2=(12, 12), w3=(12, 24), w4=(24, 12))
    pruned = Magnitude(sparsity=0.3 + 0.15 * seed, scope="layer", min_elements=1)
    feeds = rows(seed=seed)
    plain = apply(pruned, before, feeds=feeds)
    done = apply(Pipeline((pruned, Reconstruct(samples=0))), before, feeds=feeds)
    assert error(done, feeds) <= error(plain, feeds)


def test_a_factor_and_an_offset_for_each_channel() -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(4, 200, 3)).astype(np.float32)
    seen = ScaleFit()
    seen.update(x, x * np.array([1.5, 0.5, 1.0], np.float32) + np.array([0.0, 1.0, -2.0], np.float32))
    found = seen.best()
    assert not isinstance(found, str)
    np.testing.assert_allclose(found[0], [1.5, 0.5, 1.0], rtol=1e-3)
    np.testing.assert_allclose(found[1], [0.0, 1.0, -2.0], atol=1e-3)


def test_a_narrow_model_is_compared_with_the_channels_that_are_left() -> None:
    text = """agraph (float[B, 12] x) => (float[B, 6] y) {
        m = MatMul(x, w1)  h = Add(m, b1)  r = Relu(h)  n = MatMul(r, w2)  k = Add(n, b2)
        s = Relu(k)  o = MatMul(s, w3)  y = Add(o, b3) }"""
    before = filled(text, w1=(12, 32), b1=(32,), w2=(32, 24), b2=(24,), w3=(24, 6), b3=(6,))
    narrow = Neurons(share=0.5, repair=False)
    feeds = rows()
    plain = apply(narrow, before, feeds=feeds)
    done = apply(Pipeline((narrow, Reconstruct())), before, feeds=feeds)
    assert len([one for one in done.applied if one.pass_name == "reconstruct"]) >= 2
    assert error(done, feeds) < 0.5 * error(plain, feeds)


RESIDUAL = """agraph (float[B, 12] x) => (float[B, 12] y) {
    m = MatMul(x, w1)  r = Relu(m)  n = MatMul(r, w2)  p = Add(n, x)
    k = MatMul(p, w3)  s = Relu(k)  o = MatMul(s, w4)  y = Add(o, p) }"""


def test_a_layer_in_front_of_a_sum_makes_up_for_the_other_addend() -> None:
    before = filled(RESIDUAL, w1=(12, 24), w2=(24, 12), w3=(12, 60), w4=(60, 12))
    for one in before.graph.initializer:
        if one.name == "w4":  # a small part of the sum
            one.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(one) * np.float32(0.03), "w4"))
    broken = Magnitude(sparsity=0.7, scope="layer", min_elements=1, skip=("w3", "w4"))
    feeds = rows(6)
    alone = apply(Pipeline((broken, Reconstruct(absorb=False, only=("w4",)))), before, feeds=feeds)
    done = apply(Pipeline((broken, Reconstruct(only=("w4",)))), before, feeds=feeds)
    assert error(done, feeds) < 0.8 * error(alone, feeds)


def test_two_layers_that_make_one_sum_do_not_both_answer_for_it() -> None:
    text = """agraph (float[B, 12] x) => (float[B, 6] y) { m = MatMul(x, w1)  n = MatMul(x, w2)  y = Add(m, n) }"""
    before, feeds = filled(text, w1=(12, 6), w2=(12, 6)), rows()
    pruned = apply(PRUNED, before, feeds=feeds)
    done = apply(Pipeline((PRUNED, Reconstruct())), before, feeds=feeds)
    assert error(done, feeds) < error(pruned, feeds)


def test_layers_that_were_merged_are_fitted_to_what_each_of_them_made() -> None:
    from passes.fuse.merge_parallel_linears import MergeParallelLinears

    text = """agraph (float[B, T, 12] x) => (float[B, T, 8] y) {
        m = MatMul(x, w1)  h = Add(m, b1)  n = MatMul(x, w2)  k = Add(n, b2)  p = Mul(h, k)  y = Sigmoid(p) }"""
    before = filled(text, w1=(12, 8), b1=(8,), w2=(12, 8), b2=(8,))
    feeds = [{"x": one["x"].reshape(4, 50, 12)} for one in rows()]
    chain = (MergeParallelLinears(), PRUNED)
    plain = apply(Pipeline(chain), before, feeds=feeds)
    done = apply(Pipeline((*chain, Reconstruct())), before, feeds=feeds)
    assert {one.pass_name for one in done.applied} == {"merge-parallel-linears", "magnitude", "reconstruct"}
    assert error(done, feeds) < 0.7 * error(plain, feeds)


@dataclass(frozen=True)
class Halves(Pass):
    """Replace each weight by two factors of half its rank, the worse for some noise."""

    name = "halves"
    contract = Contract.LOSSY

    def run(self, graph: Graph, ctx: Context) -> None:
        for node in [one for one in graph.nodes if one.is_op("MatMul")]:
            values = node.inputs[1].values
            u, s, v = np.linalg.svd(values.astype(np.float64), full_matrices=False)
            rank = len(s) // 2
            if not ctx.rewrite("halve", node):
                continue
            noise = np.random.default_rng(0).normal(size=(len(u), rank)) * 0.05
            first = graph.constant((u[:, :rank] * s[:rank] + noise).astype(np.float32), "u")
            second = graph.constant(v[:rank].astype(np.float32), "v")
            middle: Variable = graph.variable("middle")
            graph.insert(Node("MatMul", "", {}, [node.inputs[0], first], [middle]), before=node)
            graph.rewire(node, 0, middle)
            graph.rewire(node, 1, second)


def test_two_factors_are_fitted_one_through_the_other() -> None:
    feeds, before = rows(), mlp()
    plain = apply(Halves(), before, feeds=feeds, laws=False)
    done = apply(Pipeline((Halves(), Reconstruct())), before, feeds=feeds, laws=False)
    again = apply(Pipeline((Halves(), Reconstruct(rounds=3))), before, feeds=feeds, laws=False)
    assert len([one for one in done.applied if one.pass_name == "reconstruct"]) == 4
    assert error(done, feeds) < 0.7 * error(plain, feeds)
    assert error(again, feeds) <= error(done, feeds) * 1.001


def test_scale_and_bias_of_a_normalization() -> None:
    text = """agraph (float[B, 12] x) => (float[B, 12] y) {
        m = MatMul(x, w1)  n = LayerNormalization(m, g, b)  s = Relu(n)  y = MatMul(s, w2) }"""
    before, feeds = filled(text, w1=(12, 12), g=(12,), b=(12,), w2=(12, 12)), rows()
    pruned = Magnitude(sparsity=0.6, min_elements=20, skip=("w2",))
    plain = apply(pruned, before, feeds=feeds)
    done = apply(Pipeline((pruned, Reconstruct(only=("g",)))), before, feeds=feeds)
    assert [one.op for one in done.applied if one.pass_name == "reconstruct"] == ["LayerNormalization"]
    assert error(done, feeds) < error(plain, feeds)


def test_convolutions_keep_their_zeros() -> None:
    text = """agraph (float[B, 4, 8, 8] x) => (float[B, 4, 8, 8] y) {
        c = Conv<pads = [1, 1, 1, 1]>(x, w1, b1)  r = Relu(c)  y = Conv<pads = [1, 1, 1, 1], group = 2>(r, w2, b2) }"""
    before = filled(text, w1=(8, 4, 3, 3), b1=(8,), w2=(4, 4, 3, 3), b2=(4,))
    draw = np.random.default_rng(1)
    kernel = np.ones((3, 3)) / 9
    feeds = [
        {
            "x": np.stack(
                [
                    np.stack([np.convolve(c.ravel(), kernel.ravel(), "same").reshape(8, 8) for c in image])
                    for image in draw.normal(size=(16, 4, 8, 8))
                ]
            ).astype(np.float32)
        }
        for _ in range(2)
    ]
    pruned = apply(PRUNED, before, feeds=feeds)
    done = apply(Pipeline((PRUNED, Reconstruct())), before, feeds=feeds)
    for name in ("w1", "w2"):
        np.testing.assert_array_equal(weight(pruned.after, name) == 0, weight(done.after, name) == 0)
    assert error(done, feeds) < 0.7 * error(pruned, feeds)


def test_a_model_that_nobody_compressed_stays_as_it_is() -> None:
    done = apply(Reconstruct(), mlp(), feeds=rows())
    assert not done.applied
    assert_missed(done, "reconstruct", "it gives what it gave in the original")


def test_a_model_without_layers_says_so() -> None:
    done = apply(Reconstruct(), model("agraph (float[N] x) => (float[N] y) { y = Relu(x) }"))
    assert_missed(done, "reconstruct", "the model has no layer with stored float weights")


def test_quantized_layers_are_left_to_refit() -> None:
    text = """agraph (float[B, 12] x) => (float[B, 6] y) <float s = {0.1}> {
        d = DequantizeLinear(w, s)  y = MatMul(x, d) }"""
    before = model(f'<ir_version: 8, opset_import: ["": 17]> {text}', w=np.ones((12, 6), np.int8))
    done = apply(Reconstruct(), before, feeds=rows())
    assert_missed(done, "reconstruct", "its weight is quantized: refit fits such")


def test_weights_that_two_layers_read_stay() -> None:
    text = "agraph (float[B, 12] x) => (float[B, 12] y) { m = MatMul(x, w)  r = Relu(m)  y = MatMul(r, w) }"
    done = apply(Pipeline((PRUNED, Reconstruct())), filled(text, w=(12, 12)), feeds=rows())
    assert_missed(done, "reconstruct", "its weight is read by something else, too")


def test_a_body_stays() -> None:
    text = """agraph (float[B, 12] x, bool c) => (float[B, 6] y) {
        y = If(c) <
            then_branch = t () => (float[B, 6] p) <float[12, 6] w = {__}> { p = MatMul(x, w) },
            else_branch = e () => (float[B, 6] q) { q = MatMul(x, v) }
        > }""".replace("__", ", ".join("1.0" for _ in range(72)))
    before = filled(text, v=(12, 6))
    feeds = [{**one, "c": np.array(True)} for one in rows(1)]
    done = apply(Reconstruct(), before, feeds=feeds)
    assert not done.applied
    assert_missed(done, "reconstruct", "inside bodies and functions")


@pytest.mark.parametrize(
    ("options", "why"), [({"skip": ("w1", "w2")}, "skip has 'w1'"), ({"only": ("w2",)}, "only has no pattern for it")]
)
def test_skip_and_only(options: dict[str, Any], why: str) -> None:
    done = apply(Pipeline((PRUNED, Reconstruct(**options))), mlp(), feeds=rows())
    assert_missed(done, "reconstruct", why)


def test_equal_runs_give_equal_bytes() -> None:
    chain = Pipeline((PRUNED, Reconstruct()))
    one, other = (apply(chain, mlp(), feeds=rows(), laws=False).after for _ in range(2))
    assert one.SerializeToString() == other.SerializeToString()


@pytest.mark.parametrize("options", [{"damping": -1.0}, {"rows": -1}, {"rounds": 0}, {"stages": -1}, {"samples": -1}])
def test_options_that_mean_nothing(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        Reconstruct(**options)
