"""Shapes behind operators of onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from graphopt.analysis.shapes import infer
from graphopt.ir import decode, encode
from graphopt.storage.read import from_proto
from graphopt.testing import model

FLOAT = onnx.TensorProto.FLOAT


def shape_of(call: str, opset: int = 17, **weights: np.ndarray) -> tuple[int, object]:
    """Dtype and shape of y, which is `call` of x (float[N, 4, 5, 5]), m (float[N, 4, 6]) or r (float[N, 4])."""
    text = f"""<ir_version: 8, opset_import: ["": {opset}, "com.microsoft": 1]>
    g (float[N, 4, 5, 5] x, float[N, 4, 6] m, float[N, 4] r) => (float[A] z) {{
        y = com.microsoft.{call}  t = Relu(y)  z = Flatten(t) }}"""
    source = from_proto(model(text, **weights), None)
    graph = decode(source.proto, source.store)
    before = encode(graph).proto.SerializeToString()
    shapes = infer(graph)
    assert encode(graph).proto.SerializeToString() == before, "the model itself is not touched"
    output = graph.nodes[0].outputs[0]
    return shapes.onnx_dtype(output), shapes.shape(output)


@pytest.mark.parametrize("opset", [9, 13, 21])
@pytest.mark.parametrize(
    ("call", "shape"),
    [
        ("Gelu(m)", ("N", 4, 6)),
        ("QuickGelu<alpha=1.0>(m)", ("N", 4, 6)),
        ("BiasGelu(m, b)", ("N", 4, 6)),
        ("SkipLayerNormalization(m, m, b)", ("N", 4, 6)),
        ("FusedMatMul<alpha=2.0>(m, v)", ("N", 4, 3)),
        ("MultiHeadAttention<num_heads=2>(m, m, m)", ("N", 4, 6)),
        ("Attention<num_heads=2>(m, a)", ("N", 4, 2)),
        ("MultiHeadAttention<num_heads=4>(m, x, x)", ("N", 4, 20)),
        ("MatMulNBits<K=6, N=9, bits=4, block_size=16>(m, q, s)", ("N", 4, 9)),
        ("MatMulBnb4<K=6, N=9, block_size=16, quant_type=1>(m, q, s)", ("N", 4, 9)),
    ],
)
def test_the_shape_is_known(call: str, shape: tuple[object, ...], opset: int) -> None:
    weights = {"b": np.ones(6, np.float32), "v": np.ones((6, 3), np.float32), "a": np.ones((6, 6), np.float32)}
    weights |= {"q": np.ones((9, 1, 8), np.uint8), "s": np.ones((9, 1), np.float32)}
    given = {name: value for name, value in weights.items() if f" {name}" in call}
    assert shape_of(call, opset, **given) == (FLOAT, shape)


def test_a_convolution_with_a_residual() -> None:
    kernel = np.ones((4, 4, 3, 3), np.float32)
    call = 'FusedConv<activation="Clip", activation_params=[0.0, 6.0], pads=[1,1,1,1], strides=[2,2]>(x, w, , x)'
    assert shape_of(call, w=kernel) == (FLOAT, ("N", 4, 3, 3))


def test_a_product_with_an_activation() -> None:
    call = 'FusedGemm<activation="Elu", activation_alpha=1.0, transB=1>(r, w)'
    assert shape_of(call, w=np.ones((7, 4), np.float32)) == (FLOAT, ("N", 7))


def test_transposed_products() -> None:
    assert shape_of("FusedMatMul<transB=1>(m, m)") == (FLOAT, ("N", 4, 4))
    assert shape_of("FusedMatMul<transA=1>(m, m)") == (FLOAT, ("N", 6, 6))
    assert shape_of("FusedMatMul<transBatchA=1>(m, m)")[1] is None


def test_a_product_of_unknown_width() -> None:
    call = "MatMulNBits<K=6, bits=4, block_size=16>(m, q, s)"
    assert shape_of(call, q=np.ones((9, 1, 8), np.uint8), s=np.ones((9, 1), np.float32))[1] is None


def test_quantized_averages() -> None:
    text = """<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]>
    g (uint8[N, 4, 5, 5] x) => (uint8[A] z) {
        y = com.microsoft.QLinearAveragePool<kernel_shape=[2,2]>(x, s, v, s, v)
        t = com.microsoft.QLinearGlobalAveragePool(y, s, v, s, v)  z = Flatten<axis=0>(t) }"""
    source = from_proto(model(text, s=np.float32(1), v=np.uint8(0)), None)
    graph = decode(source.proto, source.store)
    shapes = infer(graph)
    assert shapes.shape(graph.nodes[0].outputs[0]) == ("N", 4, 4, 4)
    assert shapes.shape(graph.nodes[1].outputs[0]) == ("N", 4, 1, 1)
    assert shapes.onnx_dtype(graph.nodes[1].outputs[0]) == onnx.TensorProto.UINT8


def test_what_has_no_rule_stays_unknown() -> None:
    assert shape_of("Mystery(m)") == (0, None)


def test_attention_of_one_packed_value() -> None:
    assert shape_of("MultiHeadAttention<num_heads=2>(m)")[1] is None


def test_attention_with_fewer_heads_of_keys_is_as_wide_as_its_queries() -> None:
    lengths = np.ones(1, np.int32)
    call = "GroupQueryAttention<num_heads=2, kv_num_heads=1>(m, m, m, , , l, l)"
    assert shape_of(call, l=lengths) == (FLOAT, ("N", 4, 6))


def test_words_become_rows_of_a_table() -> None:
    words, table = np.ones((3, 2), np.int32), np.ones((9, 6), np.float32)
    assert shape_of("EmbedLayerNormalization(i, , t)", i=words, t=table) == (FLOAT, (3, 2, 6))


@pytest.mark.parametrize(
    ("call", "shape"),
    [
        ("Attention(x, x, v)", ("N", 4, 5, 7)),
        ("Attention<q_num_heads = 3, kv_num_heads = 2>(m, m, m)", ("N", 4, 9)),
    ],
)
def test_attention_of_onnx(call: str, shape: tuple[object, ...]) -> None:
    text = f"""<ir_version: 10, opset_import: ["": 23]>
    g (float[N, 4, 5, 5] x, float[N, 4, 6] m, float[N, 4, 5, 7] v) => (float[A] z) {{
        y = {call}  t = Relu(y)  z = Flatten(t) }}"""
    source = from_proto(model(text), None)
    graph = decode(source.proto, source.store)
    assert infer(graph).shape(graph.nodes[0].outputs[0]) == shape
