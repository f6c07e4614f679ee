"""What all no-op passes have in common: annotations, names, litter, order, time."""

from __future__ import annotations

import time

import numpy as np
import pytest
from onnx import ModelProto, TensorAnnotation

from graphopt.pipeline import Pass, Pipeline
from graphopt.testing import apply, assert_missed, model
from passes.eliminate.idempotent import Idempotent
from passes.eliminate.implied_expands import ImpliedExpands
from passes.eliminate.no_op_arithmetic import NoOpArithmetic
from passes.eliminate.no_op_casts import NoOpCasts
from passes.eliminate.no_op_reductions import NoOpReductions
from passes.eliminate.no_op_slices import NoOpSlices
from passes.eliminate.no_op_views import NoOpViews


def annotated(before: ModelProto, subject: str, parameter: str) -> ModelProto:
    note = TensorAnnotation(tensor_name=subject)
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value=parameter)
    before.graph.quantization_annotation.append(note)
    return before


def test_an_annotated_value_stays() -> None:
    text = "g (float[N] x) => (float[N] y) { a = Cast<to = 1>(x)  b = Mul(a, w)  y = Neg(b) }"
    before = annotated(model(text, w=np.full(1, 3, np.float32)), "a", "w")
    assert_missed(apply(NoOpCasts(), before), "same-type", "a quantization annotation is about 'a'")


def test_an_annotated_value_on_the_way_stays() -> None:
    text = "g (int32[N] x) => (int8[N] y) { a = Cast<to = 7>(x)  b = Cast<to = 3>(a)  y = Abs(b) }"
    before = annotated(model(text, w=np.full(1, 3, np.float32)), "a", "w")
    assert_missed(apply(NoOpCasts(), before), "on-the-way", "a quantization annotation is about 'a'")


def test_a_unit_that_an_annotation_names_stays() -> None:
    text = "g (float[N] x) => (float[N] y) { a = Mul(x, one)  y = Neg(a) }"
    before = annotated(model(text, one=np.ones(1, np.float32)), "y", "one")
    done = apply(NoOpArithmetic(), before)
    assert done.body == "y = Neg(x)" and [one.name for one in done.after.graph.initializer] == ["one"]


def test_units_that_others_read_stay() -> None:
    text = "g (float[N] x) => (float[N] y) { a = Mul(x, one)  b = Neg(a)  y = Sub(b, one) }"
    done = apply(NoOpArithmetic(), model(text, one=np.ones(1, np.float32)))
    assert done.body == "b = Neg(x)\ny = Sub(b, one)" and [one.name for one in done.after.graph.initializer] == ["one"]


def test_constant_nodes_go_with_their_reader() -> None:
    text = "g (float[N] x) => (float[N] y) { k = Constant<value_float = 1.0>()  a = Mul(x, k)  y = Neg(a) }"
    assert apply(NoOpArithmetic(), model(text)).body == "y = Neg(x)"


def test_a_captured_unit_goes_with_its_last_reader() -> None:
    text = """g (bool c, float[N] x) => (float[N] y) {
        y = If(c)<then_branch = t () => (float[N] o) { p = Mul(x, one)  o = Neg(p) },
                  else_branch = e () => (float[N] o) { p = Div(x, one)  o = Abs(p) }> }"""
    done = apply(NoOpArithmetic(), model(text, one=np.float32(1)))
    assert len(done.applied) == 2 and not done.after.graph.initializer


def test_a_name_that_a_body_takes_for_something_else() -> None:
    text = """g (bool c, float[N] x) => (float[N] y) { a = Cast<to = 1>(x)
        y = If(c)<then_branch = t () => (float[N] o) { o = Neg(a) },
                  else_branch = e () => (float[N] o) { o = Abs(a) }> }"""
    assert apply(NoOpCasts(), model(text)).body.count("(x)") == 2


