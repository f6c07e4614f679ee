"""move-transposes: nodes work on what is before Transposes, where fewer of those are left."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorAnnotation, helper

from graphopt.pipeline.gate import Limits
from graphopt.testing import Applied, apply, assert_missed, model
from passes.layout.move_transposes import MoveTransposes

TO_LAST = "<perm = [0, 2, 3, 1]>"
TO_FIRST = "<perm = [0, 3, 1, 2]>"
ENDS = "(float[N, 2, 3, 4] x) => (float[A, B, C, D] y)"


def moved(text: str | ModelProto, **weights: Any) -> Applied:
    before = model(text, **weights) if isinstance(text, str) else text
    return apply(MoveTransposes(), before)


def between(nodes: str, ends: str = ENDS, header: str = "", **weights: Any) -> Applied:
    """`nodes` make b of a, between a Transpose of x to a and one of b to y."""
    body = f"a = Transpose{TO_LAST}(x)  {nodes}  y = Transpose{TO_FIRST}(b)"
    return moved(f"{header} g {ends} {{ {body} }}", **weights)


@pytest.mark.parametrize("op", ["Abs", "Relu", "Neg", "Floor", "LeakyRelu<alpha=0.5>", "Clip"])
def test_the_two_sides_cancel(op: str) -> None:
    assert between(f"b = {op}(a)").body == f"y = {op}(x)"


def test_a_constant_is_stored_in_the_new_order() -> None:
    kept = np.arange(2, dtype=np.float32)
    done = between("b = Mul(a, w)", w=kept)
    assert done.body == "y = Mul(x, w_1)"
    (held,) = done.graph.initializers
    assert held.shape == (2, 1, 1) and np.array_equal(held.values.ravel(), kept)


def test_a_constant_of_one_element_stays() -> None:
    done = between("c = Add(a, s)  b = Sub(t, c)", s=np.float32(2), t=np.ones((1, 1), np.float32))
    assert {one.name for one in done.graph.initializers} == {"s", "t"} and "Transpose" not in done.body


def test_a_constant_that_others_read_may_cost_too_much() -> None:
    shared = np.ones((3, 4, 2), np.float32)
    done = moved(
        f"""g (float[N, 2, 3, 4] x, float[3, 4, 2] v) => (float[A, B, C, D] y, float[3, 4, 2] z) {{
            a = Transpose{TO_LAST}(x)  b = Add(a, w)  y = Transpose{TO_FIRST}(b)  z = Mul(v, w) }}""",
        w=shared,
    )
    assert not done.applied
    assert_missed(done, "region", "the file would grow")


def test_operands_transposed_alike() -> None:
    done = moved(
        f"""g (float[N, 2, 3, 4] x, float[N, 2, 3, 4] z) => (float[A, B, C, D] y) {{
            a = Transpose{TO_LAST}(x)  b = Transpose{TO_LAST}(z)  c = Add(a, b)  y = Relu(c) }}"""
    )
    assert [node.op for node in done.graph.nodes] == ["Add", "Relu", "Transpose"] or done.body.count("Transpose") == 1


def test_operands_transposed_differently_stay() -> None:
    done = moved(
        """g (float[3, 3] x, float[3, 3] z) => (float[3, 3] y) {
            a = Transpose(x)  y = Add(a, z) }"""
    )
    assert not done.remarks


def test_one_transpose_for_another_is_no_gain() -> None:
    done = moved(f"g {ENDS} {{ a = Transpose{TO_LAST}(x)  b = Relu(a)  y = Neg(b) }}")
    assert not done.applied and done.body.startswith("a = Transpose")


def test_what_others_read_is_transposed_behind() -> None:
    done = moved(
        f"""g (float[N, 2, 3, 4] x) => (float[A, B, C, D] y, float[E, F, G, H] z, float[I, J, K, L] v) {{
            a = Transpose{TO_LAST}(x)  b = Relu(a)
            y = Transpose{TO_FIRST}(b)  c = Abs(b)  z = Transpose{TO_FIRST}(c)  v = Exp(b) }}"""
    )
    assert done.body == "y = Relu(x)\nb = Transpose<perm=[0, 2, 3, 1]>(y)\nz = Abs(y)\nv = Exp(b)"


def test_other_transposes_are_composed() -> None:
    done = moved(
        f"""g (float[N, 2, 3, 4] x) => (float[A, B, C, D] y, float[E, F, G, H] z) {{
            a = Transpose{TO_LAST}(x)  b = Relu(a)
            y = Transpose{TO_FIRST}(b)  z = Transpose<perm = [3, 0, 1, 2]>(b) }}"""
    )
    assert done.body == "y = Relu(x)\nz = Transpose<perm=[1, 0, 2, 3]>(y)"


@pytest.mark.parametrize(
    ("nodes", "after"),
    [
        ("b = Concat<axis = -1>(a, a)", "y = Concat<axis=1>(x, x)"),
        ("b = ArgMax<axis = 3>(a)  ", None),
        ("b = Gather<axis = 2>(a, i)", "y = Gather<axis=3>(x, i)"),
        ("b = Slice(a, i, e, p)", None),
        ("b, c = Split<axis = 3, num_outputs = 2>(a)", "y, t = Split<axis=1, num_outputs=2>(x)"),
    ],
)
def test_axes_are_renamed(nodes: str, after: str | None) -> None:
    ends = ENDS.replace("float[A", "int64[A") if "Arg" in nodes else ENDS
    done = between(nodes, ends, i=np.array([1], np.int64), e=np.array([2], np.int64), p=np.array([3], np.int64))
    assert "Transpose" not in done.body and len(done.graph.nodes) == 1
    if after is not None:
        assert done.body.replace("c_1", "t") == after


def test_pads_are_renamed() -> None:
    done = between("b = Pad(a, p)", p=np.array([0, 1, 2, 3, 0, 4, 5, 6], np.int64))
    (pads,) = done.graph.initializers
    assert pads.values.tolist() == [0, 3, 1, 2, 0, 6, 4, 5] and len(done.graph.nodes) == 1


@pytest.mark.parametrize("opset", [9, 12])
def test_older_versions(opset: int) -> None:
    old = opset < 10
    pad = "Pad<pads = [0, 1, 2, 3, 0, 4, 5, 6]>(c)" if old else "Pad(c, p)"
    cut = "Slice<axes = [1], starts = [0], ends = [2]>(a)" if old else "Slice(a, i, e)"
    weights: dict[str, Any] = {
        "p": np.array([0, 1, 2, 3, 0, 4, 5, 6], np.int64),
        "i": np.array([0, 1], np.int64),
        "e": np.array([9, 3], np.int64),
    }
    header = f'<ir_version: 4, opset_import: ["": {opset}]>'
    done = between(f"c = {cut}  b = {pad}", header=header, **({} if old else weights))
    assert "Transpose" not in done.body and len(done.graph.nodes) == 2


def test_an_axis_less() -> None:
    done = moved(
        """g (float[N, 2, 3] x) => (float[A, B] y) {
            a = Transpose<perm = [0, 2, 1]>(x)  b = Gather<axis = 1>(a, i)  y = Relu(b) }""",
        i=np.array(2, np.int64),
    )
    assert done.body == "b = Gather<axis=2>(x, i)\ny = Relu(b)"
    done = moved(
        """g (float[2, 3, 4] x) => (float[A, B] y) {
            a = Transpose(x)  b = Gather<axis = 0>(a, i)  y = Transpose(b) }""",
        i=np.array(2, np.int64),
    )
    assert done.body == "y = Gather<axis=2>(x, i)"


def test_quantization_by_tensor_and_by_axis() -> None:
    nodes = "q = QuantizeLinear(a, s, z)  b = DequantizeLinear<axis = 3>(q, t)"
    one: dict[str, Any] = {"s": np.float32(0.1), "z": np.uint8(3), "t": np.array([0.5, 2], np.float32)}
    done = between(nodes, **one)
    assert done.body.endswith("y = DequantizeLinear<axis=1>(q_1, t)") and "Transpose" not in done.body


def test_bits_that_depend_on_the_place_are_left_alone() -> None:
    assert not between("b = Sigmoid(a)").remarks
    assert not between("b = ReduceSum(a)").remarks


def test_the_default_of_an_input_is_not_a_constant() -> None:
    ends = ENDS.replace("(float[N, 2, 3, 4] x)", "(float[N, 2, 3, 4] x, float[2] w)")
    assert not between("b = Mul(a, w)", ends, w=np.ones(2, np.float32)).applied


def test_old_broadcasting_is_left_alone() -> None:
    header = '<ir_version: 4, opset_import: ["": 7]>'
    assert not between("b = Mul(a, w)", header=header, w=np.ones(2, np.float32)).applied


def test_annotated_values_stay() -> None:
    text = f"g {ENDS} {{ a = Transpose{TO_LAST}(x)  b = Relu(a)  y = Transpose{TO_FIRST}(b) }}"
    before = model(text, k=np.float32(1))
    note = TensorAnnotation(tensor_name="b")
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="k")
    before.graph.quantization_annotation.append(note)
    assert not moved(before).applied


def test_the_gate_is_respected() -> None:
    before = model(f"g {ENDS} {{ a = Transpose{TO_LAST}(x)  b = Relu(a)  y = Transpose{TO_FIRST}(b) }}")
    assert not apply(MoveTransposes(), before, gate=Limits(frozenset({("move-transposes", 1)}))).applied


def test_inside_bodies_and_functions() -> None:
    done = moved(
        """<ir_version: 10, opset_import: ["": 21, "local": 1]>
        g (bool c, float[2, 3] x) => (float[2, 3] y, float[K, L] z) {
            y = If(c)<then_branch = t () => (float[2, 3] o) {
                a = Transpose(x)  b = Neg(a)  o = Transpose<perm = [1, 0]>(b) },
                      else_branch = e () => (float[2, 3] p) { p = Abs(x) }>
            z = local.f(x)
        }
        <domain: "local", opset_import: ["": 21]>
        f (x) => (y) { w = Constant<value = float[2] {3.0, 4.0}>()
            a = Transpose<perm = [1, 0]>(x)  b = Mul(a, w)  y = Transpose<perm = [1, 0]>(b) }"""
    )
    assert "o = Neg(x)" in done.body and "  y = Mul(x, w_1)" in done.body and "Transpose" not in done.body


def test_a_transpose_of_a_transpose_in_between() -> None:
    done = between(f"b0 = Relu(a)  c = Transpose{TO_FIRST}(b0)  d = Neg(c)  e = Transpose{TO_LAST}(d)  b = Abs(e)")
    assert "Transpose" not in done.body and len(done.graph.nodes) == 3


def test_long_chains_take_no_time() -> None:
    before = model(f"g {ENDS} {{ a = Transpose{TO_LAST}(x)  y = Transpose{TO_FIRST}(a) }}")
    names = ["a", *(f"a_value_of_the_chain_{i}" for i in range(5000))]
    ops = [helper.make_node("Neg", [one], [other]) for one, other in itertools.pairwise(names)]
    last = helper.make_node("Transpose", [names[-1]], ["y"], perm=[0, 3, 1, 2])
    del before.graph.node[1:]
    before.graph.node.extend([*ops, last])
    start = time.process_time()
    done = apply(MoveTransposes(), before, laws=False)
    assert time.process_time() - start < 20 and len(done.graph.nodes) == 5000


def test_a_constant_whose_shape_stays_while_its_elements_move() -> None:
    ends = "(float[N, 2, 2, 2] x) => (float[A, B, C, D] y)"
    done = between("b = Mul(a, w)", ends, w=np.arange(8, dtype=np.float32).reshape(2, 2, 2))
    assert done.body == "y = Mul(x, w_1)"


def test_a_constant_that_is_joined() -> None:
    ends = "(float[1, 2, 3, 4] x) => (float[A, B, C, D] y)"
    done = between("b = Concat<axis = 3>(a, w)", ends, w=np.arange(12, dtype=np.float32).reshape(1, 3, 4, 1))
    assert done.body == "y = Concat<axis=1>(x, w_1)"
    fewer = "(float[1, 2, 3, 4] x, float[1, 3, 4, 1] w) => (float[A, B, C, D] y)"
    assert between("b = Concat<axis = 3>(a, w)", fewer).applied == ()


@pytest.mark.parametrize("opset", [11, 12, 13])
def test_an_axis_that_is_squeezed(opset: int) -> None:
    header = f'<ir_version: 8, opset_import: ["": {opset}]>'
    step = "Squeeze(a, k)" if opset == 13 else "Squeeze<axes = [-1]>(a)"
    weights = {"k": np.array([-1])} if opset == 13 else {}
    text = f"g (float[N, 1, 3, 4] x) => (float[A, B, C] y) {{ a = Transpose{TO_LAST}(x)  b = {step}  y = Neg(b) }}"
    done = moved(f"{header} {text}", **weights)
    assert "Transpose" not in done.body and done.applied
    bare = f"g (float[N, 1, 3, 4] x) => (float[A, B, C] y) {{ a = Transpose{TO_LAST}(x)  b = Squeeze(a)  y = Neg(b) }}"
    assert moved(f"{header} {bare}").applied == ()


@pytest.mark.parametrize(
    ("nodes", "ends"),
    [
        ("b = Slice(a, k, l, r)", "(float[N, 2, 3, 4] x, int64[1] r) => (float[A, B, C, D] y)"),
        ("b = ReduceMax(a, r)", "(float[N, 2, 3, 4] x, int64[1] r) => (float[A, B, C, D] y)"),
        ("b = ReduceMax<noop_with_empty_axes = 1>(a)", ENDS),
        ("c = Gather<axis = 3>(a, i)  b = ReduceMax<keepdims = 0>(c, m)", ENDS),
    ],
    ids=["slice", "reduction", "none", "indices"],
)
def test_axes_that_are_not_known_or_become_others(nodes: str, ends: str) -> None:
    weights = {"k": np.array([0]), "l": np.array([2]), "i": np.array([[0, 1]]), "m": np.array([4])}
    header = '<ir_version: 8, opset_import: ["": 18]>'
    body = f"a = Transpose{TO_LAST}(x)  {nodes}  y = Transpose{TO_FIRST}(b)"
    used = {name: one for name, one in weights.items() if f"{name})" in nodes or f", {name}," in nodes}
    done = apply(MoveTransposes(), model(f"{header} g {ends} {{ {body} }}", **used), feeds=())
    assert done.applied == ()


def test_a_reduction_over_an_empty_list_of_axes() -> None:
    text = f"g (float[N, 2, 3, 4] x) => (float y) {{ a = Transpose{TO_LAST}(x)  y = ReduceMax<keepdims = 0>(a, k) }}"
    assert moved(text, k=np.zeros(0, np.int64)).applied == ()


@pytest.mark.parametrize("opset", [13, 21])
def test_a_scale_for_each_channel(opset: int) -> None:
    ends = "(uint8[N, 2, 3, 4] x) => (float[A, B, C, D] y)"
    header = f'<ir_version: 9, opset_import: ["": {opset}]>'
    done = between("b = DequantizeLinear<axis = 3>(a, s)", ends, header, s=np.array([0.5, 2], np.float32))
    assert done.body == "y = DequantizeLinear<axis=1>(x, s)"


def test_scales_of_blocks_stay() -> None:
    ends = "(uint8[2, 2, 2, 2] x) => (float[A, B, C, D] y)"
    scale = np.ones((2, 2, 2, 1), np.float32)
    step = "b = DequantizeLinear<axis = 3, block_size = 2>(a, s)"
    assert between(step, ends, '<ir_version: 9, opset_import: ["": 21]>', s=scale).applied == ()


@pytest.mark.parametrize(
    "step", ["Softmax<axis: int = @p>(a)", "ArgMax<axis: int = @p>(a)", "Gather<axis: int = @p>(a, k)"]
)
def test_an_axis_that_a_caller_gives(step: str) -> None:
    text = f"""<ir_version: 10, opset_import: ["": 18, "f": 1]>
        g (float[1, 2, 3, 4] x) => (float[A, B, C, D] y) {{ y = f.go<p = 1>(x) }}
        <domain: "f", opset_import: ["": 18]> go <p> (x) => (y) {{ k = Constant<value_ints = [0]>()
            a = Transpose{TO_LAST}(x)  c = {step}  b = Cast<to = 1>(c)  y = Transpose{TO_FIRST}(b) }}"""
    assert apply(MoveTransposes(), model(text)).applied == ()


def test_new_lists_of_a_model_whose_initializers_are_inputs() -> None:
    text = f"""<ir_version: 3, opset_import: ["": 13]> g {ENDS} {{
        p = Constant<value = int64[8] {{0, 1, 2, 3, 0, 4, 5, 6}}>()  a = Transpose{TO_LAST}(x)
        b = Pad(a, p)  y = Transpose{TO_FIRST}(b) }}"""
    done = moved(text)
    assert "Transpose" not in done.body and not done.after.graph.initializer
