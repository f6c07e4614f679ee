"""dead-nodes: what nobody reads goes, in every scope, and nothing else."""

from __future__ import annotations

import time

import numpy as np
import pytest
from onnx import ModelProto, TensorAnnotation, helper

from graphopt.ir import decode
from graphopt.ir.store import Store
from graphopt.pipeline import Pipeline
from graphopt.pipeline.gate import Limits
from graphopt.pipeline.manager import run
from graphopt.testing import Applied, apply, assert_missed, model
from passes.eliminate.dead_nodes import DeadNodes


def dead(text: str | ModelProto, runs: bool = True, gate: Limits | None = None) -> Applied:
    before = model(text) if isinstance(text, str) else text
    return apply(DeadNodes(), before, feeds=None if runs else (), gate=gate)


def names(done: Applied) -> list[str]:
    return [one.node for one in done.applied]


def test_a_dead_branch_goes_last_node_first() -> None:
    done = dead("g (float[N] x) => (float[N] y) { a = Relu(x)  b = Exp(a)  c = Neg(b)  y = Abs(x) }")
    assert done.body == "y = Abs(x)"
    assert names(done) == ["Neg(c)", "Exp(b)", "Relu(a)"]
    assert [one.number for one in done.applied] == [1, 2, 3]
    assert done.applied[0].before == ("c",) and done.applied[0].after == ()


def test_what_a_live_node_reads_too_stays() -> None:
    done = dead("g (float[N] x) => (float[N] y) { a = Relu(x)  b = Exp(a)  y = Abs(a) }")
    assert done.body == "a = Relu(x)\ny = Abs(a)"


def test_a_node_that_reads_a_value_twice() -> None:
    done = dead("g (float[N] x) => (float[N] y) { a = Relu(x)  b = Add(a, a)  y = Abs(x) }")
    assert done.body == "y = Abs(x)"


@pytest.mark.parametrize("outputs", ["a", "y, a"])
def test_an_output_of_the_graph_is_read(outputs: str) -> None:
    declared = ", ".join(f"float[N] {one}" for one in outputs.split(", "))
    done = dead(f"g (float[N] x) => ({declared}) {{ a = Relu(x)  b = Neg(a)  y = Abs(x) }}")
    assert ("a = Relu(x)" in done.body, "Neg" in done.body) == (True, False)


def test_one_read_output_is_enough() -> None:
    """Also when it is not the first; the others stay as they are."""
    text = """g (float[N, 4] x) => (int64[N, 1] y) {
        k = Constant<value_ints = [1]>()  v, i = TopK(x, k)  y = Identity(i)  a, m = Dropout(x)
    }"""
    done = dead(text)
    assert names(done) == ["Dropout(a)"]
    assert "v, i = TopK(x, k)" in done.body


def test_a_node_with_an_output_left_out() -> None:
    before = model(
        "g (float[T, N, 4] x) => (float[T, N, 4] y) { all, h = RNN<hidden_size = 3>(x, w, r)  y = Abs(x) }",
        w=np.ones((1, 3, 4), np.float32),
        r=np.ones((1, 3, 3), np.float32),
    )
    before.graph.node[0].output[0] = ""
    assert dead(before).body == "y = Abs(x)"


def test_inside_bodies() -> None:
    """A dead node of a body goes, and so does what only it captured."""
    done = dead(
        """g (bool c, float[N] x) => (float[N] y) {
            a = Exp(x)  b = Abs(x)
            y = If(c)<then_branch = t () => (float[N] o) { p = Neg(a)  q = Add(p, b)  o = Relu(b) },
                      else_branch = e () => (float[N] o) { o = Neg(x) }>
        }"""
    )
    assert names(done) == ["Add(q)", "Neg(p)", "Exp(a)"]
    assert [one.scope for one in done.applied] == ["If(y).then_branch", "If(y).then_branch", ""]
    assert "b = Abs(x)" in done.body


def test_a_dead_if_goes_with_its_bodies_as_one_rewrite() -> None:
    done = dead(
        """g (bool c, float[N] x) => (float[N] y) {
            a = Exp(x)  b = Abs(x)
            r = If(c)<then_branch = t () => (float[N] o) { p = Neg(a)  o = Neg(p) },
                      else_branch = e () => (float[N] o) {
                          o = If(c)<then_branch = u () => (float[N] q) { q = Neg(b) },
                                    else_branch = f () => (float[N] q) { q = Abs(x) }>
                      }>
            y = Relu(x)
        }"""
    )
    assert done.body == "y = Relu(x)"
    assert sorted(names(done)) == ["Abs(b)", "Exp(a)", "If(r)"]


