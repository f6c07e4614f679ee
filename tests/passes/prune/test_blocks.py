"""blocks: residual blocks and layers go, cheapest first, and what is measured is what happens."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from graphopt.analysis.shapes import infer
from graphopt.ir import decode
from graphopt.pipeline import Pipeline
from graphopt.storage.read import from_proto
from graphopt.testing import apply, model
from graphopt.testing.apply import Applied, assert_missed
from graphopt.testing.running import outputs_of
from graphopt.testing.trial import Without
from passes.prune.blocks import Blocks
from passes.prune.channels import Channels
from passes.prune.spans import residual_spans

WIDTH = 8


def draw(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray[Any, Any]:
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype(np.float32)


def dense(scales: tuple[float, ...] = (0.05, 0.5, 0.01), head: str = "y = Identity(x{n})") -> onnx.ModelProto:
    """Blocks x + W2 relu(W1 x), one for each scale of W2: the smaller, the less they matter."""
    lines, weights = [], {}
    for at, scale in enumerate(scales):
        lines.append(f"a{at} = MatMul(x{at}, w{at})  r{at} = Relu(a{at})  f{at} = MatMul(r{at}, v{at})")
        lines.append(f"x{at + 1} = Add(x{at}, f{at})")
        weights[f"w{at}"] = draw(WIDTH, 2 * WIDTH, seed=at)
        weights[f"v{at}"] = draw(2 * WIDTH, WIDTH, seed=10 + at, scale=scale)
    text = "\n".join(lines)
    last = head.format(n=len(scales))
    return model(f"g (float[N, {WIDTH}] x) => (float[N, {WIDTH}] y) {{ x0 = Neg(x) {text} {last} }}", **weights)


def rows(count: int = 64, seed: int = 5) -> list[dict[str, Any]]:
    return [{"x": draw(count, WIDTH, seed=seed)}]


def error(before: onnx.ModelProto, after: onnx.ModelProto, feeds: Any, name: str = "y") -> float:
    one, other = (outputs_of(each.SerializeToString(), feeds) for each in (before, after))
    first, second = (
        np.concatenate([np.ravel(each[name]) for each in found]).astype(np.float64) for found in (one, other)
    )
    return float(np.square(first - second).sum() / np.square(first).sum())


def plain(**options: Any) -> Blocks:
    return Blocks(**{"instead": "nothing", "share": 1.0, "samples": 0, **options})


def subjects(done: Applied) -> list[str]:
    return [one.node for one in done.applied]


def test_the_block_that_matters_least_goes_first() -> None:
    done = apply(plain(count=1), dense(), feeds=rows())
    assert subjects(done) == ["Add(x3)"]
    assert_missed(done, "block", "1 blocks have gone, and count is 1")


def test_taking_it_out_is_the_edit_that_a_hand_would_make() -> None:
    done = apply(plain(count=1), dense(), feeds=rows())
    by_hand = dense((0.05, 0.5))
    assert done.after.graph.node[-1].input[0] == "x2"
    assert error(by_hand, done.after, rows()) == 0
    assert {one.name for one in done.after.graph.initializer} == {"w0", "v0", "w1", "v1"}
    assert done.body.count("MatMul") == 4


def test_the_order_is_by_error_measured_again_after_each() -> None:
    done = apply(plain(theta=10), dense(), feeds=rows())
    assert subjects(done) == ["Add(x3)", "Add(x1)", "Add(x2)"]
    assert done.body.split() == ["x0", "=", "Neg(x)", "y", "=", "Identity(x0)"]
    texts = [one.why for one in done.applied]
    models = [dense((0.05, 0.5)), dense((0.5,))]
    weights = {one.name: one for one in dense().graph.initializer}
    models[1].graph.ClearField("initializer")
    for old, new in (("w1", "w0"), ("v1", "v0")):
        models[1].graph.initializer.add().CopyFrom(weights[old])
        models[1].graph.initializer[-1].name = new
    for said, left in zip(texts, models, strict=False):
        level = -10 * np.log10(error(dense(), left, rows()))
        assert f"an error {level:.1f} dB below the outputs" in said


def test_theta_bounds_the_error_and_zero_takes_nothing() -> None:
    none = apply(plain(theta=0), dense(), feeds=rows())
    assert not none.applied
    assert_missed(none, "block", "more than theta=0")
    some = apply(plain(theta=0.01), dense(), feeds=rows())
    assert subjects(some) == ["Add(x3)"]
    assert error(dense(), some.after, rows()) <= 0.01
    assert_missed(some, "block", "more than theta=0.01")


def test_theta_zero_takes_blocks_that_add_nothing() -> None:
    done = apply(plain(theta=0), dense((0.5, 0.0)), feeds=rows())
    assert subjects(done) == ["Add(x2)"]
    assert error(dense((0.5, 0.0)), done.after, rows()) == 0


def test_share_is_of_multiply_accumulates() -> None:
    assert len(apply(plain(share=0.3), dense(), feeds=rows()).applied) == 1
    assert len(apply(plain(share=0.4), dense(), feeds=rows()).applied) == 2
    nothing = apply(plain(share=0.0), dense(), feeds=rows())
    assert not nothing.applied
    assert_missed(nothing, "block", "share is 0")


@pytest.mark.parametrize(("form", "op"), [("mean", "Add"), ("scale", "Mul"), ("linear", "MatMul")])
def test_what_stands_for_a_block_is_no_worse_than_nothing(form: Any, op: str) -> None:
    before, feeds = dense((0.3, 0.3)), [{"x": draw(256, WIDTH, seed=5) + 1}]
    bare = apply(plain(count=1), before, feeds=feeds)
    fitted = apply(plain(count=1, instead=form), before, feeds=feeds)
    assert error(before, fitted.after, feeds) < error(before, bare.after, feeds)
    unseen = [{"x": draw(256, WIDTH, seed=99) + 1}]
    assert error(before, fitted.after, unseen) < error(before, bare.after, unseen)
    assert op in fitted.body


def test_the_best_form_is_the_one_that_fits_most() -> None:
    before, feeds = dense((0.3, 0.3)), [{"x": draw(256, WIDTH, seed=5) + 1}]
    errors = {
        form: error(before, apply(plain(count=1, instead=form), before, feeds=feeds).after, feeds)
        for form in ("best", "nothing", "mean", "scale", "linear")
    }
    assert errors["best"] == errors["linear"]
    assert errors["linear"] <= errors["scale"] * 1.01 <= errors["mean"] * 1.02  # each has the other in it


def test_a_later_fit_makes_up_for_an_earlier_one() -> None:
    """What is fitted second is fitted to the original's values, from data that the first one changed."""
    before, feeds = dense((0.1, 0.1, 0.1)), [{"x": draw(256, WIDTH, seed=5) + 1}]
    bare = apply(plain(count=2, share=0.7, theta=10), before, feeds=feeds)
    fitted = apply(plain(count=2, share=0.6, theta=10, instead="linear"), before, feeds=feeds)
    assert len(fitted.applied) == len(bare.applied) == 2
    assert error(before, fitted.after, feeds) < 0.5 * error(before, bare.after, feeds)


