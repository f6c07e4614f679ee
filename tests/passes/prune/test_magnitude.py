"""magnitude: how many zeros there are and where, what is left, and how it is stored."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper

from graphopt.ir import decode
from graphopt.pipeline.page import SECTIONS, page
from graphopt.pipeline.spec import parse
from graphopt.storage.read import from_proto
from graphopt.testing import apply, assert_missed, model
from graphopt.testing.running import USUAL, outputs_of
from graphopt.testing.trial import Without
from graphopt.validation.compare import compare
from passes.prune.magnitude import Magnitude

NO_FEEDS: tuple[dict[str, Any], ...] = ()


def floats(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Any:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def tensors(proto: ModelProto) -> dict[str, Any]:
    return {one.name: numpy_helper.to_array(one) for one in proto.graph.initializer}


def zeros(values: Any) -> int:
    return int(np.sum(np.asarray(values, np.float64) == 0))


TWO = "g (float[N, 8] x) => (float[N, 5] y) { a = MatMul(x, v)  y = MatMul(a, w) }"
ONE = "g (float[N, 8] x) => (float[N, 12] y) { y = MatMul(x, w) }"


def two() -> ModelProto:
    return model(TWO, v=floats(8, 12), w=floats(12, 5) * 10)


def test_the_smallest_of_all_go() -> None:
    done = apply(Magnitude(min_elements=1), two())
    found = tensors(done.after)
    assert zeros(found["v"]) + zeros(found["w"]) == 78
    everything = np.sort(np.abs(np.concatenate([floats(8, 12).ravel(), (floats(12, 5) * 10).ravel()])))
    left = np.concatenate([found["v"].ravel(), found["w"].ravel()])
    assert np.abs(left[left != 0]).min() == everything[78]
    assert zeros(found["v"]) > zeros(found["w"])
    assert done.body == "a = MatMul(x, v)\ny = MatMul(a, w)"
    assert [one.node for one in done.applied] == ["v", "w"]
    assert done.applied[0].why == f"{zeros(found['v'])} of 96 elements are zero, 0 were"


def test_layer_by_layer_each_loses_its_share() -> None:
    found = tensors(apply(Magnitude(scope="layer", sparsity=0.25, min_elements=1), two()).after)
    assert zeros(found["v"]) == 24
    assert zeros(found["w"]) == 15


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.333, 0.5, 0.77, 0.99, 1.0])
@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_the_count_is_exact(sparsity: float, scope: Any, dtype: Any) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    text = f"""g (float[N, 8] x) => (float[N, 5] y) {{
        c = Cast<to = {kind}>(x)  a = MatMul(c, v)  b = MatMul(a, w)  y = Cast<to = 1>(b) }}"""
    proto = model(text, v=floats(8, 12, dtype=dtype), w=floats(12, 5, dtype=dtype))
    found = tensors(apply(Magnitude(sparsity, scope, min_elements=1), proto).after)
    if scope == "global":
        assert zeros(found["v"]) + zeros(found["w"]) == int(np.floor(sparsity * 156 + 0.5))
    else:
        assert zeros(found["v"]) == int(np.floor(sparsity * 96 + 0.5))
        assert zeros(found["w"]) == int(np.floor(sparsity * 60 + 0.5))
    assert found["v"].dtype == dtype


def test_values_that_stay_keep_their_bits() -> None:
    before = floats(8, 12)
    after = tensors(apply(Magnitude(min_elements=1), model(ONE, w=before)).after)["w"]
    assert np.array_equal(after[after != 0], before[after != 0])
    assert not np.signbit(after[after == 0]).any()


def test_ties_go_in_order() -> None:
    values = np.ones((8, 12), np.float32)
    values[::2] = -1
    found = tensors(apply(Magnitude(0.25, min_elements=1), model(ONE, w=values)).after)["w"].ravel()
    assert np.flatnonzero(found == 0).tolist() == list(range(24))
    done = apply(
        Magnitude(0.5, min_elements=1), model(TWO, v=np.ones((8, 12), np.float32), w=np.ones((12, 5), np.float32))
    )
    assert zeros(tensors(done.after)["v"]) == 78
    assert_missed(done, "prune", "0 of its 60 elements are zero already, and no other is to go")


def test_zeros_that_are_there_count_whatever_their_sign() -> None:
    values = floats(8, 12)
    values[:4] = 0
    values[2] = -0.0
    found = tensors(apply(Magnitude(0.75, min_elements=1), model(ONE, w=values)).after)["w"]
    assert zeros(found) == 72
    done = apply(Magnitude(0.5, min_elements=1), model(ONE, w=values))
    assert not done.applied
    assert_missed(done, "prune", "48 of its 96 elements are zero already, and no other is to go")


def test_what_the_gate_refuses_changes_nothing_for_the_others() -> None:
    everything = tensors(apply(Magnitude(min_elements=1), two()).after)
    done = apply(Magnitude(min_elements=1), two(), gate=Without("magnitude", 1))
    found = tensors(done.after)
    assert zeros(found["v"]) == 0
    assert np.array_equal(found["w"], everything["w"])


CASES = {
    "Conv": ("(float[1, 8, 9, 9] x) => (float[1, 6, 7, 7] y) { y = Conv(x, w) }", (6, 8, 3, 3), 1),
    "Conv grouped": ("(float[1, 8, 9, 9] x) => (float[1, 6, 7, 7] y) { y = Conv<group = 2>(x, w) }", (6, 4, 3, 3), 1),
    "ConvTranspose": ("(float[1, 8, 5, 5] x) => (float[1, 3, 7, 7] y) { y = ConvTranspose(x, w) }", (8, 3, 3, 3), 0),
    "ConvTranspose grouped": (
        "(float[1, 8, 5, 5] x) => (float[1, 6, 7, 7] y) { y = ConvTranspose<group = 2>(x, w) }",
        (8, 3, 3, 3),
        0,
    ),
    "Gemm": ("(float[5, 8] x) => (float[5, 6] y) { y = Gemm(x, w) }", (8, 6), 0),
    "Gemm transB": ("(float[5, 8] x) => (float[5, 6] y) { y = Gemm<transB = 1>(x, w) }", (6, 8), 1),
    "Gemm left": ("(float[8, 5] x) => (float[6, 5] y) { y = Gemm(w, x) }", (6, 8), 1),
    "MatMul": ("(float[5, 8] x) => (float[5, 6] y) { y = MatMul(x, w) }", (8, 6), 0),
    "MatMul left": ("(float[8, 5] x) => (float[6, 5] y) { y = MatMul(w, x) }", (6, 8), 1),
    "MatMul batched": ("(float[2, 5, 8] x) => (float[2, 5, 6] y) { y = MatMul(x, w) }", (2, 8, 6), 1),
    "MatMul transposed": ("(float[5, 8] x) => (float[5, 6] y) { t = Transpose(w)  y = MatMul(x, t) }", (6, 8), 1),
    "LSTM": ("(float[4, 2, 8] x) => (float[4, 1, 2, 3] y) { y = LSTM<hidden_size = 3>(x, w, r) }", (1, 12, 8), 2),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("pattern", ["2:4", "1:4", "1:2"])
def test_patterns_lie_along_the_axis_that_is_summed_over(case: str, pattern: str) -> None:
    text, shape, axis = CASES[case]
    more = {"r": floats(1, 12, 3)} if case == "LSTM" else {}
    proto = model(f"g {text}", w=floats(*shape), **more)
    feeds = [{"x": floats(*(dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim), seed=3)}]
    done = apply(Magnitude(pattern=pattern, min_elements=1), proto, feeds=feeds)
    kept, group = map(int, pattern.split(":"))
    lines = np.moveaxis(tensors(done.after)["w"], axis, -1).reshape(-1, group)
    assert ((lines != 0).sum(1) == kept).all()
    before = np.moveaxis(floats(*shape), axis, -1).reshape(-1, group)
    assert np.array_equal(np.sort(np.abs(lines), 1)[:, -kept:], np.sort(np.abs(before), 1)[:, -kept:])


@pytest.mark.parametrize(
    ("text", "shape", "why"),
    [
        (
            "(float[5, 6] x) => (float[5, 4] y) { y = MatMul(x, w) }",
            (6, 4),
            "its input axis 0 has 6 elements, which 2:4 does not divide",
        ),
        (
            "(float[1, 4, 9, 9] x) => (float[1, 4, 7, 7] y) { y = Conv<group = 4>(x, w) }",
            (4, 1, 3, 3),
            "its input axis 1 has 1 elements, which 2:4 does not divide",
        ),
        (
            "(float[1, 4, 5, 5] x) => (float[1, 6, 7, 7] y) { y = ConvTranspose<group = 2>(x, w) }",
            (4, 3, 3, 3),
            "its input axis 0 has 4 elements in 2 groups, which 2:4 does not divide",
        ),
        (
            "(float[4, 4] x) => (float[4, 4] y) { a = MatMul(x, w)  y = MatMul(w, a) }",
            (4, 4),
            "its readers sum over different axes of it",
        ),
        (
            "(float[5, 8] x, int64[2] s) => (float[5, 4] y) { t = Reshape(w, s)  y = MatMul(x, t) }",
            (2, 4, 4),
            "what MatMul 'MatMul(y)' sums over is not one axis of it",
        ),
    ],
)
def test_weights_without_groups_are_left(text: str, shape: tuple[int, ...], why: str) -> None:
    done = apply(Magnitude(pattern="2:4", min_elements=1), model(f"g {text}", w=floats(*shape)), feeds=NO_FEEDS)
    assert_missed(done, "prune", why)
    assert not done.applied


def test_a_weight_that_has_the_pattern_is_left() -> None:
    values = np.tile(np.array([0, 1, 0, 2], np.float32), (12, 2)).T
    done = apply(Magnitude(pattern="2:4", min_elements=1), model(ONE, w=values))
    assert_missed(done, "prune", "48 of its 96 elements are zero already, and no other is to go")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "(float[N, 8] x, float[8, 12] w) => (float[N, 12] y) { y = MatMul(x, w) }",
            "it is also a graph input, whose value",
        ),
        ("(float[N, 8] x) => (float[N, 12] y, float[8, 12] w) { y = MatMul(x, w) }", "is a graph output"),
        (
            "(float[N, 8] x) => (float[N, 12] y, float[8, 12] z) { y = MatMul(x, w)  z = Neg(w) }",
            "Neg 'Neg(z)' reads it, and Neg is not an operator with weights",
        ),
        ("(float[12, 12] x) => (float[8, 12] y) { y = MatMul(w, x)  z = PRelu(x, w) }", "it is the slope of PRelu"),
    ],
)
def test_weights_that_somebody_else_needs_are_left(text: str, why: str) -> None:
    done = apply(Magnitude(min_elements=1), model(f"g {text}", w=floats(8, 12)), feeds=NO_FEEDS)
    assert_missed(done, "prune", why)
    assert done.after == done.before


def test_biases_normalizations_and_quantized_weights_are_left() -> None:
    text = """g (float[N, 8] x) => (float[N, 12] y) {
        a = Gemm(x, w, b)  c = LayerNormalization(a, s)  d = DequantizeLinear(q, k)  y = MatMul(c, d) }"""
    weights = {"w": floats(8, 12), "b": floats(12), "s": floats(12), "k": np.float32(1)}
    done = apply(Magnitude(min_elements=2), model(text, q=np.ones((12, 12), np.int8), **weights))
    assert [one.node for one in done.applied] == ["w"]
    assert_missed(done, "prune", "it is the bias of Gemm 'Gemm(a)'")
    assert_missed(done, "prune", "it is the scale of LayerNormalization 'LayerNormalization(c)'")
    assert_missed(done, "prune", "it is quantized already, by DequantizeLinear 'DequantizeLinear(d)'")
    assert len(done.missed) == 3


def test_integer_weights_are_left() -> None:
    text = "g (int32[N, 8] x) => (int32[N, 12] y) { y = MatMul(x, w) }"
    done = apply(Magnitude(min_elements=1), model(text, w=np.ones((8, 12), np.int32)))
    assert_missed(done, "prune", "it is int32, not floating point")


def test_a_nan_is_left_and_counts_for_nobody() -> None:
    values = floats(8, 12)
    values[3, 3] = np.nan
    done = apply(Magnitude(min_elements=1), model(TWO, v=values, w=floats(12, 5)), feeds=NO_FEEDS)
    assert_missed(done, "prune", "it has a NaN")
    assert zeros(tensors(done.after)["w"]) == 30


def test_infinities_are_the_largest() -> None:
    values = floats(8, 12)
    values[0, 0] = -np.inf
    done = apply(Magnitude(0.99, min_elements=1), model(ONE, w=values), feeds=NO_FEEDS)
    assert tensors(done.after)["w"][0, 0] == -np.inf


def test_tables_are_left_unless_asked_for() -> None:
    text = """g (int64[N] i, float[N, 8] x) => (float[N, 8] e, float[N, 40] y) {
        e = Gather(w, i)  t = Transpose(w)  y = MatMul(x, t) }"""
    proto = model(text, w=floats(40, 8))
    feeds = [{"i": np.array([1, 39]), "x": floats(2, 8)}]
    done = apply(Magnitude(min_elements=1), proto, feeds=feeds)
    assert_missed(done, "prune", "it is a table that Gather 'Gather(e)' looks up, and embeddings is false")
    assert not done.applied
    done = apply(Magnitude(min_elements=1, embeddings=True), proto, feeds=feeds)
    assert zeros(tensors(done.after)["w"]) == 160


def test_small_weights_are_left_and_small_others_not_mentioned() -> None:
    text = "g (float[N, 8] x) => (float[N, 12] y) { a = MatMul(x, w)  y = Add(a, b) }"
    proto = model(text, w=floats(8, 12), b=floats(12))
    done = apply(Magnitude(min_elements=97), proto)
    assert [one.why for one in done.missed] == ["it has 96 elements, fewer than min-elements=97"]
    assert apply(Magnitude(min_elements=96), proto).applied


@pytest.mark.parametrize("pattern", ["w", "/body/*"])
def test_what_skip_names_is_left_and_not_counted(pattern: str) -> None:
    proto = two()
    proto.graph.node[1].name = "/body/fc"
    done = apply(Magnitude(min_elements=1, skip=(pattern,)), proto)
    assert_missed(done, "prune", f"skip has {pattern!r}")
    assert zeros(tensors(done.after)["v"]) == 48


def test_empty_weights_are_left() -> None:
    text = "g (float[N, 0] x) => (float[N, 24] y) { y = MatMul(x, w) }"
    assert_missed(apply(Magnitude(min_elements=0), model(text, w=floats(0, 24))), "prune", "it is empty")


def test_a_shared_weight_is_pruned_once() -> None:
    text = "g (float[N, 8] x) => (float[N, 8] y) { a = MatMul(x, w)  y = Gemm<transB = 1>(a, w) }"
    done = apply(Magnitude(min_elements=1), model(text, w=floats(8, 8)))
    assert len(done.applied) == 1
    assert zeros(tensors(done.after)["w"]) == 32


def test_constant_nodes_bodies_and_functions_are_pruned_in_place() -> None:
    text = """
        <ir_version: 10, opset_import: ["": 21, "local": 1]>
        g (bool c, float[N, 8] x) => (float[N, 8] y) {
            a = If(c)<then_branch = t () => (float[N, 8] o) { o = MatMul(x, k) },
                      else_branch = e () => (float[N, 8] o) { o = MatMul(x, w) }>
            y = local.dense(a, v)
        }
        <domain: "local", opset_import: ["": 21]> dense (a, v) => (d) { c = MatMul(a, k)  d = MatMul(c, v) }
        """
    proto = model(text, w=floats(8, 8), v=floats(8, 8, seed=1))
    value = numpy_helper.from_array(floats(8, 8, seed=2))
    for nodes in (proto.graph.node[0].attribute[0].g.node, proto.functions[0].node):
        nodes.insert(0, helper.make_node("Constant", [], ["k"], value=value))
    done = apply(Magnitude(scope="layer", min_elements=1), proto)
    assert [one.scope for one in done.applied] == ["", "", "If(a).then_branch", "function local.dense"]
    for nodes in (done.after.graph.node[0].attribute[0].g.node, done.after.functions[0].node):
        assert zeros(numpy_helper.to_array(nodes[0].attribute[0].t)) == 32


SPARSE = Magnitude(0.9, storage="sparse", min_elements=1)
LARGE = "g (float[N, 40] x) => (float[N, 50] y) { y = MatMul(x, w) }"


def held(proto: ModelProto) -> Any:
    (node,) = [one for one in proto.graph.node if one.op_type == "Constant"]
    assert [one.name for one in node.attribute] == ["sparse_value"]
    stored = node.attribute[0].sparse_tensor
    at = numpy_helper.to_array(stored.indices)
    assert at.dtype == np.int64
    assert (np.diff(at) > 0).all()
    dense = np.zeros(list(stored.dims), numpy_helper.to_array(stored.values).dtype)
    dense.reshape(-1)[at] = numpy_helper.to_array(stored.values)
    return dense


def test_a_sparse_tensor_holds_the_same_and_runs_the_same() -> None:
    proto = model(LARGE, w=floats(40, 50))
    dense = apply(Magnitude(0.9, min_elements=1), proto)
    sparse = apply(SPARSE, proto)
    assert sparse.body == "w_sparse = Constant<sparse_value=(sparse_tensor)>()\ny = MatMul(x, w_sparse)"
    assert np.array_equal(held(sparse.after), tensors(dense.after)["w"])
    assert not sparse.after.graph.initializer
    assert sparse.after.ByteSize() < 0.35 * proto.ByteSize()
    assert sparse.applied[0].why == "1800 of 2000 elements are zero, 0 were, stored as a sparse tensor"
    feeds = [{"x": floats(3, 40)}]
    for options in ((), (USUAL,)):
        one, other = (outputs_of(done.after.SerializeToString(), feeds, *options) for done in (dense, sparse))
        assert np.array_equal(one[0]["y"], other[0]["y"])


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64, ml_dtypes.bfloat16])
@pytest.mark.parametrize("shape", [(600,), (20, 30), (4, 5, 30), (4, 3, 5, 10)])
def test_every_type_and_rank_loads(dtype: Any, shape: tuple[int, ...]) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    at = "int64 i" if len(shape) == 1 else "int64[1] i"
    out = ["1"] * (len(shape) > 1) + [str(one) for one in shape[1:]]
    text = f"g ({at}) => (float[{', '.join(out)}] y) {{ a = Gather(w, i)  y = Cast<to = 1>(a) }}".replace(
        "float[] y", "float y"
    )
    proto = model(text, w=floats(*shape, dtype=dtype))
    assert proto.graph.initializer[0].data_type == kind
    feeds = [{"i": np.array(3 if len(shape) == 1 else [3], np.int64)}]
    pruned = Magnitude(0.9, embeddings=True, min_elements=1)
    dense = apply(pruned, proto, feeds=feeds)
    sparse = apply(Magnitude(0.9, embeddings=True, storage="sparse", min_elements=1), proto, feeds=feeds)
    assert "sparse_value" in sparse.body
    for options in ((), (USUAL,)):
        one, other = (outputs_of(done.after.SerializeToString(), feeds, *options) for done in (dense, sparse))
        assert compare(one[0]["y"], other[0]["y"]).differing == 0


def test_weights_of_bodies_and_functions_are_stored_sparse_where_they_are() -> None:
    text = """
        <ir_version: 10, opset_import: ["": 21, "local": 1]>
        g (bool c, float[N, 40] x) => (float[N, 40] y) {
            a = If(c)<then_branch = t () => (float[N, 40] o) { o = MatMul(x, k) },
                      else_branch = e () => (float[N, 40] o) { o = MatMul(x, w) }>
            y = local.dense(a)
        }
        <domain: "local", opset_import: ["": 21]> dense (a) => (d) { d = MatMul(a, k) }
        """
    proto = model(text, w=floats(40, 40))
    value = numpy_helper.from_array(floats(40, 40, seed=2))
    body = proto.graph.node[0].attribute[0].g
    body.initializer.append(numpy_helper.from_array(floats(40, 40, seed=2), "k"))
    proto.functions[0].node.insert(0, helper.make_node("Constant", [], ["k"], value=value))
    feeds = [{"c": np.array(one), "x": floats(3, 40)} for one in (False, True)]
    done = apply(SPARSE, proto, feeds=feeds)
    assert done.body.splitlines() == [
        "w_sparse = Constant<sparse_value=(sparse_tensor)>()",
        "a = If(c)",
        "  else_branch: () => (o)",
        "    o = MatMul(x, w_sparse)",
        "  then_branch: () => (o)",
        "    k_sparse = Constant<sparse_value=(sparse_tensor)>()",
        "    o = MatMul(x, k_sparse)",
        "y = local.dense(a)",
        "function local.dense (a) => (d)",
        "  k_sparse_1 = Constant<sparse_value=(sparse_tensor)>()",
        "  d = MatMul(a, k_sparse_1)",
    ]


def test_a_tensor_that_would_not_get_smaller_is_stored_dense() -> None:
    proto = model(LARGE, w=floats(40, 50))
    done = apply(Magnitude(0.65, storage="sparse", min_elements=1), proto)
    assert done.body == "y = MatMul(x, w)"
    assert "stored dense: it would not be smaller: 8000 bytes dense, about" in done.applied[0].why
    assert "sparse_value" in apply(Magnitude(0.7, storage="sparse", min_elements=1), proto).body


@pytest.mark.parametrize("size", range(20, 80, 3))
def test_sparse_storage_never_grows_the_file(size: int) -> None:
    text = f"g (float[N, 1] x) => (float[N, {size}] y) {{ y = MatMul(x, w) }}"
    proto = model(text, w=floats(1, size))
    assert apply(SPARSE, proto, laws=False).after.ByteSize() <= proto.ByteSize()


def test_what_is_sparse_already_is_stored_sparse_when_asked() -> None:
    values = np.zeros((40, 50), np.float32)
    values[::7, ::5] = 1
    done = apply(Magnitude(0.5, storage="sparse", min_elements=1), model(LARGE, w=values))
    assert np.array_equal(held(done.after), values)
    assert not apply(Magnitude(0.5, min_elements=1), model(LARGE, w=values)).applied


def test_old_opsets_are_stored_dense() -> None:
    done = apply(SPARSE, model(f'<ir_version: 8, opset_import: ["": 10]> {LARGE}', w=floats(40, 50)))
    why = "stored dense: a sparse Constant needs opset 11 and the model has 10: raise it with opset{to=11} first"
    assert why in done.applied[0].why
    done = apply(SPARSE, model(f'<ir_version: 5, opset_import: ["": 11]> {LARGE}', w=floats(40, 50)))
    assert "stored dense: a sparse tensor needs IR version 6 and the model has 5" in done.applied[0].why


def test_a_sparse_initializer_stays_sparse() -> None:
    """Though storage is dense: the file must not grow by what the model kept sparse."""
    proto = model(LARGE, w=floats(40, 50))
    del proto.graph.initializer[:]
    at = np.arange(0, 2000, 20)
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(floats(100), "w"), numpy_helper.from_array(at, "w_at"), [40, 50]
    )
    proto.graph.sparse_initializer.append(sparse)
    done = apply(Magnitude(0.97, min_elements=1), proto, laws=False)
    assert not done.after.graph.sparse_initializer
    assert zeros(held(done.after)) == 1940
    assert done.after.ByteSize() < proto.ByteSize()
    done = apply(Magnitude(0.9, min_elements=1), proto, laws=False)
    assert_missed(done, "prune", "1900 of its 2000 elements are zero already")


def test_values_that_were_read_are_let_go() -> None:
    with_nan = floats(12, 5)
    with_nan[0, 0] = np.nan
    done = apply(Magnitude(sparsity=0, min_elements=1), model(TWO, v=floats(8, 12), w=with_nan), feeds=NO_FEEDS)
    assert not done.applied
    assert all("_loaded" not in one.__dict__ for one in done.graph.initializers)


def test_what_is_not_read_is_not_mentioned() -> None:
    proto = model("g (float[N, 4] x) => (float[N, 4] y) { y = Neg(x) }", w=floats(64, 64))
    assert apply(Magnitude(min_elements=1), proto).remarks == ()


def test_the_order_of_files_decides_ties_not_the_order_of_readers() -> None:
    proto = model(TWO, v=np.ones((8, 12), np.float32), w=np.ones((12, 5), np.float32))
    proto.graph.initializer.reverse()
    found = tensors(apply(Magnitude(0.25, min_elements=1), proto).after)
    assert (zeros(found["w"]), zeros(found["v"])) == (39, 0)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"sparsity": 1.5}, "sparsity must be from 0 to 1, and 1.5 is not"),
        ({"sparsity": -0.1}, "sparsity must be from 0 to 1, and -0.1 is not"),
        ({"min_elements": -1}, "min-elements must not be negative, and -1 is"),
        ({"pattern": "4:2"}, "pattern must be unstructured, or such as 2:4"),
        ({"pattern": "1:4", "sparsity": 0.3}, "pattern 1:4 means a sparsity of 0.75, not 0.3"),
    ],
)
def test_options_are_checked(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Magnitude(**options)


def test_a_pattern_may_say_its_own_sparsity() -> None:
    assert Magnitude(pattern="1:4", sparsity=0.75).pattern == "1:4"


def test_the_text_of_a_pipeline_builds_it() -> None:
    text = 'magnitude{scope=layer pattern="2:4" storage=sparse}'
    assert str(parse(text)) == text
    assert parse(text).steps == (Magnitude(scope="layer", pattern="2:4", storage="sparse"),)


def test_the_page_is_complete() -> None:
    assert [one.title for one in page(Magnitude).sections] == list(SECTIONS)


def test_the_input_is_read_not_written() -> None:
    proto = two()
    source = from_proto(proto)
    graph = decode(source.proto, source.store)
    assert all(not one.values.flags.writeable for one in graph.initializers)
