"""resolve-sequences: whoever reads a known element reads the element itself."""

from __future__ import annotations

import time

import numpy as np
import pytest
from onnx import ModelProto

from graphopt.testing import Applied, apply, assert_missed, model
from passes.fold.resolve_sequences import ResolveSequences


def resolve(before: ModelProto | str, runs: bool = True, **numbers: object) -> Applied:
    weights = {key: np.array(one, np.int64) for key, one in numbers.items()}
    return apply(
        ResolveSequences(),
        model(before, **weights) if isinstance(before, str) else before,
        feeds=None if runs else (),
    )


def test_an_element_of_a_sequence() -> None:
    done = resolve(
        """g (float[N] a, float[N] b) => (float[N] y) {
            s = SequenceConstruct(a, b)  u = SequenceAt(s, one)  y = Neg(u)
        }""",
        one=1,
    )
    assert done.body == "y = Neg(b)" and not done.after.graph.initializer
    assert [(one.rule, one.node) for one in done.applied] == [("sequence-at", "SequenceAt(u)")]


@pytest.mark.parametrize(
    ("chain", "place", "element"),
    [
        ("s = SequenceConstruct(a, b)", -1, "b"),
        ("s = SequenceConstruct(a, b)", -2, "a"),
        ("e = SequenceEmpty()  s = SequenceInsert(e, b)", 0, "b"),
        ("e = SequenceConstruct(a)  s = SequenceInsert(e, b)", 1, "b"),
        ("e = SequenceConstruct(a)  s = SequenceInsert(e, b, zero)", 0, "b"),
        ("e = SequenceConstruct(a, a)  s = SequenceInsert(e, b, back)", 1, "b"),
        ("e = SequenceConstruct(a, b)  s = SequenceErase(e, zero)", 0, "b"),
        ("e = SequenceConstruct(a, b)  s = SequenceErase(e)", 0, "a"),
        ("e = SequenceConstruct(a, b)  s = Identity(e)", 1, "b"),
    ],
)
def test_what_puts_a_sequence_together(chain: str, place: int, element: str) -> None:
    text = f"g (float[N] a, float[N] b) => (float[N] y) {{ {chain}  u = SequenceAt(s, p)  y = Neg(u) }}"
    assert resolve(text, p=place, zero=0, back=-1).body == f"y = Neg({element})"


@pytest.mark.parametrize(
    "chain",
    [
        "s = SequenceInsert(q, a)",
        "e = SequenceConstruct(a)  s = SequenceInsert(e, a, k)",
        "e = SequenceConstruct(a, a)  s = SequenceErase(e, k)",
    ],
)
def test_what_is_not_known_stays(chain: str) -> None:
    text = f"g (float[N] a, seq(float[N]) q, int64 k) => (float[N] y) {{ {chain}  u = SequenceAt(s, z)  y = Neg(u) }}"
    done = resolve(text, runs=False, z=0)
    assert done.applied == ()


def test_a_computed_position() -> None:
    text = """g (float[N] a, int64 k) => (float[N] y) {
        s = SequenceConstruct(a, a)  u = SequenceAt(s, k)  y = Neg(u)
    }"""
    assert_missed(resolve(text, runs=False), "sequence-at", "the position 'k' is known at run time only")


def test_an_element_as_output() -> None:
    """An input cannot be an output by another name, what a node makes can."""
    done = resolve(
        """g (float[N] a) => (float[N] y, float[N] z) {
            b = Neg(a)  s = SequenceConstruct(a, b)  y = SequenceAt(s, o)  z = SequenceAt(s, i)
        }""",
        o=0,
        i=1,
    )
    assert done.body == "z = Neg(a)\ny = Identity(a)"


def test_lengths_and_concatenations() -> None:
    done = resolve(
        """g (float[N] a, float[N] b) => (float[M] y, int64 n) {
            s = SequenceConstruct(a, b, a)  t = SequenceConstruct(a, b)
            m = SequenceLength(t)  n = Neg(m)  y = ConcatFromSequence<axis = 0>(s)
        }"""
    )
    assert done.body == "n = Neg(m)\ny = Concat<axis=0>(a, b, a)"
    assert [(one.name, one.dims) for one in done.after.graph.initializer] == [("m", [])]


