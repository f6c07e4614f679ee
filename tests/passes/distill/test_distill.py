"""distill: only weights change, zeros and codes stay what they are, and what is kept is better on held-out samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from graphopt.pipeline import Pipeline
from graphopt.testing import apply, model
from graphopt.testing.apply import Applied, assert_missed
from graphopt.testing.running import outputs_of
from passes.distill.distill import Distill
from passes.eliminate.identities import Identities
from passes.prune.magnitude import Magnitude
from passes.quantize.static_int8 import StaticInt8
from passes.quantize.weight_int4 import WeightInt4
from passes.quantize.weight_int8 import WeightInt8

pytestmark = pytest.mark.usefixtures("in_this_process")

SHORT = {"steps": 40, "batch": 8, "rate": 0.02}


def filled(text: str, opset: int = 17, **weights: np.ndarray) -> onnx.ModelProto:
    made = model(text, opset=opset)
    for name, values in weights.items():
        kept = values if values.dtype.kind != "f" or values.dtype == np.float16 else values.astype(np.float32)
        made.graph.initializer.append(numpy_helper.from_array(kept, name))
    return made


def network(opset: int = 17) -> onnx.ModelProto:
    draw = np.random.default_rng(0)
    return filled(
        """agraph (float[B, 32] x) => (float[B, 8] y) {
            m = MatMul(x, w)  n = Add(m, b)  r = Relu(n)  y = Gemm<transB = 1>(r, v, d) }""",
        opset,
        w=draw.normal(size=(32, 24)) / 5,
        b=draw.normal(size=24) / 5,
        v=draw.normal(size=(8, 24)) / 5,
        d=draw.normal(size=8),
    )


def images() -> onnx.ModelProto:
    draw = np.random.default_rng(0)
    return filled(
        """agraph (float[B, 3, 8, 8] x) => (float[B, 10] p) {
            c = Conv<pads = [1, 1, 1, 1]>(x, w, b)  r = Relu(c)  g = GlobalAveragePool(r)  f = Flatten(g)
            z = Gemm(f, v, d)  p = Softmax(z) }""",
        w=draw.normal(size=(16, 3, 3, 3)) / 3,
        b=draw.normal(size=16) / 5,
        v=draw.normal(size=(16, 10)),
        d=draw.normal(size=10),
    )


def rows(count: int = 256, seed: int = 1, shape: tuple[int, ...] = (32,)) -> list[dict[str, np.ndarray]]:
    draw = np.random.default_rng(seed)
    return [{"x": draw.normal(size=(count, *shape)).astype(np.float32)}]


def error(done: Applied, feeds: list[dict[str, np.ndarray]]) -> float:
    """The squared error of all outputs on feeds as a share of their energy."""
    before = outputs_of(done.before.SerializeToString(), feeds)
    after = outputs_of(done.after.SerializeToString(), feeds)
    pairs = [
        (np.asarray(a[name], np.float64), np.asarray(b[name])) for a, b in zip(before, after, strict=True) for name in a
    ]
    return float(sum(np.square(a - b).sum() for a, b in pairs) / sum(np.square(a).sum() for a, _ in pairs))


def tensors(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {one.name: numpy_helper.to_array(one) for one in proto.graph.initializer}


def without_values(proto: onnx.ModelProto) -> onnx.ModelProto:
    bare = onnx.ModelProto()
    bare.CopyFrom(proto)
    for one in bare.graph.initializer:
        one.ClearField("raw_data")
        one.ClearField("float_data")
    return bare


def trained(
    before: onnx.ModelProto, first: Any, feeds: list[dict[str, np.ndarray]], **options: Any
) -> tuple[Applied, Applied]:
    """The model after a pass that harms it, and after training behind that."""
    given: dict[str, Any] = SHORT | options
    return apply(first, before, feeds=feeds), apply(Pipeline((first, Distill(**given))), before, feeds=feeds)


def test_a_pruned_network_comes_near_the_original_also_on_other_samples() -> None:
    plain, done = trained(network(), Magnitude(sparsity=0.5, min_elements=10), rows())
    assert [one.rule for one in done.applied if one.pass_name == "distill"] == ["distill"]
    assert error(done, rows(seed=9)) < error(plain, rows(seed=9)) * 0.8
    (remark,) = [one for one in done.applied if one.pass_name == "distill"]
    assert "4 of 4 weights trained" in remark.why and "on 51 samples held out y:" in remark.why


def test_zeros_of_weights_stay_zero_and_nothing_but_values_changes() -> None:
    plain, done = trained(network(), Magnitude(sparsity=0.6, min_elements=10), rows())
    for name, values in tensors(plain.after).items():
        if values.ndim > 1:
            assert (tensors(done.after)[name][values == 0] == 0).all()
        if values.ndim:
            assert (tensors(done.after)[name] != values).any()
    assert without_values(done.after) == without_values(plain.after)


def test_masks_none_lets_zeros_go() -> None:
    plain, done = trained(network(), Magnitude(sparsity=0.6, min_elements=10), rows(), masks="none")
    before, after = tensors(plain.after)["w"], tensors(done.after)["w"]
    assert np.count_nonzero(after) > np.count_nonzero(before)


def test_masks_keep_also_zeros_of_biases() -> None:
    before = network()
    bias = next(one for one in before.graph.initializer if one.name == "b")
    bias.CopyFrom(numpy_helper.from_array(np.zeros(24, np.float32), "b"))
    pruning = Magnitude(sparsity=0.6, min_elements=10)
    _, moved = trained(before, pruning, rows())
    _, kept = trained(before, pruning, rows(), masks="keep")
    assert tensors(moved.after)["b"].any() and not tensors(kept.after)["b"].any()


@pytest.mark.parametrize(
    "quantize", [WeightInt4(min_elements=10), WeightInt4(min_elements=10, block=16), WeightInt8(min_elements=10)]
)
def test_codes_are_trained_as_codes(quantize: Any) -> None:
    opset = 21
    plain, done = trained(network(opset), quantize, rows(), rate=0.001 if isinstance(quantize, WeightInt8) else 0.005)
    changed = {name for name, values in tensors(plain.after).items() if (tensors(done.after)[name] != values).any()}
    scales = {name for name in changed if "scale" in name}
    assert not scales and changed
    for name, values in tensors(plain.after).items():
        found = tensors(done.after)[name]
        assert found.dtype == values.dtype and found.shape == values.shape
        if values.dtype.kind != "f":
            assert found.astype(int).min() >= values.astype(int).min()
            assert found.astype(int).max() <= values.astype(int).max()
    assert error(done, rows(seed=9)) < error(plain, rows(seed=9))
    assert without_values(done.after) == without_values(plain.after)


def test_scales_are_trained_where_asked() -> None:
    plain, done = trained(network(21), WeightInt4(min_elements=10), rows(), scales=True)
    names = [name for name in tensors(plain.after) if "scale" in name]
    assert names and all((tensors(plain.after)[name] != tensors(done.after)[name]).any() for name in names)
    assert all((tensors(done.after)[name] > 0).all() for name in names)
    assert error(done, rows(seed=9)) < error(plain, rows(seed=9))


def test_pruned_and_quantized_weights_keep_both() -> None:
    first = Pipeline((Magnitude(sparsity=0.6, min_elements=10), WeightInt8(min_elements=10)))
    before = network(21)
    plain = apply(first, before, feeds=rows())
    done = apply(Pipeline((*first.steps, Distill(**SHORT))), before, feeds=rows())
    for name, values in tensors(plain.after).items():
        if values.dtype.kind in "iu" and values.ndim == 2:
            assert (tensors(done.after)[name][values == 0] == 0).all()
    assert error(done, rows(seed=9)) < error(plain, rows(seed=9)) * 0.8


def test_statically_quantized_models_are_trained_through_their_activations() -> None:
    feeds, others = rows(shape=(3, 8, 8)), rows(seed=9, shape=(3, 8, 8))
    before = images()
    first = StaticInt8(target="onnxruntime")
    plain, done = trained(before, first, feeds, rate=0.0003)
    assert [one.rule for one in done.applied if one.pass_name == "distill"] == ["distill"]
    assert error(done, others) < error(plain, others)
    for name, values in tensors(plain.after).items():
        assert tensors(done.after)[name].dtype == values.dtype


def test_probabilities_are_measured_by_divergence_and_other_outputs_by_their_mean_square() -> None:
    pruning = Magnitude(sparsity=0.5, min_elements=10)
    _, done = trained(images(), pruning, rows(shape=(3, 8, 8)))
    (remark,) = [one for one in done.applied if one.pass_name == "distill"]
    assert "p: KL" in remark.why
    _, done = trained(network(), pruning, rows(), loss="cosine")
    (remark,) = [one for one in done.applied if one.pass_name == "distill"]
    assert "y: 1 - cosine" in remark.why


def test_features_bring_inner_values_near() -> None:
    draw = np.random.default_rng(0)
    before = filled(
        """agraph (float[B, 32] x) => (float[B, 8] y) {
            m = MatMul(x, w)  r = Relu(m)  s = Sigmoid(r)  a = MatMul(r, v)  b = MatMul(s, u)  y = Add(a, b) }""",
        w=draw.normal(size=(32, 24)) / 5,
        v=draw.normal(size=(24, 8)) / 5,
        u=draw.normal(size=(24, 8)) / 5,
    )
    _, done = trained(before, Magnitude(sparsity=0.5, min_elements=10), rows(), features=0.5)
    (remark,) = [one for one in done.applied if one.pass_name == "distill"]
    assert "r: " in remark.why


def test_the_original_itself_does_not_change() -> None:
    done = apply(Distill(**SHORT), network(), feeds=rows())
    assert not done.applied and done.after == done.before
    assert_missed(done, "distill", "it is the model as it was read, so there is nothing to learn")


def test_where_no_step_is_better_nothing_changes() -> None:
    """A student that computes the same: what differs is a name that says nothing."""
    renaming = Pipeline((Identities(),))
    before = network()
    before.graph.node.append(onnx.helper.make_node("Identity", ["n"], ["unread"]))
    before.graph.node.append(onnx.helper.make_node("Relu", ["unread"], ["z"]))
    before.graph.output.append(onnx.helper.make_tensor_value_info("z", 1, ["B", 24]))
    done = apply(Pipeline((*renaming.steps, Distill(**SHORT))), before, feeds=rows())
    assert {one.pass_name for one in done.applied} == {"identities"}
    assert_missed(done, "distill", "no step made the loss on the samples that were held out smaller")


def test_constant_nodes_and_half_precision() -> None:
    draw = np.random.default_rng(0)
    before = filled(
        """agraph (float16[B, 32] x) => (float16[B, 8] y) { m = MatMul(x, w)  r = Relu(m)  y = MatMul(r, v) }""",
        v=(draw.normal(size=(24, 8)) / 5).astype(np.float16),
    )
    held = numpy_helper.from_array((draw.normal(size=(32, 24)) / 5).astype(np.float16))
    before.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["w"], value=held))
    feeds = [{"x": rows()[0]["x"].astype(np.float16)}]
    plain, done = trained(before, Magnitude(sparsity=0.5, min_elements=10), feeds)
    assert "2 of 2 weights" in next(one.why for one in done.applied if one.pass_name == "distill")
    assert error(done, feeds) < error(plain, feeds)
    assert done.after.graph.node[0].attribute[0].t.data_type == onnx.TensorProto.FLOAT16


def test_samples_of_different_lengths() -> None:
    draw = np.random.default_rng(0)
    before = filled(
        """agraph (float[B, T, 32] x) => (float[B, T, 8] y) { m = MatMul(x, w)  r = Relu(m)  y = MatMul(r, v) }""",
        w=draw.normal(size=(32, 24)) / 5,
        v=draw.normal(size=(24, 8)) / 5,
    )
    feeds = [{"x": draw.normal(size=(1, 1 + at % 5, 32)).astype(np.float32)} for at in range(30)]
    plain, done = trained(before, Magnitude(sparsity=0.5, min_elements=10), feeds)
    assert error(done, feeds) < error(plain, feeds) * 0.8


@pytest.mark.parametrize(("options", "why"), [({"skip": ("w",)}, "skip has 'w'"), ({"skip": ("*",)}, "no weight")])
def test_what_is_skipped_stays(options: dict[str, Any], why: str) -> None:
    pruning = Magnitude(sparsity=0.5, min_elements=10)
    plain, done = trained(network(), pruning, rows(), **options)
    assert_missed(done, "distill", why)
    assert (tensors(plain.after)["w"] == tensors(done.after)["w"]).all()


def test_only_trains_what_is_named() -> None:
    plain, done = trained(network(), Magnitude(sparsity=0.5, min_elements=10), rows(), only=("d", "b"))
    changed = {name for name, values in tensors(plain.after).items() if (tensors(done.after)[name] != values).any()}
    assert changed == {"d", "b"}


def test_an_operator_without_a_gradient_is_named() -> None:
    before = filled(
        """agraph (float[B, 32] x) => (float[B, 8] y) {
            m = MatMul(x, w)  n = MelWeightMatrix(a, b, c, d, e)  s = ReduceSum(n)  t = Mul(s, k)  y = Add(m, t) }""",
        w=np.random.default_rng(0).normal(size=(32, 8)),
        k=np.array(0.0),
        a=np.array(4),
        b=np.array(16),
        c=np.array(16000),
        d=np.array(0.0),
        e=np.array(8000.0),
    )
    _, done = trained(before, Magnitude(min_elements=10), rows())
    assert_missed(done, "distill", "MelWeightMatrix")


def test_weights_of_integer_operators_are_left() -> None:
    before = filled(
        """agraph (float[B, 32] x) => (float[B, 8] y) {
            m = MatMul(x, w)  q, s, z = DynamicQuantizeLinear(m)  i = MatMulInteger(q, u, z)
            f = Cast<to = 1>(i)  y = Mul(f, s) }""",
        w=np.random.default_rng(0).normal(size=(32, 8)),
        u=np.random.default_rng(0).integers(-9, 9, (8, 8)).astype(np.int8),
    )
    assert_missed(apply(Distill(), before, feeds=rows()), "distill", "train before the pass that makes it")


def test_a_batch_that_is_written_down_in_the_model() -> None:
    draw = np.random.default_rng(0)
    before = filled(
        """agraph (float[B, 32] x) => (float[1, 8] y) <int64[2] s = {1, 24}> {
            m = MatMul(x, w)  r = Relu(m)  t = Reshape(r, s)  y = MatMul(t, v) }""",
        w=draw.normal(size=(32, 24)) / 5,
        v=draw.normal(size=(24, 8)) / 5,
    )
    feeds = [{"x": draw.normal(size=(1, 32)).astype(np.float32)} for _ in range(30)]
    plain, done = trained(before, Magnitude(sparsity=0.5, min_elements=10), feeds)
    assert error(done, feeds) < error(plain, feeds)


def test_weights_that_callers_may_override_are_left() -> None:
    before = network()
    before.ir_version = 8
    for one in before.graph.initializer:
        info = onnx.helper.make_tensor_value_info(one.name, one.data_type, list(one.dims))
        before.graph.input.append(info)
    done = apply(Distill(**SHORT), before, feeds=rows())
    assert_missed(done, "distill", "it is also a graph input, whose value callers may give")
    assert_missed(done, "distill", "it has no weight that can be trained")


def test_weights_with_a_nan_are_left() -> None:
    before = network()
    broken = tensors(before)["w"].copy()
    broken[0, 0] = np.nan
    next(one for one in before.graph.initializer if one.name == "w").raw_data = broken.tobytes()
    done = apply(Distill(**SHORT), before, feeds=rows())
    assert_missed(done, "distill", "it has a NaN or infinity")


def test_weights_in_bodies_are_left() -> None:
    before = filled(
        """agraph (float[B, 32] x, bool c) => (float[B, 8] y) {
            m = MatMul(x, w)
            y = If (c) <then_branch = t () => (float[B, 8] a) <float[8, 8] k = {"""
        + ",".join(["0.5"] * 64)
        + """}>
                { a = MatMul(m, k) }, else_branch = e () => (float[B, 8] o) { o = Relu(m) }> }""",
        w=np.random.default_rng(0).normal(size=(32, 8)),
    )
    feeds = [{"x": rows()[0]["x"], "c": np.array(True)}]
    done = apply(Distill(**SHORT), before, feeds=feeds)
    assert_missed(done, "distill", "it is in a body or a function")


def test_outputs_of_integers_cannot_be_compared() -> None:
    before = filled(
        "agraph (float[B, 32] x) => (int64[B] y) { m = MatMul(x, w)  y = ArgMax<axis = 1, keepdims = 0>(m) }",
        w=np.random.default_rng(0).normal(size=(32, 8)),
    )
    _, done = trained(before, Magnitude(min_elements=10), rows())
    assert_missed(done, "distill", "no output of floating point")


def test_one_sample_is_too_few() -> None:
    _, done = trained(network(), Magnitude(min_elements=10), rows(1))
    assert_missed(done, "distill", "only one sample")


def test_a_model_without_outputs_or_weights() -> None:
    before = model("agraph (float[N] x) => (float[N] y) { y = Relu(x) }")
    assert_missed(apply(Distill(**SHORT), before), "distill", "no weight that can be trained")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"steps": 0}, "steps"),
        ({"rate": -1.0}, "rate"),
        ({"features": -1.0}, "features"),
        ({"held_out": 1.0}, "held-out"),
        ({"warm_up": 2.0}, "warm-up"),
        ({"patience": -1}, "patience"),
        ({"temperature": 0.0}, "temperature"),
    ],
)
def test_options_are_checked(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Distill(**options)
