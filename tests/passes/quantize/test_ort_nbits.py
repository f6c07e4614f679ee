"""ort-matmul-nbits and ort-gather-block-quantized: onnxruntime computes what DequantizeLinear says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper, shape_inference

from graphopt.ir.dtypes import unpack
from graphopt.pipeline import Pass, Pipeline
from graphopt.pipeline.page import SECTIONS, page
from graphopt.testing import Applied, apply, assert_missed, model
from graphopt.testing.running import PLAIN, outputs_of
from passes.quantize.nbits_layout import packed_blocks, packed_rows, shared_block
from passes.quantize.ort_gather_block_quantized import OrtGatherBlockQuantized
from passes.quantize.ort_matmul_nbits import OrtMatMulNBits
from passes.quantize.weight_int2 import WeightInt2
from passes.quantize.weight_int4 import WeightInt4
from passes.quantize.weight_int8 import WeightInt8

Array = np.ndarray[Any, Any]

FLOAT = OrtMatMulNBits(accuracy_level=0)
DENSE = "g (float[N, 70] x) => (float[N, 24] y) { y = MatMul(x, w) }"
TABLE = "g (int64[N, M] i) => (float[N, M, C] y) { y = Gather(w, i) }"
ROWS = [{"i": np.array([[0, 39, 5], [-1, 7, 7]])}]


def floats(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Any:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def at(opset: int, text: str) -> str:
    return f'<ir_version: 10, opset_import: ["": {opset}]> {text}'


def tensors(proto: ModelProto) -> dict[str, Array]:
    return {one.name: numpy_helper.to_array(one) for one in proto.graph.initializer}


def quantized(weight_pass: Pass, proto: ModelProto) -> ModelProto:
    done = apply(weight_pass, proto, feeds=(), laws=False)
    assert done.applied, [one.why for one in done.missed]
    return done.after


def lowered(pass_: Pass, proto: ModelProto, feeds: Any) -> Applied:
    """The pass does something, and onnxruntime computes the same before and after."""
    done = apply(pass_, proto, feeds=feeds)
    assert done.applied, [one.why for one in done.missed]
    for before, after in zip(
        outputs_of(proto.SerializeToString(), feeds, PLAIN),
        outputs_of(done.after.SerializeToString(), feeds, PLAIN),
        strict=True,
    ):
        for name in before:
            assert np.allclose(before[name], after[name], rtol=1e-5, atol=2e-5 * np.abs(before[name]).max())
    return done


FORMS: dict[str, Pass] = {
    "4 bits": WeightInt4(min_elements=1),
    "4 bits, blocks of 16": WeightInt4(min_elements=1, block=16),
    "4 bits, zeros": WeightInt4(min_elements=1, symmetric=False),
    "4 bits, unsigned": WeightInt4(min_elements=1, symmetric=False, signed=False),
    "4 bits, unsigned around zero": WeightInt4(min_elements=1, signed=False),
    "4 bits a channel": WeightInt4("channel", min_elements=1, symmetric=False),
    "4 bits a tensor": WeightInt4("tensor", min_elements=1),
    "4 bits, uneven blocks": WeightInt4(min_elements=1, block=48),
    "8 bits": WeightInt8("block", min_elements=1, block=32),
    "8 bits, zeros": WeightInt8("block", min_elements=1, symmetric=False),
    "8 bits a channel": WeightInt8(min_elements=1),
    "8 bits a channel, unsigned": WeightInt8(min_elements=1, symmetric=False, signed=False),
    "8 bits a tensor": WeightInt8("tensor", min_elements=1),
    "2 bits": WeightInt2(min_elements=1),
    "2 bits, zeros a channel": WeightInt2("channel", min_elements=1),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("inputs", [70, 96, 128, 20, 33])
def test_products_are_those_of_the_portable_form(form: str, inputs: int) -> None:
    """Blocks that divide the inputs and those that do not, in float, so that only the order of sums differs."""
    text = at(25, DENSE.replace("70", str(inputs)))
    proto = quantized(FORMS[form], model(text, w=floats(inputs, 24)))
    done = lowered(FLOAT, proto, [{"x": floats(3, inputs)}])
    assert done.body.count("MatMulNBits") == 1
    assert "DequantizeLinear" not in done.body
    found = tensors(done.after)
    assert {one.dtype for one in found.values()} <= {np.dtype(np.uint8), np.dtype(np.float32)}
    assert len(found) in (2, 3)


PRODUCTS = {
    "Transpose": ("g (float[5, 64] x) => (float[] y) { t = Transpose(w)  y = MatMul(x, t) }", {"w": floats(48, 64)}),
    "vector": ("g (float[64] x) => (float[] y) { y = MatMul(x, w) }", {"w": floats(64, 48)}),
    "3-D": ("g (float[2, 5, 64] x) => (float[] y) { y = MatMul(x, w) }", {"w": floats(64, 48)}),
    "Gemm": ("g (float[5, 64] x) => (float[] y) { y = Gemm(x, w, b) }", {"w": floats(64, 48), "b": floats(48)}),
    "Gemm transB": ("g (float[5, 64] x) => (float[] y) { y = Gemm<transB = 1>(x, w) }", {"w": floats(48, 64)}),
    "shared": (
        "g (float[5, 64] x) => (float[] y) { a = MatMul(x, w)  y = MatMul(a, w) }",
        {"w": floats(64, 64)},
    ),
    "both ways": (
        "g (float[5, 64] x) => (float[] y) { t = Transpose(w)  a = MatMul(x, w)  y = MatMul(a, t) }",
        {"w": floats(64, 64)},
    ),
    "If": (
        """g (float[5, 64] x) => (float[5, 48] y) { c = Constant<value = bool {1}>()
            y = If(c)<then_branch = t () => (float[5, 48] o) { o = MatMul(x, w) },
                      else_branch = e () => (float[5, 48] o) { n = Neg(x)  o = MatMul(n, w) }> }""",
        {"w": floats(64, 48)},
    ),
}


@pytest.mark.parametrize("form", ["4 bits", "4 bits, unsigned", "8 bits", "8 bits a channel"])
@pytest.mark.parametrize("case", PRODUCTS)
def test_products_in_every_place(case: str, form: str) -> None:
    text, weights = PRODUCTS[case]
    proto = quantized(FORMS[form], shape_inference.infer_shapes(model(at(21, text), **weights)))
    if case == "both ways":
        done = apply(FLOAT, proto, feeds=())
        assert_missed(done, "matmul-nbits", "reads its codes, too, and they would be stored twice")
        return
    feeds = [
        {one.name: floats(*(dim.dim_value for dim in one.type.tensor_type.shape.dim)) for one in proto.graph.input}
    ]
    done = lowered(FLOAT, proto, feeds)
    assert "DequantizeLinear" not in done.body
    if case == "shared":
        assert len(tensors(done.after)) == len(tensors(proto))


def test_what_is_written() -> None:
    proto = quantized(WeightInt4(min_elements=1), model(DENSE, w=floats(70, 24)))
    done = apply(OrtMatMulNBits(), proto, feeds=[{"x": floats(3, 70)}])
    assert done.body == (
        "y = com.microsoft.MatMulNBits<K=70, N=24, accuracy_level=4, bits=4, block_size=32>"
        "(x, w_int4_nbits, w_int4_nbits_scale)"
    )
    found = tensors(done.after)
    assert found["w_int4_nbits"].shape == (24, 3, 16)
    assert found["w_int4_nbits_scale"].shape == (24, 3)
    assert done.sqnr_db("y") > 30


def test_the_layout_is_onnxruntime_s_own() -> None:
    """The packed bytes of codes and zeros are those that onnxruntime's quantizer makes of them."""
    state = pytest.importorskip("onnxruntime.capi._pybind_state")
    for inputs, block, bits in ((64, 32, 4), (70, 32, 4), (70, 16, 8), (33, 64, 4), (96, 32, 2)):
        weight = floats(inputs, 12, seed=bits)
        blocks, group = -(-inputs // block), 8 // bits
        made = np.zeros((12, blocks, block * bits // 8), np.uint8)
        scale, zero = np.zeros((12, blocks), np.float32), np.zeros((12, -(-blocks // group)), np.uint8)
        padded = np.pad(weight, ((0, blocks * block - inputs), (0, 0)))
        getattr(state, f"quantize_matmul_{bits}bits")(made, padded, scale, zero, block, 12, inputs, False)
        zeros = np.stack([zero >> (bits * place) & ((1 << bits) - 1) for place in range(group)], -1).reshape(12, -1)
        zeros = zeros[:, :blocks].astype(np.uint8)
        codes = np.rint(weight / np.repeat(scale.T, block, 0)[:inputs]) + np.repeat(zeros.T, block, 0)[:inputs]
        codes = np.clip(codes, 0, (1 << bits) - 1).astype(np.uint8)
        mine = packed_blocks(codes, block, bits)
        assert mine.shape == made.shape
        one, other = (
            (part if bits == 8 else unpack(part.reshape(-1), bits, part.size * group)).reshape(12, -1)[:, :inputs]
            for part in (mine, made)
        )
        assert (one == other).mean() > 0.995  # but for values mid-way between codes
        assert np.array_equal(packed_rows(zeros, bits)[:, : blocks // group], zero[:, : blocks // group])


def test_accuracy_level_4_rounds_activations_and_is_the_default() -> None:
    proto = quantized(WeightInt8("block", min_elements=1), model(DENSE.replace("70", "64"), w=floats(64, 24)))
    feeds = [{"x": floats(3, 64)}]
    (exact,) = outputs_of(proto.SerializeToString(), feeds, PLAIN)
    (rounded,) = outputs_of(apply(OrtMatMulNBits(), proto, feeds=()).after.SerializeToString(), feeds, PLAIN)
    error = np.abs(rounded["y"] - exact["y"]).max() / np.abs(exact["y"]).max()
    assert error < 0.02


@pytest.mark.parametrize(
    ("text", "weights", "form", "why"),
    [
        (
            "g (float[5, 64] x) => (float[5, 48] y) { y = Gemm<alpha = 2.0>(x, w) }",
            (64, 48),
            "4 bits",
            "does more than",
        ),
        ("g (float[64, 5] x) => (float[5, 48] y) { y = Gemm<transA = 1>(x, w) }", (64, 48), "4 bits", "does more than"),
        (
            """g (float[5, 64] x) => (float[5, 48] y, float[1, 48] e) {
                y = MatMul(x, w)  i = Constant<value_ints = [3]>()  e = Gather(w, i) }""",
            (64, 48),
            "4 bits a channel",
            "Gather 'Gather(e)' reads its codes, too, and they would be stored twice",
        ),
        (
            "g (float[5, 64] x) => (float[5, 48] y) { y = MatMul(x, w) }",
            (64, 48),
            "blocks of 7",
            "no blocks that fit those of 7",
        ),
    ],
)
def test_products_that_are_left(text: str, weights: tuple[int, ...], form: str, why: str) -> None:
    forms = FORMS | {"blocks of 7": WeightInt8("block", min_elements=1, block=7)}
    proto = quantized(forms[form], model(text, w=floats(*weights)))
    done = apply(OrtMatMulNBits(), proto, feeds=())
    assert_missed(done, "matmul-nbits", why)
    assert done.after == done.before


def test_a_matrix_bias_and_skipped_nodes_are_left() -> None:
    text = "g (float[5, 64] x) => (float[5, 48] y) { y = Gemm(x, w, b) }"
    proto = quantized(FORMS["4 bits"], model(text, w=floats(64, 48), b=floats(5, 48)))
    assert_missed(apply(OrtMatMulNBits(), proto, feeds=()), "matmul-nbits", "adds something else than one number")
    proto = quantized(FORMS["4 bits"], model(DENSE, w=floats(70, 24)))
    assert_missed(apply(OrtMatMulNBits(skip=("w*",)), proto, feeds=()), "matmul-nbits", "skip has 'w*'")


@pytest.mark.parametrize(("bits", "floor"), [(2, 4), (4, 17), (8, 38)])
@pytest.mark.parametrize("opset", [9, 17])
def test_float_weights_are_rounded_at_any_opset(bits: Any, floor: float, opset: int) -> None:
    done = apply(
        OrtMatMulNBits(accuracy_level=0, bits=bits, min_elements=1),
        model(at(opset, DENSE), w=floats(70, 24)),
        changes=("opsets",),
    )
    assert done.body.startswith("y = com.microsoft.MatMulNBits<")
    assert done.sqnr_db("y") > floor
    assert not {"w"} & set(tensors(done.after))


def test_float_weights_under_gemm_shared_and_in_bodies() -> None:
    text = """g (float[5, 64] x) => (float[5, 64] y) { c = Constant<value = bool {1}>()
        h = Gemm<transB = 1>(x, w, b)  g = Gemm<transB = 1>(h, w)
        y = If(c)<then_branch = t () => (float[5, 64] o) { o = Gemm<transB = 1>(g, w) },
                  else_branch = e () => (float[5, 64] o) { o = Neg(g) }> }"""
    done = apply(
        OrtMatMulNBits(accuracy_level=0, bits=8, min_elements=1),
        model(at(13, text), w=floats(64, 64), b=floats(64)),
        feeds=[{"x": floats(5, 64)}],
        changes=("opsets",),
    )
    assert len(done.applied) == 3
    assert sum(one.size >= 64 * 64 for one in tensors(done.after).values()) == 1
    assert done.sqnr_db("y") > 35


@pytest.mark.parametrize(
    ("pass_", "weight", "why"),
    [
        (OrtMatMulNBits(bits=4), floats(70, 8), "it has 560 elements, fewer than min-elements=1024"),
        (OrtMatMulNBits(bits=4, skip=("w",)), floats(70, 24), "skip has 'w'"),
        (OrtMatMulNBits(bits=4, min_elements=1), np.full((70, 24), np.nan, np.float32), "it has a NaN"),
    ],
)
def test_float_weights_that_are_left(pass_: Pass, weight: Array, why: str) -> None:
    text = f"g (float[N, 70] x) => (float[N, {weight.shape[1]}] y) {{ y = MatMul(x, w) }}"
    assert_missed(apply(pass_, model(text, w=weight), feeds=()), "matmul-nbits", why)
    assert apply(OrtMatMulNBits(), model(text, w=weight), feeds=()).remarks == ()


def test_weights_that_are_outputs_are_left() -> None:
    text = "g (float[N, 70] x) => (float[N, 24] y, float[70, 24] w) { y = MatMul(x, w) }"
    done = apply(OrtMatMulNBits(bits=4, min_elements=1), model(text, w=floats(70, 24)), feeds=())
    assert_missed(done, "matmul-nbits", "'w' is a graph output")


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="min-elements must not be negative, and -1 is"):
        OrtMatMulNBits(min_elements=-1)


TABLES: dict[str, Pass] = {
    "4 bits": WeightInt4(min_elements=1),
    "4 bits, zeros": WeightInt4(min_elements=1, symmetric=False, block=16),
    "4 bits, unsigned": WeightInt4(min_elements=1, symmetric=False, signed=False),
    "4 bits a row": WeightInt4(min_elements=1, block=96),
    "4 bits, uneven blocks": WeightInt4(min_elements=1, block=48),
    "8 bits": WeightInt8("block", min_elements=1),
    "8 bits, zeros": WeightInt8("block", min_elements=1, symmetric=False, signed=False),
    "8 bits a row": WeightInt8("block", min_elements=1, block=96),
    "2 bits": WeightInt2(min_elements=1),
}


@pytest.mark.parametrize("form", TABLES)
def test_lookups_are_those_of_the_portable_form(form: str) -> None:
    text = at(25, TABLE)
    proto = quantized(TABLES[form], model(text, w=floats(40, 96)))
    done = lowered(OrtGatherBlockQuantized(), proto, ROWS)
    assert "GatherBlockQuantized" in done.body
    assert "DequantizeLinear" not in done.body
    (before,) = outputs_of(proto.SerializeToString(), ROWS, PLAIN)
    (after,) = outputs_of(done.after.SerializeToString(), ROWS, PLAIN)
    assert np.array_equal(before["y"], after["y"])


@pytest.mark.parametrize("form", ["4 bits", "4 bits, zeros", "4 bits, unsigned"])
def test_a_tied_table_stays_one_tensor(form: str) -> None:
    text = """g (int64[N] i, float[N, 96] x) => (float[N, 96] e, float[N, 40] y) {
        e = Gather(w, i)  t = Transpose(w)  y = MatMul(x, t) }"""
    proto = quantized(TABLES[form], model(text, w=floats(40, 96)))
    assert max(one.nbytes for one in tensors(proto).values()) == 40 * 96
    feeds = [{"i": np.array([3, 1]), "x": floats(2, 96)}]
    done = lowered(OrtGatherBlockQuantized(), proto, feeds)
    assert done.body.count("w_int4" if "uns" not in form else "w_uint4") >= 2
    assert sum(one.size == 40 * 96 for one in tensors(done.after).values()) == 1
    assert done.after.ByteSize() <= proto.ByteSize() * 1.1
    both = apply(Pipeline.of(OrtMatMulNBits(), OrtGatherBlockQuantized()), proto, feeds=feeds, changes=("opsets",))
    assert_missed(both, "matmul-nbits", "Gather 'Gather(e)' reads its codes, too")
    assert both.body.count("GatherBlockQuantized") == 1


@pytest.mark.parametrize(
    ("text", "shape", "form", "why"),
    [
        (TABLE, (40, 96), "columns", "its scales are not for rows or blocks of them"),
        (TABLE, (40, 33), "4 bits", "its rows of 33 codes do not fill whole bytes"),
        (TABLE, (40, 96), "blocks of 7", "no blocks that fit those of 7"),
    ],
)
def test_lookups_that_are_left(text: str, shape: tuple[int, ...], form: str, why: str) -> None:
    forms = TABLES | {
        "columns": WeightInt4("channel", min_elements=1),
        "blocks of 7": WeightInt4(min_elements=1, block=7),
    }
    proto = quantized(forms[form], model(text, w=floats(*shape)))
    done = apply(OrtGatherBlockQuantized(), proto, feeds=())
    assert_missed(done, "gather-block-quantized", why)


def test_columns_that_are_looked_up_are_left() -> None:
    text = """g (int64[N] i) => (float[96, N] y) {
        d = DequantizeLinear<axis = 1, block_size = 32>(q, s)  y = Gather<axis = 1>(d, i) }"""
    proto = model(text, q=np.zeros((96, 96), np.int8), s=np.ones((96, 3), np.float32))
    assert_missed(apply(OrtGatherBlockQuantized(), proto, feeds=()), "gather-block-quantized", "it looks up columns")


def test_float16_tables_and_products() -> None:
    text = "g (int64[N] i) => (float[N, 48] y) { e = Gather(v, i)  b = MatMul(e, w)  y = Cast<to = 1>(b) }"
    weights = {"v": floats(40, 64, dtype=np.float16), "w": floats(64, 48, dtype=np.float16)}
    proto = quantized(WeightInt4(min_elements=1), model(at(21, text), **weights))
    feeds = [{"i": np.array([3, 1])}]
    done = apply(Pipeline.of(FLOAT, OrtGatherBlockQuantized()), proto, feeds=feeds, changes=("opsets",))
    assert "MatMulNBits" in done.body
    assert "GatherBlockQuantized" in done.body
    assert done.sqnr_db("y") > 45


def test_blocks_fit_what_they_are_for() -> None:
    assert shared_block(0, 384) == 128
    assert shared_block(0, 384, 32) == 32
    assert shared_block(0, 20) == 32
    assert shared_block(96, 384) == 32
    assert shared_block(512, 384) == 128
    assert shared_block(7, 384) is None


@pytest.mark.parametrize("kind", [OrtMatMulNBits, OrtGatherBlockQuantized])
def test_the_pages_are_complete(kind: type[Pass]) -> None:
    assert [one.title for one in page(kind).sections] == list(SECTIONS)


def test_an_order_that_callers_of_a_function_give() -> None:
    text = """<ir_version: 10, opset_import: ["": 21, "local": 1]>
        g (float[2, 4] x) => (float[2, 3] y) { y = local.f<order = [1, 0]>(x) }
        <domain: "local", opset_import: ["": 21]>
        f <order> (a) => (c) {
            w = Constant<value = int8[3, 4] {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}>()
            s = Constant<value = float {0.5}>()
            d = DequantizeLinear(w, s)  t = Transpose<perm: ints = @order>(d)  c = MatMul(a, t)
        }"""
    before = model(text)
    assert apply(OrtMatMulNBits(min_elements=1), before).after == before