def test_a_concatenation_of_a_sequence_that_is_needed() -> None:
    text = """g (float[N] a, float[N] b) => (float[M] y, seq(float[N]) s) {
        s = SequenceConstruct(a, b)  y = ConcatFromSequence<axis = 0>(s)
    }"""
    assert_missed(resolve(text, runs=False), "concat", "something else needs 's' too")


def test_a_new_axis_stays() -> None:
    text = """g (float[N] a, float[N] b) => (float[2, N] y) {
        s = SequenceConstruct(a, b)  y = ConcatFromSequence<axis = 0, new_axis = 1>(s)
    }"""
    assert_missed(resolve(text), "concat", "each element would need an Unsqueeze")


def test_optionals() -> None:
    done = resolve(
        """g (float[N] a) => (float[N] y, bool h) {
            o = Optional(a)  b = OptionalGetElement(o)  y = Neg(b)
            p = Optional(a)  f = OptionalHasElement(p)  h = Not(f)
        }"""
    )
    assert done.body == "y = Neg(a)\nh = Not(f)"


def test_a_tensor_is_its_own_element_from_opset_18() -> None:
    text = "g (float[N] a) => (float[N] y) { b = OptionalGetElement(a)  y = Neg(b) }"
    assert resolve(text).body == "y = Neg(a)"


@pytest.mark.parametrize(("opset", "count"), [(13, ""), (18, ", num_outputs=3"), (21, ", num_outputs=3")])
def test_a_split_in_equal_parts(opset: int, count: str) -> None:
    done = resolve(
        f"""<ir_version: 8, opset_import: ["": {opset}]> g (float[N, 6] x) => (float[N, 2] y, float[N, 2] z) {{
            s = SplitToSequence<axis = 1>(x, two)  a = SequenceAt(s, zero)  b = SequenceAt(s, last)
            y = Neg(b)  z = Neg(a)
        }}""",
        two=2,
        zero=0,
        last=-1,
    )
    assert done.body == f"a, part, b = Split<axis=1{count}>(x)\ny = Neg(b)\nz = Neg(a)"
    assert not [one for one in done.after.graph.initializer if one.name == "part"]


@pytest.mark.parametrize(("opset", "split"), [(11, "<split=[1, 3]>(x)"), (13, "(x, parts)"), (21, "(x, parts)")])
def test_a_split_in_given_parts(opset: int, split: str) -> None:
    done = resolve(
        f"""<ir_version: 8, opset_import: ["": {opset}]> g (float[4] x) => (float[1] y, float[3] z) {{
            s = SplitToSequence(x, parts)  y = SequenceAt(s, zero)  z = SequenceAt(s, one)
        }}""",
        parts=[1, 3],
        zero=0,
        one=1,
    )
    assert done.body == f"y, z = Split{split}"


def test_single_slices_are_gathered_at_any_position() -> None:
    done = resolve(
        """g (float[N, 4] x, int64 k) => (float[N] y, float[N] z) {
            s = SplitToSequence<axis = 1, keepdims = 0>(x)  y = SequenceAt(s, k)  b = SequenceAt(s, m)  z = Neg(b)
        }""",
        runs=False,
        m=-1,
    )
    assert done.body == "y = Gather<axis=1>(x, k)\nb = Gather<axis=1>(x, m)\nz = Neg(b)"


def test_single_slices_at_constant_positions_give_the_same() -> None:
    done = resolve(
        """g (float[N, 4] x) => (float[N] y) {
            s = SplitToSequence<axis = 1, keepdims = 0>(x)  b = SequenceAt(s, m)  y = Neg(b)
        }""",
        m=-1,
    )
    assert done.body == "b = Gather<axis=1>(x, m)\ny = Neg(b)"


