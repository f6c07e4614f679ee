"""Which stored tensors are weights of what, along which axes, and what stands in the way."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, helper

from graphopt.analysis.weights import Weight, weights
from graphopt.ir import decode
from graphopt.storage.read import from_proto
from graphopt.testing import model


def found(proto: ModelProto) -> dict[str, Weight]:
    source = from_proto(proto)
    return {one.tensor.name: one for one in weights(decode(source.proto, source.store))}


def zeros(*shape: int) -> Any:
    return np.zeros(shape, np.float32)


def axes(weight: Weight) -> list[tuple[int | None, int | None, int]]:
    return [(site.channel, site.inputs, site.groups) for site in weight.sites]


@pytest.mark.parametrize(
    ("call", "shape", "expected"),
    [
        ("Conv(x, w)", (8, 3, 3, 3), (0, 1, 1)),
        ("Conv<group = 3>(x, w)", (6, 1, 3, 3), (0, 1, 1)),
        ("ConvTranspose(x, w)", (3, 8, 2, 2), (1, 0, 1)),
        ("ConvTranspose<group = 3>(x, w)", (6, 2, 2, 2), (1, 0, 3)),
        ("ConvTranspose<group = 3>(x, w)", (3, 1, 2, 2), (0, 0, 3)),
        ("ConvTranspose<group = 3>(x, w)", (6, 1, 2, 2), (1, 0, 3)),
        ("Gemm(x, w)", (4, 5), (1, 0, 1)),
        ("Gemm<transB = 1>(x, w)", (5, 4), (0, 1, 1)),
        ("Gemm(w, x)", (5, 4), (0, 1, 1)),
        ("Gemm<transA = 1>(w, x)", (4, 5), (1, 0, 1)),
        ("MatMul(x, w)", (4, 5), (1, 0, 1)),
        ("MatMul(w, x)", (5, 4), (0, 1, 1)),
        ("MatMul(x, w)", (2, 3, 4, 5), (3, 2, 1)),
        ("MatMul(w, x)", (2, 3, 4, 5), (2, 3, 1)),
        ("MatMul(x, w)", (4,), (None, 0, 1)),
        ("Gather(w, i)", (9, 4), (1, None, 1)),
        ("Gather<axis = 1>(w, i)", (9, 4), (0, None, 1)),
        ("Gather<axis = -1>(w, i)", (9, 4, 3), (1, None, 1)),
        ("Gather<axis = 1>(w, i)", (9, 4, 3), (2, None, 1)),
        ("Gather(w, i)", (9,), (None, None, 1)),
        ("LSTM<hidden_size = 2>(x, w, r)", (1, 8, 3), (1, 2, 1)),
    ],
)
def test_the_axes_of_an_operator(
    call: str, shape: tuple[int, ...], expected: tuple[int | None, int | None, int]
) -> None:
    proto = model(f"g (float x, int64 i, float r) => (float y) {{ y = {call} }}", w=zeros(*shape))
    assert axes(found(proto)["w"]) == [expected]
    assert found(proto)["w"].obstacle is None


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_both_matrices_of_a_recurrent_operator_are_weights_and_nothing_else_is(op: str) -> None:
    known = {"w": zeros(1, 8, 3), "r": zeros(1, 8, 2), "b": zeros(1, 16), "h": zeros(1, 1, 2)}
    proto = model(f"g (float x) => (float y) {{ y = {op}<hidden_size = 2>(x, w, r, b, , h) }}", **known)
    weights_of = found(proto)
    assert axes(weights_of["w"]) == axes(weights_of["r"]) == [(1, 2, 1)]
    assert weights_of["b"].obstacle == f"it is the bias of {op} '{op}(y)'"
    assert weights_of["h"].obstacle == f"it is the initial state of {op} '{op}(y)'"


@pytest.mark.parametrize(
    ("chain", "stored", "expected"),
    [
        ("t = Transpose(w)", (5, 4), (0, 1)),
        ("t = Transpose<perm = [0, 1]>(w)", (4, 5), (1, 0)),
        ("t = Transpose<perm = [2, 0, 1]>(w)", (4, 5, 2), (1, 0)),
        ("u = Identity(w)  t = Transpose(u)", (5, 4), (0, 1)),
        ("s = Constant<value_ints = [4, 5]>()  t = Reshape(w, s)", (4, 5), (1, 0)),
        ("s = Constant<value_ints = [4, -1]>()  t = Reshape(w, s)", (2, 2, 5), (2, None)),
        ("s = Constant<value_ints = [4, 5]>()  t = Reshape(w, s)", (4, 1, 5), (2, 0)),
        ("s = Constant<value_ints = [0, 6]>()  t = Reshape(w, s)", (4, 2, 3), (None, 0)),
        ("s = Constant<value_ints = [4, 5]>()  t = Reshape(w, s)", (20,), (None, None)),
        ("t = Reshape(w, r)", (4, 5), (None, None)),
        ("s = Constant<value_ints = [0]>()  t = Unsqueeze(w, s)", (4, 5), (1, 0)),
        ("s = Constant<value_ints = [-3]>()  t = Unsqueeze(w, s)", (4, 5), (1, 0)),
        ("s = Constant<value_ints = [-1]>()  t = Squeeze(w, s)", (4, 5, 1), (1, 0)),
        ("t = Squeeze(w)", (1, 4, 1, 5), (3, 1)),
        ("t = Flatten<axis = 2>(w)", (2, 2, 5), (2, None)),
        ("t = Flatten(w)", (4, 5, 1), (1, 0)),
        ("t = Cast<to = 1>(w)", (4, 5), (1, 0)),
    ],
)
def test_axes_are_followed_through_nodes_that_move_elements(
    chain: str, stored: tuple[int, ...], expected: tuple[int | None, int | None]
) -> None:
    proto = model(f"g (float x, int64[2] r) => (float y) {{ {chain}  y = MatMul(x, t) }}", w=zeros(*stored))
    (site,) = found(proto)["w"].sites
    assert (site.channel, site.inputs) == expected
    assert found(proto)["w"].obstacle is None


def test_a_zero_in_a_reshape_that_allows_zeros_is_no_copy_of_a_dim() -> None:
    text = (
        "g (float x) => (float y) { s = Constant<value_ints = [0, 5]>()  t = Reshape<allowzero = 1>(w, s)"
        "  y = MatMul(x, t) }"
    )
    assert axes(found(model(text, w=zeros(4, 5)))["w"]) == [(None, None, 1)]


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ("a = MatMul(x, w)  y = Add(a, w)", "Add 'Add(y)' reads it, and Add is not an operator with weights"),
        ("y = Conv(x, k, w)", "it is the bias of Conv 'Conv(y)'"),
        ("y = Gemm(x, k, w)", "it is the bias of Gemm 'Gemm(y)'"),
        ("y = Conv(w, k)", "it is the data of Conv 'Conv(y)'"),
        ("y = LayerNormalization(x, w)", "it is the scale of LayerNormalization 'LayerNormalization(y)'"),
        (
            "q = QuantizeLinear(w, s)  y = MatMul(x, q)",
            "it is quantized already, by QuantizeLinear 'QuantizeLinear(q)'",
        ),
        (
            "t = Transpose(w)  a = MatMul(x, t)  y = Neg(t)",
            "Neg 'Neg(y)' reads it, and Neg is not an operator with weights",
        ),
        ("y = acme.MatMul(x, w)", "MatMul 'MatMul(y)' reads it, and MatMul is not an operator with weights"),
    ],
)
def test_a_reader_that_is_in_the_way_is_named(nodes: str, expected: str) -> None:
    text = (
        f'<ir_version: 10, opset_import: ["": 21, "acme": 1]> g (float x, float k, float s) => (float y) {{ {nodes} }}'
    )
    assert found(model(text, w=zeros(4, 4)))["w"].obstacle == expected


def test_the_shape_that_a_reshape_is_given_is_no_weight_of_what_reads_the_result() -> None:
    proto = model("g (float x, float z) => (float y) { t = Reshape(z, s)  y = MatMul(x, t) }", s=np.array([4, 5]))
    weight = found(proto)["s"]
    assert weight.sites == ()
    assert weight.obstacle == "Reshape 'Reshape(t)' reads it, and Reshape is not an operator with weights"


def test_readers_of_the_shape_are_not_in_the_way() -> None:
    text = "g (float x) => (float y, int64[2] s, int64 n) { y = MatMul(x, w)  s = Shape(w)  n = Size(w) }"
    weight = found(model(text, w=zeros(4, 4)))["w"]
    assert weight.obstacle is None
    assert len(weight.sites) == 1


def test_a_default_of_an_input_is_the_callers() -> None:
    weight = found(model("g (float x, float[4, 4] w) => (float y) { y = MatMul(x, w) }", w=zeros(4, 4)))["w"]
    assert weight.obstacle == "it is also a graph input, whose value callers may give"
    assert len(weight.sites) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "g (float x) => (float y, float[4, 4] w) { y = MatMul(x, w) }",
            "'w', which holds its values, is a graph output",
        ),
        (
            "g (float x) => (float y, float[4, 4] t) { t = Transpose(w)  y = MatMul(x, t) }",
            "'t', which holds its values, is a graph output",
        ),
        (
            """g (float x, bool c) => (float y, float z) { y = MatMul(x, w)
               z = If(c)<then_branch = a () => (float[4, 4] w) { u = Neg(x) },
                         else_branch = b () => (float o) { o = Neg(x) }> }
            """,
            "'w', which holds its values, is an output of If(z).then_branch",
        ),
    ],
)
def test_an_output_that_holds_the_values_is_named(text: str, expected: str) -> None:
    assert found(model(text, w=zeros(4, 4)))["w"].obstacle == expected


def test_weights_are_found_in_constant_nodes_bodies_and_functions() -> None:
    text = """
        <ir_version: 10, opset_import: ["": 21, "local": 1]>
        g (float[N, 2] x, bool c) => (float[N, 2] y) {
            k = Constant<value = float[2, 2] {1, 2, 3, 4}>()
            a = MatMul(x, k)
            b = If(c)<then_branch = t () => (float[N, 2] o) {
                m = Constant<value = float[2, 2] {1, 2, 3, 4}>()  p = MatMul(a, m)  o = MatMul(p, w)
            }, else_branch = e () => (float[N, 2] o) { o = MatMul(a, w) }>
            y = local.dense(b, v)
        }
        <domain: "local", opset_import: ["": 21]>
        dense (a, v) => (c) {
            n = Constant<value = float[2, 2] {1, 2, 3, 4}>()  t = Transpose(v)  b = MatMul(a, n)  c = MatMul(b, t)
        }
        """
    weights_of = found(model(text, w=zeros(2, 2), v=zeros(2, 2)))
    assert [site.node.label for site in weights_of["w"].sites] == ["MatMul(o)", "MatMul(o)"]
    assert axes(weights_of["v"]) == [(0, 1, 1)]
    assert weights_of["k"].holder is not None and weights_of["k"].home.path == ""
    assert weights_of["m"].home.path == "If(b).then_branch"
    assert weights_of["n"].home.path == "function local.dense"
    assert all(one.obstacle is None for one in weights_of.values())


def test_a_function_that_returns_the_weight_or_does_more_with_it_is_in_the_way() -> None:
    text = """
        <ir_version: 10, opset_import: ["": 21, "local": 1]>
        g (float[2, 2] x) => (float[2, 2] y, float[2, 2] z) { y, z = local.f(x, v) }
        <domain: "local", opset_import: ["": 21]>
        f (a, v) => (c, v) { c = MatMul(a, v) }
        """
    weight = found(model(text, v=zeros(2, 2)))["v"]
    assert weight.obstacle == "'v', which holds its values, is an output of function local.f"


def test_attributes_that_a_call_decides_leave_the_axes_open() -> None:
    text = """
        <ir_version: 10, opset_import: ["": 21, "local": 1]>
        g (float[2, 2] x) => (float[2, 2] y) { y = local.f<flip = 1>(x, v) }
        <domain: "local", opset_import: ["": 21]>
        f <flip> (a, v) => (c) { c = Gemm<transB: int = @flip>(a, v) }
        """
    assert axes(found(model(text, v=zeros(2, 2)))["v"]) == [(None, None, 1)]


def test_a_tensor_that_is_read_twice_by_one_operator_has_two_sites() -> None:
    weight = found(model("g (float x) => (float y) { y = MatMul(w, w) }", w=zeros(4, 4)))["w"]
    assert sorted(axes(weight)) == [(0, 1, 1), (1, 0, 1)]


def test_names_of_a_weight_are_its_own_and_those_of_its_operators() -> None:
    proto = model("g (float x) => (float y) { k = Constant<value = float[1, 1] {1}>()  y = MatMul(x, k) }")
    proto.graph.node[0].name, proto.graph.node[1].name = "holder", "/head/fc"
    assert found(proto)["k"].names == ("k", "holder", "/head/fc")


def test_a_chain_of_calls_that_fans_out_is_followed_once() -> None:
    """Each level calls the next twice: 2^16 ways to one operator, and one site."""
    inner = '<domain: "l", opset_import: ["": 21, "l": 1]> f0 (v) => (c) { c = MatMul(v, v) }'
    levels = [
        f'<domain: "l", opset_import: ["": 21, "l": 1]> f{i} (v) => (c) '
        f"{{ a = l.f{i - 1}(v)  b = l.f{i - 1}(v)  c = Add(a, b) }}"
        for i in range(1, 17)
    ]
    text = '<ir_version: 10, opset_import: ["": 21, "l": 1]> g (float x) => (float y) { y = l.f16(w) }'
    proto = model(text + inner + "".join(levels), w=zeros(2, 2))
    assert len(found(proto)["w"].sites) == 2


def test_time_is_linear_in_readers() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], [f"y{i}"]) for i in range(20_000)]
    proto = model("g (float x) => (float y0) { y0 = MatMul(x, w) }", w=zeros(2, 2))
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    assert len(found(proto)["w"].sites) == 20_000


def test_an_obstacle_is_one_clause() -> None:
    proto = model("g (float x) => (float y, float[2, 2] w) { y = Add(x, w) }", w=zeros(2, 2))
    obstacle = found(proto)["w"].obstacle
    assert obstacle is not None and not re.search(r"[.;\n]$", obstacle)
