"""common-subexpressions: what is computed twice is computed once, unless the two could differ."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorAnnotation, helper, numpy_helper

from graphopt.ir import decode
from graphopt.ir.store import Store
from graphopt.pipeline import Pipeline
from graphopt.pipeline.gate import Limits
from graphopt.pipeline.manager import run
from graphopt.testing import Applied, apply, assert_missed, model
from passes.eliminate.common_subexpressions import CommonSubexpressions


def merged(text: str | ModelProto, runs: bool = True, **weights: Any) -> Applied:
    before = model(text, **weights) if isinstance(text, str) else text
    return apply(CommonSubexpressions(), before, feeds=None if runs else ())


def test_a_whole_chain_is_merged_in_one_run() -> None:
    done = merged("g (float[N] x) => (float[N] y) { a = Exp(x)  b = Neg(a)  c = Exp(x)  d = Neg(c)  y = Add(b, d) }")
    assert done.body == "a = Exp(x)\nb = Neg(a)\ny = Add(b, b)"
    assert [(one.node, one.why) for one in done.applied] == [("Exp(c)", "as Exp(a)"), ("Neg(d)", "as Neg(b)")]
    assert done.applied[0].before == ("c",)


def test_a_refused_merge_keeps_what_reads_it_apart() -> None:
    text = "g (float[N] x) => (float[N] y) { a = Exp(x)  b = Neg(a)  c = Exp(x)  d = Neg(c)  y = Add(b, d) }"
    gate = Limits(frozenset({("common-subexpressions", 1)}))
    assert not apply(CommonSubexpressions(), model(text), gate=gate).applied


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Exp(x)", "Neg(x)"),
        ("Softmax<axis = 0>(x)", "Softmax<axis = 1>(x)"),
        ("LeakyRelu<alpha = 0.5>(x)", "LeakyRelu<alpha = 0.25>(x)"),
        ("Elu<alpha = 0.0>(x)", "Elu<alpha = -0.0>(x)"),
        ("Elu(x)", "Elu<alpha = 1.0>(x)"),
        ("Exp(x)", "Exp(z)"),
        ("Sub(x, z)", "Sub(z, x)"),
        ("Add(x, z)", "Add(z, x)"),
        ("Clip(x, , k)", "Clip(x, k)"),
        ("Transpose<perm = [0, 1]>(x)", "Transpose<perm = [1, 0]>(x)"),
    ],
)
def test_what_differs_in_anything_stays(first: str, second: str) -> None:
    text = f"g (float[4, 4] x, float[4, 4] z) => (float[4, 4] y) {{ a = {first}  b = {second}  y = Add(a, b) }}"
    assert not merged(text, k=np.float32(0.5)).remarks


@pytest.mark.parametrize(
    "same",
    [
        "Clip(x, , k)",
        "LeakyRelu<alpha = 0.5>(x)",
        "Transpose<perm = [1, 0]>(x)",
        'DepthToSpace<blocksize = 1, mode = "CRD">(x)',
        "Mul(k, k)",
    ],
)
def test_equal_attributes_and_slots(same: str) -> None:
    rank = "1, 4, 4, 4" if "Depth" in same else "4, 4"
    text = f"g (float[{rank}] x) => (float[{rank}] y) {{ a = {same}  b = {same}  c = Add(a, x)  y = Add(b, c) }}"
    assert len(merged(text, k=np.float32(0.5)).applied) == 1


def test_tensors_among_the_attributes_count_bit_by_bit() -> None:
    text = """g (int64[2] s) => (float[2, 2] y) {{
        a = ConstantOfShape<value = float[1] {{{}}}>(s)  b = ConstantOfShape<value = float[1] {{{}}}>(s)  y = Add(a, b)
    }}"""
    feeds = [{"s": np.array([2, 2])}]
    assert apply(CommonSubexpressions(), model(text.format("0.0", "0.0")), feeds=feeds).applied
    assert not apply(CommonSubexpressions(), model(text.format("0.0", "-0.0")), feeds=feeds).applied


def test_a_trailing_slot_may_be_left_out_either_way() -> None:
    proto = model("g (float[N] x) => (float[N] y) { a = Clip(x)  b = Clip(x, , )  y = Add(a, b) }")
    assert len(merged(proto).applied) == 1


def test_outputs_that_are_not_named_count() -> None:
    """An operator may look at which of its outputs are wanted."""
    text = "g (float[N] x) => (float[N] y, bool[N] m) { a = Dropout(x)  b, m = Dropout(x)  y = Add(a, b) }"
    assert not merged(text).applied


def test_all_outputs_of_a_node_are_merged() -> None:
    text = """g (float[N, 4] x) => (float[N, 2] y) {
        p, q = Split<axis = 1, num_outputs = 2>(x)  r, s = Split<axis = 1, num_outputs = 2>(x)
        a = Add(p, s)  b = Mul(q, r)  y = Sub(a, b)
    }"""
    assert merged(text).body.splitlines()[1:] == ["a = Add(p, q)", "b = Mul(q, p)", "y = Sub(a, b)"]


@pytest.mark.parametrize(
    "drawn", ["RandomNormalLike(x)", "RandomNormalLike<seed = 1.0>(x)", "Bernoulli(x)", "Dropout(x, , on)"]
)
def test_random_numbers_are_drawn_twice(drawn: str) -> None:
    text = f"g (float[4] x) => (float[4] y) {{ a = {drawn}  b = {drawn}  y = Sub(a, b) }}"
    done = merged(text, runs=False, **({"on": np.array(True)} if "on" in drawn else {}))
    assert not done.applied
    assert_missed(done, "same", "at random" if "Dropout" in drawn else "draws random numbers")


def test_operators_of_unknown_domains_stay() -> None:
    text = """<ir_version: 10, opset_import: ["": 21, "acme": 1]>
        g (float[N] x) => (float[N] y) { a = acme.Next(x)  b = acme.Next(x)  y = Add(a, b) }"""
    done = merged(text, runs=False)
    assert not done.applied
    assert_missed(done, "same", "operators of the domain 'acme'")


@pytest.mark.parametrize(("inside", "goes"), [("Exp", True), ("RandomNormalLike", False)])
def test_calls_are_as_pure_as_the_function(inside: str, goes: bool) -> None:
    text = f"""<ir_version: 10, opset_import: ["": 21, "local": 1]>
        g (float[N] x) => (float[N] y) {{ a = local.f(x)  b = local.f(x)  y = Add(a, b) }}
        <domain: "local", opset_import: ["": 21]> f (a) => (c) {{ c = {inside}(a) }}"""
    assert bool(merged(text, runs=goes).applied) is goes


def test_nodes_with_bodies_are_not_compared() -> None:
    one = """If(c)<
        then_branch = t () => (float[N] {0}) {{ {0} = Exp(x) }}, else_branch = e () => (float[N] {1}) {{ {1} = Neg(x) }}
    >"""
    first, second = one.format("p", "q"), one.format("r", "s")
    text = f"g (bool c, float[N] x) => (float[N] y) {{ a = {first}  b = {second}  y = Add(a, b) }}"
    assert not merged(text).remarks


def test_a_body_reads_what_is_computed_around_it() -> None:
    text = """g (bool c, float[N] x) => (float[N] y, float[N] a) {
        a = Exp(x)
        y = If(c)<
            then_branch = t () => (float[N] o) { b = Exp(x)  o = Neg(b) },
            else_branch = e () => (float[N] p) { d = Exp(x)  p = Abs(d) }
        >
    }"""
    done = merged(text)
    assert "o = Neg(a)" in done.body and "p = Abs(a)" in done.body
    assert [one.scope for one in done.applied] == ["If(y).then_branch", "If(y).else_branch"]


def test_bodies_do_not_see_each_other_nor_what_comes_later() -> None:
    text = """g (bool c, float[N] x) => (float[N] y) {
        r = If(c)<
            then_branch = t () => (float[N] o) { b = Exp(x)  o = Neg(b) },
            else_branch = e () => (float[N] p) { d = Exp(x)  p = Abs(d) }
        >
        a = Exp(x)  y = Add(a, r)
    }"""
    assert not merged(text).remarks


def test_what_a_body_gives_out_is_made_by_the_body() -> None:
    text = """g (bool c, float[N] x) => (float[N] y, float[N] a) {
        a = Exp(x)
        y = If(c)<
            then_branch = t () => (float[N] o) { o = Exp(x) }, else_branch = e () => (float[N] p) { p = Abs(x) }
        >
    }"""
    done = merged(text)
    assert not done.applied
    assert_missed(done, "same", "is made in another graph")


def test_a_name_that_means_another_value_in_a_body() -> None:
    text = """g (bool c, float[3] x) => (float[3] y, float[3] a) {
        a = Exp(x)  b = Exp(x)
        y = Scan<num_scan_inputs = 1, body = t (float[] a) => (float[] o) {
            k = ReduceSum<keepdims = 0>(b)  o = Add(a, k) }>(x)
    }"""
    done = merged(text)
    assert not done.applied
    assert_missed(done, "same", "has another value called 'a'")


def test_one_output_of_the_graph_takes_over_and_two_stay() -> None:
    done = merged("g (float[N] x) => (float[N] y) { a = Exp(x)  b = Neg(a)  y = Exp(x)  c = Abs(b) }")
    assert done.body == "y = Exp(x)\nb = Neg(y)\nc = Abs(b)"
    done = merged("g (float[N] x) => (float[N] y, float[N] z) { y = Exp(x)  z = Exp(x) }")
    assert not done.applied
    assert_missed(done, "same", "'z' and 'y' are both graph outputs")


def test_annotated_values_stay() -> None:
    proto = model("g (float[N] x) => (float[N] y) { a = Exp(x)  b = Exp(x)  y = Add(a, b) }", b_scale=np.float32(2))
    note = TensorAnnotation(tensor_name="b")
    entry = note.quant_parameter_tensor_names.add()
    entry.key, entry.value = "SCALE_TENSOR", "b_scale"
    proto.graph.quantization_annotation.append(note)
    done = merged(proto)
    assert not done.applied
    assert_missed(done, "same", "a quantization annotation is about 'b'")


def test_longer_names_do_not_make_the_file_grow() -> None:
    long_name = "a_name_of_many_letters_that_somebody_found_useful_once"
    reads = "  ".join(f"y{i} = Elu<alpha = {i}.0>(b)" for i in range(8))
    done = merged(
        f"g (float[N] x) => (float[N] y0, float[N] {long_name}) {{ {long_name} = Exp(x)  b = Exp(x)  {reads} }}"
    )
    assert not done.applied
    assert_missed(done, "same", "the longer names")


def test_large_tensors_among_attributes_are_not_compared() -> None:
    proto = model("g (float[N] x) => (float[N] y) { a = Neg(x)  y = Neg(a) }")
    big = numpy_helper.from_array(np.ones(5000, np.float32))
    for name in "pq":
        proto.graph.node.append(
            helper.make_node("LabelEncoder", ["x"], [name], domain="ai.onnx.ml", keys_tensor=big, values_tensor=big)
        )
    proto.opset_import.add(domain="ai.onnx.ml", version=4)
    assert not merged(proto, runs=False).remarks


@pytest.mark.parametrize("shape", ["fan", "twins"])
def test_time_is_linear(shape: str) -> None:
    seconds = []
    for size in (2_000, 8_000):
        if shape == "fan":
            nodes = " ".join(f"v{i} = Exp(x)" for i in range(size))
        else:
            nodes = "a0 = Exp(x) b0 = Exp(x)" + " ".join(
                f" a{i + 1} = Neg(a{i})  b{i + 1} = Neg(b{i})" for i in range(size)
            )
        source = model(f"g (float[N] x) => (float[N] y) {{ {nodes} y = Neg(x) }}")
        start = time.process_time()
        outcome = run(lambda source=source: decode(source, Store()), Pipeline((CommonSubexpressions(),)))  # type: ignore[misc]
        seconds.append(time.process_time() - start)
        assert outcome.rewrites >= size - 1
    assert seconds[1] < 10 * seconds[0] + 1.5


def test_tensors_up_to_a_size_are_compared() -> None:
    for count, merged in ((4096, True), (4097, False)):
        zeros = ", ".join("0" for _ in range(count))
        node = f"ConstantOfShape<value = uint8[{count}] {{{zeros}}}>(x)"
        text = f"g (int64[N] x) => (float y, float z) {{ a = {node}  b = {node}  y = Neg(a)  z = Neg(b) }}"
        assert bool(apply(CommonSubexpressions(), model(text), laws=False).applied) == merged


def test_constants_are_left_to_another_pass() -> None:
    one = "Constant<value_float = 1.0>()"
    text = f"g (float[N] x) => (float[N] y) {{ a = {one}  b = {one}  c = Mul(x, a)  y = Mul(c, b) }}"
    assert apply(CommonSubexpressions(), model(text)).applied == ()


def test_a_node_without_inputs() -> None:
    text = """<ir_version: 8, opset_import: ["": 18, "d": 1]> g (float[N] x) => (float[N] y) {
        a = d.Two()  b = d.Two()  c = Mul(x, a)  y = Mul(c, b) }
        <domain: "d", opset_import: ["": 18]> Two () => (t) { t = Constant<value_float = 2.0>() }"""
    done = apply(CommonSubexpressions(), model(text))
    assert done.body.count("Two()") == 1


def test_nodes_that_leave_out_the_same_outputs() -> None:
    text = """g (float[S, N, 3] x) => (float[A, B, C] y) {
        , h = LSTM<hidden_size = 2>(x, w, r)  , i = LSTM<hidden_size = 2>(x, w, r)
        z, j = LSTM<hidden_size = 2>(x, w, r)  m = Add(h, i)  y = Add(m, j) }"""
    w, r = (np.linspace(-1, 1, 8 * size, dtype=np.float32).reshape(1, 8, size) for size in (3, 2))
    done = merged(text, w=w, r=r)
    assert done.body.count("LSTM") == 2 and "m = Add(h, h)" in done.body


@pytest.mark.parametrize(("readers", "stays"), [(-1, False), (0, True), (40, True)])
def test_readers_that_would_spell_out_the_name_of_an_output(readers: int, stays: bool) -> None:
    """The name of an output outlives the node; the maker and every reader of the other one have to say it."""
    long = "an_output_whose_name_takes_many_bytes"
    steps, last = "  ".join(f"c{at} = Neg(a)" for at in range(readers)), "x" if readers < 0 else "a"
    text = (
        f"g (float[N] x) => (float[N] y, float[N] {long}) {{ a = Exp(x)  {steps}  {long} = Exp(x)  y = Abs({last}) }}"
    )
    done = apply(CommonSubexpressions(), model(text))
    assert bool([one for one in done.missed if "the file would grow" in one.why]) == stays
