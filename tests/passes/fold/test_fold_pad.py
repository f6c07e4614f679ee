"""fold-pad: a Pad goes into the convolutions and pools behind it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.testing import Applied, apply, assert_missed, model
from passes.fold.pads import FoldPad

RANDOM = np.random.default_rng(5)
X, Y = "float[N, 4, 7, 6] x", "float[a, b, c, d] y"
PADS = np.array([0, 0, 1, 2, 0, 0, 0, 1], np.int64)
KERNEL = RANDOM.standard_normal((5, 4, 3, 3)).astype(np.float32)
POOL = "kernel_shape = [3, 4]"


def folded(text: str, runs: bool = True, **weights: Any) -> Applied:
    return apply(FoldPad(), model(text, **weights), feeds=None if runs else ())


def refused(text: str, why: str, runs: bool = True, **weights: Any) -> None:
    done = folded(text, runs, **weights)
    assert not done.applied
    assert_missed(done, "fold", why)


def head(opset: int) -> str:
    return f'<ir_version: 8, opset_import: ["": {opset}]>'


@pytest.mark.parametrize("opset", [2, 7, 10])
def test_pads_that_are_attributes(opset: int) -> None:
    text = f"{head(opset)} g ({X}) => ({Y}) {{ p = Pad<pads = {PADS.tolist()}>(x)  y = Conv(p, w) }}"
    assert folded(text, opset > 6, w=KERNEL).body == "y = Conv<pads=[1, 2, 0, 1]>(x, w)"


@pytest.mark.parametrize("opset", [11, 13, 18, 19, 21])
def test_pads_that_are_inputs(opset: int) -> None:
    text = f"{head(opset)} g ({X}) => ({Y}) {{ p = Pad(x, q, z)  y = Conv<pads = [0, 1, 0, 0]>(p, w) }}"
    done = folded(text, w=KERNEL, q=PADS, z=np.float32(0))
    assert done.body == "y = Conv<pads=[1, 3, 0, 1]>(x, w)"
    assert [one.name for one in done.after.graph.initializer] == ["w"]


def test_axes() -> None:
    text = f"g ({X}) => ({Y}) {{ p = Pad(x, q, , k)  y = Conv(p, w) }}"
    done = folded(text, w=KERNEL, q=np.array([2, 1, 0, 3], np.int64), k=np.array([-1, 2], np.int64))
    assert done.body == "y = Conv<pads=[1, 2, 3, 0]>(x, w)"
    refused(text, "other axes", w=KERNEL[:, :4], q=np.array([0, 0, 1, 0], np.int64), k=np.array([0, 2], np.int64))


def test_explicit_and_automatic_padding() -> None:
    text = f'g ({X}) => ({Y}) {{ p = Pad(x, q)  y = Conv<auto_pad = "VALID", strides = [2, 1]>(p, w) }}'
    assert folded(text, w=KERNEL, q=PADS).body == "y = Conv<pads=[1, 2, 0, 1], strides=[2, 1]>(x, w)"
    text = f'g ({X}) => ({Y}) {{ p = Pad(x, q)  y = Conv<auto_pad = "SAME_LOWER">(p, w) }}'
    refused(text, "pads by the size", w=KERNEL, q=PADS)


def test_an_average_that_counts_what_is_padded() -> None:
    text = f"g ({X}) => ({Y}) {{ p = Pad(x, q)  y = AveragePool<{POOL}>(p) }}"
    expected = "y = AveragePool<count_include_pad=1, kernel_shape=[3, 4], pads=[1, 2, 0, 1]>(x)"
    assert folded(text, q=PADS).body == expected
    text = (
        f"g ({X}) => ({Y}) {{ p = Pad(x, q)  y = AveragePool<{POOL}, pads = [0, 1, 0, 0], count_include_pad = 1>(p) }}"
    )
    assert "pads=[1, 3, 0, 1]" in folded(text, q=PADS).body
    refused(text.replace("count_include_pad = 1", "count_include_pad = 0"), "does not count", q=PADS)
    refused(text.replace("[0, 1, 0, 0]", "[2, 1, 0, 0]"), "nothing but padding", q=PADS)
    refused(text.replace("count_", "ceil_mode = 1, count_"), "ceil_mode", q=PADS)
    refused(text.replace("count_", "dilations = [2, 1], count_"), "dilations", q=PADS)


def test_a_maximum_of_integers() -> None:
    text = f"g (int8[N, 4, 7, 6] x) => (int8[a, b, c, d] y) {{ p = Pad(x, q, v)  y = MaxPool<{POOL}>(p) }}"
    low = np.int8(-128)
    assert folded(text, q=PADS, v=low).body == "y = MaxPool<kernel_shape=[3, 4], pads=[1, 2, 0, 1]>(x)"
    refused(text, "may be the largest", q=PADS, v=np.int8(-127))
    both = text.replace("y = Max", "y, i = Max").replace("d] y)", "d] y, int64[a, b, c, d] i)")
    refused(both, "where it found", q=PADS, v=low)
    text = f"g ({X}) => ({Y}) {{ p = Pad(x, q, v)  y = MaxPool<{POOL}>(p) }}"
    refused(text, "which of two zeros", q=PADS, v=np.float32(-np.inf))


@pytest.mark.parametrize("value", [1.0, -0.0, np.nan])
def test_other_values_than_zero(value: float) -> None:
    text = f"g ({X}) => ({Y}) {{ p = Pad(x, q, v)  y = Conv(p, w) }}"
    refused(text, "other values than zeros", w=KERNEL, q=PADS, v=np.float32(value))
    text = f"g ({X}) => ({Y}) {{ p = Pad(x, q, v)  y = AveragePool<{POOL}>(p) }}"
    refused(text, "other values than zeros", q=PADS, v=np.float32(value))
    text = f"{head(10)} g ({X}) => ({Y}) {{ p = Pad<pads = {PADS.tolist()}, value = 0.5>(x)  y = Conv(p, w) }}"
    refused(text, "other values than zeros", w=KERNEL)


def test_pads_that_cut_off_pad_channels_or_mirror() -> None:
    text = f"g ({X}) => ({Y}) {{ p = Pad(x, q)  y = Conv(p, w) }}"
    refused(text, "cuts elements off", w=KERNEL, q=np.array([0, 0, 1, -1, 0, 0, 0, 1], np.int64))
    refused(text, "other axes", w=KERNEL[:, [0, 1, 2, 3, 0]], q=np.array([0, 1, 1, 1, 0, 0, 0, 1], np.int64))
    refused(text.replace("Pad(", 'Pad<mode = "edge">('), "mode edge", w=KERNEL, q=PADS)


def test_what_is_known_at_run_time_only() -> None:
    text = "g (float[N, 4, 7, 6] x, int64[8] q) => (float[a, b, c, d] y) { p = Pad(x, q)  y = Conv(p, w) }"
    refused(text, "how much it pads", False, w=KERNEL, q=PADS)  # the default of an input
    text = "g (float[N, 4, 7, 6] x, float v) => (float[a, b, c, d] y) { p = Pad(x, q, v)  y = Conv(p, w) }"
    refused(text, "the value that it pads with", w=KERNEL, q=PADS)


def test_readers_of_other_kinds() -> None:
    text = f"g ({X}) => ({Y}, float[a, b, e, f] z) {{ p = Pad(x, q)  y = Conv(p, w)  z = Relu(p) }}"
    refused(text, "Relu 'Relu(z)' reads it too", w=KERNEL, q=PADS)
    text = f"g ({X}) => ({Y}, float[a, b, e, f] p) {{ p = Pad(x, q)  y = Conv(p, w) }}"
    refused(text, "'p' is an output", w=KERNEL, q=PADS)
    text = f"g ({X}) => ({Y}, float[8] z) {{ p = Pad(x, q)  y = Conv(p, w)  z = Cast<to = 1>(q) }}"
    refused(text, "the file would grow", w=KERNEL, q=PADS)
    text = f"g ({X}, float[5, 4, 2, 2] k) => ({Y}) {{ p = Pad(k, q)  y = Conv(x, p) }}"
    refused(text, "as its weight", q=PADS)
    text = f"g ({X}) => ({Y}, float[a, b, e, f] z) {{ padded = Pad(x, q)  y = Conv(padded, w)  z = Conv(padded, w) }}"
    assert folded(text, w=KERNEL, q=PADS).body.count("pads=[1, 2, 0, 1]") == 2


def test_one_pad_after_the_other_and_bodies() -> None:
    text = f"g ({X}) => ({Y}) {{ a = Pad(x, q)  b = Pad(a, r)  y = Conv(b, w) }}"
    assert folded(text, w=KERNEL, q=PADS, r=PADS).body == "y = Conv<pads=[2, 4, 0, 2]>(x, w)"
    text = f"""g ({X}, bool c) => ({Y}) {{
        y = If (c) <then_branch = t () => (float[i, j, k, l] z) {{ p = Pad(x, q)  z = Conv(p, w) }},
                    else_branch = e () => (float[i, j, k, l] r) {{ r = Relu(x) }}>
    }}"""
    assert "z = Conv<pads=[1, 2, 0, 1]>(x, w)" in folded(text, w=KERNEL, q=PADS).body


def test_attributes_that_a_caller_gives() -> None:
    text = f"""<ir_version: 10, opset_import: ["": 21, "own": 1]> g ({X}) => ({Y}) {{ y = own.f<s = [1, 1]>(x) }}
    <domain: "own", opset_import: ["": 21]> f <s> (x) => (z) {{
        q = Constant<value_ints = {PADS.tolist()}>()  p = Pad(x, q)
        z = AveragePool<{POOL}, count_include_pad = 1, strides: ints = @s>(p)
    }}"""
    refused(text, "given by whoever calls")
    plain = text.replace(", strides: ints = @s", "").replace("<s = [1, 1]>", "").replace("f <s>", "f")
    assert "pads=[1, 2, 0, 1]" in folded(plain).body


def test_a_window_of_another_rank() -> None:
    """No shape inference would let it through; it is left, and nothing is raised."""
    for kernel in ("[3]", "[3, 3, 3]"):
        proto = model(f"g ({X}) => ({Y}) {{ p = Pad(x, q)  y = AveragePool<kernel_shape = {kernel}>(p) }}", q=PADS)
        done = apply(FoldPad(), proto, laws=False)
        assert_missed(done, "fold", "the window")


def test_the_first_opset_with_a_value_as_an_input() -> None:
    for value, why in ((1.0, "other values than zeros"), (-0.0, "other values than zeros")):
        text = f"{head(11)} g ({X}) => ({Y}) {{ p = Pad(x, q, z)  y = Conv(p, w) }}"
        refused(text, why, w=KERNEL, q=PADS, z=np.float32(value))
    text = f"{head(10)} g ({X}) => ({Y}) {{ p = Pad<pads = {PADS.tolist()}, value = 1.0>(x)  y = Conv(p, w) }}"
    refused(text, "other values than zeros", w=KERNEL)


def test_more_pads_of_its_own_than_there_are_axes() -> None:
    text = f"g ({X}) => ({Y}) {{ p = Pad(x, q)  y = Conv<pads = [0, 0]>(p, w) }}"
    done = apply(FoldPad(), model(text, q=PADS, w=KERNEL), laws=False)
    assert_missed(done, "fold", "is not known")


def test_a_pool_with_a_window_that_padding_alone_could_fill() -> None:
    for kernel, refusal in (("[2, 4]", False), ("[1, 4]", True), ("[3, 2]", True), ("[3, 3]", False)):
        attributes = f"kernel_shape = {kernel}, count_include_pad = 1"
        proto = model(f"g ({X}) => ({Y}) {{ p = Pad(x, q)  y = AveragePool<{attributes}>(p) }}", q=PADS)
        done = apply(FoldPad(), proto)
        assert bool(done.applied) != refusal, kernel


def test_average_pools_of_the_first_version_that_is_understood() -> None:
    text = f"""{head(7)} g ({X}) => ({Y}) {{
        padded = Pad<pads = {PADS.tolist()}>(x)  y = AveragePool<{POOL}>(padded) }}"""
    assert folded(text).body.startswith("y = AveragePool<")


def test_another_value_from_the_version_on_in_which_it_is_an_input() -> None:
    text = f"{head(11)} g ({X}) => ({Y}) {{ p = Pad(x, q, z)  y = Conv(p, w) }}"
    refused(text, "other values than zeros", w=KERNEL, q=PADS, z=np.float32(1))


def test_one_spatial_axis() -> None:
    text = "g (float[N, 4, 9] x) => (float[a, b, c] y) { p = Pad(x, q)  y = Conv(p, w) }"
    made = model(text, w=KERNEL[..., 0], q=np.array([0, 0, 1, 0, 0, 2]))
    assert apply(FoldPad(), made, feeds=[{"x": np.ones((2, 4, 9), np.float32)}]).body == "y = Conv<pads=[1, 2]>(x, w)"


def test_axes_of_a_value_whose_rank_is_not_known() -> None:
    text = f"{head(18)} g (float[K] v, int64[R] s) => ({Y}) {{ x = Reshape(v, s)  p = Pad(x, q, , k)  y = Conv(p, w) }}"
    refused(text, "which axes it pads is not known", runs=False, w=KERNEL, q=np.array([1, 1]), k=np.array([2]))


def test_a_reader_of_the_same_name_that_is_no_operator_of_onnx() -> None:
    text = f"""<ir_version: 8, opset_import: ["": 18, "my": 1]> g ({X}) => ({Y}, float[L] z) {{
        p = Pad(x, q)  y = Conv(p, w)  z = my.Conv(p, w) }}"""
    refused(text, "reads it too", runs=False, w=KERNEL, q=PADS)


def test_dilations_of_one_and_of_two() -> None:
    text = "g (int8[N, 4, 7, 6] x) => (int8[a, b, c, d] y) { p = Pad(x, q, z)  y = MaxPool<%s, dilations = %s>(p) }"
    low = {"q": PADS, "z": np.int8(-128)}
    assert folded(text % (POOL, [1, 1]), **low).applied
    refused(text % (POOL, [2, 2]), "ceil_mode or dilations", **low)


def test_a_name_that_means_another_value_in_a_body_that_reads_the_result() -> None:
    """A convolution in a body reads the Pad; what is padded has a name that the body uses for something else."""
    text = """g (float[3, 1, 4, 7, 6] s, float[1, 4, 7, 6] v) => (float[3, a, b, c, d] y) {
        x = Abs(v)  p = Pad(x, q)
        y = Scan<num_scan_inputs = 1, body = t (float[1, 4, 7, 6] x) => (float[1, 5, 6, 7] o) {
            m = Conv(p, w)  n = ReduceMean<keepdims = 1>(x)  o = Add(m, n) }>(s) }"""
    refused(text, "has another value called 'x'", w=KERNEL, q=PADS)