@pytest.mark.parametrize(
    ("passes", "steps"),
    [
        ((NoOpCasts(),), ["Cast<to = 1>({})", "Cast<to = 11>({})"]),
        ((NoOpArithmetic(),), ["Mul({}, one)", "Sub({}, zero)"]),
        ((NoOpViews(),), ["Reshape({}, target)", "Transpose<perm = [0, 1]>({})"]),
        ((NoOpSlices(),), ["Slice({}, start, end)", "Concat<axis = 0>({})"]),
        ((Idempotent(),), ["Relu({})", "Neg({})", "Neg({})"]),
    ],
    ids=["casts", "arithmetic", "views", "slices", "idempotent"],
)
def test_long_chains_in_linear_time(passes: tuple[Pass, ...], steps: list[str]) -> None:
    chain, last = [], "x"
    for index in range(3000):
        chain.append(f"v{index} = {steps[index % len(steps)].format(last)}")
        last = f"v{index}"
    text = f"g (float[N, 4] x) => (double[N, 4] y) {{ {'  '.join(chain)}  y = Cast<to = 11>({last}) }}"
    weights = {"one": np.float32(1), "zero": np.float32(0), "target": np.array([-1, 4])}
    before = model(text, start=np.array([0]), end=np.array([2**63 - 1]), **weights)
    started = time.process_time()
    done = apply(Pipeline(passes), before, feeds=(), laws=False)
    assert time.process_time() - started < 20  # a fraction of it, unless something is quadratic
    assert len(done.after.graph.node) <= 3


def test_what_one_removal_frees_is_found_in_the_next_sweep() -> None:
    """The Where waits for the negation to lose its other reader, which stands behind it."""
    text = """g (bool[N] b, bool[N] p, int32[N] x, int32[N] z) => (int32[N] y, bool[N] r) {
        n = Not(b)  y = Where(n, x, z)  q = Where(no, n, p)  r = Not(q) }"""
    done = apply(NoOpArithmetic(), model(text, no=np.array(False)), feeds=())
    assert done.body == "y = Where(b, z, x)\nr = Not(p)"


TWO_RANKS = """<ir_version: 10, opset_import: ["": 18, "f": 1]>
    g (float[2, 3] x, float[4] z) => (float[A, B] y, float[C] w) {{ y = f.go(x)  w = f.go(z) }}
    <domain: "f", opset_import: ["": {version}]> go (x) => (y) {{ {body} }}"""


@pytest.mark.parametrize(
    ("pass_", "body", "applied"),
    [
        (NoOpReductions(), "k = Constant<value_ints = [0]>()  a = ReduceMax(x, k)  y = Neg(a)", 0),
        (
            NoOpSlices(),
            "s = Constant<value_ints = [0]>()  e = Constant<value_ints = [9223372036854775807]>()  "
            "a = Slice(x, s, e)  y = Neg(a)",
            1,
        ),
        (ImpliedExpands(), "k = Constant<value_float = 2.0>()  s = Shape(x)  a = Expand(k, s)  y = Add(x, a)", 0),
    ],
    ids=["reduction", "slice", "expand"],
)
def test_a_function_that_is_called_with_values_of_two_ranks(pass_: Pass, body: str, applied: int) -> None:
    """Not even the rank is known in it: what does not depend on it goes, and the rest stays."""
    done = apply(pass_, model(TWO_RANKS.format(version=18, body=body)))
    assert len(done.applied) == applied


def test_a_function_that_is_called_with_values_of_two_types() -> None:
    """The same Where may be of numbers whose zeros have signs; a bound left out depends on the type, too."""
    text = """<ir_version: 10, opset_import: ["": 18, "f": 1]>
        g (float[3] x, int32[3] z) => (float[A] y, int32[B] w) {{ y = f.go(x)  w = f.go(z) }}
        <domain: "f", opset_import: ["": 18]> go (x) => (y) {{ {} }}"""
    where = "c = Constant<value = bool {1}>()  a = Where(c, x, x)  y = Neg(a)"
    assert apply(NoOpArithmetic(), model(text.format(where))).applied == ()
    clip = "a = Relu(x)  b = Sub(a, a)  k = Sub(b, b)  c = Clip(a, k)  y = Neg(c)"
    assert apply(Idempotent(), model(text.format(clip)), laws=False).applied == ()
    clip = "k = Constant<value_float = 0.0>()  l = CastLike(k, x)  c = Clip(x, , l)  y = Neg(c)"
    assert apply(Idempotent(), model(text.format(clip)), laws=False).applied == ()