POST_NORM = f"""g (float[B, 3, {WIDTH}] x) => (float[B, 3, {WIDTH}] y) {{
    a = MatMul(x, w)  r = Relu(a)  f = MatMul(r, v)  s = Add(f, x)  n = LayerNormalization(s, g1)
    b = MatMul(n, w2)  q = Relu(b)  h = MatMul(q, v2)  t = Add(n, h)  y = LayerNormalization(t, g2) }}"""


def post_norm(text: str = POST_NORM) -> onnx.ModelProto:
    return model(
        text, w=draw(WIDTH, 16), v=draw(16, WIDTH, seed=1, scale=0.02), w2=draw(WIDTH, 16, seed=2),
        v2=draw(16, WIDTH, seed=3, scale=0.5), g1=np.linspace(0.5, 2, WIDTH, dtype=np.float32),
        g2=np.ones(WIDTH, np.float32),
    )  # fmt: skip


def test_behind_a_sum_the_normalization_stays() -> None:
    feeds = [{"x": draw(20, 3, WIDTH, seed=5)}]
    done = apply(plain(count=1), post_norm(), feeds=feeds)
    assert subjects(done) == ["Add(s)"]
    assert done.body.startswith("n = LayerNormalization(x, g1)")
    spans = _spans(post_norm())
    assert ("x", "y") in spans and ("x", "n") in spans  # layers go with it, where that costs less


