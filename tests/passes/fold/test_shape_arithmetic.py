"""shape-arithmetic: what is computed from sizes becomes what it is known to be."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorAnnotation, TensorProto, helper, numpy_helper

from graphopt.ir import decode
from graphopt.ir.store import Store
from graphopt.pipeline import Pipeline
from graphopt.pipeline.gate import Limits
from graphopt.pipeline.manager import run
from graphopt.testing import Applied, apply, assert_missed, model
from graphopt.testing.trial import UpTo
from passes.fold.shape_arithmetic import ShapeArithmetic


def done(text: str | ModelProto, runs: bool = True, feeds: Any = None, **weights: Any) -> Applied:
    before = model(text, **weights) if isinstance(text, str) else text
    return apply(ShapeArithmetic(), before, feeds=feeds if runs else ())


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


def constants(result: Applied) -> list[list[int]]:
    return [numpy_helper.to_array(one).tolist() for one in result.after.graph.initializer]


def floats(*shape: int) -> dict[str, Any]:
    return {"x": np.arange(np.prod(shape), dtype=np.float32).reshape(shape)}


def test_a_target_copies_a_dim_and_states_the_others() -> None:
    found = done(
        """g (float[N, 24] x) => (float[A, B, C] y) {
            shape = Shape(x)  dim = Gather(shape, first)  target_of_y = Concat<axis = 0>(dim, rest)
            y = Reshape(x, target_of_y)
        }""",
        first=ints(0),
        rest=ints(12, -1),
    )
    assert found.body == "y = Reshape(x, target)"
    assert constants(found) == [[0, 12, 2]]
    assert [(one.rule, one.node) for one in found.applied] == [("reshape-target", "Reshape(y)")]


PRODUCT = """g (float[N, 7, 16] x) => (float[A, B] y) {
    shape = Shape(x)  narrow = Cast<to = 6>(shape)  leading = Gather(narrow, places)
    count = ReduceProd<axes = [0], keepdims = 0>(leading)  row = Unsqueeze<axes = [0]>(count)
    all_of_it = Concat<axis = 0>(row, last)  target_of_y = Cast<to = 7>(all_of_it)  y = Reshape(x, target_of_y)
}"""
OLD = '<ir_version: 6, opset_import: ["": 11]>'


@pytest.mark.parametrize("size", [3, 1, 0])
def test_a_product_of_sizes_is_left_open(size: int) -> None:
    """Also of no elements at all: -1 is inferred from the other dims, which are never 0."""
    weights = {"places": ints(0, 1), "last": np.array([16], np.int32)}
    found = done(OLD + PRODUCT, feeds=[floats(size, 7, 16)], **weights)
    assert (found.body, constants(found)[-1]) == ("y = Reshape(x, target)", [-1, 16])


def test_an_ir_version_whose_initializers_are_inputs_gets_constant_nodes() -> None:
    weights = {"places": ints(0, 1), "last": np.array([16], np.int32)}
    before = model(OLD.replace("6,", "3,", 1) + PRODUCT, **weights)
    for one in before.graph.initializer:
        before.graph.input.append(helper.make_tensor_value_info(one.name, one.data_type, one.dims))
    del before.graph.initializer[:]
    for name, one in weights.items():
        before.graph.input.remove(next(each for each in before.graph.input if each.name == name))
        before.graph.node.insert(0, helper.make_node("Constant", [], [name], value=numpy_helper.from_array(one)))
    assert "y = Reshape(x, target)" in done(before).body
    assert "target = Constant<value=int64[2] {-1, 16}>()" in done(before).body


def test_two_dims_that_are_neither_numbers_nor_copied_stay() -> None:
    text = """g (float[N, M, 6] x) => (float[A, B, C] y) {
        shape = Shape(x)  n = Gather(shape, zero)  m = Gather(shape, one)  t = Concat<axis = 0>(m, n, six)
        y = Reshape(x, t)
    }"""
    found = done(text, zero=ints(0), one=ints(1), six=ints(6))
    assert not found.applied
    assert_missed(found, "reshape-target", "dims 0 and 1 are neither numbers nor those of the input")


GROUPED = """g (float[N, M, 6] x) => (float[A, B] y) {
    shape = Shape(x)  n = Gather(shape, zero)  m = Gather(shape, one)  count = Mul(m, six)
    some_target = Concat<axis = 0>(n, count)  y = Reshape(x, some_target)
}"""


def test_a_dim_is_not_left_open_where_another_may_be_zero() -> None:
    """Of no rows there is nothing that -1 could be inferred from."""
    weights = {"zero": ints(0), "one": ints(1), "six": ints(6)}
    found = done(GROUPED, feeds=[floats(0, 2, 6), floats(2, 0, 6), floats(2, 3, 6)], **weights)
    assert not found.applied
    assert_missed(found, "reshape-target", "dim 1 cannot be left open, since another one may be 0")


def test_a_target_that_had_its_open_dim_before_keeps_it() -> None:
    text = GROUPED.replace("m = Gather(shape, one)  count = Mul(m, six)", "").replace("(n, count)", "(n, rest)")
    found = done(text, zero=ints(0), rest=ints(-1))
    assert found.body == "y = Reshape(x, target)" and constants(found)[-1] == [0, -1]


def test_where_a_zero_means_zero_nothing_is_copied() -> None:
    text = """g (float[N, 6] x) => (float[A, B, C] y) {
        shape = Shape(x)  n = Gather(shape, zero)  some_target = Concat<axis = 0>(n, rest)
        y = Reshape<allowzero = 1>(x, some_target)
    }"""
    found = done(text, feeds=[floats(0, 6), floats(2, 6)], zero=ints(0), rest=ints(2, 3))
    assert found.body == "y = Reshape<allowzero=1>(x, target)" and constants(found)[-1] == [-1, 2, 3]


def test_targets_of_the_same_numbers_are_one_constant() -> None:
    text = """g (float[N, 6] x, float[N, 6] z) => (float[A, B] y, float[C, D] u) {
        s = Shape(x)  n = Gather(s, zero)  some_target = Concat<axis = 0>(n, rest)  y = Reshape(x, some_target)
        r = Shape(z)  m = Gather(r, zero)  other_target = Concat<axis = 0>(m, rest)  u = Reshape(z, other_target)
    }"""
    found = done(text, zero=ints(0), rest=ints(6))
    assert found.body == "y = Reshape(x, target)\nu = Reshape(z, target)"
    assert constants(found)[-1] == [0, 6]


def test_a_target_that_others_read_too_stays_where_the_file_would_grow() -> None:
    text = """g (float[N, 6] x) => (float[A, B, C] y, int64[3] t) {
        s = Shape(x)  n = Gather(s, z)  t = Concat<axis = 0>(n, r)  y = Reshape(x, t)
    }"""
    found = done(text, z=ints(0), r=ints(2, 3))
    assert not found.applied
    assert_missed(found, "reshape-target", "the file would grow")


def test_sizes_that_are_numbers_are_stored() -> None:
    found = done(
        "g (float[2, 3] x) => (int64[2] y) { some_shape = Shape(x)  n = Neg(k)  y = Add(some_shape, n) }", k=ints(1, 1)
    )
    assert found.body == "y = Constant<value=int64[2] {1, 2}>()"
    (remark,) = found.applied
    assert (remark.rule, remark.why) == ("known-value", "[1, 2]")


def test_sizes_in_a_body() -> None:
    text = """g (bool c, float[2, 6] x) => (float[A, B] y) {
        y = If(c)<then_branch = t () => (float[A, B] o) {
                s = Shape(x)  twice = Mul(s, k)  size = Gather(twice, i)  o = Reshape(x, size)
            }, else_branch = e () => (float[A, B] p) { p = Neg(x) }>
    }"""
    found = done(text, k=ints(1, 1), i=ints(1, 0))
    assert [line.strip() for line in found.body.splitlines()][-1] == "o = Reshape(x, size)"
    assert [(one.rule, one.scope) for one in found.applied] == [("known-value", "If(y).then_branch")]


def test_equal_sizes_are_read_from_where_they_are_first() -> None:
    text = """g (float[N, 6] x) => (int64[1] y) {
        a = Relu(x)  first_shape = Shape(x)  n = Gather(first_shape, zero)
        b = Transpose(a)  other_shape = Shape(b)  m = Gather(other_shape, one)  y = Add(n, m)
    }"""
    found = done(text, zero=ints(0), one=ints(1))
    assert found.body == "first_shape = Shape(x)\nn = Gather(first_shape, zero)\ny = Add(n, n)"
    assert found.applied[0].rule == "same-sizes"


def test_what_has_effects_stays_although_only_its_size_was_read() -> None:
    text = """<ir_version: 10, opset_import: ["": 21, "acme": 1]> g (float[2, 3] x) => (int64[2] y) {
        odd = acme.Odd(x)  even = Add(x, odd)  flat = Reshape(odd, six)  some_shape = Shape(flat)
        negative = Neg(some_shape)  y = Mul(negative, k)
    }"""
    found = done(text, runs=False, k=ints(2, 2), six=ints(6, 1))
    assert found.body == "odd = acme.Odd(x)\neven = Add(x, odd)\ny = Constant<value=int64[2] {-12, -2}>()"


def test_an_expand_that_repeats_nothing_goes() -> None:
    text = "g (float[N, 6] x) => (float[N, 6] y) { a = Abs(x)  s = Shape(x)  b = Expand(a, s)  y = Neg(b) }"
    assert done(text).body == "a = Abs(x)\ny = Neg(a)"
    text = (
        "g (float[N, 6] x, float[M, 6] z) => (float[A, 6] y) { a = Abs(x)  s = Shape(z)  b = Expand(a, s)  y = Neg(b) }"
    )
    assert not done(text, feeds=[{"x": floats(1, 6)["x"], "z": floats(3, 6)["x"]}]).applied


def test_what_the_model_claims_is_not_used() -> None:
    before = model(
        "g (float[N, M] x) => (int64[2] y) { a = Relu(x)  some_shape = Shape(a)  y = Neg(some_shape) }",
    )
    before.graph.value_info.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, [2, 3]))
    assert not done(before, runs=False).applied


def test_functions_are_left_alone() -> None:
    text = """<ir_version: 10, opset_import: ["": 21, "local": 1]>
        g (float[2, 3] x) => (int64[2] y) { y = local.f(x) }
        <domain: "local", opset_import: ["": 21]> f (a) => (c) { s = Shape(a)  c = Neg(s) }"""
    found = done(text)
    assert "s = Shape(a)" in found.body and not found.missed
    assert found.body.startswith("y = Constant<value=int64[2] {-2, -3}>()") or not found.applied


def test_a_quantization_parameter_stays() -> None:
    proto = model("g (float[2, 3] x) => (float[2, 3] b) { some_zero = Size(x)  b = Relu(x)  c = Neg(some_zero) }")
    note = TensorAnnotation(tensor_name="b")
    entry = note.quant_parameter_tensor_names.add()
    entry.key, entry.value = "ZERO_POINT_TENSOR", "some_zero"
    proto.graph.quantization_annotation.append(note)
    names = [name for one in done(proto).after.graph.node for name in one.output]
    assert "some_zero" in names or any(one.name == "some_zero" for one in done(proto).after.graph.initializer)


def test_a_rewrite_that_is_disabled() -> None:
    before = model(OLD + PRODUCT, places=ints(0, 1), last=np.array([16], np.int32))
    found = apply(ShapeArithmetic(), before, gate=Limits(frozenset({("shape-arithmetic", 1)})))
    assert not found.applied and len(found.disabled) == 1


def test_time_is_linear() -> None:
    def seconds(length: int) -> float:
        nodes = " ".join(
            f"s{i} = Shape(a{i})  n{i} = Gather(s{i}, zero)  t{i} = Concat<axis = 0>(n{i}, rest) "
            f"a{i + 1} = Reshape(a{i}, t{i})"
            for i in range(length)
        )
        text = f"g (float[N, 6] x) => (float[A, B] y) {{ a0 = Abs(x) {nodes} y = Neg(a{length}) }}"
        source = model(text, zero=ints(0), rest=ints(6))
        start = time.process_time()
        run(lambda: decode(source, Store()), Pipeline((ShapeArithmetic(),)))
        return time.process_time() - start

    one, four = seconds(300), seconds(1_200)
    assert four < 10 * one + 1.5


def test_a_split_that_stays_keeps_all_its_outputs_named() -> None:
    """Operators with many outputs need not allow for one that is left out."""
    before = model(
        "g (float[N] x) => (int64[1] b, int64[1] y) { s = Constant<value_ints = [4, 5]>()"
        "  a, b = Split<num_outputs = 2>(s)  c = Add(a, b)  d = Mul(c, a)  y = Sub(d, c) }"
    )
    done = apply(ShapeArithmetic(), before, gate=UpTo(1), laws=False)
    assert "a, b_1 = Split<num_outputs=2>(s)" in done.body
    assert "c = Add(a, b)" in done.body


def test_a_constant_node_is_weighed_to_the_byte() -> None:
    """The result takes the room of a Constant node whose tensor has no name, not even an empty one."""
    text = "g (float[4, 1] abc) => (int64 uvw) { rst = Shape(abc)  uvw = Gather(rst, ijk) }"
    before = model(text, ijk=np.array(1))
    proto = apply(ShapeArithmetic(), before).after
    assert not proto.graph.node[0].attribute[0].t.HasField("name")


CHAIN = "a = Shape(x)  b = Mul(a, a)  c = Mul(b, b)  d = Add(c, c)"


@pytest.mark.parametrize("opset", [8, 9])
def test_an_output_that_a_constant_node_cannot_hold_yet(opset: int) -> None:
    text = (
        f'<ir_version: 3, opset_import: ["": {opset}]> g (float[2, 3] x) => (int64[2] y) {{ {CHAIN}  y = Add(d, d) }}'
    )
    result = done(text)
    if opset == 8:
        assert_missed(result, "known-value", "at opset 8, a Constant node cannot hold its type")
    else:
        assert result.body == "y = Constant<value=int64[2] {64, 324}>()"


@pytest.mark.parametrize(("version", "nodes"), [(3, True), (8, False)])
def test_where_a_known_value_is_stored(version: int, nodes: bool) -> None:
    text = f"""<ir_version: {version}, opset_import: ["": 13]> g (float[1, 1] x) => (float[A, B] y) {{
        {CHAIN}  y = Expand(x, d) }}"""
    result = done(text, runs=False)
    assert bool(result.after.graph.initializer) != nodes and ("Constant" in result.body) == nodes


def test_a_reshape_that_has_its_target_in_an_attribute() -> None:
    text = '<ir_version: 3, opset_import: ["": 4]> g (float[2, 3] x) => (float[6] y) { y = Reshape<shape = [6]>(x) }'
    assert done(text, runs=False).remarks == ()


def test_a_known_value_that_an_annotation_needs() -> None:
    before = model(
        "g (float[2, 3] x) => (float[A, B] y) { s = Shape(x)  t = Mul(s, one)  y = Reshape(x, t) }", one=ints(1, 1)
    )
    note = TensorAnnotation(tensor_name="y")
    note.quant_parameter_tensor_names.add(key="ZERO_POINT_TENSOR", value="s")
    before.graph.quantization_annotation.append(note)
    assert "s" in {one.name for one in done(before).after.graph.initializer}


def test_sizes_in_two_branches_are_not_read_across() -> None:
    """Neither sees what the other one computes, so nothing was nearly done either."""
    text = """g (bool c, float[N, M] x) => (float[N, M] y) {
        y = If(c)<then_branch = t () => (float[N, M] o) { s = Shape(x)  o = Expand(k, s) },
                  else_branch = e () => (float[N, M] p) { u = Shape(x)  p = Expand(k, u) }> }"""
    result = done(text, k=np.float32(1))
    assert [one for one in result.remarks if one.rule == "same-sizes"] == []


def test_sizes_in_a_branch_after_the_same_ones_outside() -> None:
    text = """g (bool c, float[N, M] x) => (float[N, M] y, int64[2] r) { r = Shape(x)
        y = If(c)<then_branch = t () => (float[N, M] o) { s = Shape(x)  o = Expand(k, s) },
                  else_branch = e () => (float[N, M] p) { u = Shape(x)  p = Expand(k, u) }> }"""
    result = done(text, k=np.float32(1))
    assert len([one for one in result.applied if one.rule == "same-sizes"]) == 2


def test_sizes_that_are_numbers_in_part() -> None:
    text = """g (float[N, 4] x) => (float[A, B] y) {
        s = Shape(x)  n = Gather(s, zero)  t = Concat<axis = 0>(n, two)  v = Concat<axis = 0>(n, two)
        a = Expand(k, t)  b = Expand(k, v)  y = Add(a, b) }"""
    result = done(text, zero=ints(0), two=ints(2), k=np.float32(1))
    assert [one.node for one in result.applied if one.rule == "same-sizes"] == ["Concat(v)"]
