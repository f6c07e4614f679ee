"""reconstruct on dense and convolutional layers: weights and biases fitted to what these made in the original."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from graphopt.analysis import layer_goals, layer_parts
from graphopt.analysis.constants import constant_of
from graphopt.ir import Graph
from graphopt.pipeline import Context, Contract, Pass, Pipeline, option
from graphopt.testing import apply, model
from graphopt.testing.apply import Applied, assert_missed
from graphopt.testing.running import outputs_of
from passes.distill.reconstruct import Reconstruct


@dataclass(frozen=True)
class Damage(Pass):
    """Multiply the weights of the first layer by factors of their own, or take its last outputs away."""

    name = "damage"
    contract = Contract.LOSSY
    lost: int = option(0, "outputs that go")

    def run(self, graph: Graph, ctx: Context) -> None:
        first = next(node for node in graph.nodes if node.is_op("Conv", "Gemm", "MatMul"))
        held = constant_of(first.inputs[1])
        assert held is not None
        if not ctx.rewrite("damage", first):
            return
        if not self.lost:
            noise = np.random.default_rng(5).normal(size=held.shape)
            graph.set_values(first.inputs[1], (held.values * (1 + 0.4 * noise)).astype(held.dtype))
            return
        left = np.arange(held.shape[0] - self.lost)
        second = first.outputs[0].readers[0].outputs[0].readers[0]
        reading = constant_of(second.inputs[1])
        assert reading is not None
        for node, tensor, axis in (
            (first, first.inputs[1], 0),
            (first, first.inputs[2], 0),
            (second, second.inputs[1], 1),
        ):
            values = constant_of(tensor)
            assert values is not None and node.graph is graph
            graph.set_values(tensor, np.take(values.values, left, axis))
        for value in (first.outputs[0], second.inputs[0]):
            graph.narrow(value, 1, left)


def filled(text: str, opset: int = 17, **weights: np.ndarray) -> onnx.ModelProto:
    """A model with the initializers that are given."""
    made = model(f'<ir_version: 8, opset_import: ["": {opset}]> {text}')
    for name, values in weights.items():
        kind = values.dtype if values.dtype == np.float16 else np.float32
        made.graph.initializer.append(numpy_helper.from_array(values.astype(kind), name))
    return made


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def convolutions(groups: int = 1, opset: int = 17, bias: str = ", d") -> onnx.ModelProto:
    draw = rng()
    return filled(
        f"""agraph (float[B, 4, 8, 8] x) => (float[B, 8, 8, 8] y) {{
            c = Conv<pads = [1, 1, 1, 1]>(x, w, b)  r = Relu(c)
            y = Conv<pads = [1, 1, 1, 1], group = {groups}>(r, v{bias}) }}""",
        opset,
        w=draw.normal(size=(8, 4, 3, 3)),
        b=draw.normal(size=8),
        v=draw.normal(size=(8, 8 // groups, 3, 3)),
        **({"d": draw.normal(size=8)} if bias else {}),
    )


def dense() -> onnx.ModelProto:
    draw = rng()
    return filled(
        """agraph (float[B, 12] x) => (float[B, 6] y) {
            m = MatMul(x, w)  n = Add(m, b)  r = Relu(n)  s = Gemm<transB = 1>(r, v, d)
            h = Relu(s) y = MatMul(h, u) }""",
        w=draw.normal(size=(12, 16)),
        b=draw.normal(size=16),
        v=draw.normal(size=(6, 16)),
        d=draw.normal(size=6),
        u=draw.normal(size=(6, 6)),
    )


def images(count: int = 3, seed: int = 1) -> list[dict[str, np.ndarray]]:
    draw = rng(seed)
    return [{"x": draw.normal(size=(4, 4, 8, 8)).astype(np.float32)} for _ in range(count)]


def vectors(seed: int = 1) -> list[dict[str, np.ndarray]]:
    draw = rng(seed)
    return [{"x": draw.normal(size=(200, 12)).astype(np.float32)} for _ in range(2)]


def errors(done: Applied, feeds: list[dict[str, np.ndarray]], name: str = "y") -> float:
    """The squared error of an output over all feeds."""
    before = outputs_of(done.before.SerializeToString(), feeds)
    after = outputs_of(done.after.SerializeToString(), feeds)
    pairs = zip(before, after, strict=True)
    return float(sum(np.square(np.asarray(a[name], np.float64) - np.asarray(b[name])).sum() for a, b in pairs))


def repaired(
    before: onnx.ModelProto, feeds: list[dict[str, np.ndarray]], lost: int = 0, **options: Any
) -> tuple[Applied, Applied]:
    """The model damaged, and damaged and then repaired."""
    return (
        apply(Pipeline((Damage(lost=lost),)), before, feeds=feeds),
        apply(Pipeline((Damage(lost=lost), Reconstruct(**options))), before, feeds=feeds),
    )


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_the_error_on_the_calibration_feeds_never_grows(groups: int) -> None:
    plain, fitted = repaired(convolutions(groups), images(), only=("y",), rows=0)
    assert [one.pass_name for one in fitted.applied] == ["damage", "reconstruct"]
    assert errors(fitted, images()) < errors(plain, images())  # the last layer's own data


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_samples_that_were_not_seen_get_nearer_too(groups: int) -> None:
    plain, fitted = repaired(convolutions(groups), images())
    assert errors(fitted, images(seed=9)) < 0.9 * errors(plain, images(seed=9))


def test_a_first_layer_that_can_be_brought_back_is_brought_back() -> None:
    plain, fitted = repaired(dense(), vectors())
    assert errors(fitted, vectors(9)) < 1e-3 * errors(plain, vectors(9))
    assert len([one for one in fitted.missed if "gives what it gave" in one.why]) >= 1  # nothing left to mend behind


def test_layers_behind_lost_channels_are_compared_with_those_that_are_left() -> None:
    plain, fitted = repaired(convolutions(), images(), lost=3)
    assert errors(fitted, images(seed=9)) < 0.8 * errors(plain, images(seed=9))
    assert not [one for one in fitted.missed if one.node == "c" and "shape" in one.why]


@pytest.mark.parametrize("before", [convolutions(), dense()], ids=["convolutions", "dense"])
def test_a_model_that_nothing_was_taken_from_stays_as_it_is(before: onnx.ModelProto) -> None:
    done = apply(Reconstruct(), before, feeds=images() if "Conv" in str(before) else vectors())
    assert not done.applied
    assert done.after == before
    assert {one.why for one in done.missed} == {"it gives what it gave in the original"} or all(
        "would not get smaller" in one.why or "gives what it gave" in one.why for one in done.missed
    )


@pytest.mark.parametrize("opset", [8, 13, 21])
def test_a_convolution_without_a_bias_gets_one(opset: int) -> None:
    _, fitted = repaired(convolutions(opset=opset, bias=""), images(), only=("y",), lost=3)
    assert len(fitted.after.graph.node[-1].input) == 3


def test_equal_runs_give_equal_bytes() -> None:
    _, one = repaired(convolutions(), images(), lost=2)
    _, other = repaired(convolutions(), images(), lost=2)
    assert one.after.SerializeToString() == other.after.SerializeToString()


def test_normalization_is_estimated_anew() -> None:
    draw = rng()
    before = filled(
        """agraph (float[B, 4, 8, 8] x) => (float[B, 8, 8, 8] y) {
            c = Conv<pads = [1, 1, 1, 1]>(x, w)  y = BatchNormalization(c, s, o, m, t) }""",
        w=draw.normal(size=(8, 4, 3, 3)),
        s=draw.normal(size=8),
        o=draw.normal(size=8),
        m=draw.normal(size=8),
        t=draw.random(size=8) + 0.5,
    )
    plain, fitted = repaired(before, images(), only=("y",))
    assert errors(fitted, images()) < errors(plain, images())
    assert errors(fitted, images(seed=9)) < errors(plain, images(seed=9))
    assert [one.op for one in fitted.applied] == ["Conv", "BatchNormalization"]


def test_a_layer_too_wide_gets_the_means_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_parts, "WIDEST", 0)
    plain, fitted = repaired(convolutions(), images(), only=("y",), lost=3)
    assert errors(fitted, images()) < errors(plain, images())
    outputs = [outputs_of(one.SerializeToString(), images()) for one in (fitted.before, fitted.after)]
    means = [np.mean([np.asarray(feed["y"]) for feed in one], axis=(0, 1, 3, 4)) for one in outputs]
    np.testing.assert_allclose(means[1], means[0], atol=1e-4)


def test_half_precision_weights_are_fitted_as_they_are_stored() -> None:
    draw = rng()
    before = filled(
        """agraph (float16[B, 12] x) => (float16[B, 6] y) { m = MatMul(x, w)  y = MatMul(m, v) }""",
        w=(draw.normal(size=(12, 8)) / 4).astype(np.float16),
        v=(draw.normal(size=(8, 6)) / 4).astype(np.float16),
    )
    feeds = [{"x": draw.normal(size=(200, 12)).astype(np.float16)} for _ in range(2)]
    plain, fitted = repaired(before, feeds)
    assert errors(fitted, feeds) < errors(plain, feeds)


@pytest.mark.parametrize(
    ("options", "why"),
    [({"skip": ("v",)}, "skip has 'v'"), ({"only": ("c",)}, "only has no pattern for it")],
)
def test_skip_and_only(options: dict[str, Any], why: str) -> None:
    _, fitted = repaired(convolutions(), images(), **options)
    assert_missed(fitted, "reconstruct", why)


def test_few_runs_do_less() -> None:
    _, once = repaired(convolutions(), images(), stages=1)
    assert len([one for one in once.applied if one.pass_name == "reconstruct"]) == 2


def _shared() -> onnx.ModelProto:
    return filled(
        "agraph (float[B, 8] x) => (float[B, 8] y) { m = MatMul(x, w)  r = Relu(m)  y = MatMul(r, w) }",
        w=rng().normal(size=(8, 8)),
    )


def _scaled() -> onnx.ModelProto:
    return filled("agraph (float[B, 8] x) => (float[B, 8] y) { y = Gemm<alpha = 2.0>(x, w) }", w=np.ones((8, 8)))


def _computed_bias() -> onnx.ModelProto:
    return filled("agraph (float[B, 8] x, float[8] b) => (float[B, 8] y) { y = Gemm(x, w, b) }", w=np.ones((8, 8)))


def _overridable() -> onnx.ModelProto:
    return filled("agraph (float[B, 8] x, float[8, 8] w) => (float[B, 8] y) { y = MatMul(x, w) }", w=np.ones((8, 8)))


def _training() -> onnx.ModelProto:
    return filled(
        """agraph (float[B, 2, 3] x) => (float[B, 2, 3] y) {
            y, rm, rv = BatchNormalization<training_mode = 1>(x, s, o, m, t) }""",
        **dict.fromkeys(("s", "o", "m", "t"), np.ones(2)),
    )


def _in_a_body() -> onnx.ModelProto:
    return filled(
        """agraph (float[B, 8] x, bool k) => (float[B, 8] y) {
            y = If(k) <then_branch = one () => (float[B, 8] p) { p = MatMul(x, w) },
                       else_branch = two () => (float[B, 8] q) { q = Relu(x) }> }""",
        w=np.ones((8, 8)),
    )


@pytest.mark.parametrize(
    ("before", "why"),
    [
        (_shared(), "read by something else, too"),
        (_scaled(), "its alpha or beta is not 1"),
        (_computed_bias(), "its bias is not a constant"),
        (_overridable(), "whose value callers may give"),
        (_training(), "it normalizes by its own data"),
        (_in_a_body(), "inside bodies and functions"),
    ],
    ids=["shared", "scaled", "computed-bias", "overridable", "training", "body"],
)
def test_what_is_left_has_a_reason(before: onnx.ModelProto, why: str) -> None:
    done = apply(Reconstruct(), before)
    assert_missed(done, "reconstruct", why)
    assert not done.applied


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="damping"):
        Reconstruct(damping=-1)
    with pytest.raises(ValueError, match="negative"):
        Reconstruct(rows=-1)


def _residual(other: str) -> onnx.ModelProto:
    draw = rng()
    return filled(
        f"""agraph (float[B, 4, 8, 8] x) => (float[B, 8, 8, 8] y) {{
            c = Conv<pads = [1, 1, 1, 1]>(x, w, b)  r = Relu(c)  m = GlobalAveragePool(c)
            d = Conv<pads = [1, 1, 1, 1]>(r, v, k)  y = Add({other}, d) }}""",
        w=draw.normal(size=(8, 4, 3, 3)),
        b=draw.normal(size=8),
        v=draw.normal(size=(8, 8, 3, 3)),
        k=draw.normal(size=8),
    )


def test_a_branch_makes_good_for_what_it_is_added_to(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, fitted = repaired(_residual("c"), images(), only=("v",), rows=0)
    assert errors(fitted, images()) < errors(plain, images())
    monkeypatch.setattr(layer_goals, "_adders", lambda results, shapes, waits: {})
    _, alone = repaired(_residual("c"), images(), only=("v",), rows=0)
    assert errors(fitted, images()) < errors(alone, images())


def test_a_branch_beside_a_value_of_another_shape_is_fitted_by_itself() -> None:
    plain, fitted = repaired(_residual("m"), images(), only=("v",), rows=0)
    assert errors(fitted, images()) < errors(plain, images())