def test_a_loop_whose_results_are_read_in_part_stays() -> None:
    text = """g (float[N] x) => (float[N] y) {
        n = Constant<value_int = 3>()  a = Abs(x)
        y, all = Loop(n, , x)<body = b (int64 i, bool go, float[N] s) => (bool on, float[N] next, float[N] o) {
            on = Identity(go)  next = Mul(s, a)  o = Neg(next)  d = Exp(o)  e = Exp(s)
        }>
    }"""
    done = dead(text)
    assert sorted(names(done)) == ["Exp(d)", "Exp(e)"]  # `o` is an output of the body


def test_inside_functions() -> None:
    done = dead(
        """<ir_version: 10, opset_import: ["": 21, "local": 1]>
        g (bool c, float[N] x) => (float[N] y) { y = local.f(x, c) }
        <domain: "local", opset_import: ["": 21]>
        f (a, c) => (z) {
            u = Exp(a)  v = Neg(u)  w = Abs(a)
            z = If(c)<then_branch = t () => (float[N] o) { d = Neg(w)  o = Relu(a) },
                      else_branch = e () => (float[N] o) { o = Neg(a) }>
        }"""
    )
    assert sorted(names(done)) == ["Abs(w)", "Exp(u)", "Neg(d)", "Neg(v)"]
    assert {one.scope for one in done.applied} == {"function local.f", "function local.f/If(z).then_branch"}


def test_an_unread_call_of_a_pure_function_goes() -> None:
    done = dead(
        """<ir_version: 10, opset_import: ["": 21, "local": 1]>
        g (float[N] x) => (float[N] y) { a = local.f(x)  y = Neg(x) }
        <domain: "local", opset_import: ["": 21]> f (a) => (b) { b = Exp(a) }"""
    )
    assert names(done) == ["f(a)"]


UNKNOWN = '<ir_version: 10, opset_import: ["": 21, "acme": 1, "local": 1]>'


def test_an_operator_of_an_unknown_domain_stays_with_what_it_reads() -> None:
    text = f"{UNKNOWN} g (float[N] x) => (float[N] y) {{ a = Neg(x)  b = acme.Print(a)  c = Abs(b)  y = Relu(x) }}"
    done = dead(text, runs=False)
    assert names(done) == ["Abs(c)"]
    missed = assert_missed(done, "unread", "operators of the domain 'acme' may have effects besides their outputs")
    assert missed.node == "Print(b)" and len(done.missed) == 1


def test_an_unknown_operator_in_a_body_keeps_the_node() -> None:
    done = dead(
        f"""{UNKNOWN} g (bool c, float[N] x) => (float[N] y) {{
            a = If(c)<then_branch = t () => (float[N] o) {{ p = acme.Print(x)  o = Neg(x) }},
                      else_branch = e () => (float[N] o) {{ o = Abs(x) }}>
            y = Relu(x)
        }}""",
        runs=False,
    )
    assert done.applied == ()
    assert {one.node for one in done.missed} == {"If(a)", "Print(p)"}


def test_an_unknown_operator_in_a_function_keeps_its_calls() -> None:
    done = dead(
        f"""{UNKNOWN} g (float[N] x) => (float[N] y) {{ a = local.outer(x)  b = local.pure(x)  y = Relu(x) }}
        <domain: "local", opset_import: ["": 21, "local": 1]> outer (a) => (b) {{ b = local.inner(a) }}
        <domain: "local", opset_import: ["": 21, "acme": 1]> inner (a) => (b) {{ b = acme.Print(a) }}
        <domain: "local", opset_import: ["": 21]> pure (a) => (b) {{ b = Neg(a) }}""",
        runs=False,
    )
    assert len(done.applied) == 1 and done.applied[0].before == ("b",)
    assert_missed(done, "unread", "'acme' may have effects")


def test_an_operator_that_onnx_does_not_define_stays() -> None:
    """Some exporters put operators of their own into the default domain. onnx's checker refuses
    such a model, so its laws cannot be checked."""
    before = model("g (float[N] x) => (float[N] y) { a = NmsPlugin(x)  y = Relu(x) }")
    done = apply(DeadNodes(), before, laws=False)
    assert_missed(done, "unread", "ONNX defines no operator NmsPlugin")


def test_operators_of_onnxruntime() -> None:
    text = """<ir_version: 10, opset_import: ["": 21, "com.microsoft": 1]>
        g (float[N] x) => (float[N] y) { a = com.microsoft.Gelu(x)  y = Relu(x) }"""
    assert len(dead(text).applied) == 1
    collective = dead(text.replace("Gelu", "AllReduce"), runs=False)
    assert_missed(collective, "unread", "AllReduce reaches outside of the graph")