def _spans(proto: onnx.ModelProto) -> set[tuple[str, str]]:
    source = from_proto(proto)
    graph = decode(source.proto, source.store)
    return {(one.start.name, one.end.name) for one in residual_spans(graph, infer(graph))}


def test_before_a_block_the_normalization_goes_with_it() -> None:
    text = f"""g (float[B, 3, {WIDTH}] x) => (float[B, 3, {WIDTH}] y) {{
        n = LayerNormalization(x, g1)  a = MatMul(n, w)  r = Relu(a)  f = MatMul(r, v)  s = Add(x, f)
        m = LayerNormalization(s, g2)  b = MatMul(m, w2)  q = Relu(b)  h = MatMul(q, v2)  y = Add(s, h) }}"""
    assert _spans(post_norm(text)) == {("x", "s"), ("s", "y"), ("x", "y")}
    done = apply(plain(count=1), post_norm(text), feeds=[{"x": draw(20, 3, WIDTH, seed=5)}])
    assert subjects(done) == ["Add(s)"] and done.body.startswith("m = LayerNormalization(x, g2)")


CONVOLUTIONS = """g (float[B, 4, 6, 6] x) => (float[B, 4, 6, 6] y) {
    c = Conv<pads = [1, 1, 1, 1]>(x, w)  r = Relu(c)  d = Conv<pads = [1, 1, 1, 1]>(r, v)
    p = Conv(x, k)  s = Add(d, p)  y = Relu(s) }"""


def convolutions() -> onnx.ModelProto:
    return model(CONVOLUTIONS, w=draw(4, 4, 3, 3), v=draw(4, 4, 3, 3, seed=1, scale=0.05), k=draw(4, 4, 1, 1, seed=2))


@pytest.mark.parametrize("form", ["nothing", "mean", "scale", "linear"])
def test_a_shortcut_with_a_convolution_stays_and_the_other_side_goes(form: Any) -> None:
    feeds = [{"x": draw(4, 4, 6, 6, seed=5)}]
    done = apply(plain(count=1, instead=form), convolutions(), feeds=feeds)
    assert subjects(done) == ["Add(s)"]
    assert done.body.count("= Conv(") == (2 if form == "linear" else 1) and "Conv(x, k)" in done.body
    level = -10 * np.log10(error(convolutions(), done.after, feeds))
    assert f"an error {level:.1f} dB" in done.applied[0].why


def test_a_matrix_that_costs_as_much_as_the_block_is_not_tried() -> None:
    before = model(
        f"g (float[N, {WIDTH}] x) => (float[N, {WIDTH}] y) {{ a = MatMul(x, w)  f = Tanh(a)  y = Add(x, f) }}",
        w=draw(WIDTH, WIDTH),
    )
    done = apply(plain(instead="linear", theta=10), before, feeds=rows())
    assert not done.applied
    assert_missed(done, "block", "cannot be fitted")
    assert apply(plain(instead="best", theta=10), before, feeds=rows()).applied