@pytest.mark.parametrize(
    ("split", "readers", "why"),
    [
        ("SplitToSequence(x, two)", "a = SequenceAt(s, zero)  y = Neg(a)", "how many equal parts there are is not"),
        ("SplitToSequence<axis = 1>(x, four)", "a = SequenceAt(s, zero)  y = Neg(a)", "how many equal parts there are"),
        ("SplitToSequence<axis = 1>(x, k)", "a = SequenceAt(s, zero)  y = Neg(a)", "its parts are known at run time"),
        ("SplitToSequence<axis = 1>(x, two)", "a = SequenceAt(s, k)  y = Neg(a)", "a position is known at run time"),
        ("SplitToSequence<axis = 1>(x, two)", "y = ConcatFromSequence<axis = 1>(s)", "more than single elements"),
        (
            "SplitToSequence<axis = 1>(x, two)",
            "a = SequenceAt(s, zero)  b = SequenceAt(s, zero)  y = Add(a, b)",
            "an element is read twice",
        ),
    ],
)
def test_splits_that_stay(split: str, readers: str, why: str) -> None:
    text = f"g (float[N, 6] x, int64 k) => (float[P, Q] y) {{ s = {split}  {readers} }}"
    done = resolve(text, runs=False, two=2, four=4, zero=0)
    assert done.applied == ()
    assert_missed(done, "split", why)


def test_many_parts_that_nobody_reads() -> None:
    text = "g (float[60] x) => (float[1] y) { s = SplitToSequence(x)  a = SequenceAt(s, z)  y = Neg(a) }"
    assert_missed(resolve(text, z=0), "split", "the file would grow")


def test_in_bodies_and_functions() -> None:
    done = resolve(
        """<ir_version: 10, opset_import: ["": 21, "local": 1]>
        g (bool c, float[N] x) => (float[N] y) {
            b = Neg(x)  s = SequenceConstruct(x, b)
            r = If(c)<then_branch = t () => (float[N] o) { i = Constant<value_int = 1>()  o = SequenceAt(s, i) },
                      else_branch = e () => (float[N] o) { o = Exp(x) }>
            y = local.f(r)
        }
        <domain: "local", opset_import: ["": 21]>
        f (a) => (c) { i = Constant<value_int = 0>()  s = SequenceConstruct(a)  d = SequenceAt(s, i)  c = Neg(d) }"""
    )
    assert "Sequence" not in done.body and "    o = Identity(b)" in done.body and "  c = Neg(a)" in done.body


def test_a_name_that_a_body_hides() -> None:
    """In the Loop, `x` is another value than the element."""
    done = resolve(
        """g (float[N] x) => (float[N] y) {
            n = Constant<value_int = 2>()  z = Constant<value_int = 0>()  s = SequenceConstruct(x)
            y = Loop(n, , x)<body = b (int64 i, bool go, float[N] x) => (bool on, float[N] next) {
                on = Identity(go)  e = SequenceAt(s, z)  next = Add(e, x)
            }>
        }""",
        runs=False,
    )
    assert done.applied == ()
    assert_missed(done, "sequence-at", "'x' cannot be read where 'SequenceAt(e)' stands")


def test_long_chains_take_linear_time() -> None:
    chain = "  ".join(f"s{i + 1} = SequenceInsert(s{i}, x)" for i in range(3000))
    text = f"g (float[N] x) => (float[N] y) {{ s0 = SequenceEmpty()  {chain}  u = SequenceAt(s900, z)  y = Neg(u) }}"
    proto = model(text, z=np.array(0, np.int64))
    start = time.process_time()
    assert len(apply(ResolveSequences(), proto, laws=False).applied) == 1
    assert time.process_time() - start < 20


@pytest.mark.parametrize(
    ("into", "out"),
    [
        ("p = Optional({0})", "{1} = OptionalGetElement(p)"),
        ("p = SequenceConstruct({0}, x)", "{1} = SequenceAt(p, zero)"),
    ],
)
def test_an_element_that_was_an_element_itself(into: str, out: str) -> None:
    """What the first reader made is gone when the second one's turn comes: what it stood for is handed on."""
    first, second = f"{into} {out}".format("a", "b"), f"{into} {out}".format("b", "y").replace("p", "q")
    text = (
        f"g (float[N] x) => (float[N] z) {{ a = Neg(x) {first} {second.replace('Oqtional', 'Optional')} z = Relu(y) }}"
    )
    weights = {"zero": 0} if "zero" in text else {}
    assert resolve(text, **weights).body == "a = Neg(x)\nz = Relu(a)"


