"""gptq, adaround and hqq: what they write, what they say, and what they leave or round to nearest."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper

from graphopt.analysis.layer_order import staged
from graphopt.analysis.weights import weights
from graphopt.ir import Graph, decode
from graphopt.pipeline import Context, Contract, Pass, Pipeline
from graphopt.pipeline.page import SECTIONS, page
from graphopt.pipeline.spec import parse
from graphopt.storage.read import from_proto
from graphopt.testing import Applied, apply, assert_missed, model
from passes.quantize.adaround import AdaRound
from passes.quantize.candidates import Plan
from passes.quantize.gptq import Gptq
from passes.quantize.hqq import Hqq
from passes.quantize.weight_int4 import WeightInt4
from passes.quantize.weight_int8 import WeightInt8

Array = np.ndarray[Any, Any]
Feeds = Sequence[dict[str, Any]]

CORPUS = os.environ.get("GRAPHOPT_CORPUS")
ROUNDINGS = (
    Gptq(min_elements=1),
    Gptq(min_elements=1, stages=1, sweeps=0, fits=0, order=False),
    AdaRound(bits=4, min_elements=1),
    AdaRound(bits=4, choices="all", start="gptq", min_elements=1),
)


def floats(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def correlated(*shape: int, axis: int = -1, seed: int = 0, count: int = 3) -> list[Array]:
    """Arrays whose vectors along `axis` fill far fewer dimensions than they have."""
    rng = np.random.default_rng(seed)
    size = shape[axis]
    mix = rng.standard_normal((size, size)) @ np.diag(np.exp(-np.arange(size) / 8))
    made = (np.moveaxis(rng.standard_normal(shape), axis, -1) @ mix.T for _ in range(count))
    return [np.moveaxis(one, -1, axis).astype(np.float32) for one in made]


def said(done: Applied) -> list[str]:
    return [one.why for one in done.applied]


TWO = "g (float[N, 64] x) => (float[N, 24] y) { a = MatMul(x, v)  b = Relu(a)  y = MatMul(b, w) }"


def two(opset: int = 21) -> ModelProto:
    header = f'<ir_version: 10, opset_import: ["": {opset}]> '
    return model(header + TWO, v=floats(64, 48), w=floats(48, 24, seed=1))


FEEDS = [{"x": one} for one in correlated(150, 64)]


@pytest.mark.parametrize("pass_", ROUNDINGS)
def test_outputs_are_nearer_than_with_the_nearest_codes(pass_: Pass) -> None:
    plain = apply(WeightInt4(min_elements=1), two(), feeds=FEEDS)
    done = apply(pass_, two(), feeds=FEEDS)
    assert done.body == plain.body
    assert done.after.ByteSize() == plain.after.ByteSize()
    assert done.sqnr_db("y") > plain.sqnr_db("y") + 3
    assert len(done.applied) == 2
    assert all("of the error of round-to-nearest is left" in one for one in said(done))


def test_eight_bits_have_a_scale_for_each_channel() -> None:
    done = apply(Gptq(bits=8, min_elements=1), two(13), feeds=FEEDS)
    assert done.body == apply(WeightInt8(min_elements=1), two(13), feeds=FEEDS).body
    assert said(done)[0].startswith("48 scales along axis 1; ")


def test_later_stages_see_what_earlier_ones_did_and_make_up_for_it() -> None:
    once, plain, corrected = (
        apply(Gptq(bits=4, granularity="channel", min_elements=1, damping=0.001, **options), two(), feeds=FEEDS)
        for options in ({"stages": 1}, {"stages": 0, "correction": 0.0}, {"stages": 0, "correction": 1.0})
    )
    first = [numpy_helper.to_array(one.after.graph.initializer[0]) for one in (once, plain, corrected)]
    assert (first[0] == first[1]).all()
    assert (first[0] == first[2]).all()
    assert corrected.sqnr_db("y") > plain.sqnr_db("y") + 0.4
    assert corrected.sqnr_db("y") > once.sqnr_db("y") + 0.4


def test_inputs_that_another_pass_scaled_are_not_compared_with_the_original() -> None:
    """What a value of the same name was in the model as it was read may have been another multiple of it."""
    text = TWO.replace("a = MatMul(x, v)", "s = Mul(x, c)  a = MatMul(s, v)")
    proto = model(text, v=floats(64, 48), w=floats(48, 24, seed=1), c=np.float32(1))

    @dataclass(frozen=True)
    class Doubling(Pass):
        """Double a factor."""

        name = "doubling"
        contract = Contract.LOSSY

        def run(self, graph: Graph, ctx: Context) -> None:
            held = {one.name: one for one in graph.initializers}
            if ctx.rewrite("double", held["c"]):
                graph.set_values(held["c"], np.float32(2))

    exact: Any = {"bits": 4, "granularity": "channel", "min_elements": 1}
    done, plain = (
        apply(Pipeline((Doubling(), Gptq(stages=0, correction=one, **exact))), proto, feeds=FEEDS, laws=False)
        for one in (1.0, 0.0)
    )
    assert done.after.SerializeToString() == plain.after.SerializeToString()


def test_convolutions_of_every_kind() -> None:
    text = """
        g (float[N, 6, 8, 7] x) => (float[N, 4, M, L] y) {
            a = Conv<pads=[1, 1, 1, 1], strides=[2, 1]>(x, dense)
            b = Conv<group=64, pads=[1, 1, 1, 1]>(a, depthwise)
            c = Conv<group=2, dilations=[2, 1]>(b, grouped)
            d = Conv(c, point)
            y = ConvTranspose<strides=[2, 2]>(d, up)
        }"""
    shapes: dict[str, tuple[int, ...]] = {
        "dense": (64, 6, 3, 3),
        "depthwise": (64, 1, 3, 3),
        "grouped": (6, 32, 2, 3),
        "point": (32, 6, 1, 1),
        "up": (32, 4, 2, 2),
    }
    proto = model(text, **{name: floats(*shape, seed=i) for i, (name, shape) in enumerate(shapes.items())})
    feeds = [{"x": one} for one in correlated(2, 6, 8, 7, axis=1)]
    done = apply(Gptq(granularity="channel", min_elements=1, stages=1), proto, feeds=feeds, laws=False)
    assert len(done.applied) == 5
    assert all("is left" in one for one in said(done))
    plain = apply(WeightInt4(granularity="channel", min_elements=1), proto, feeds=feeds, laws=False)
    assert _error(proto, done.after, feeds) < 0.6 * _error(proto, plain.after, feeds)


def test_left_operands_gemm_and_recurrent_inputs() -> None:
    text = """
        g (float[2, 32, 5] x) => (float[2, 16] y) {
            a = MatMul(w, x)
            b = ReduceMean<keepdims=0>(a, axes)
            c = Gemm<transB=1>(b, v)
            d = Unsqueeze(c, zero)
            e, f, g = LSTM<hidden_size=8>(d, i, r)
            y = Reshape(e, shape)
        }"""
    held = {"axes": np.array([2]), "zero": np.array([0]), "shape": np.array([2, -1])}
    proto = model(
        text.replace("float[2, 16] y", "float[2, M] y"),
        w=floats(24, 32),
        v=floats(20, 24),
        i=floats(1, 32, 20),
        r=floats(1, 32, 8),
        **held,
    )
    done = apply(Gptq(bits=8, min_elements=1), proto, feeds=[{"x": one} for one in correlated(2, 32, 5, axis=1)])
    why = {one.node: one.why for one in done.applied}
    assert all("is left" in why[name] for name in "wvi")
    assert why["r"].endswith("rounded to nearest: the states that LSTM multiplies are not seen")


def test_a_weight_of_several_readers_minds_all_of_them() -> None:
    text = (
        "g (float[N, 32] x, float[N, 32] z) => (float[N, 16] y, float[N, 16] u) { y = MatMul(x, w)  u = MatMul(z, w) }"
    )
    proto = model(text, w=floats(32, 16))
    feeds = [{"x": a, "z": b} for a, b in zip(correlated(90, 32), correlated(90, 32, seed=5), strict=True)]
    done = apply(Gptq(min_elements=1), proto, feeds=feeds)
    plain = apply(WeightInt4(min_elements=1), proto, feeds=feeds)
    assert len(done.applied) == 1
    assert min(done.sqnr_db(one) - plain.sqnr_db(one) for one in "yu") > 1.5


SQUARE = {"w": floats(64, 64)}
ROW = "(float[N, 64] x) => (float[N, 64] y)"
BRANCH = """
    g (bool c, float[N, 64] x) => (float[N, 64] y) {
        y = If(c)<then_branch = t () => (float[N, 64] o) { p = Neg(x)  o = MatMul(p, w) },
                  else_branch = e () => (float[N, 64] o) { o = Neg(x) }>
    }"""
NEAREST: list[tuple[str, str, dict[str, Array], Any]] = [
    ("g (int64[N] x) => (float[N, 64] y) { y = Gather(w, x) }", "looked up", SQUARE, [{"x": np.arange(4)}]),
    (
        "g (float[N, 64] x) => (float[N, 64] y, float[N, 64] z) { y = MatMul(x, w) t = Transpose(w) z = MatMul(x, t) }",
        "different matrices",
        SQUARE,
        [{"x": floats(9, 64)}],
    ),
    (f"g {ROW} {{ y = MatMul(x, w) }}", "all zero", SQUARE, [{"x": np.zeros((4, 64), np.float32)}]),
    (f"g {ROW} {{ a = Log(x) y = MatMul(a, w) }}", "NaN", SQUARE, [{"x": -np.ones((4, 64), np.float32)}]),
    (
        "g (float[3, N, 64] x) => (float[3, N, 64] y) { y = MatMul(x, w) }",
        "batch of matrices",
        {"w": floats(3, 64, 64)},
        [{"x": floats(3, 4, 64)}],
    ),
    (BRANCH, "no inputs were seen", SQUARE, [{"c": np.array(False), "x": floats(4, 64)}]),
]


@pytest.mark.parametrize(("text", "why", "held", "feeds"), NEAREST)
def test_what_nothing_is_known_of_is_rounded_to_nearest_and_says_so(
    text: str, why: str, held: dict[str, Array], feeds: Feeds
) -> None:
    proto = model(text, **held)
    bad = "NaN" in why
    done = apply(Gptq(min_elements=1), proto, feeds=feeds, laws=not bad)
    (remark,) = done.applied
    assert "rounded to nearest: " in remark.why
    assert why in remark.why
    plain = apply(WeightInt4(min_elements=1), proto, feeds=feeds, laws=not bad)
    assert done.after.SerializeToString() == plain.after.SerializeToString()


def test_weights_in_branches_see_what_is_computed_there() -> None:
    feeds = [{"c": np.array(True), "x": one} for one in correlated(90, 64)]
    done = apply(Gptq(min_elements=1), model(BRANCH, **SQUARE), feeds=feeds)
    plain = apply(WeightInt4(min_elements=1), model(BRANCH, **SQUARE), feeds=feeds)
    assert done.sqnr_db("y") > plain.sqnr_db("y") + 2


def test_weights_in_functions_see_what_is_computed_there() -> None:
    text = """
        <ir_version: 10, opset_import: ["": 21, "local": 1]>
        g (float[N, 64] x) => (float[N, 64] y) { y = local.dense(x) }
        <domain: "local", opset_import: ["": 21]>
        dense (x) => (c) { c = MatMul(x, k) }
        """
    proto = model(text)
    value = numpy_helper.from_array(floats(64, 64), "")
    proto.functions[0].node.insert(0, onnx.helper.make_node("Constant", [], ["k"], value=value))
    feeds = [{"x": one} for one in correlated(90, 64)]
    done = apply(Gptq(min_elements=1), proto, feeds=feeds)
    plain = apply(WeightInt4(min_elements=1), proto, feeds=feeds)
    assert done.sqnr_db("y") > plain.sqnr_db("y") + 2


def test_without_calibration_everything_is_rounded_to_nearest() -> None:
    done = apply(Gptq(min_elements=1), two(), feeds=())
    plain = apply(WeightInt4(min_elements=1), two(), feeds=())
    assert done.after == plain.after
    assert all("rounded to nearest: " in one for one in said(done))


def test_half_precision_weights() -> None:
    text = "g (float16[N, 64] x) => (float16[N, 24] y) { a = MatMul(x, v)  b = Relu(a)  y = MatMul(b, w) }"
    proto = model(text, v=floats(64, 48).astype(np.float16), w=floats(48, 24, seed=1).astype(np.float16))
    feeds = [{"x": (one / 8).astype(np.float16)} for one in correlated(150, 64)]
    done = apply(Gptq(min_elements=1), proto, feeds=feeds)
    plain = apply(WeightInt4(min_elements=1), proto, feeds=feeds)
    assert done.sqnr_db("y") > plain.sqnr_db("y") + 2


def test_ranges_may_mind_activations() -> None:
    scales = np.exp(np.linspace(-3, 3, 64)).astype(np.float32)
    feeds = [{"x": floats(150, 64, seed=seed) * scales} for seed in range(3)]
    none: Any = {"bits": 4, "granularity": "channel", "min_elements": 1, "fits": 0, "sweeps": 0, "stages": 1}
    found = {one: apply(Gptq(range=one, **none), two(), feeds=feeds).sqnr_db("y") for one in ("mse", "activations")}
    assert found["activations"] > found["mse"] + 0.3


def test_tables_are_left_on_request() -> None:
    proto = model("g (int64[N] x) => (float[N, 64] y) { y = Gather(w, x) }", w=floats(40, 64))
    done = apply(Gptq(min_elements=1, tables=False), proto, feeds=[{"x": np.arange(4)}])
    assert_missed(done, "quantize", "it is a table, and tables is false")


@pytest.mark.parametrize("pass_", [Gptq(min_elements=1), AdaRound(bits=4, min_elements=1), Hqq(min_elements=1)])
def test_what_is_left_and_why(pass_: Pass) -> None:
    assert_missed(apply(pass_, two(13), feeds=FEEDS), "quantize", "opset{to=21}")
    broken = floats(64, 48)
    broken[3, 3] = np.nan
    odd = model(TWO, v=broken, w=floats(48, 24, seed=1))
    assert_missed(apply(pass_, odd, feeds=()), "quantize", "it has a NaN")
    done = apply(pass_, two(), feeds=FEEDS)
    again = apply(pass_, done.after, feeds=FEEDS)
    assert not again.applied


@pytest.mark.parametrize("pass_", [Gptq, AdaRound, Hqq])
def test_skip_names_what_to_leave(pass_: Any) -> None:
    done = apply(pass_(bits=4, min_elements=1, skip=("v",)), two(), feeds=FEEDS)
    assert [one.node for one in done.applied] == ["w"]
    assert_missed(done, "quantize", "skip has 'v'")


def test_stages_are_levels_of_depth_in_at_most_so_many_groups() -> None:
    text = """
        g (float[N, 8] x) => (float[N, 8] y) {
            a = MatMul(x, p)  b = MatMul(x, q)  c = Add(a, b)  d = MatMul(c, r)  e = Add(d, b)  y = MatMul(e, s)
        }"""
    source = from_proto(model(text, **{name: floats(8, 8) for name in "pqrs"}))
    graph = decode(source.proto, source.store)
    plans = [Plan(one, np.dtype(np.float32), None) for one in weights(graph)]

    def names(most: int) -> list[str]:
        return [
            "".join(one.weight.tensor.name for one in stage)
            for stage in staged(graph, plans, lambda one: one.weight, most)
        ]

    assert names(0) == ["pq", "r", "s"]
    assert names(9) == ["pq", "r", "s"]
    assert names(2) == ["pqr", "s"]
    assert names(1) == ["pqrs"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("gptq{damping=0}", "damping must be a positive number"),
        ("gptq{correction=1.5}", "correction must be from 0 to 1"),
        ("gptq{sweeps=-1}", "sweeps must not be negative"),
        ("gptq{stages=-1}", "stages must not be negative"),
        ("gptq{block=1}", "block must be at least 2"),
        ("adaround{sweeps=0}", "sweeps must be at least 1"),
        ("hqq{norm=2}", "norm must be above 0 and at most 1"),
        ("hqq{rounds=0}", "rounds must be at least 1"),
        ("hqq{min-elements=-1}", "min-elements must not be negative"),
    ],
)
def test_options_that_make_no_sense_are_refused(text: str, why: str) -> None:
    with pytest.raises(Exception, match=why):
        parse(text)


@pytest.mark.parametrize("pass_", [Gptq, AdaRound, Hqq])
def test_the_page_has_every_section(pass_: Any) -> None:
    assert [one.title for one in page(pass_).sections] == list(SECTIONS)


def test_hqq_suits_weights_with_outliers() -> None:
    weight = np.random.default_rng(0).standard_t(2, (64, 64)).astype(np.float32)
    proto = model("g (float[N, 64] x) => (float[N, 64] y) { y = MatMul(x, w) }", w=weight)
    done = apply(Hqq(min_elements=1, granularity="channel"), proto)
    plain = apply(WeightInt4("channel", symmetric=False, range="max", min_elements=1), proto)
    assert done.after.ByteSize() == plain.after.ByteSize()
    assert done.body == plain.body
    after, before = (np.abs(_meant(one.after) - weight)[np.abs(weight) < 2].mean() for one in (done, plain))
    assert after < before


def _meant(proto: ModelProto) -> Array:
    held = {one.name: numpy_helper.to_array(one).astype(np.float32) for one in proto.graph.initializer}
    return np.asarray((held["w_int4"] - held["w_zero_point"]) * held["w_scale"])


@pytest.mark.corpus
@pytest.mark.skipif(not CORPUS, reason="GRAPHOPT_CORPUS is not set")
@pytest.mark.parametrize("name", ["vit_cifar10_pgd_2_3_16", "resnet_4b_cifar10"])
def test_real_models_come_out_nearer(name: str) -> None:
    assert CORPUS is not None
    proto = onnx.load(Path(CORPUS) / "models" / f"{name}.onnx")
    with np.load(Path(CORPUS) / "data" / "cifar10_2000_u8.npz") as archive:
        images = (archive["x"][:48].astype(np.float32) / 255 - 0.47) / 0.225
    feeds = [{proto.graph.input[0].name: one[None].transpose(0, 3, 1, 2)} for one in images]
    steps = "opset{{to=21}},{}{{granularity=channel}}"
    found = {
        text: apply(Pipeline.parse(steps.format(text)), proto, feeds=feeds[:24], laws=False)
        for text in ("gptq", "weight-int4")
    }
    errors = {text: _error(proto, one.after, feeds[24:]) for text, one in found.items()}
    assert errors["gptq"] < 0.6 * errors["weight-int4"]


def _error(before: ModelProto, after: ModelProto, feeds: Feeds) -> float:
    from graphopt.testing.running import outputs_of

    name = before.graph.output[0].name
    wanted, found = (outputs_of(one.SerializeToString(), feeds) for one in (before, after))
    return float(
        sum(np.square(np.asarray(a[name]) - np.asarray(b[name])).sum() for a, b in zip(wanted, found, strict=True))
    )
