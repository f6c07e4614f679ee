"""What the graph says about its inputs: tables, masks, lengths, switches, thresholds, sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from graphopt.storage.read import from_proto
from graphopt.testing import model
from graphopt.validation.flow import Flow
from graphopt.validation.hints import size_hints
from graphopt.validation.roles import Bound, Role, role_of
from graphopt.validation.signature import default_inputs, required_inputs

TABLE = np.zeros((20, 8), np.float32)


def role(proto: onnx.ModelProto, name: str = "i") -> Role:
    inputs = required_inputs(proto)
    return role_of(next(each for each in inputs if each.name == name), Flow(proto), inputs)


def limit(proto: onnx.ModelProto, name: str = "i", **sizes: int) -> int:
    return role(proto, name).limit(sizes, -1)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("y = Gather(t, i)", 20),
        ("y = Gather <axis = 1> (t, i)", 8),
        ("y = Gather <axis = -1> (t, i)", 8),
        ("a = Cast <to = 7> (i)  y = Gather(t, a)", 20),
        ("u = Unsqueeze(i, zero)  s = Squeeze(u, zero)  y = Gather(t, s)", 20),
        ("a = Add(i, two)  y = Gather(t, a)", 18),
        ("a = Sub(i, two)  y = Gather(t, a)", 22),
        ("a = Mul(i, two)  y = Gather(t, a)", 10),
        ("a = Div(i, two)  y = Gather(t, a)", 39),
        ("a = Mul(i, two)  b = Add(a, two)  y = Gather(t, b)", 9),
        ("q = Identity(t)  w = Transpose(q)  y = Gather(w, i)", 8),
        ("c = Concat <axis = 0> (i, two)  y = Gather(t, c)", 20),
        ("y0 = Gather(t, i)  y = Gather <axis = 1> (t, i)", 8),  # the smaller of the two
        ("y = GatherElements <axis = 1> (t, i)", 8),
        ("y = GatherND(t, i)", 8),
        ("y = ScatterElements <axis = 0> (t, i, t)", 20),
        ("y = OneHot <axis = -1> (i, two, values)", 2),
    ],
)
def test_an_index_is_bounded_by_its_table(path: str, expected: int) -> None:
    proto = model(
        f"g (int64[N] i) => (float[A, B] y) {{ {path} }}",
        t=TABLE,
        two=np.array([2]),
        zero=np.array([0]),
        values=np.array([0.0, 1.0], np.float32),
    )
    assert role(proto).kind == "index"
    assert limit(proto) == expected


def test_a_quantized_table_and_a_table_in_a_constant_node() -> None:
    quantized = model(
        "g (int64[N] i) => (float[N, 8] y) { t = DequantizeLinear(q, s)  y = Gather(t, i) }",
        q=np.zeros((30, 8), np.uint8),
        s=np.array(1, np.float32),
    )
    assert limit(quantized) == 30
    node = model(
        "g (int64[N] i) => (int64[N] y) { t = Constant <value_ints = [1, 2, 3]> ()  y = Gather(t, i) }",
    )
    assert limit(node) == 3


def test_a_table_that_is_an_input_bounds_by_its_dims() -> None:
    proto = model("g (float[rows, 8] t, int64[N] i) => (float[N, 8] y) { y = Gather(t, i) }")
    assert role(proto).bounds == (Bound("rows"),)
    assert limit(proto, rows=5) == 5


def test_bodies_and_functions_are_looked_into() -> None:
    branch = model(
        """g (int64[N] i, bool c) => (float[N, 8] y) {
            y = If (c) <
                then_branch = a () => (float[N, 8] p) { p = Gather(t, i) },
                else_branch = b () => (float[N, 8] q) { q = Gather(t, i) }
            >
        }""",
        t=TABLE,
    )
    assert limit(branch) == 20
    loop = model(
        """g (int64[N] i) => (int64[N] last, float[K, N, 8] y) {
            n = Constant <value_int = 2> ()
            c = Constant <value_ints = [1]> ()
            b = Cast <to = 9> (c)
            last, y = Loop (n, b, i) <body = l (int64 k, bool g0, int64[N] s) => (bool g1, int64[N] s1, float[N, 8] r) {
                g1 = Identity(g0)
                s1 = Identity(s)
                r = Gather(t, s)
            }>
        }""",
        t=TABLE,
    )
    assert limit(loop) == 20
    called = model(
        """<ir_version: 10, opset_import: ["": 21, "my": 1]>
        g (int64[N] i, float[9, 8] t) => (float[N, 8] y) { y = my.look(t, i) }
        <domain: "my", opset_import: ["": 21]> look (table, at) => (out) { out = Gather(table, at) }"""
    )
    assert role(called).kind == "index"


@pytest.mark.parametrize(
    ("proto", "expected"),
    [
        ("g (int64[N] attention_mask) => (int64[N] y) { y = Neg(attention_mask) }", "mask"),
        ("g (bool[N, M] key_padding_mask) => (bool[N, M] y) { y = Not(key_padding_mask) }", "mask"),
        ("g (int64[N, M] i) => (float[N, M] y) { f = Cast <to = 1> (i)  y = Sub(one, f) }", "mask"),
        ("g (int64[N, M] i) => (bool[N, M] y) { y = Equal(i, zero) }", "mask"),
        ("g (int64 sr) => (bool y) { y = Equal(sr, rate) }", "switch"),
        ("g (int64[1] i) => (bool[1] y) { y = Equal(i, rate) }", "switch"),
        ("g (int64 sr) => (int64 y) { y = Neg(sr) }", "fill"),
        ("g (int64[N] token_type_ids) => (int64[N] y) { y = Neg(token_type_ids) }", "index"),
        ("g (int64[N, M] position_ids) => (int64[N, M] y) { y = Neg(position_ids) }", "position"),
        ("g (int64[N, M] position_ids) => (float[N, M, 8] y) { y = Gather(t, position_ids) }", "position"),
        ("g (float[N, M] x, int64[N] input_lengths) => (int64[N] y) { y = Neg(input_lengths) }", "length"),
        ("g (float[N, M] x, int64[N] x_lens) => (int64[N] y) { y = Neg(x_lens) }", "length"),
        ("g (bool use_cache_branch) => (bool y) { y = Not(use_cache_branch) }", "fill"),
        ("g (int64[2] i, float[N] x) => (float[A, B] y) { y = Reshape(x, i) }", "pattern"),
        ("g (int64[N] sequence) => (int64[N] y) { y = Neg(sequence) }", "free"),
        ("g (float[N] image) => (float[N] y) { y = Neg(image) }", "free"),
        ("g (float[N] i) => (float[N] y) { y = Log(i) }", "positive"),
        ("g (float[N] i) => (float[N] y) { y = Pow(i, half) }", "positive"),
        ("g (float[N] i) => (float[N] y) { y = Pow(i, two) }", "free"),
        ("g (int64[N] i) => (bool[N] y) { y = Equal(i, count) }", "index"),
        ("g (float[N] i) => (bool[N] y) { y = Less(i, splits) }", "around"),
    ],
)
def test_parts_that_inputs_play(proto: str, expected: str) -> None:
    made = model(
        proto,
        t=TABLE,
        one=np.array(1, np.float32),
        zero=np.array(0),
        rate=np.array(8000),
        half=np.array(0.5, np.float32),
        two=np.array(2, np.float32),
        count=np.arange(5),
        splits=np.array([0.5, 700.0], np.float32),
    )
    inputs = [each.name for each in required_inputs(made)]
    name = next(each for each in inputs if each != "x")
    assert role(made, name).kind == expected


def test_what_a_switch_is_compared_with_and_what_a_length_may_reach() -> None:
    switch = model(
        "g (int64 sr) => (bool y) { a = Equal(sr, r16)  b = Equal(sr, r8)  y = Or(a, b) }",
        r16=np.array(16000),
        r8=np.array(8000),
    )
    assert role(switch, "sr").choices == (16000.0, 8000.0)
    length = model("g (float[N, T] x, int64[N] x_lens) => (int64[N] y) { y = Neg(x_lens) }")
    assert limit(length, "x_lens", N=2, T=9) == 9


def test_a_one_hot_written_as_a_comparison_bounds_its_input() -> None:
    proto = model(
        "g (int32[N, 1] i) => (bool[N, 5] y) { e = Expand(count, s)  y = Equal(i, e) }",
        count=np.arange(5, dtype=np.int32),
        s=np.array([1, 5]),
    )
    assert (role(proto).kind, limit(proto)) == ("index", 5)


def test_constants_that_a_skeleton_keeps_elsewhere_are_found() -> None:
    """300 numbers are more than a skeleton holds itself, and no more than are looked at."""
    text = "g (int32[N, 1] i) => (bool[N, 300] y) { y = Equal(i, count) }"
    source = from_proto(model(text, count=np.arange(300, dtype=np.int32)))
    assert source.proto.graph.initializer[0].raw_data == b""
    inputs = required_inputs(source.proto)
    assert role_of(inputs[0], Flow(source.proto, source.store), inputs).bounds == (Bound(300),)
    assert role_of(inputs[0], Flow(source.proto), inputs).kind == "free"


def lstm(**attributes: Any) -> onnx.ModelProto:
    nodes = [helper.make_node("LSTM", ["x", "w", "r", "", "", "h", "c"], ["y"], hidden_size=16, **attributes)]
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)
        for name, dims in (("x", ["T", "N", "I"]), ("h", ["D", "N", "H"]), ("c", ["D", "N", "H2"]), ("y", None))
    ]
    weights = [
        helper.make_tensor("w", TensorProto.FLOAT, [1, 64, 10], np.zeros(640)),
        helper.make_tensor("r", TensorProto.FLOAT, [1, 64, 16], np.zeros(1024)),
    ]
    return helper.make_model(helper.make_graph(nodes, "g", ports[:3], ports[3:], weights))


@pytest.mark.parametrize(
    ("text", "weights", "expected"),
    [
        ("g (float[N, C] x) => (float[N, 8] y) { y = MatMul(x, w) }", {"w": (20, 8)}, {"C": 20}),
        ("g (float[C, N] x) => (float[20, N] y) { y = MatMul(w, x) }", {"w": (20, 8)}, {"C": 8}),
        ("g (float[N, C] x) => (float[N, 20] y) { y = Gemm <transB = 1> (x, w) }", {"w": (20, 8)}, {"C": 8}),
        ("g (float[N, C, H, W] x) => (float[N, 8, H, W] y) { y = Conv <group = 2> (x, w) }",
         {"w": (8, 3, 1, 1)}, {"C": 6}),
        ("g (float[N, H, W, C] x) => (float[N, 8, H, W] y) { t = Transpose <perm = [0, 3, 1, 2]> (x)  y = Conv(t, w) }",
         {"w": (8, 3, 1, 1)}, {"C": 3}),
        ("g (float[N, C] x) => (float[N, C] y) { a = Relu(x)  y = Add(a, w) }", {"w": (7,)}, {"C": 7}),
        ("g (float[N, C] x) => (float[N, 1, 8] y) { u = Unsqueeze(x, one)  y = MatMul(u, w) }",
         {"w": (20, 8)}, {"C": 20}),
        ("g (float[N, C] x) => (float[N, C] y) { y = Neg(x) }", {}, {}),
    ],
)  # fmt: skip
def test_sizes_that_weights_dictate(text: str, weights: dict[str, tuple[int, ...]], expected: dict[str, int]) -> None:
    arrays: dict[str, Any] = {name: np.zeros(shape, np.float32) for name, shape in weights.items()}
    if "one" in text:
        arrays["one"] = np.array([1])
    proto = model(text, **arrays)
    assert size_hints(required_inputs(proto), Flow(proto)) == expected


def test_the_sizes_of_a_recurrent_network() -> None:
    proto = lstm()
    assert size_hints(required_inputs(proto), Flow(proto)) == {"I": 10, "D": 1, "H": 16, "H2": 16}


def test_inputs_with_a_default_are_not_required() -> None:
    proto = model("g (float[N] x, float[N] w) => (float[N] y) { y = Add(x, w) }", w=np.zeros(2, np.float32))
    assert [each.name for each in required_inputs(proto)] == ["x"]
    assert [each.name for each in default_inputs(proto)] == ["w"]


def test_what_an_input_declares() -> None:
    proto = model("g (float[N, ?, 3] x, seq(int64[2]) s, float a) => (float y) { y = Identity(a) }")
    # the parser writes `?` as a dim without a name
    x, s, a = required_inputs(proto)
    assert (x.text, s.text, a.text) == ("float[N,x[1],3]", "sequence(int64[2])", "float[]")
    assert x.symbols == ("N", "x[1]")
    assert x.shape({"N": 5, "x[1]": 7}) == (5, 7, 3)
    del proto.graph.input[0].type.tensor_type.shape.dim[:]
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    assert required_inputs(proto)[0].text == "float"
    for odd in ("?", "None", "-1"):
        proto.graph.input[2].type.tensor_type.shape.dim.add().dim_param = odd
    assert required_inputs(proto)[2].symbols == ("a[0]", "a[1]", "a[2]")  # such names bind nothing together