def test_parts_of_what_was_an_element() -> None:
    done = resolve(
        """g (float[N] x) => (float[P] y) {
            a = Neg(x)  s = SequenceConstruct(a)  b = SequenceAt(s, zero)  t = SequenceConstruct(b, x)
            y = ConcatFromSequence<axis = 0>(t)
        }""",
        zero=0,
    )
    assert done.body == "a = Neg(x)\ny = Concat<axis=0>(a, x)"


@pytest.mark.parametrize("place", [2, 3, -3])
def test_a_position_that_no_element_has(place: int) -> None:
    """Every run would fail: that is left to the run."""
    text = (
        "g (float[N] a, float[N] b) => (float[N] y) { s = SequenceConstruct(a, b)  u = SequenceAt(s, p)  y = Neg(u) }"
    )
    assert resolve(text, runs=False, p=place).applied == ()


@pytest.mark.parametrize("place", [2, -3])
def test_a_part_that_a_split_does_not_make(place: int) -> None:
    text = "g (float[4] x) => (float[N] y) { s = SplitToSequence(x, k)  u = SequenceAt(s, p)  y = Neg(u) }"
    assert resolve(text, runs=False, k=2, p=place).applied == ()


def test_the_length_of_a_sequence_in_a_function() -> None:
    """There a constant is a node."""
    text = """<ir_version: 10, opset_import: ["": 18, "f": 1]> g (float[3] x) => (int64 y) { y = f.go(x) }
        <domain: "f", opset_import: ["": 18]> go (x) => (y) {
            s = SequenceConstruct(x, x)  n = SequenceLength(s)  y = Abs(n) }"""
    done = resolve(text)
    assert "Constant" in done.after.functions[0].node[0].op_type and not done.after.graph.initializer


def test_an_optional_tensor_from_the_version_on_that_takes_it_as_it_is() -> None:
    text = """<ir_version: 8, opset_import: ["": 18]> g (float[N] x) => (float[N] y) {
        o = Abs(x)  t = OptionalGetElement(o)  y = Neg(t) }"""
    assert resolve(text, runs=False).body == "o = Abs(x)\ny = Neg(o)"


def test_a_sequence_that_is_fed_says_nothing() -> None:
    text = "g (seq(float[N]) s) => (float[M] y) { y = ConcatFromSequence<axis = 0>(s) }"
    assert resolve(text, runs=False).remarks == ()


@pytest.mark.parametrize(
    "chain",
    [
        "e = SequenceEmpty()  f = SequenceInsert(e, a)  s = SequenceInsert(f, b)",
        "f = SequenceConstruct(a, b, a)  s = SequenceErase(f)",
        "f = SequenceConstruct(a, b)  s = Identity(f)",
    ],
)
def test_elements_put_together_one_after_the_other_are_joined(chain: str) -> None:
    text = f"g (float[N] a, float[M] b) => (float[K] y) {{ {chain}  y = ConcatFromSequence<axis = 0>(s) }}"
    assert resolve(text).body == "y = Concat<axis=0>(a, b)"


def test_what_computes_an_element_may_have_effects() -> None:
    text = """<ir_version: 8, opset_import: ["": 18, "my": 1]> g (float[N] x) => (int64 y) {
        a = my.Log(x)  s = SequenceConstruct(a)  n = SequenceLength(s)  y = Abs(n) }"""
    assert "my.Log" in resolve(text, runs=False).body


def test_an_output_that_hands_its_long_name_to_many_readers() -> None:
    long = "an_output_whose_name_takes_many_bytes"
    steps = "  ".join(f"c{at} = Neg(b)" for at in range(9))
    text = f"""g (float[N] x) => (float[N] {long}) {{
        a = Exp(x)  b = Tanh(a)  {steps}  s = SequenceConstruct(a, b)  {long} = SequenceAt(s, one) }}"""
    resolve(text, one=1)  # a file that grew would break a law


@pytest.mark.parametrize("position", [2, -3])
def test_a_position_that_is_not_there(position: int) -> None:
    text = "g (float[4] x) => (float[2] y) { s = SplitToSequence(x, two)  a = SequenceAt(s, k)  y = Neg(a) }"
    done = resolve(text, runs=False, two=2, k=position)
    assert_missed(done, "split", "a position is not one of 2 parts")


