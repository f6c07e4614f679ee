"""merge-slices: slices of slices and expansions of expansions in one node."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
import pytest
from onnx import TensorAnnotation, helper, numpy_helper

from graphopt.pipeline.gate import Limits
from graphopt.testing import Applied, apply, assert_missed, model
from passes.layout.cuts import Cut, joined
from passes.layout.merge_slices import MergeSlices

END = (1 << 63) - 1


def merged(text: str, **lists: Any) -> Applied:
    weights = {name: np.array(one, np.int64) if isinstance(one, list) else one for name, one in lists.items()}
    return apply(MergeSlices(), model(text, **weights))


def bounds(done: Applied) -> list[list[int]]:
    """Starts, ends, axes and steps of the last node."""
    held = {one.name: one.values.tolist() for one in done.graph.initializers}
    return [held[one.name] for one in done.graph.nodes[-1].inputs[1:]]


def test_slices_of_different_axes() -> None:
    text = "g (float[N, M, 4] x) => (float[A, B, C] y) { first = Slice(x, s, e, i)  y = Slice(first, t, f, j) }"
    done = merged(text, s=[1], e=[END], i=[1], t=[-2], f=[3], j=[-1])
    assert len(done.graph.nodes) == 1 and bounds(done) == [[1, -2], [END, 3], [1, 2]]


def test_slices_of_one_axis() -> None:
    text = "g (float[N, 4] x) => (float[A, B] y) { a = Slice(x, s, e, i, k)  y = Slice(a, t, f, i, l) }"
    done = merged(text, s=[1], e=[9], i=[0], k=[2], t=[1], f=[3], l=[1])
    assert bounds(done) == [[3], [7], [0], [2]]


@pytest.mark.parametrize("length", [0, 1, 2, 3, 7])
def test_two_cuts_are_one_for_every_length(length: int) -> None:
    numbers = (-9, -3, -1, 0, 1, 2, 5, END)
    cuts = [Cut(start, end, step) for start in numbers[:-1] for end in numbers for step in (1, 2, -1, -2)]
    known = 0
    for first in cuts:
        for second in cuts[::7]:
            once = range(length)[first.start : first.end : first.step]
            expected = list(once[second.start : second.end : second.step])
            for told in (None, length):
                both = joined(first, second, told)
                known += both is not None
                if both is not None:
                    assert list(range(length)[both.start : both.end : both.step]) == expected, (first, second, told)
    assert known > len(cuts)


def test_slices_that_depend_on_the_length_stay() -> None:
    text = "g (float[N, 4] x) => (float[A, B] y) { a = Slice(x, s, e, i)  y = Slice(a, t, f, i) }"
    done = merged(text, s=[-3], e=[END], i=[0], t=[1], f=[END])
    assert_missed(done, "slice-of-slice", "how both cut axis 0 depends on its length")
    done = merged(text.replace("float[N, 4]", "float[9, 4]"), s=[-3], e=[END], i=[0], t=[1], f=[END])
    assert bounds(done)[0] == [7]


def test_bounds_that_are_not_constant() -> None:
    text = "g (float[N, 4] x, int64[1] b) => (float[A, B] y) { a = Slice(x, b, e, i)  y = Slice(a, i, e, i) }"
    assert_missed(merged(text, e=[9], i=[1]), "slice-of-slice", "their bounds are not constant")


def test_bounds_as_attributes() -> None:
    done = merged(
        """<ir_version: 4, opset_import: ["": 9]> g (float[N, 4] x) => (float[A, B] y) {
            a = Slice<starts = [1], ends = [5]>(x)  y = Slice<axes = [1], starts = [0], ends = [-1]>(a) }"""
    )
    assert done.body == "y = Slice<axes=[0, 1], ends=[5, -1], starts=[1, 0]>(x)"


def test_a_slice_that_others_read_stays() -> None:
    text = """g (float[N, 4] x) => (float[A, B] y, float[C, D] z) {
        a = Slice(x, s, e, i)  y = Slice(a, s, e, j)  z = Neg(a) }"""
    assert not merged(text, s=[1], e=[3], i=[0], j=[1]).remarks


def test_new_bounds_must_pay() -> None:
    text = """g (float[N, M, K] x, float[9, 9] q) => (float[A, B, C] y, float[D, E] z) {
        a = Slice(x, s, e, s)  y = Slice(a, t, e, t)  u = Slice(q, s, e, s)  v = Neg(u)  z = Slice(v, t, e, s) }"""
    assert_missed(merged(text, s=[1], e=[3], t=[2]), "slice-of-slice", "the file would grow by")


def test_expansions_become_one() -> None:
    text = "g (float[1, 3] x) => (float[A, B, C] y) { a = Expand(x, s)  y = Expand(a, t) }"
    assert merged(text, s=[2, 1], t=[5, 2, 3]).body == "y = Expand(x, t)"
    done = merged(text, s=[2, 3], t=[5, 1, 3])
    assert_missed(done, "expand-of-expand", "the first one expands an axis")


def test_annotated_values_stay() -> None:
    before = model("g (float[N] x) => (float[A] y) { a = Slice(x, s, e)  y = Slice(a, s, e) }")
    lists = {"s": np.array([1]), "e": np.array([9])}
    before.graph.initializer.extend(numpy_helper.from_array(one, name) for name, one in lists.items())
    before.graph.quantization_annotation.append(TensorAnnotation(tensor_name="a"))
    assert not apply(MergeSlices(), before).applied


def test_inside_bodies_and_functions() -> None:
    done = merged(
        """<ir_version: 10, opset_import: ["": 21, "local": 1]>
        g (bool c, float[N, 3] x) => (float[A, B] y, float[C, D, I] z) {
            y = If(c)<then_branch = t () => (float[E, F] o) {
                          after_the_first = Slice(x, s, e, i)  o = Slice(after_the_first, s, e, i) },
                      else_branch = e () => (float[G, H] p) { p = Abs(x) }>
            z = local.f(x)
        }
        <domain: "local", opset_import: ["": 21]>
        f (x) => (y) { s = Constant<value = int64[2] {1, 3}>()  t = Constant<value = int64[3] {2, 1, 3}>()
            expanded_once = Expand(x, s)  y = Expand(expanded_once, t) }""",
        s=[1],
        e=[9],
        i=[0],
    )
    assert "o = Slice(x, starts, e, i)" in done.body and "  y = Expand(x, t)" in done.body


def test_long_chains_take_no_time() -> None:
    text = "g (float[9000, 2] v0) => (float[A, B] v3000) { v3000 = Relu(v0) }"
    before = model(text, s=np.array([1], np.int64), e=np.array([END], np.int64), i=np.array([0], np.int64))
    names = ["v0", *(f"what_is_left_after_number_{i}" for i in range(2999)), "v3000"]
    del before.graph.node[:]
    ends = itertools.pairwise(names)
    before.graph.node.extend(helper.make_node("Slice", [one, "s", "e", "i"], [other]) for one, other in ends)
    start = time.process_time()
    done = apply(MergeSlices(), before, laws=False)
    assert time.process_time() - start < 20 and len(done.graph.nodes) == 1


def test_one_of_two_axes_in_steps() -> None:
    between = "what_is_between_the_two_of_them"
    text = f"{{ {between} = Slice(x, s, e, i, k)  y = Slice({between}, t, f, j) }}"
    done = merged(f"g (float[N, M] x) => (float[A, B] y) {text}", s=[1], e=[9], i=[0], k=[2], t=[1], f=[3], j=[1])
    assert bounds(done) == [[1, 1], [9, 3], [0, 1], [2, 1]]


@pytest.mark.parametrize("opset", [9, 10, 11])
def test_bounds_are_attributes_before_they_are_inputs(opset: int) -> None:
    head = f'<ir_version: 8, opset_import: ["": {opset}]> g (float[N, M] x) => (float[A, B] y)'
    if opset < 10:
        body = "a = Slice<starts = [1], ends = [9], axes = [0]>(x)  y = Slice<starts = [0], ends = [2], axes = [1]>(a)"
        done = merged(f"{head} {{ {body} }}")
        assert done.body == "y = Slice<axes=[0, 1], ends=[9, 2], starts=[1, 0]>(x)"
    else:
        body = "what_is_between = Slice(x, s, e, i)  y = Slice(what_is_between, t, f, j)"
        done = merged(f"{head} {{ {body} }}", s=[1], e=[9], i=[0], t=[0], f=[2], j=[1])
        assert bounds(done) == [[1, 0], [9, 2], [0, 1]]


def test_an_expansion_to_fewer_axes() -> None:
    """The second one asks for fewer axes than the first one has made."""
    text = "g (float[1, 1] x) => (float[A, B, C] y) { a = Expand(x, s)  y = Expand(a, t) }"
    assert merged(text, s=[2, 3, 1], t=[1, 4]).applied == ()


def test_cuts_to_the_number() -> None:
    largest = 2**63 - 1
    assert joined(Cut(0, 5), Cut(1, 3), None) == Cut(1, 3)
    assert joined(Cut(2, 9), Cut(0, 0), None) == Cut(2, 2)
    assert joined(Cut(1, largest), Cut(0, END), None) == Cut(1, largest)
    assert joined(Cut(0, largest, 1 << 40), Cut(0, END, 1 << 40), None) is None
    assert joined(Cut(-1, -9, -1), Cut(0, END), 3) == Cut(2, -largest, -1)


def test_axes_and_steps_that_are_fed() -> None:
    ends = "(float[N, 4] x, int64[1] r) => (float[A, B] y)"
    for second in ("Slice(a, s, e, r)", "Slice(a, s, e, i, r)"):
        text = f"g {ends} {{ a = Slice(x, s, e, i)  y = {second} }}"
        done = apply(MergeSlices(), model(text, s=np.array([0]), e=np.array([2]), i=np.array([0])), feeds=())
        assert_missed(done, "slice-of-slice", "their bounds are not constant")


def test_lists_that_do_not_fit_together() -> None:
    text = "g (float[N, 4] x) => (float[A, B] y) { a = Slice(x, s, s, s, k)  y = Slice(a, s, s, s, s) }"
    assert apply(MergeSlices(), model(text, s=np.array([0]), k=np.array([1, 1])), laws=False).applied == ()


def test_slices_of_a_value_whose_rank_is_not_known() -> None:
    steps = "x = Reshape(v, t)  a = Slice(x, s, e, i)  y = Slice(a, s, f, i)"
    text = f"g (float[K] v, int64[R] t) => (float[A, B] y) {{ {steps} }}"
    weights = {"s": np.array([1]), "e": np.array([9]), "f": np.array([3]), "i": np.array([0])}
    done = apply(MergeSlices(), model(text, **weights), feeds=())
    assert len(done.applied) == 1


def test_an_expansion_to_more_axes_than_the_one_behind_it_has() -> None:
    text = "g (float[3] x) => (float[A, B] y) { a = Expand(x, s)  y = Expand(a, t) }"
    done = apply(MergeSlices(), model(text, s=np.array([1, 3]), t=np.array([3])))
    assert done.applied == ()


@pytest.mark.parametrize(
    "steps", ["a = Slice(x, s, e, i)  y = Slice(a, s, e, i)", "a = Expand(x, u)  y = Expand(a, u)"]
)
def test_the_gate_is_respected(steps: str) -> None:
    text = f"g (float[3, 3] x) => (float[A, B] y) {{ {steps} }}"
    weights = {"s": np.array([0]), "e": np.array([2]), "i": np.array([0]), "u": np.array([3, 3])}
    used = {name: one for name, one in weights.items() if f"{name})" in steps or f", {name}," in steps}
    none = apply(MergeSlices(), model(text, **used), gate=Limits(limit=0))
    assert not none.applied and none.disabled
