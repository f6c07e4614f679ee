"""influence: which weights become zero, how the others make up for it, and what is left alone."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper, numpy_helper

from graphopt.ir import Graph
from graphopt.pipeline import Pipeline
from graphopt.pipeline.page import SECTIONS, page
from graphopt.pipeline.protocol import Context, Contract, Pass
from graphopt.pipeline.spec import parse
from graphopt.testing import apply, assert_missed, model
from graphopt.testing.apply import Applied
from graphopt.testing.running import outputs_of
from graphopt.validation.compare import compare
from passes.convert.overridable_inputs import InitializersFromInputs
from passes.prune.influence import Influence
from passes.prune.magnitude import Magnitude

Array = np.ndarray[Any, Any]

CORPUS = os.environ.get("GRAPHOPT_CORPUS")
Feeds = list[dict[str, Any]]

KINDS: tuple[Any, ...] = ("magnitude", "activation", "second-order")


def floats(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def correlated(count: int, size: int, seed: int = 0) -> Array:
    """Rows that fill far fewer dimensions than they have, of inputs with unlike energies."""
    mix = floats(size, size, seed=7) * np.exp(-np.arange(size) / 6, dtype=np.float32)[:, None]
    return (floats(count, size, seed=seed) @ mix + 0.3).astype(np.float32)


def tensors(done: Applied) -> dict[str, Array]:
    return {one.name: numpy_helper.to_array(one) for one in done.after.graph.initializer}


def zeros(values: Array) -> int:
    return int(np.sum(np.asarray(values, np.float64) == 0))


TWO = "g (float[N, 32] x) => (float[N, 12] y) { a = Gemm(x, v, b)  r = Relu(a)  y = MatMul(r, w) }"
ONE = "g (float[N, 32] x) => (float[N, 24] y) { y = MatMul(x, w) }"


def two() -> ModelProto:
    return model(TWO, v=floats(32, 24), b=floats(24), w=floats(24, 12))


def deep() -> ModelProto:
    text = """g (float[N, 32] x) => (float[N, 12] y) {
        a = Gemm(x, v, b)  c = Relu(a)  d = Gemm(c, u, b)  e = Relu(d)
        f = Gemm(e, t, b)  r = Relu(f)  y = MatMul(r, w) }"""
    weights = {"v": floats(32, 24), "u": floats(24, 24), "t": floats(24, 24, seed=1), "w": floats(24, 12)}
    return model(text, b=floats(24), **weights)


FEEDS: Feeds = [{"x": correlated(200, 32, seed)} for seed in (1, 2)]
OTHERS: Feeds = [{"x": correlated(200, 32, 3)}]


def used(**options: Any) -> Influence:
    return Influence(**{"min_elements": 1, **options})


def held_out(done: Applied, output: str = "y") -> float:
    """The signal-to-noise ratio of an output on feeds that were not calibrated on, in decibels."""
    before = outputs_of(done.before.SerializeToString(), OTHERS)[0][output]
    after = outputs_of(done.after.SerializeToString(), OTHERS)[0][output]
    return compare(before, after).sqnr_db


@pytest.mark.parametrize("importance", KINDS)
@pytest.mark.parametrize("update", [True, False])
@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.5, 0.9, 1.0])
def test_the_count_is_exact(importance: Any, update: bool, sparsity: float) -> None:
    done = apply(used(importance=importance, update=update, sparsity=sparsity), two(), feeds=FEEDS, laws=False)
    found = tensors(done)
    assert zeros(found["v"]) == int(np.floor(sparsity * 768 + 0.5))
    assert zeros(found["w"]) == int(np.floor(sparsity * 288 + 0.5))


@pytest.mark.parametrize("importance", KINDS)
def test_all_laws_hold(importance: Any) -> None:
    done = apply(used(importance=importance), two(), feeds=FEEDS)
    assert len(done.applied) == 2
    assert done.body == "a = Gemm(x, v, b)\nr = Relu(a)\ny = MatMul(r, w)"


def test_each_measure_of_influence_is_better_than_the_one_before() -> None:
    found = [
        apply(used(importance=kind, update=kind == "second-order"), two(), feeds=FEEDS, laws=False) for kind in KINDS
    ]
    before = apply(Magnitude(scope="layer", min_elements=1), two(), feeds=FEEDS, laws=False)
    for name in ("v", "w"):
        assert np.array_equal(tensors(found[0])[name], tensors(before)[name])
    after = [held_out(one) for one in found]
    assert after[1] > after[0]
    assert after[2] > after[1] + 5


def test_survivors_make_up_for_what_is_gone_whatever_went() -> None:
    for kind in KINDS[:2]:
        plain, moved = (
            apply(used(importance=kind, update=one), two(), feeds=FEEDS, laws=False) for one in (False, True)
        )
        assert held_out(moved) > held_out(plain) + 3
        first = [tensors(one)["v"] == 0 for one in (plain, moved)]
        assert np.array_equal(*first)


def test_with_inputs_alike_and_independent_influence_is_magnitude() -> None:
    """H is a multiple of the identity: nothing can make up for anything."""
    feeds = [{"x": np.eye(32, dtype=np.float32) * 3}, {"x": -np.eye(32, dtype=np.float32) * 3}]
    proto = model(ONE, w=floats(32, 24))
    expected = tensors(apply(Magnitude(min_elements=1), proto, feeds=feeds, laws=False))["w"]
    for kind in KINDS:
        for update in (True, False):
            found = tensors(apply(used(importance=kind, update=update), proto, feeds=feeds, laws=False))["w"]
            assert np.array_equal(found == 0, expected == 0)
            assert np.allclose(found, expected, rtol=1e-5)


def test_activation_is_the_weight_times_the_norm_of_its_input() -> None:
    proto = model(ONE, w=floats(32, 24))
    done = apply(used(importance="activation", update=False), proto, feeds=FEEDS, laws=False)
    data = np.concatenate([one["x"] for one in FEEDS]).astype(np.float64)
    scores = np.abs(floats(32, 24)) * np.sqrt(np.square(data).sum(0))[:, None]
    assert np.array_equal(tensors(done)["w"] == 0, scores <= np.sort(scores, axis=None)[383])
    rows = apply(used(importance="activation", update=False, scope="row"), proto, feeds=FEEDS, laws=False)
    assert np.array_equal(tensors(rows)["w"] == 0, scores <= np.sort(scores, axis=0)[15])


def errors_of(done: Applied) -> list[tuple[float, float]]:
    """The decibels before and after the update that remarks say."""
    found = [re.findall(r"(-?[0-9.]+) dB", one.why) for one in done.applied]
    return [(float(each[0]), float(each[-1])) for each in found]


@pytest.mark.parametrize("importance", KINDS)
@pytest.mark.parametrize("pattern", ["unstructured", "2:4", "4x1"])
def test_the_update_never_makes_a_layer_worse_on_its_calibration_data(importance: Any, pattern: str) -> None:
    for damping in (0.0, 0.001, 100.0):
        done = apply(used(importance=importance, pattern=pattern, damping=damping), two(), feeds=FEEDS, laws=False)
        for before, after in errors_of(done):
            assert after >= before


def test_a_damping_that_is_found_is_better_on_other_samples_than_none() -> None:
    few: Feeds = [{"x": floats(14, 32, seed=seed)} for seed in (1, 2)]
    found, loose = (apply(used(damping=one), two(), feeds=few, laws=False) for one in (0.0, 1e-6))
    assert held_out(found) > held_out(loose) + 1


def test_later_layers_make_up_for_the_errors_of_those_before() -> None:
    seen, half, corrected = (
        held_out(apply(used(damping=0.001, correction=one), deep(), feeds=FEEDS, laws=False)) for one in (0.0, 0.5, 1.0)
    )
    assert half > seen + 0.2
    assert corrected > seen + 0.2


PATTERNS = {
    "Conv": ("(float[2, 8, 9, 9] x) => (float[2, 8, 7, 7] y) { y = Conv(x, w, b) }", (8, 8, 3, 3), 0, 1),
    "Conv grouped": (
        "(float[2, 8, 9, 9] x) => (float[2, 8, 7, 7] y) { y = Conv<group = 2>(x, w, b) }",
        (8, 4, 3, 3),
        0,
        1,
    ),
    "ConvTranspose": ("(float[2, 8, 5, 5] x) => (float[2, 4, 7, 7] y) { y = ConvTranspose(x, w) }", (8, 4, 3, 3), 1, 0),
    "ConvTranspose grouped": (
        "(float[2, 8, 5, 5] x) => (float[2, 8, 7, 7] y) { y = ConvTranspose<group = 2>(x, w) }",
        (8, 4, 3, 3),
        1,
        0,
    ),
    "Gemm": ("(float[40, 8] x) => (float[40, 8] y) { y = Gemm(x, w, b) }", (8, 8), 1, 0),
    "Gemm transB": ("(float[40, 8] x) => (float[40, 8] y) { y = Gemm<transB = 1>(x, w, b) }", (8, 8), 0, 1),
    "Gemm scaled": ("(float[40, 8] x) => (float[40, 8] y) { y = Gemm<alpha = 2.0>(x, w, b) }", (8, 8), 1, 0),
    "MatMul": ("(float[5, 40, 8] x) => (float[5, 40, 8] y) { a = MatMul(x, w)  y = Add(b, a) }", (8, 8), 1, 0),
    "MatMul left": ("(float[8, 40] x) => (float[8, 40] y) { y = MatMul(w, x) }", (8, 8), 0, 1),
    "MatMul transposed": ("(float[40, 8] x) => (float[40, 8] y) { t = Transpose(w)  y = MatMul(x, t) }", (8, 8), 0, 1),
    "LSTM": ("(float[40, 2, 8] x) => (float[40, 1, 2, 2] y) { y = LSTM<hidden_size = 2>(x, w, r) }", (1, 8, 8), 1, 2),
    "GRU": ("(float[40, 2, 8] x) => (float[40, 1, 2, 4] y) { y = GRU<hidden_size = 4>(x, w, s) }", (1, 12, 8), 1, 2),
}


def case(name: str) -> tuple[ModelProto, Feeds, int, int]:
    text, shape, outputs, inputs = PATTERNS[name]
    given: dict[str, Array] = {"w": floats(*shape)}
    if ", b" in text or "(b," in text:
        given["b"] = floats(8, seed=2)
    if name == "LSTM":
        given["r"] = floats(1, 8, 2)
    if name == "GRU":
        given["s"] = floats(1, 12, 4)
    proto = model(f"g {text}", **given)
    size = [dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim]
    return proto, [{"x": floats(*size, seed=one)} for one in (3, 4)], outputs, inputs


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("importance", ["activation", "second-order"])
@pytest.mark.parametrize("pattern", ["2:4", "1:4", "1:2"])
def test_patterns_hold_in_every_group(name: str, importance: Any, pattern: str) -> None:
    proto, feeds, _, axis = case(name)
    done = apply(used(importance=importance, pattern=pattern, skip=("r", "s")), proto, feeds=feeds, laws=False)
    (said,) = done.applied
    assert "by magnitude:" not in said.why
    kept, group = map(int, pattern.split(":"))
    lines = np.moveaxis(tensors(done)["w"], axis, -1).reshape(-1, group)
    assert ((lines != 0).sum(1) == kept).all()


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("pattern", ["4x1", "2x4", "1x4"])
def test_blocks_are_whole(name: str, pattern: str) -> None:
    proto, feeds, outputs, inputs = case(name)
    rows, columns = map(int, pattern.split("x"))
    options: dict[str, Any] = {"pattern": pattern, "skip": ("r", "s")}
    for pass_ in (used(**options), Magnitude(min_elements=1, **options)):
        done = apply(pass_, proto, feeds=feeds, laws=False)
        lined = np.moveaxis(tensors(done)["w"], (outputs, inputs), (0, 1)) != 0
        blocks = lined.reshape(lined.shape[0] // rows, rows, lined.shape[1] // columns, columns, -1).sum(axis=(1, 3))
        assert set(np.unique(blocks)) == {0, rows * columns}
        assert np.count_nonzero(blocks == 0) == (blocks.size + 1) // 2


@pytest.mark.parametrize("name", PATTERNS)
def test_laws_hold_for_every_operator(name: str) -> None:
    proto, feeds, _, _ = case(name)
    assert apply(used(sparsity=0.25), proto, feeds=feeds).applied


@pytest.mark.parametrize("importance", KINDS)
@pytest.mark.parametrize("options", [{}, {"pattern": "2:4"}, {"pattern": "2x2"}, {"scope": "row"}, {"scope": "global"}])
def test_zeros_that_were_there_stay_and_count(importance: Any, options: dict[str, Any]) -> None:
    values = floats(32, 24)
    values[::8], values[1, :12] = 0, -0.0
    proto = model(ONE, w=values)
    found = tensors(apply(used(importance=importance, **options), proto, feeds=FEEDS, laws=False))["w"]
    assert (found[values == 0] == 0).all()
    if not options or options.get("scope"):
        assert zeros(found) == 384


def test_a_weight_that_is_sparse_enough_passes_unharmed() -> None:
    values = np.where(floats(32, 24, seed=5) > 0.3, floats(32, 24), 0).astype(np.float32)
    proto = model(ONE, w=values)
    done = apply(used(), proto, feeds=FEEDS)
    assert not done.applied
    assert done.after == proto
    assert_missed(done, "prune", "are zero already, and no other is to go")


def test_equal_runs_give_equal_bytes() -> None:
    for options in ({}, {"pattern": "2:4"}, {"scope": "global"}):
        one, other = (apply(used(**options), two(), feeds=FEEDS, laws=False) for _ in range(2))
        assert one.after.SerializeToString() == other.after.SerializeToString()


def test_one_sparsity_for_all_takes_more_where_it_costs_less() -> None:
    """The second half of the inputs of v never changes, and b makes up for it."""
    feeds: Feeds = [{"x": np.concatenate([one["x"][:, :16], np.ones((200, 16), np.float32)], 1)} for one in FEEDS]
    done = apply(used(scope="global"), two(), feeds=feeds, laws=False)
    found = tensors(done)
    assert zeros(found["v"]) + zeros(found["w"]) == 528
    assert zeros(found["v"]) > 400
    assert (found["v"][16:] == 0).all()


def test_below_theta_goes_what_adds_less_to_the_error() -> None:
    weak = floats(32, 24)
    weak += np.sign(weak)
    weak[:8] *= 1e-4
    feeds = [{"x": floats(300, 32, seed=one)} for one in (1, 2)]
    for kind in KINDS:
        done = apply(used(importance=kind, theta=1e-9), model(ONE, w=weak), feeds=feeds, laws=False)
        assert np.array_equal(tensors(done)["w"] == 0, np.arange(32)[:, None] * np.ones((1, 24)) < 8)
        none = apply(used(importance=kind, theta=1e-15), model(ONE, w=weak), feeds=feeds, laws=False)
        assert not none.applied


def test_what_is_not_seen_goes_by_magnitude_and_says_so() -> None:
    text = "g (float[20, 2, 8] x) => (float[20, 1, 2, 4] y) { y = LSTM<hidden_size = 4>(x, w, r) }"
    proto = model(text, w=floats(1, 16, 8), r=floats(1, 16, 4))
    feeds = [{"x": floats(20, 2, 8, seed=one)} for one in (3, 4)]
    done = apply(used(), proto, feeds=feeds)
    said = {one.node: one.why for one in done.applied}
    assert "with the others moved" in said["w"]
    assert said["r"].endswith("by magnitude: the states that LSTM multiplies are not seen")
    assert np.array_equal(
        tensors(done)["r"], tensors(apply(Magnitude(scope="layer", min_elements=1), proto, feeds=feeds))["r"]
    )


def test_data_that_say_nothing_leave_magnitude() -> None:
    proto = model(ONE, w=floats(32, 24))
    done = apply(used(), proto, feeds=[{"x": np.zeros((9, 32), np.float32)}])
    assert done.applied[0].why.endswith("by magnitude: its data were all zero")
    done = apply(used(), proto, feeds=[{"x": np.full((9, 32), np.nan, np.float32)}], laws=False)
    assert done.applied[0].why.endswith("by magnitude: its data or results have NaN or infinities")


def test_a_shared_weight_is_pruned_once_for_both_its_readers() -> None:
    text = "g (float[N, 8] x) => (float[N, 8] y) { a = MatMul(x, w)  r = Relu(a)  y = MatMul(r, w) }"
    feeds = [{"x": floats(200, 8, seed=one)} for one in (1, 2)]
    done = apply(used(sparsity=0.25), model(text, w=floats(8, 8)), feeds=feeds)
    (said,) = done.applied
    assert "with the others moved" in said.why
    assert zeros(tensors(done)["w"]) == 16


def test_a_shared_bias_is_moved_for_one_layer_only() -> None:
    text = "g (float[N, 8] x) => (float[N, 8] y, float[N, 8] z) { y = Gemm(x, v, b)  z = Gemm(x, w, b) }"
    proto = model(text, v=floats(8, 8), w=floats(8, 8, seed=1), b=floats(8))
    done = apply(used(skip=("w",)), proto, feeds=[{"x": floats(200, 8) + 1}])
    assert np.array_equal(tensors(done)["b"], floats(8))
    assert done.body.endswith("z = Gemm(x, w, b)")
    assert done.sqnr_db("z") == float("inf")


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats(dtype: Any) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    text = f"""g (float[N, 32] x) => (float[N, 24] y) {{
        c = Cast<to = {kind}>(x)  a = MatMul(c, w)  y = Cast<to = 1>(a) }}"""
    done = apply(used(), model(text, w=floats(32, 24).astype(dtype)), feeds=FEEDS)
    found = tensors(done)["w"]
    assert found.dtype == dtype
    assert zeros(found) == 384
    assert "with the others moved" in done.applied[0].why


def test_bodies_and_functions() -> None:
    text = """
        <ir_version: 10, opset_import: ["": 21, "local": 1]>
        g (bool c, float[N, 8] x) => (float[N, 8] y) {
            a = If(c)<then_branch = t () => (float[N, 8] o) { o = MatMul(x, k) },
                      else_branch = e () => (float[N, 8] o) { o = MatMul(x, w) }>
            y = local.dense(a)
        }
        <domain: "local", opset_import: ["": 21]> dense (a) => (d) { d = MatMul(a, k) }
        """
    proto = model(text, w=floats(8, 8))
    value = numpy_helper.from_array(floats(8, 8, seed=2))
    for nodes in (proto.graph.node[0].attribute[0].g.node, proto.functions[0].node):
        nodes.insert(0, helper.make_node("Constant", [], ["k"], value=value))
    feeds = [{"c": np.array(one), "x": floats(50, 8, seed=one)} for one in (False, True)]
    done = apply(used(sparsity=0.25), proto, feeds=feeds)
    assert sorted(one.scope for one in done.applied) == ["", "If(a).then_branch", "function local.dense"]
    for nodes in (done.after.graph.node[0].attribute[0].g.node, done.after.functions[0].node):
        assert zeros(numpy_helper.to_array(nodes[0].attribute[0].t)) == 16


@pytest.mark.parametrize("opset", [7, 8, 13, 17])
def test_old_opsets(opset: int) -> None:
    head = f'<ir_version: 4, opset_import: ["": {opset}]> '
    done = apply(used(), model(head + TWO, v=floats(32, 24), b=floats(24), w=floats(24, 12)), feeds=FEEDS)
    assert len(done.applied) == 2


def test_sparse_storage_where_it_is_smaller() -> None:
    done = apply(used(storage="sparse", skip=("v",)), two(), feeds=FEEDS, laws=False)
    assert "sparse_value" not in done.body
    assert "stored dense: it would not be smaller" in done.applied[0].why
    large = model(ONE.replace("24", "96"), w=floats(32, 96))
    done = apply(used(sparsity=0.9, storage="sparse"), large, feeds=FEEDS)
    assert done.body.startswith("w_sparse = Constant<sparse_value=(sparse_tensor)>()")
    assert "stored as a sparse tensor; error" in done.applied[0].why


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("(float[N, 8] x, float[8, 12] w) => (float[N, 12] y) { y = MatMul(x, w) }", "it is also a graph input"),
        ("(float[N, 8] x) => (float[N, 12] y, float[8, 12] w) { y = MatMul(x, w) }", "is a graph output"),
        ("(int64[N] i) => (float[N, 12] y) { y = Gather(w, i) }", "it is a table that Gather 'Gather(y)' looks up"),
    ],
)
def test_weights_that_are_left(text: str, why: str) -> None:
    done = apply(used(), model(f"g {text}", w=floats(8, 12)), feeds=())
    assert_missed(done, "prune", why)
    assert not done.applied


@pytest.mark.parametrize(("value", "why"), [(np.nan, "it has a NaN"), (np.inf, "it has infinities")])
def test_weights_that_are_no_numbers_are_left(value: float, why: str) -> None:
    values = floats(32, 24)
    values[3, 3] = value
    assert_missed(apply(used(), model(ONE, w=values), feeds=FEEDS, laws=False), "prune", why)


@pytest.mark.parametrize(
    ("pattern", "text", "shape", "why"),
    [
        (
            "2:4",
            "(float[5, 6] x) => (float[5, 4] y) { y = MatMul(x, w) }",
            (6, 4),
            "has 6 elements, which 2:4 does",
        ),
        (
            "4x1",
            "(float[5, 8] x) => (float[5, 6] y) { y = MatMul(x, w) }",
            (8, 6),
            "output axis 1 has 6 elements",
        ),
        (
            "1x4",
            "(float[5, 6] x) => (float[5, 8] y) { y = MatMul(x, w) }",
            (6, 8),
            "input axis 0 has 6 elements",
        ),
        (
            "2x1",
            "(float[1, 4, 9, 9] x) => (float[1, 4, 7, 7] y) { y = Conv<group = 4>(x, w) }",
            (4, 1, 3, 3),
            "its output axis 0 has 4 elements in 4 groups, which 2x1 does not divide",
        ),
        (
            "2x1",
            "(float[1, 4, 5, 5] x) => (float[1, 4, 7, 7] y) { y = ConvTranspose<group = 4>(x, w) }",
            (4, 1, 3, 3),
            "its outputs and inputs lie along one axis of it",
        ),
        (
            "2x1",
            "(float[8, 8] x) => (float[8, 8] y) { a = MatMul(x, w)  y = MatMul(w, a) }",
            (8, 8),
            "its outputs are not along one axis of it",
        ),
    ],
)
def test_weights_that_no_pattern_fits_are_left(pattern: str, text: str, shape: tuple[int, ...], why: str) -> None:
    for pass_ in (used(pattern=pattern), Magnitude(pattern=pattern, min_elements=1)):
        done = apply(pass_, model(f"g {text}", w=floats(*shape)), feeds=())
        assert_missed(done, "prune", why)
        assert not done.applied


def test_skip_and_min_elements() -> None:
    done = apply(used(min_elements=300, skip=("v",)), two(), feeds=FEEDS, laws=False)
    assert_missed(done, "prune", "skip has 'v'")
    assert_missed(done, "prune", "fewer than min-elements=300")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"sparsity": 1.5}, "sparsity must be from 0 to 1"),
        ({"theta": -1.0}, "theta must not be negative"),
        ({"correction": 2.0}, "correction must be from 0 to 1"),
        ({"damping": -1.0}, "damping must be from 0 to 100"),
        ({"rows": -1}, "rows must not be negative"),
        ({"stages": -1}, "stages must not be negative"),
        ({"min_elements": -1}, "min-elements must not be negative"),
        ({"pattern": "4:2"}, "pattern must be unstructured, or such as 2:4"),
        ({"pattern": "1x1"}, "pattern must be unstructured, or such as 2:4"),
        ({"pattern": "1:4", "sparsity": 0.3}, "pattern 1:4 means a sparsity of 0.75, not 0.3"),
        ({"pattern": "2:4", "scope": "global"}, "it goes with no theta and no scope"),
        ({"pattern": "4x1", "scope": "row"}, "not in a row"),
    ],
)
def test_options_are_checked(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Influence(**options)


def test_the_text_of_a_pipeline_builds_it() -> None:
    text = "influence{sparsity=0.6 importance=activation scope=row}"
    assert parse(text).steps == (Influence(0.6, "activation", scope="row"),)


def test_the_page_is_complete() -> None:
    assert [one.title for one in page(Influence).sections] == list(SECTIONS)


def test_behind_a_pass_that_scaled_a_result_the_layer_is_fitted_to_what_it_makes_now() -> None:
    """What a value of the same name was in the model as it was read is another multiple of it."""

    @dataclass(frozen=True)
    class Doubling(Pass):
        """Double a weight and halve the next."""

        name = "doubling"
        contract = Contract.LOSSY

        def run(self, graph: Graph, ctx: Context) -> None:
            held = {one.name: one for one in graph.initializers}
            if ctx.rewrite("double", held["v"]):
                for name, factor in (("v", 2), ("b", 2), ("w", 0.5)):
                    graph.set_values(held[name], held[name].values * np.float32(factor))

    done = apply(Pipeline((Doubling(), used())), two(), feeds=FEEDS, laws=False)
    plain = apply(used(), two(), feeds=FEEDS, laws=False)
    assert held_out(done) > held_out(plain) - 1


@pytest.mark.corpus
@pytest.mark.skipif(not CORPUS, reason="GRAPHOPT_CORPUS is not set")
@pytest.mark.parametrize("pattern", ["unstructured", "2:4"])
def test_a_real_model_comes_out_nearer(pattern: str) -> None:
    assert CORPUS is not None
    proto = onnx.load(Path(CORPUS) / "models" / "mnist_cntk.onnx")
    with np.load(Path(CORPUS) / "data" / "mnist_2000_u8.npz") as archive:
        digits = archive["x"][:96].astype(np.float32)
    feeds = [{proto.graph.input[0].name: one[None, None]} for one in digits]
    found = []
    tried: tuple[dict[str, Any], ...] = ({"importance": "activation", "update": False}, {})
    for options in tried:
        steps = Pipeline((InitializersFromInputs(), used(pattern=pattern, min_elements=256, **options)))
        done = apply(steps, proto, feeds=feeds[:32], laws=False)
        name = proto.graph.output[0].name
        wanted, got = (outputs_of(one.SerializeToString(), feeds[32:]) for one in (proto, done.after))
        error = sum(
            np.square(np.asarray(a[name]) - np.asarray(b[name])).sum() for a, b in zip(wanted, got, strict=True)
        )
        found.append(float(error))
    assert found[1] < found[0] / 2  # 3 dB


def test_data_that_never_change_are_no_trouble() -> None:
    """With the mean taken off, rounding may leave less than nothing of their energy."""
    data = np.tile(np.linspace(1, 3000, 32, dtype=np.float32), (200, 1))
    done = apply(used(), two(), feeds=[{"x": data}, {"x": data}])
    assert len(done.applied) == 2


@pytest.mark.parametrize("pattern", ["unstructured", "2:4"])
@pytest.mark.parametrize("flipped", [True, False])
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_magnitudes_alone_are_found_without_the_matrices_of_data(pattern: str, flipped: bool, scope: Any) -> None:
    """The same zeros as magnitude sets in each layer, and nothing else is changed."""
    if pattern != "unstructured" and scope == "global":
        return
    text = "g (float[N, 32] x) => (float[N, 24] y) { y = Gemm<transB = 1>(x, w) }" if flipped else ONE
    made = model(text, w=floats(24, 32) if flipped else floats(32, 24))
    mine = apply(used(importance="magnitude", update=False, pattern=pattern, scope=scope), made)
    other = apply(Magnitude(pattern=pattern, scope="layer"), made)
    assert np.array_equal(tensors(mine)["w"], tensors(other)["w"])
    assert zeros(tensors(mine)["w"]) == 384


def test_a_layer_that_sees_no_place() -> None:
    before = model(
        "g (float[0, 2, 1, 1] x) => (float[0, 2, 2, 1] y) { y = ConvTranspose<group = 2>(x, w) }",
        w=np.float32([0.5, 0.2, 1.4, -0.1]).reshape(2, 1, 2, 1),
    )
    feeds = [{"x": np.zeros((0, 2, 1, 1), np.float32)}]
    assert [node.op_type for node in apply(Influence(min_elements=1), before, feeds=feeds).after.graph.node] == [
        "ConvTranspose"
    ]