def test_an_output_that_would_be_an_input_is_handed_through() -> None:
    before = model(
        f"g (float[N, {WIDTH}] x) => (float[N, {WIDTH}] y) {{ a = MatMul(x, w)  f = Tanh(a)  y = Add(x, f) }}",
        w=draw(WIDTH, WIDTH, scale=0.01),
    )
    done = apply(plain(theta=0.1), before, feeds=rows())
    assert done.body == "y = Identity(x)"


def test_values_that_something_else_reads_stay() -> None:
    before = dense((0.05, 0.5), head="t = Add(x2, r0)  y = Relu(t)".replace("r0", "f0"))
    done = apply(plain(count=1), before, feeds=rows())
    assert "f0 = MatMul(r0, v0)" in done.body


def test_values_of_a_block_that_are_graph_outputs_stay() -> None:
    before = dense((0.05, 0.5))
    before.graph.output.append(onnx.helper.make_tensor_value_info("r0", onnx.TensorProto.FLOAT, ["N", 2 * WIDTH]))
    done = apply(plain(count=1), before, feeds=rows())
    assert subjects(done) == ["Add(x1)"] and "r0 = Relu(a0)" in done.body and "f0" not in done.body
    assert "2 nodes with 25.0% of the multiply-accumulates gone" in done.applied[0].why


def test_bodies_and_what_they_capture() -> None:
    before = model(
        f"""g (float[N, {WIDTH}] x, bool p) => (float[N, {WIDTH}] y) {{
            u = Abs(x)
            y = If (p) <then_branch = t () => (float[N, {WIDTH}] o) {{
                    a = MatMul(u, w)  r = Relu(a)  f = MatMul(r, v)  s = Add(u, f)  o = Neg(s) }},
                else_branch = e () => (float[N, {WIDTH}] o2) {{ o2 = Identity(u) }}> }}""",
        w=draw(WIDTH, 16),
        v=draw(16, WIDTH, seed=1, scale=0.01),
    )
    feeds = [{"x": draw(16, WIDTH, seed=seed), "p": np.asarray(seed % 2 == 0)} for seed in range(2)]
    done = apply(plain(theta=0.01), before, feeds=feeds)
    assert len(done.applied) == 1 and "o = Neg(u)" in done.body
    assert error(before, done.after, feeds) <= 0.01


def test_functions_whose_shapes_are_not_known_are_left() -> None:
    text = f"""<ir_version: 9, opset_import: ["" : 17, "local" : 1]>
        g (float[N, {WIDTH}] x) => (float[N, {WIDTH}] y) {{ y = local.block(x, w, v) }}
        <domain: "local", opset_import: ["" : 17]> block (i, w, v) => (o) {{
            a = MatMul(i, w)  r = Relu(a)  f = MatMul(r, v)  s = Add(i, f)  o = Neg(s) }}"""
    before = model(text, w=draw(WIDTH, 16), v=draw(16, WIDTH, seed=1, scale=0.01))
    done = apply(plain(theta=0.01), before, feeds=rows())
    assert_missed(done, "block", "no residual block that may go was found")  # shapes in there are not known


def test_without_residual_blocks_it_says_so() -> None:
    before = model("g (float[N, 8] x) => (float[N, 8] y) { a = MatMul(x, w)  y = Relu(a) }", w=draw(8, 8))
    assert_missed(apply(Blocks(), before, feeds=rows()), "block", "no residual block that may go was found")


def test_skip_and_only() -> None:
    skipped = apply(plain(count=1, skip=("v2",)), dense(), feeds=rows())
    assert subjects(skipped) == ["Add(x3)"]  # patterns are of nodes and values that they make
    skipped = apply(plain(count=1, skip=("f2",)), dense(), feeds=rows())
    assert subjects(skipped) == ["Add(x1)"]
    assert_missed(skipped, "block", "skip has 'f2'")
    only = apply(plain(count=1, only=("x2",)), dense(), feeds=rows())
    assert subjects(only) == ["Add(x2)"]
    assert_missed(only, "block", "only has no pattern for it")


