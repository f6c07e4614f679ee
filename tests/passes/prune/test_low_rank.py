"""low-rank: two layers in place of one, of the rank that misses the results least."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper

from graphopt.analysis.cost import macs
from graphopt.analysis.layer_fit import LayerFit
from graphopt.analysis.layer_inputs import Vectors
from graphopt.analysis.shapes import infer
from graphopt.ir import decode
from graphopt.pipeline.page import SECTIONS, page
from graphopt.pipeline.spec import parse
from graphopt.storage.read import from_proto
from graphopt.testing import apply, assert_missed, model
from graphopt.testing.apply import Applied
from passes.prune.low_rank import LowRank
from passes.prune.principal_results import factors, foreseen, left, principal
from passes.prune.rank_allocation import Ladder, shared

Array = np.ndarray[Any, Any]
Feeds = list[dict[str, Any]]


def floats(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def flat(count: int, size: int, ranks: int, seed: int = 0) -> Array:
    """Rows near a plane of a few dimensions, away from the origin."""
    mix = floats(ranks, size, seed=9)
    return floats(count, ranks, seed=seed) @ mix + 0.05 * floats(count, size, seed=seed) + 1


def used(**options: Any) -> LowRank:
    return LowRank(**{"min_elements": 1, "multiple": 1, **options})


def tensors(done: Applied) -> dict[str, Array]:
    return {one.name: numpy_helper.to_array(one) for one in done.after.graph.initializer}


def cost(proto: ModelProto) -> int:
    source = from_proto(proto)
    graph = decode(source.proto, source.store)
    return macs(graph, infer(graph)).count


def seen(data: Array, weights: Array, bias: Array) -> LayerFit:
    fit = LayerFit(Vectors())
    for part in np.split(data, 2):
        fit.update(part, part @ weights + bias)
    return fit


@pytest.mark.parametrize(("inputs", "outputs"), [(16, 10), (10, 16), (12, 12)])
@pytest.mark.parametrize("has_bias", [True, False])
def test_the_error_is_the_sum_of_the_eigenvalues_left_out(inputs: int, outputs: int, has_bias: bool) -> None:
    data, weights = flat(300, inputs, inputs).astype(np.float64), floats(inputs, outputs).astype(np.float64)
    bias = np.zeros(outputs)
    sums = seen(data, weights, bias).whole
    assert sums is not None
    moments = data - data.mean(0) if has_bias else data
    values, basis = principal(moments.T @ moments / len(data), weights)
    assert np.allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-8)
    for rank in (1, 4, 9):
        first, second, moved = factors(sums, weights, bias, has_bias, 0.0, rank)
        apart = data @ (first @ second) + moved - data @ weights
        assert float(np.square(apart).sum() / len(data)) == pytest.approx(values[rank:].sum(), rel=1e-4)


@pytest.mark.parametrize(("inputs", "outputs"), [(16, 10), (10, 16)])
def test_no_rank_is_worse_than_the_svd_of_the_weight(inputs: int, outputs: int) -> None:
    data, weights = flat(300, inputs, 6).astype(np.float64), floats(inputs, outputs).astype(np.float64)
    sums = seen(data, weights, np.zeros(outputs)).whole
    assert sums is not None
    u, s, v = np.linalg.svd(weights, full_matrices=False)
    for rank in range(1, 10):
        first, second, _ = factors(sums, weights, np.zeros(outputs), False, 0.0, rank)
        ours = np.square(data @ (first @ second - weights)).sum()
        plain = np.square(data @ ((u[:, :rank] * s[:rank]) @ v[:rank] - weights)).sum()
        assert ours <= plain * (1 + 1e-6)


def test_the_whole_rank_is_the_layer() -> None:
    data, weights, bias = flat(300, 12, 12).astype(np.float64), floats(12, 8).astype(np.float64), np.arange(8.0)
    sums = seen(data, weights, bias).whole
    assert sums is not None
    first, second, moved = factors(sums, weights, bias, True, 0.01, 8)
    assert np.allclose(first @ second, weights)
    assert np.allclose(moved, bias)


def test_what_is_left_of_each_rank() -> None:
    data, weights = flat(400, 12, 3).astype(np.float64), floats(12, 9).astype(np.float64)
    gram = data.T @ data
    curve = left(gram, weights, principal(gram, weights)[1])
    assert curve[0] == 1
    assert curve[-1] == pytest.approx(0, abs=1e-9)
    assert (np.diff(curve) <= 1e-12).all()
    assert curve[4] < 0.01  # three dimensions, and the mean


def test_few_samples_take_damping() -> None:
    fading = np.exp(-np.arange(40) / 6)
    weights = floats(40, 30).astype(np.float64)
    few, many = (seen(floats(count, 40).astype(np.float64) * fading, weights, np.zeros(30)) for count in (12, 4000))
    assert foreseen(few.halves, weights, False)[0] > foreseen(many.halves, weights, False)[0]
    # The six rows of a half are in six dimensions, but others are not.
    assert foreseen(few.halves, weights, False)[1][6] > foreseen(many.halves, weights, False)[1][6] > 0.01
    assert foreseen(few.halves, weights, False, 0.5)[0] == 0.5


def test_prices_save_what_is_wanted_at_the_least_error() -> None:
    def ladder(errors: list[float]) -> Ladder:
        return Ladder(np.array([1, 2, 3]), np.array(errors), np.array([25.0, 50.0, 75.0]), 100.0)

    ladders = [ladder([0.9, 0.8, 0.7]), ladder([0.3, 0.1, 0.01]), ladder([0.5, 0.3, 0.1])]
    assert shared(ladders, 0) == [-1, -1, -1]
    assert shared(ladders, 25) == [-1, 2, -1]
    assert shared(ladders, 75) == [-1, 1, 2]
    assert shared(ladders, 225) == [0, 0, 0]
    assert shared(ladders, 300) == [0, 0, 0]
    assert shared([], 5) == []


LAYERS = {
    "MatMul": ("(float[N, 24] x) => (float[N, 24] y) { y = MatMul(x, w) }", (24, 24), 2),
    "MatMul biased": ("(float[2, 9, 24] x) => (float[2, 9, 24] y) { a = MatMul(x, w)  y = Add(a, b) }", (24, 24), 2),
    "Gemm": ("(float[N, 24] x) => (float[N, 24] y) { y = Gemm(x, w, b) }", (24, 24), 2),
    "Gemm transB": ("(float[N, 24] x) => (float[N, 24] y) { y = Gemm<transB = 1>(x, w, b) }", (24, 24), 2),
    "Conv 1x1": ("(float[2, 24, 5, 5] x) => (float[2, 24, 5, 5] y) { y = Conv(x, w, b) }", (24, 24, 1, 1), 2),
    "Conv": (
        "(float[2, 8, 9, 9] x) => (float[2, 24, 5, 5] y) { y = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(x, w, b) }",
        (24, 8, 3, 3),
        2,
    ),
    "Conv auto": (
        '(float[2, 8, 9] x) => (float[2, 24, 9] y) { y = Conv<auto_pad = "SAME_UPPER">(x, w) }',
        (24, 8, 3),
        2,
    ),
}


def case(name: str) -> tuple[ModelProto, Feeds]:
    text, shape, _ = LAYERS[name]
    given = {"b": floats(24)} if "b)" in text else {}
    fading = np.exp(-np.arange(shape[0]) / 3).reshape(-1, *[1] * (len(shape) - 1))
    proto = model(f"g {text}", w=(floats(*shape) * fading).astype(np.float32), **given)
    size = [dim.dim_value or 64 for dim in proto.graph.input[0].type.tensor_type.shape.dim]
    return proto, [{"x": floats(*size, seed=one) + 1} for one in (3, 4)]


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("repair", [True, False])
def test_every_layer_gets_cheaper_and_stays_near(name: str, repair: bool) -> None:
    proto, feeds = case(name)
    done = apply(used(share=0.3, repair=repair), proto, feeds=feeds)
    assert done.applied[0].rule == "low-rank"
    assert cost(done.after) <= 0.7 * cost(proto)
    assert done.after.ByteSize() < proto.ByteSize() + 200
    assert done.sqnr_db("y") > 8


def test_a_matmul_becomes_two() -> None:
    data = flat(300, 32, 4)
    proto = model("g (float[N, 32] x) => (float[N, 48] y) { y = MatMul(x, w) }", w=floats(32, 48))
    done = apply(used(energy=0.99), proto, feeds=[{"x": data[:150]}, {"x": data[150:]}])
    assert done.body == "w_ranks = MatMul(x, w_first)\ny = MatMul(w_ranks, w)"
    found = tensors(done)
    assert found["w_first"].shape == (32, 5)
    assert found["w"].shape == (5, 48)
    assert done.sqnr_db("y") > 20
    assert done.applied[0].why.startswith("rank 5 of 32, 0.26 of its macs, error ")


def test_a_convolution_keeps_its_kernel_in_front() -> None:
    proto, feeds = case("Conv")
    done = apply(used(share=0.5), proto, feeds=feeds)
    first, second = done.body.splitlines()
    assert first == "w_ranks = Conv<pads=[1, 1], strides=[2, 2]>(x, w_first)".replace("[1, 1]", "[1, 1, 1, 1]")
    assert second == "y = Conv(w_ranks, w, b)"
    assert tensors(done)["w"].shape[2:] == (1, 1)


def test_ranks_are_multiples() -> None:
    proto, feeds = case("MatMul")
    for multiple in (2, 4, 5):
        found = tensors(apply(used(share=0.4, multiple=multiple), proto, feeds=feeds, laws=False))
        assert found["w"].shape[0] % multiple == 0


def two() -> ModelProto:
    text = "g (float[N, 32] x) => (float[N, 32] y) { a = Gemm(x, v, b)  r = Relu(a)  y = MatMul(r, w) }"
    few = (floats(32, 4) @ floats(4, 32, seed=1) / 4).astype(np.float32)
    return model(text, v=few, b=floats(32), w=floats(32, 32))


FEEDS: Feeds = [{"x": floats(200, 32, seed=one)} for one in (1, 2)]


def test_who_errs_less_per_saving_loses_more_and_repair_helps() -> None:
    done = apply(used(share=0.3), two(), feeds=FEEDS)
    assert [one.node for one in done.applied if one.rule == "low-rank"] == ["Gemm(a)"]
    assert tensors(done)["v"].shape[0] < 10
    assert_missed(done, "low-rank", "others save at less")
    plain, repaired = (apply(used(share=0.6, repair=one), two(), feeds=FEEDS, laws=False) for one in (False, True))
    assert any(one.rule == "repair" for one in repaired.applied)
    assert not any(one.rule == "repair" for one in plain.applied)


def test_nothing_is_saved_where_nothing_is_wanted() -> None:
    done = apply(used(share=0.0), two(), feeds=FEEDS)
    assert not done.applied
    assert done.after == two()


def test_energy_that_takes_too_many_ranks_is_missed_with_the_figures() -> None:
    done = apply(used(energy=0.9999), two(), feeds=FEEDS)
    assert_missed(done, "low-rank", "keeps 0.9999 of its results, and only ranks up to 15 save anything")


def test_equal_runs_give_equal_bytes() -> None:
    one, other = (apply(used(share=0.4), two(), feeds=FEEDS, laws=False) for _ in range(2))
    assert one.after.SerializeToString() == other.after.SerializeToString()


def test_bytes_and_macs_count_differently() -> None:
    text = """g (float[1, 16, 16, 16] x) => (float[1, 16] y) {
        a = Conv(x, w)  r = Relu(a)  m = GlobalAveragePool(r)  f = Flatten(m)  y = Gemm(f, v) }"""
    proto = model(text, w=floats(16, 16, 1, 1), v=floats(16, 16))
    feeds = [{"x": floats(1, 16, 16, 16, seed=one)} for one in range(8)]
    done = apply(used(share=0.2, by="macs"), proto, feeds=feeds, laws=False)
    assert [one.node for one in done.applied if one.rule == "low-rank"] == ["Conv(a)"]
    done = apply(used(share=0.2, by="bytes", repair=False), proto, feeds=feeds, laws=False)
    assert done.applied[0].why.split(",")[1].endswith("of its bytes")


def test_a_conv_without_a_bias_gets_one_that_makes_the_means_right() -> None:
    proto, feeds = case("Conv auto")
    done = apply(used(share=0.5, repair=False), proto, feeds=feeds)
    assert "w_bias" in tensors(done)


@pytest.mark.parametrize(
    ("text", "shape", "why"),
    [
        ("(float[N, 8] x, float[8, 12] w) => (float[N, 12] y) { y = MatMul(x, w) }", (8, 12), "also a graph input"),
        ("(float[N, 8] x) => (float[N, 8] y) { a = MatMul(x, w)  y = MatMul(a, w) }", (8, 8), "something else, too"),
        ("(float[8, N] x) => (float[N, 12] y) { y = Gemm<transA = 1>(x, w) }", (8, 12), "its data are turned"),
        ("(float[N, 8] x) => (float[N, 12] y) { y = Gemm<alpha = 2.0>(x, w) }", (8, 12), "its alpha or beta is not 1"),
        ("(float[1, 4, 9, 9] x) => (float[1, 8, 7, 7] y) { y = Conv<group = 2>(x, w) }", (8, 2, 3, 3), "has 2 groups"),
        ("(float[N, 8] x) => (float[N, 1] y) { y = MatMul(x, w) }", (8, 1), "only a rank below 0.8889 saves anything"),
    ],
)
def test_layers_that_are_left(text: str, shape: tuple[int, ...], why: str) -> None:
    done = apply(used(), model(f"g {text}", w=floats(*shape)), feeds=())
    assert_missed(done, "low-rank", why)
    assert not done.applied


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_and_data_that_are_no_numbers_are_left(value: float) -> None:
    text = "g (float[N, 8] x) => (float[N, 8] y) { y = MatMul(x, w) }"
    weights = floats(8, 8)
    weights[0, 0] = value
    assert_missed(apply(used(), model(text, w=weights), feeds=(), laws=False), "low-rank", "NaN or infinities")
    done = apply(used(), model(text, w=floats(8, 8)), feeds=[{"x": np.full((4, 8), value, np.float32)}], laws=False)
    assert_missed(done, "low-rank", "its data or results have NaN or infinities")


def test_skip_only_and_min_elements() -> None:
    done = apply(used(skip=("v",), only=("v", "MatMul*")), two(), feeds=FEEDS, laws=False)
    assert_missed(done, "low-rank", "skip has 'v'")
    assert [one.node for one in done.applied if one.rule == "low-rank"] == ["MatMul(y)"]
    assert_missed(apply(used(only=("v",)), two(), feeds=FEEDS, laws=False), "low-rank", "only has no pattern for it")
    assert_missed(apply(used(min_elements=5000), two(), feeds=FEEDS), "low-rank", "fewer than min-elements=5000")


@pytest.mark.parametrize("opset", [7, 9, 13, 17])
def test_old_opsets(opset: int) -> None:
    head = f'<ir_version: 4, opset_import: ["": {opset}]> '
    text = "g (float[N, 32] x) => (float[N, 32] y) { a = Gemm(x, v, b)  r = Relu(a)  y = MatMul(r, w) }"
    proto = model(head + text, v=floats(32, 32), b=floats(32), w=floats(32, 32))
    assert apply(used(), proto, feeds=FEEDS).applied


def test_bodies_and_functions() -> None:
    text = """
        <ir_version: 10, opset_import: ["": 21, "local": 1]>
        g (bool c, float[N, 16] x) => (float[N, 16] y) {
            a = If(c)<then_branch = t () => (float[N, 16] o) { o = MatMul(x, k) },
                      else_branch = e () => (float[N, 16] o) { o = MatMul(x, w) }>
            y = local.dense(a)
        }
        <domain: "local", opset_import: ["": 21]> dense (a) => (d) { d = MatMul(a, k) }
        """
    proto = model(text, w=floats(16, 16))
    value = numpy_helper.from_array(floats(16, 16, seed=2))
    for nodes in (proto.graph.node[0].attribute[0].g.node, proto.functions[0].node):
        nodes.insert(0, helper.make_node("Constant", [], ["k"], value=value))
    feeds = [{"c": np.array(one), "x": floats(50, 16, seed=one)} for one in (False, True)]
    done = apply(used(share=0.8), proto, feeds=feeds)
    assert sorted({one.scope for one in done.applied}) == [
        "If(a).else_branch",
        "If(a).then_branch",
        "function local.dense",
    ]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"share": 1.5}, "share must be from 0 to 1"),
        ({"energy": 1.0}, "energy must be from 0 to below 1"),
        ({"multiple": 0}, "multiple must be at least 1"),
        ({"damping": -1.0}, "damping must be from 0 to 100"),
        ({"rows": -1}, "must not be negative"),
        ({"min_elements": -1}, "must not be negative"),
    ],
)
def test_options_are_checked(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        LowRank(**options)


def test_the_text_of_a_pipeline_builds_it() -> None:
    assert parse("low-rank{energy=0.95 by=bytes}").steps == (LowRank(energy=0.95, by="bytes"),)


def test_the_page_is_complete() -> None:
    assert [one.title for one in page(LowRank).sections] == list(SECTIONS)
