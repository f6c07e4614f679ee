"""move-transposes-rounding: also past functions and sums, whose last bits depend on the order of elements."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.testing import Applied, apply, model
from passes.layout.move_transposes_rounding import MoveTransposesRounding


def between(nodes: str, opset: int = 21, after: str = "<perm = [0, 3, 1, 2]>", **weights: Any) -> Applied:
    header = f'<ir_version: 8, opset_import: ["": {opset}]>'
    text = f"""{header} g (float[N, 2, 3, 4] x) => (float[A, B, C, D] y) {{
        a = Transpose<perm = [0, 2, 3, 1]>(x)  {nodes}  y = Transpose{after}(b) }}"""
    return apply(MoveTransposesRounding(), model(text, **weights))


@pytest.mark.parametrize("op", ["Sigmoid", "Tanh", "Exp", "Erf", "Softplus"])
def test_functions(op: str) -> None:
    assert between(f"b = {op}(a)").body == f"y = {op}(x)"


@pytest.mark.parametrize(("opset", "follows"), [(11, False), (13, True)])
def test_softmax_before_13_takes_several_axes_together(opset: int, follows: bool) -> None:
    done = between("b = Softmax<axis = 3>(a)", opset)
    assert done.body == "y = Softmax<axis=1>(x)" if follows else not done.applied


@pytest.mark.parametrize("opset", [11, 13, 18])
def test_reductions_that_keep_their_axes(opset: int) -> None:
    one = "ReduceMean<axes = [1, -2]>(a)" if opset < 18 else "ReduceMean(a, e)"
    done = between(f"b = {one}", opset, e=np.array([1, -2], np.int64)) if opset >= 18 else between(f"b = {one}", opset)
    assert "Transpose" not in done.body and done.graph.nodes[0].op == "ReduceMean"
    if opset < 18:
        assert done.graph.nodes[0].attrs["axes"] == [2, 3]


def test_a_reduction_that_drops_axes_leaves_less_to_transpose() -> None:
    text = """g (float[N, 2, 3, 4] x) => (float[A, B, C] y, float[D, E] z) {
        a = Transpose<perm = [0, 2, 3, 1]>(x)  b = ReduceSum<keepdims = 0>(a, e)  y = Transpose<perm = [0, 2, 1]>(b)
        z = ReduceSum<keepdims = 0>(a, f) }"""
    done = apply(MoveTransposesRounding(), model(text, e=np.array([1], np.int64), f=np.array([1, 2], np.int64)))
    assert "Transpose" not in done.body


def test_over_all_axes() -> None:
    text = "g (float[N, 2, 3] x) => (float y) { a = Transpose(x)  y = ReduceMax<keepdims = 0>(a) }"
    assert apply(MoveTransposesRounding(), model(text)).body == "y = ReduceMax<keepdims=0>(x)"


@pytest.mark.parametrize(
    ("first", "step", "back", "goes"),
    [
        ("[0, 2, 1, 3]", "Softmax<axis = 3>", "[0, 2, 1, 3]", True),
        ("[0, 2, 1, 3]", "Softmax", "[0, 2, 1, 3]", False),
        ("[0, 2, 3, 1]", "Softmax<axis = 2>", "[0, 3, 1, 2]", False),
        ("[0, 2, 3, 1]", "Softmax<axis = 3>", "[0, 3, 1, 2]", False),
        ("[1, 0, 2, 3]", "Softmax<axis = 2>", "[1, 0, 2, 3]", False),
    ],
)
def test_which_axes_an_old_softmax_takes_together(first: str, step: str, back: str, goes: bool) -> None:
    head = '<ir_version: 7, opset_import: ["": 12]> g (float[2, 3, 4, 5] x) => (float[A, B, C, D] y)'
    body = f"a = Transpose<perm = {first}>(x)  b = {step}(a)  y = Transpose<perm = {back}>(b)"
    done = apply(MoveTransposesRounding(), model(f"{head} {{ {body} }}"))
    assert ("Transpose" not in done.body) == goes and bool(done.applied) == goes


def test_sums_from_the_version_on_that_takes_axes_as_an_input() -> None:
    head = '<ir_version: 7, opset_import: ["": 13]> g (float[N, 2, 3, 4] x) => (float[A, B, C, D] y)'
    body = "a = Transpose<perm = [0, 2, 3, 1]>(x)  b = ReduceSum(a, k)  y = Transpose<perm = [0, 3, 1, 2]>(b)"
    assert apply(MoveTransposesRounding(), model(f"{head} {{ {body} }}", k=np.array([3]))).body.startswith(
        "y = ReduceSum(x, "
    )
