"""channels: tensors really get smaller, and the layers behind are fitted to what they made."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from graphopt.analysis.cost import macs
from graphopt.analysis.shapes import infer
from graphopt.pipeline import Pipeline
from graphopt.testing import apply, model
from graphopt.testing.apply import Applied, assert_missed
from graphopt.testing.running import outputs_of
from passes.distill.reconstruct import Reconstruct
from passes.prune.channels import Channels


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def filled(text: str, opset: int = 17, **weights: np.ndarray) -> onnx.ModelProto:
    made = model(f'<ir_version: 8, opset_import: ["": {opset}]> {text}')
    for name, values in weights.items():
        made.graph.initializer.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
    return made


def chain(opset: int = 17) -> onnx.ModelProto:
    """Two convolutions with 16 channels between, of which 4 say what others say."""
    draw = rng()
    w, b = draw.normal(size=(16, 4, 3, 3)), draw.normal(size=16)
    w[[3, 7, 11, 15]], b[[3, 7, 11, 15]] = 2 * w[[0, 4, 8, 12]], 2 * b[[0, 4, 8, 12]]
    return filled(
        """agraph (float[B, 4, 8, 8] x) => (float[B, 8, 8, 8] y) {
            c = Conv<pads = [1, 1, 1, 1]>(x, w, b)  r = Relu(c)  y = Conv<pads = [1, 1, 1, 1]>(r, v, d) }""",
        opset,
        w=w,
        b=b,
        v=draw.normal(size=(8, 16, 3, 3)),
        d=draw.normal(size=8),
    )


def mobile() -> onnx.ModelProto:
    """An inverted bottleneck with its residual sum, and a convolution and a dense layer behind it."""
    draw = rng(3)

    def normal(*shape: int) -> np.ndarray:
        return draw.normal(size=shape) / np.sqrt(max(np.prod(shape[1:]), 1))

    return filled(
        """agraph (float[B, 3, 8, 8] x) => (float[B, 5] y) {
            s = Conv<pads = [1, 1, 1, 1]>(x, ws, bs)
            e = Conv(s, we, be)  f = Relu(e)
            g = Conv<pads = [1, 1, 1, 1], group = 32>(f, wd, bd)  h = Relu(g)
            p = Conv(h, wp, bp)  a = Add(s, p)
            k = Conv(a, wk, bk)  l = Relu(k)  m = GlobalAveragePool(l)  n = Flatten(m)
            y = Gemm<transB = 1>(n, wf, bf) }""",
        ws=normal(8, 3, 3, 3),
        bs=normal(8),
        we=normal(32, 8, 1, 1),
        be=normal(32),
        wd=normal(32, 1, 3, 3),
        bd=normal(32),
        wp=normal(8, 32, 1, 1),
        bp=normal(8),
        wk=normal(24, 8, 1, 1),
        bk=normal(24),
        wf=normal(5, 24),
        bf=normal(5),
    )


def run(pass_: Channels | Pipeline, before: onnx.ModelProto, feeds: Any = None) -> Applied:
    """Without the laws, which other tests hold the pass to: they run it many times."""
    return apply(pass_, before, feeds=feeds, laws=False)


def images(channels: int = 4, count: int = 3, seed: int = 1) -> list[dict[str, np.ndarray]]:
    draw = rng(seed)
    return [{"x": draw.normal(size=(8, channels, 8, 8)).astype(np.float32)} for _ in range(count)]


def sqnr(done: Applied, feeds: list[dict[str, np.ndarray]], name: str = "y") -> float:
    """Decibels of an output over all feeds together."""
    before = outputs_of(done.before.SerializeToString(), feeds)
    after = outputs_of(done.after.SerializeToString(), feeds)
    a, b = (np.concatenate([np.asarray(one[name], np.float64) for one in each]) for each in (before, after))
    return float(10 * np.log10(np.square(a).sum() / np.square(a - b).sum()))


def cost(proto: onnx.ModelProto) -> int:
    from graphopt.ir import decode
    from graphopt.ir.store import Store

    graph = decode(proto, Store())
    return macs(graph, infer(graph)).count


def dims(proto: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    return {one.name: tuple(one.dims) for one in proto.graph.initializer}


@pytest.mark.parametrize("opset", [9, 13, 21])
def test_tensors_and_products_get_fewer(opset: int) -> None:
    done = apply(Channels(share=0.2, multiple=4), chain(opset), feeds=images())
    assert dims(done.after) == {"w": (12, 4, 3, 3), "b": (12,), "v": (8, 12, 3, 3), "d": (8,)}
    assert cost(done.after) * 16 == cost(done.before) * 12
    assert [one.rule for one in done.applied] == ["channels"]


def test_channels_that_say_what_others_say_go_first_and_cost_nothing() -> None:
    done = run(Channels(share=0.25, multiple=4), chain(), feeds=images())
    assert sqnr(done, images(seed=9)) > 60
    by_size = run(Channels(share=0.25, multiple=4, importance="magnitude"), chain(), feeds=images())
    assert sqnr(by_size, images(seed=9)) < 30


@pytest.mark.parametrize("importance", ["second-order", "activation", "magnitude"])
def test_repair_never_makes_it_worse(importance: Any) -> None:
    options: dict[str, Any] = {"share": 0.5, "multiple": 2, "importance": importance, "rows": 0}
    plain = run(Channels(repair=False, **options), chain(), feeds=images())
    fitted = run(Channels(**options), chain(), feeds=images())
    assert dims(plain.after) == dims(fitted.after)
    assert sqnr(fitted, images()) > sqnr(plain, images()) + 1


def test_better_importance_is_better() -> None:
    found = [
        sqnr(run(Channels(share=0.5, multiple=2, importance=one), chain(), feeds=images()), images(seed=9))
        for one in ("magnitude", "activation", "second-order")
    ]
    assert found[2] > found[1] + 1 and found[2] > found[0] + 1


def test_a_layer_that_reads_and_makes_the_same_sum() -> None:
    draw = rng(4)
    before = filled(
        """agraph (float[B, 4, 8, 8] x) => (float[B, 6, 8, 8] y) {
            s = Conv<pads = [1, 1, 1, 1]>(x, w, b)  r = Relu(s)  c = Conv<pads = [1, 1, 1, 1]>(r, v, d)
            a = Add(s, c)  t = Relu(a)  y = Conv(t, o) }""",
        w=draw.normal(size=(16, 4, 3, 3)),
        b=draw.normal(size=16),
        v=draw.normal(size=(16, 16, 3, 3)) / 12,
        d=draw.normal(size=16),
        o=draw.normal(size=(6, 16, 1, 1)),
    )
    done = run(Channels(share=0.3, multiple=4), before, images())
    left = dims(done.after)
    assert left["w"][0] == left["v"][0] == left["v"][1] == left["o"][1] == 12
    plain = run(Channels(share=0.3, multiple=4, repair=False), before, images())
    assert sqnr(done, images()) > sqnr(plain, images())


def test_depthwise_residual_and_dense_layers() -> None:
    before = mobile()
    done = apply(Channels(share=0.4, multiple=4), before, feeds=images(3))
    assert cost(done.after) <= 0.62 * cost(before)
    assert any(one.rule == "repair" for one in done.applied)
    sizes = dims(done.after)
    assert sizes["we"][0] == sizes["wd"][0] == sizes["wp"][1] == sizes["bd"][0]
    assert sizes["ws"][0] == sizes["we"][1] == sizes["wp"][0] == sizes["wk"][1]
    assert sizes["wk"][0] == sizes["wf"][1]
    plain = apply(Channels(share=0.4, multiple=4, repair=False), before, feeds=images(3))
    assert sqnr(done, images(3, seed=9)) > sqnr(plain, images(3, seed=9)) + 3


@pytest.mark.parametrize("target", ["macs", "bytes", "channels"])
@pytest.mark.parametrize("allocation", ["error", "even"])
def test_the_share_that_was_asked_for_is_saved(target: Any, allocation: Any) -> None:
    before = mobile()
    options: dict[str, Any] = {"share": 0.3, "multiple": 1, "target": target, "allocation": allocation}
    done = run(Channels(repair=False, **options), before, feeds=images(3))

    def amount(proto: onnx.ModelProto) -> float:
        sizes = dims(proto)
        if target == "macs":
            return cost(proto)
        if target == "bytes":
            return sum(int(np.prod(one)) for one in sizes.values())
        return sizes["ws"][0] + sizes["we"][0] + sizes["wk"][0]

    assert 0.3 <= 1 - amount(done.after) / amount(before) <= 0.4


@pytest.mark.parametrize(("multiple", "left"), [(8, {8, 16, 24, 32}), (16, {4, 8, 16, 32})])
def test_what_is_left_is_a_multiple(multiple: int, left: set[int]) -> None:
    done = run(Channels(share=0.4, multiple=multiple, repair=False), mobile(), feeds=images(3))
    sizes = dims(done.after)
    assert sizes["we"][0] in left
    assert sizes["we"][0] < 32 or sizes["wk"][0] < 24


def test_equal_runs_give_equal_bytes() -> None:
    one, other = (run(Channels(share=0.4, multiple=4), mobile(), feeds=images(3)) for _ in range(2))
    assert one.after.SerializeToString() == other.after.SerializeToString()


def test_a_share_of_nothing_says_so() -> None:
    done = run(Channels(share=0), chain(), feeds=images())
    assert not done.applied
    assert_missed(done, "channels", "share is 0")


def test_a_share_that_cannot_be_had_says_so() -> None:
    done = run(Channels(share=0.95, multiple=4, most=0.5), chain(), feeds=images())
    assert_missed(done, "channels", "can be saved in all, not 95.0%")
    assert dims(done.after)["w"][0] == 8


def test_groups_that_stay_have_a_reason() -> None:
    done = run(Channels(share=0.05, multiple=4), mobile(), feeds=images(3))
    assert_missed(done, "channels", "'y' is a graph output")
    assert_missed(done, "channels", "other channels are cheaper to lose")


def test_a_refused_group_stays_and_others_go() -> None:
    from graphopt.pipeline.gate import Gate

    class Refusing(Gate):
        def allows(self, candidate: Any) -> bool:
            return not (candidate.rule == "channels" and candidate.number == 1)

    done = apply(Channels(share=0.5, multiple=2), mobile(), feeds=images(3), gate=Refusing())
    assert len([one for one in done.disabled if one.rule == "channels"]) == 1
    assert len([one for one in done.applied if one.rule == "channels"]) >= 1


def test_twice_in_a_row_and_repaired_again() -> None:
    """The second cut compares with the original by the channels that the first one left."""
    pipeline = Pipeline((Channels(share=0.2, multiple=2), Channels(share=0.2, multiple=2), Reconstruct()))
    done = run(pipeline, mobile(), feeds=images(3))
    assert cost(done.after) < 0.7 * cost(done.before)
    assert sqnr(done, images(3, seed=9)) > 5


def test_magnitude_needs_no_data() -> None:
    done = run(Channels(share=0.25, multiple=4, importance="magnitude", repair=False), chain(), feeds=[])
    assert dims(done.after)["w"][0] == 12


def test_flattened_channels_and_dense_layers() -> None:
    draw = rng(5)
    before = filled(
        """agraph (float[B, 3, 6, 6] x) => (float[B, 5] y) {
            c = Conv<pads = [1, 1, 1, 1]>(x, w, b)  r = Relu(c)  f = Flatten(r)
            m = MatMul(f, v)  n = Add(m, d)  o = Relu(n)  y = MatMul(o, u) }""",
        w=draw.normal(size=(8, 3, 3, 3)),
        b=draw.normal(size=8),
        v=draw.normal(size=(8 * 36, 16)) / 10,
        d=draw.normal(size=16),
        u=draw.normal(size=(16, 5)),
    )
    feeds = [{"x": draw.normal(size=(200, 3, 6, 6)).astype(np.float32)} for _ in range(2)]
    done = run(Channels(share=0.4, multiple=2), before, feeds=feeds)
    sizes = dims(done.after)
    assert sizes["v"] == (sizes["w"][0] * 36, sizes["d"][0])
    assert sizes["d"][0] == sizes["u"][0]
    assert sizes["w"][0] < 8


@pytest.mark.parametrize(
    ("options", "why"),
    [({"skip": ("w",)}, "skip has 'w'"), ({"only": ("nothing",)}, "only has no pattern for it")],
)
def test_skip_and_only(options: dict[str, Any], why: str) -> None:
    done = run(Channels(share=0.3, **options), chain(), feeds=images())
    assert_missed(done, "channels", why)
    assert not done.applied


def test_weights_that_callers_may_override_are_left() -> None:
    before = filled(
        """agraph (float[B, 12] x, float[12, 8] w) => (float[B, 6] y) {
            m = MatMul(x, w)  r = Relu(m)  y = MatMul(r, v) }""",
        w=rng().normal(size=(12, 8)),
        v=rng().normal(size=(8, 6)),
    )
    done = apply(Channels(share=0.3, multiple=2), before)
    assert not done.applied
    assert any("input" in one.why or "overrid" in one.why or "callers" in one.why for one in done.missed)


def test_nothing_like_the_original_is_known_of_a_body() -> None:
    before = filled(
        """agraph (float[B, 8] x, bool k) => (float[B, 8] y) {
            y = If(k) <then_branch = one () => (float[B, 8] p) { m = MatMul(x, w) r = Relu(m) p = MatMul(r, v) },
                       else_branch = two () => (float[B, 8] q) { q = Relu(x) }> }""",
        w=rng().normal(size=(8, 16)),
        v=rng().normal(size=(16, 8)),
    )
    assert not apply(Channels(share=0.3, multiple=2), before).applied


def test_not_a_number_among_the_weights() -> None:
    before = chain()
    values = numpy_helper.to_array(before.graph.initializer[2]).copy()
    values[0, 0] = np.nan
    before.graph.initializer[2].CopyFrom(numpy_helper.from_array(values, "v"))
    run(Channels(share=0.3, multiple=2), before, feeds=images())


@pytest.mark.parametrize(
    ("options", "why"),
    [({"share": 2}, "share"), ({"most": -1}, "most"), ({"damping": -1}, "damping"), ({"multiple": 0}, "multiple"),
     ({"rows": -1}, "rows")],
)  # fmt: skip
def test_options_are_checked(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Channels(**options)


def test_kernels_that_take_16_channels_at_a_time() -> None:
    """Of 8 and 16 channels, only those go that a kernel does not compute all the same."""
    draw = rng(6)
    text = """agraph (float[B, 1, 12, 12] x) => (float[B, 3, 12, 12] y) {
        c = Conv<pads = [1, 1, 1, 1]>(x, w, b)  r = Relu(c)  e = Conv<pads = [1, 1, 1, 1]>(r, v, d)  f = Relu(e)
        y = Conv(f, o) }"""
    weights = {"w": (8, 1, 3, 3), "b": (8,), "v": (16, 8, 3, 3), "d": (16,), "o": (3, 16, 1, 1)}
    before = filled(text, **{name: draw.normal(size=shape) for name, shape in weights.items()})
    feeds = [{"x": draw.normal(size=(8, 1, 12, 12)).astype(np.float32)}]
    done = run(Channels(share=0.4, multiple=1, kernel=16), before, feeds=feeds)
    assert dims(done.after)["v"] == (16, 3, 3, 3)
    plain = run(Channels(share=0.4, multiple=1), before, feeds=feeds)
    assert dims(plain.after)["v"][0] < 16
    with pytest.raises(ValueError, match="must not be negative"):
        Channels(kernel=-1)


def test_weights_that_callers_may_give_say_what_to_run() -> None:
    before = chain(8)
    before.graph.input.extend(
        onnx.helper.make_tensor_value_info(one.name, onnx.TensorProto.FLOAT, one.dims)
        for one in before.graph.initializer
    )
    done = run(Channels(), before, feeds=[])
    assert not done.applied
    assert_missed(done, "channels", "whose value callers may give: run initializers-from-inputs first")