def test_random_operators_go_like_others() -> None:
    text = """g (float[N] x) => (float[N] y) {
        a = RandomNormalLike(x)  b = RandomNormalLike<seed = 2.0>(x)  c = RandomNormalLike<seed = 1.0>(x)  y = Add(x, c)
    }"""
    assert sorted(names(dead(text))) == ["RandomNormalLike(a)", "RandomNormalLike(b)"]


def test_a_refused_rewrite_keeps_what_the_node_reads() -> None:
    text = "g (float[N] x) => (float[N] y) { a = Relu(x)  b = Exp(a)  c = Neg(b)  d = Neg(x)  y = Abs(x) }"
    done = dead(text, gate=Limits(frozenset({("dead-nodes", 3)})))
    assert [one.node for one in done.disabled] == ["Exp(b)"]
    assert done.body == "a = Relu(x)\nb = Exp(a)\ny = Abs(x)"


def annotated(subject: str, last: bool = False) -> ModelProto:
    """A scale made by a node, the first or the last, which only an annotation of `subject` reads."""
    scale, rest = "s = Constant<value_float = 0.5>()", "a = Relu(x)  y = Neg(x)  gone = Neg(a)"
    before = model(f"g (float[N] x) => (float[N] y) {{ {rest if last else scale} {scale if last else rest} }}")
    note = TensorAnnotation(tensor_name=subject)
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="s")
    before.graph.quantization_annotation.append(note)
    return before


@pytest.mark.parametrize("subject", ["y", "x", "elsewhere"])
def test_a_scale_stays_while_its_value_is_there(subject: str) -> None:
    done = dead(annotated(subject))
    assert names(done) == ["Neg(gone)", "Relu(a)"]
    assert_missed(done, "unread", f"it is a quantization parameter of '{subject}'")
    assert len(done.after.graph.quantization_annotation) == 1


@pytest.mark.parametrize("last", [False, True])
def test_a_scale_goes_with_its_value(last: bool) -> None:
    done = dead(annotated("gone", last))
    assert names(done) == ["Neg(gone)", "Relu(a)", "Constant(s)"]
    assert done.missed == () and not done.after.graph.quantization_annotation


def test_the_rest_of_the_model_stays() -> None:
    before = model("g (float[N] x) => (float[N] y) { a = Add(x, w)  y = Abs(x) }", w=np.float32(1))
    before.graph.value_info.append(helper.make_tensor_value_info("a", 1, ["N"]))
    after = dead(before).after
    assert [one.name for one in after.graph.initializer] == ["w"]  # unread now: another pass's business
    assert not after.graph.value_info


def test_nodes_out_of_order() -> None:
    """Not valid, so no laws; a script may leave such a graph behind."""
    before = model("g (float[N] x) => (float[N] y) { a = Relu(x)  b = Exp(a)  c = Neg(b)  y = Abs(x) }")
    before.graph.node.reverse()
    assert apply(DeadNodes(), before, laws=False).body == "y = Abs(x)"


@pytest.mark.parametrize("shape", ["chain", "fan"])
def test_fifty_thousand_nodes(shape: str) -> None:
    """Linear: quadratic work on as many nodes would take minutes."""
    count = 50_000
    before = model("g (float[N] x) => (float[N] y) { y = Abs(x) }")
    for index in range(count):
        source = f"v{index - 1}" if index and shape == "chain" else "x"
        before.graph.node.append(helper.make_node("Neg", [source], [f"v{index}"]))
    graph = decode(before, Store())
    start = time.perf_counter()
    outcome = run(lambda: graph, Pipeline.of(DeadNodes()))
    assert time.perf_counter() - start < 20
    assert outcome.rewrites == count and len(outcome.graph.nodes) == 1


def test_one_output_among_several_that_an_annotation_needs() -> None:
    before = model(
        "g (float[N, 4] x) => (float[N, 4] y) { s, i = TopK(x, k)  t, s2 = TopK(x, k)  y = Neg(x) }", k=np.array([1])
    )
    note = TensorAnnotation(tensor_name="y")
    note.quant_parameter_tensor_names.add(key="ZERO_POINT_TENSOR", value="s2")
    before.graph.quantization_annotation.append(note)
    done = dead(before)
    assert names(done) == ["TopK(s)"]
    assert_missed(done, "unread", "it is a quantization parameter of 'y'")