def test_a_rewrite_that_is_disabled_leaves_the_next_best() -> None:
    done = apply(plain(count=1), dense(), feeds=rows(), gate=Without("blocks", 1))
    assert [one.node for one in done.disabled] == ["Add(x3)"]
    assert subjects(done) == ["Add(x1)"]


def test_half_precision_and_old_opsets() -> None:
    before = dense((0.3, 0.01))
    halved = onnx.ModelProto.FromString(before.SerializeToString())
    for info in (*halved.graph.input, *halved.graph.output):
        info.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    for tensor in halved.graph.initializer:
        tensor.CopyFrom(
            onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype(np.float16), tensor.name)
        )
    feeds = [{"x": draw(64, WIDTH, seed=5).astype(np.float16)}]
    assert len(apply(Blocks(share=0.3), halved, feeds=feeds).applied) == 1
    for opset in (7, 9, 13):
        old = onnx.ModelProto.FromString(before.SerializeToString())
        old.opset_import[0].version, old.ir_version = opset, 4
        assert subjects(apply(plain(count=1), old, feeds=rows())) == ["Add(x2)"]
        assert apply(Blocks(share=0.3), old, feeds=rows()).applied


def test_one_pass_after_another_compares_with_the_model_as_it_was_read() -> None:
    once = apply(plain(count=2), dense(), feeds=rows())
    twice = apply(Pipeline((plain(count=1), plain(count=1))), dense(), feeds=rows())
    assert once.after.SerializeToString() == twice.after.SerializeToString()
    assert [one.why.split("model now has")[1] for one in once.applied] == [
        one.why.split("model now has")[1] for one in twice.applied
    ]


def test_behind_narrowed_channels_the_fit_is_to_those_that_are_left() -> None:
    before = dense((0.3, 0.3), head="h = Relu(x2)  y = MatMul(h, z)").SerializeToString()
    proto = onnx.ModelProto.FromString(before)
    del proto.graph.output[0].type.tensor_type.shape.dim[1]
    proto.graph.output[0].type.tensor_type.shape.dim.add(dim_value=3)
    proto.graph.node[0].CopyFrom(onnx.helper.make_node("MatMul", ["x", "e"], ["x0"]))
    for name, array in (("z", draw(WIDTH, 3, seed=7)), ("e", draw(WIDTH, WIDTH, seed=8))):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    feeds = [{"x": draw(256, WIDTH, seed=5)}]
    bare = apply(Pipeline((Channels(share=0.3, multiple=1, repair=False), plain(count=1))), proto, feeds=feeds)
    fitted = apply(
        Pipeline((Channels(share=0.3, multiple=1, repair=False), plain(count=1, instead="linear"))), proto, feeds=feeds
    )
    kernels = [one.dims for one in fitted.after.graph.initializer if one.name.endswith("_MatMul")]
    assert kernels and kernels[0][0] == kernels[0][1] < WIDTH
    assert error(proto, fitted.after, feeds) < error(proto, bare.after, feeds)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"share": 1.5}, "share must be from 0 to 1"),
        ({"theta": -1}, "theta must not be negative"),
        ({"count": -1}, "must not be negative"),
        ({"damping": 101}, "damping must be"),
    ],
)
def test_options_are_checked(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Blocks(**options)


@pytest.mark.skipif("GRAPHOPT_CORPUS" not in os.environ, reason="the corpus of real models is not here")
def test_the_blocks_of_a_residual_network() -> None:
    proto = onnx.load(Path(os.environ["GRAPHOPT_CORPUS"]) / "models" / "resnet_4b_cifar10.onnx")
    blocks = {("32", "33"), ("34", "38"), ("43", "44"), ("45", "49")}
    assert _spans(proto) == blocks | {("32", "38"), ("43", "49")}  # and two of them in a row, twice
    feeds = [{"input.1": draw(1, 3, 32, 32, seed=seed)} for seed in range(2)]
    done = apply(Blocks(share=0.05, theta=100), proto, feeds=feeds)
    assert len(done.applied) == 1
