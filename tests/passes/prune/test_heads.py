"""heads: attention that loses heads, written out or in one operator."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from graphopt.testing import apply, model
from graphopt.testing.apply import Applied, assert_missed
from graphopt.testing.running import outputs_of
from passes.prune.heads import Heads

HEADS, SIZE, WIDTH = 4, 4, 16
PLAIN: dict[str, Any] = {"importance": "magnitude", "repair": False, "allocation": "uniform"}


def attention(
    opset: int, inner: str, keys: int = HEADS, more: str = "", size: int = SIZE, ir: int = 8
) -> onnx.ModelProto:
    """A model of projections around the nodes `inner`, which make o of q, k and v."""
    draw = np.random.default_rng(0)
    text = f"""<ir_version: {ir}, opset_import: ["": {opset}, "com.microsoft": 1]>
    agraph (float[B, 6, {WIDTH}] x{more}) => (float[B, 6, {WIDTH}] y)
    <int64[4] split = {{0, 0, {HEADS}, {size}}}, int64[4] split_kv = {{0, 0, {keys}, {size}}},
     int64[3] join = {{0, 0, {HEADS * size}}}, float root = {{0.5}}> {{
        q0 = MatMul(x, wq)  q = Add(q0, bq)  k = MatMul(x, wk)  v = MatMul(x, wv)
        {inner}
        p = MatMul(o, wo)  y = Add(p, bo) }}"""
    shapes: dict[str, tuple[int, ...]] = {"wq": (WIDTH, HEADS * size), "wk": (WIDTH, keys * size)}
    shapes |= {"wv": (WIDTH, keys * size), "wo": (HEADS * size, WIDTH), "bq": (HEADS * size,), "bo": (WIDTH,)}
    return model(text, **{name: draw.normal(size=shape).astype(np.float32) / 4 for name, shape in shapes.items()})


WRITTEN = """
    qr = Reshape(q, split)  qt = Transpose<perm = [0, 2, 1, 3]>(qr)
    kr = Reshape(k, split)  kt = Transpose<perm = [0, 2, 3, 1]>(kr)
    vr = Reshape(v, split)  vt = Transpose<perm = [0, 2, 1, 3]>(vr)
    s = MatMul(qt, kt)  sd = Mul(s, root)  a = Softmax<axis = -1>(sd)  c = MatMul(a, vt)
    ct = Transpose<perm = [0, 2, 1, 3]>(c)  o = Reshape(ct, join)"""


def feeds(count: int = 2, **more: Any) -> list[dict[str, np.ndarray]]:
    draw = np.random.default_rng(1)
    return [{"x": draw.normal(size=(8, 6, WIDTH)).astype(np.float32), **more} for _ in range(count)]


def weight(done: onnx.ModelProto, name: str) -> np.ndarray:
    return next(onnx.numpy_helper.to_array(one) for one in done.graph.initializer if one.name == name)


def kept_rows(before: onnx.ModelProto, done: onnx.ModelProto) -> list[int]:
    """Which rows of the output projection are left."""
    old, new = weight(before, "wo"), weight(done, "wo")
    return [next(i for i in range(len(old)) if (old[i] == row).all()) for row in new]


def assert_silenced(done: Applied, given: list[dict[str, np.ndarray]], unit: int = SIZE) -> None:
    """The model with fewer heads is the one whose projection does not listen to the others, whole units of them."""
    rows = kept_rows(done.before, done.after)
    assert all(len(set(np.asarray(rows).reshape(-1, unit)[i] // unit)) == 1 for i in range(len(rows) // unit))
    wide = onnx.ModelProto()
    wide.CopyFrom(done.before)
    for one in wide.graph.initializer:
        if one.name == "wo":
            values = np.array(onnx.numpy_helper.to_array(one))
            values[np.setdiff1d(np.arange(len(values)), rows)] = 0
            one.CopyFrom(onnx.numpy_helper.from_array(values, "wo"))
    first, second = (outputs_of(each.SerializeToString(), given) for each in (wide, done.after))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(np.asarray(a["y"]), np.asarray(b["y"]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("opset", [13, 17, 21])
@pytest.mark.parametrize("importance", ["magnitude", "activation", "second-order"])
def test_fewer_heads_are_heads_that_nobody_listens_to(importance: Any, opset: int) -> None:
    done = apply(Heads(importance=importance, repair=False), attention(opset, WRITTEN), feeds=feeds())
    assert weight(done.after, "wq").shape == (16, 12) and weight(done.after, "bq").shape == (12,)
    assert weight(done.after, "wo").shape == (12, 16)
    assert "1 of 4 heads gone" in done.applied[0].why
    assert_silenced(done, feeds())


def test_repair_makes_up_for_some_of_it() -> None:
    plain = apply(Heads(repair=False), attention(17, WRITTEN), feeds=feeds(6))
    done = apply(Heads(), attention(17, WRITTEN), feeds=feeds(6))
    assert done.sqnr_db("y") > plain.sqnr_db("y") + 0.3


GROUPED = """
    qr = Reshape(q, split)  qt = Transpose<perm = [0, 2, 1, 3]>(qr)
    kr = Reshape(k, split_kv)  kt = Transpose<perm = [0, 2, 1, 3]>(kr)
    vr = Reshape(v, split_kv)  vt = Transpose<perm = [0, 2, 1, 3]>(vr)
    two = Constant<value_ints = [2]>()  ku = Unsqueeze(kt, two)  vu = Unsqueeze(vt, two)
    often = Constant<value_ints = [1, 1, 2, 1, 1]>()  kw = Expand(ku, often)  vw = Expand(vu, often)
    all = Constant<value_ints = [0, 4, 6, 4]>()  kh = Reshape(kw, all)  vh = Reshape(vw, all)
    kx = Transpose<perm = [0, 1, 3, 2]>(kh)
    s = MatMul(qt, kx)  sd = Mul(s, root)  a = Softmax<axis = -1>(sd)  c = MatMul(a, vh)
    ct = Transpose<perm = [0, 2, 1, 3]>(c)  o = Reshape(ct, join)"""


def test_heads_that_share_keys_go_together() -> None:
    done = apply(Heads(**PLAIN, share=0.5), attention(17, GROUPED, keys=2), feeds=feeds())
    assert weight(done.after, "wk").shape == (16, 4)
    assert weight(done.after, "wq").shape == (16, 8) and weight(done.after, "wo").shape == (8, 16)
    assert_silenced(done, feeds(), unit=8)


def test_one_operator_of_onnx() -> None:
    inner = f"o = Attention<q_num_heads = {HEADS}, kv_num_heads = 2>(q, k, v)"
    done = apply(Heads(**PLAIN, share=0.5), attention(23, inner, keys=2, ir=10), feeds=feeds())
    assert weight(done.after, "wk").shape == (16, 4) and weight(done.after, "wq").shape == (16, 8)
    assert "q_num_heads: int = 2" in done.body or "q_num_heads = 2" in done.body or "q_num_heads=2" in done.body
    assert_silenced(done, feeds(), unit=8)


def test_one_operator_of_onnx_on_heads() -> None:
    inner = """
        qr = Reshape(q, split)  qt = Transpose<perm = [0, 2, 1, 3]>(qr)
        kr = Reshape(k, split)  kt = Transpose<perm = [0, 2, 1, 3]>(kr)
        vr = Reshape(v, split)  vt = Transpose<perm = [0, 2, 1, 3]>(vr)
        c = Attention(qt, kt, vt)  ct = Transpose<perm = [0, 2, 1, 3]>(c)  o = Reshape(ct, join)"""
    done = apply(Heads(**PLAIN), attention(23, inner, ir=10), feeds=feeds())
    assert weight(done.after, "wo").shape == (12, 16)
    assert_silenced(done, feeds())


def test_multi_head_attention() -> None:
    done = apply(
        Heads(**PLAIN),
        attention(17, f"o = com.microsoft.MultiHeadAttention<num_heads = {HEADS}>(q, k, v)"),
        feeds=feeds(),
    )
    assert weight(done.after, "wv").shape == (16, 12)
    assert_silenced(done, feeds())


def merged(
    more: str = "", outputs: str = "", call: str = "o = com.microsoft.Attention<num_heads = 4>(x, w, b)"
) -> onnx.ModelProto:
    draw = np.random.default_rng(0)
    text = f"""<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]>
    agraph (float[B, 6, 16] x{more}) => (float[B, 6, 16] y{outputs}) {{ {call}  p = MatMul(o, wo)  y = Add(p, bo) }}"""
    shapes: dict[str, tuple[int, ...]] = {"w": (16, 48), "b": (48,), "wo": (16, 16), "bo": (16,)}
    return model(text, **{name: draw.normal(size=shape).astype(np.float32) / 4 for name, shape in shapes.items()})


def test_attention_with_its_projections_in_it() -> None:
    done = apply(Heads(**PLAIN), merged(), feeds=feeds())
    assert weight(done.after, "w").shape == (16, 36) and weight(done.after, "b").shape == (36,)
    assert_silenced(done, feeds())
    assert apply(Heads(), merged(), feeds=feeds(6)).sqnr_db("y") > done.sqnr_db("y")


def test_heads_of_other_steps_stay() -> None:
    call = "o, present = com.microsoft.Attention<num_heads = 4>(x, w, b, , past)"
    before = merged(", float[2, B, 4, P, 4] past", ", float[2, B, 4, Q, 4] present", call)
    past = np.zeros((2, 8, 4, 3, 4), np.float32)
    done = apply(Heads(), before, feeds=feeds(past=past))
    assert not done.applied
    assert_missed(done, "heads", "'past' has the keys or values of all heads")


def test_grouped_attention_of_onnxruntime() -> None:
    inner = (
        """o, pk, pv = com.microsoft.GroupQueryAttention<num_heads = 4, kv_num_heads = 2>(q, k, v, , , lens, total)"""
    )
    before = attention(17, inner, keys=2, more=", int32[B] lens, int32 total", size=8)
    more: dict[str, Any] = {"lens": np.full(8, 5, np.int32), "total": np.array(6, np.int32)}
    done = apply(Heads(**PLAIN, share=0.5), before, feeds=feeds(**more))
    assert weight(done.after, "wk").shape == (16, 8) and weight(done.after, "wq").shape == (16, 16)
    assert_silenced(done, feeds(**more), unit=16)


@pytest.mark.parametrize("stated", ["", "<num_heads = 4>"])
def test_turned_heads(stated: str) -> None:
    inner = f"""qr = com.microsoft.RotaryEmbedding{stated}(q, places, cosines, sines)
        kr = com.microsoft.RotaryEmbedding{stated}(k, places, cosines, sines)
        o = com.microsoft.MultiHeadAttention<num_heads = 4>(qr, kr, v)"""
    before = attention(17, inner, size=8, more=", int64[B, 6] places, float[6, 4] cosines, float[6, 4] sines")
    angles = np.random.default_rng(3).normal(size=(6, 4))
    more: dict[str, Any] = {"places": np.tile(np.arange(6), (8, 1)), "cosines": np.cos(angles).astype(np.float32)}
    more["sines"] = np.sin(angles).astype(np.float32)
    done = apply(Heads(**PLAIN), before, feeds=feeds(**more))
    assert weight(done.after, "wo").shape == (24, 16)
    assert_silenced(done, feeds(**more), unit=8)


def test_masks_with_a_part_for_each_head_stay_whole() -> None:
    written = WRITTEN.replace("a = Softmax", "sm = Add(sd, mask)  a = Softmax").replace("(sd)  c", "(sm)  c")
    done = apply(
        Heads(),
        attention(17, written, more=", float[1, 4, 6, 6] mask"),
        feeds=feeds(mask=np.zeros((1, 4, 6, 6), np.float32)),
    )
    assert not done.applied
    assert_missed(done, "heads", "'mask' is a graph input")


def test_nothing_goes_at_no_share() -> None:
    done = apply(Heads(share=0.0), attention(17, WRITTEN), feeds=feeds())
    assert_missed(done, "heads", "of 4 heads none goes at share=0")


def test_a_model_without_attention_says_so() -> None:
    done = apply(Heads(), model("agraph (float[N] x) => (float[N] y) { y = Relu(x) }"))
    assert_missed(done, "heads", "there is no attention whose heads can be told apart")


def test_skip() -> None:
    done = apply(Heads(skip=("wo",)), attention(17, WRITTEN), feeds=feeds())
    assert_missed(done, "heads", "skip has 'wo'")


def test_equal_runs_give_equal_bytes() -> None:
    one, other = (apply(Heads(), attention(17, WRITTEN), feeds=feeds(), laws=False).after for _ in range(2))
    assert one.SerializeToString() == other.SerializeToString()


@pytest.mark.parametrize("options", [{"share": 1.0}, {"damping": 101.0}, {"rows": -1}, {"multiple": 0}])
def test_options_that_mean_nothing(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        Heads(**options)