def test_a_body_that_reads_one_of_the_parts() -> None:
    text = """g (bool q, float[4] x) => (float[2] y, float[2] z) {
        s = SplitToSequence(x, two)  z = SequenceAt(s, one)
        y = If(q)<then_branch = t () => (float[2] o) { o = SequenceAt(s, zero) },
                  else_branch = e () => (float[2] p) { p = ConstantOfShape(two1) }> }"""
    done = apply(
        ResolveSequences(), model(text, two=np.int64(2), one=np.int64(1), zero=np.int64(0), two1=np.array([2]))
    )
    assert_missed(done, "split", "a body reads its result")


def test_a_position_in_a_list_is_no_index_of_a_slice() -> None:
    text = """g (float[4, 3] x) => (float[a] y) {
        s = SplitToSequence<keepdims = 0>(x)  a = SequenceAt(s, k)  y = Neg(a) }"""
    done = apply(ResolveSequences(), model(text, k=np.array([1])), feeds=(), laws=False)
    assert_missed(done, "split", "is not known to be a scalar")


def test_parts_that_are_long() -> None:
    text = """g (float[4000] x) => (float[2000] y) {
        s = SplitToSequence(x, k)  a = SequenceAt(s, one)  b = SequenceAt(s, zero)  y = Add(a, b) }"""
    assert "SplitToSequence" not in resolve(text, k=2000, one=1, zero=0).body


def test_parts_of_a_value_whose_axes_are_not_known() -> None:
    text = """g (float[K] v, int64[R] t) => (float[A] y) { x = Reshape(v, t)
        s = SplitToSequence(x, two)  y = SequenceAt(s, one) }"""
    done = resolve(text, runs=False, two=2, one=1)
    assert_missed(done, "split", "how many equal parts there are is not known")


def test_parts_along_an_axis_that_a_caller_gives() -> None:
    text = """<ir_version: 10, opset_import: ["": 18, "f": 1]> g (float[4] x) => (float[2] y) { y = f.go<d = 0>(x) }
        <domain: "f", opset_import: ["": 18]> go <d> (x) => (y) {
            two = Constant<value_int = 2>()  one = Constant<value_int = 1>()
            s = SplitToSequence<axis: int = @d>(x, two)  a = SequenceAt(s, one)  y = Neg(a) }"""
    assert resolve(text).remarks == ()


def test_nothing_is_said_of_a_sequence_that_is_an_output() -> None:
    text = "g (float[4] x) => (seq(float[M]) s) { s = SplitToSequence(x) }"
    assert resolve(text, runs=False).remarks == ()


def test_a_name_that_means_another_value_in_a_body() -> None:
    """The body calls its own input by the name of what was split, or of an element."""
    scan = """y = Scan<num_scan_inputs = 1, body = t (float[3] a) => (float[3] o) {{
            {}  m = Neg(a)  o = Add(m, u) }}>(v)"""
    at = scan.format("u = SequenceAt(s, k)")
    ends = "g (float[4, 3] x, float[2, 3] v) => (float[B, 3] y)"
    text = f"{ends} {{ a = Abs(x)  s = SplitToSequence<keepdims = 0>(a)  {at} }}"
    assert_missed(resolve(text, k=1), "split", "'a' cannot be read where")
    joined = scan.format("u = ConcatFromSequence<axis = 0>(s)")
    text = f"""g (float[2] x, float[2, 3] v) => (float[B, 3] y) {{
        a = Abs(x)  b = Constant<value_floats = [1.0]>()  s = SequenceConstruct(a, b)  {joined} }}"""
    assert_missed(resolve(text), "concat", "'a' cannot be read where")


def test_a_sequence_in_an_optional() -> None:
    text = """g (float[N] a, float[N] b) => (float[N] y) {
        s = SequenceConstruct(a, b)  o = Optional(s)  t = OptionalGetElement(o)  u = SequenceAt(t, one)  y = Neg(u) }"""
    assert resolve(text, one=1).body == "y = Neg(b)"
