"""Facts in and behind bodies and functions: only what is so in every round, and on either side."""

from __future__ import annotations

import numpy as np
import pytest
from real_shapes import wrong_facts

from graphopt.analysis.shapes import Shapes, infer
from graphopt.ir import Graph, decode
from graphopt.ir.store import Store
from graphopt.ir.values import Dim
from graphopt.testing import model
from graphopt.testing.feeds import feeds_for


def facts(text: str, **weights: object) -> tuple[Graph, Shapes]:
    root = decode(model(text, **weights), Store())
    return root, infer(root)


def of(root: Graph, shapes: Shapes, name: str) -> tuple[Dim, ...] | None:
    found = next(one for scope in root.scopes() for node in scope.nodes for one in node.outputs if one.name == name)
    return shapes.shape(found)


def test_an_if_gives_what_both_sides_give() -> None:
    text = """g (bool c, float[N, 4] x) => (float[A, B] y, float z, int64[2] w) {
        y, z, w = If(c)<
            then_branch = t () => (float[N, 4] o, float[4] p, int64[2] q) {
                o = Neg(x)  p = ReduceSum<keepdims = 0>(x, zero)  q = Shape(x) },
            else_branch = e () => (float[N, 5] r, float[1, 4] s, int64[2] u) {
                r = Pad(x, pads)  s = ReduceSum(x, zero)  u = Shape(x) }>
    }"""
    root, shapes = facts(text, zero=np.array([0]), pads=np.array([0, 0, 0, 1]))
    assert of(root, shapes, "y") == ("N", None)
    assert of(root, shapes, "z") is None
    assert [str(one) for one in shapes.value(root.nodes[0].outputs[2])] == ["N", "4"]  # type: ignore[union-attr]
    assert of(root, shapes, "o") == ("N", 4)


LOOP = """g (int64 trips, float[N, 4] x) => (float[A, B] y, float z, float[C, D] s) {{
    y, z, s = Loop(trips, , x, x)<body = b (int64 i, bool go, float[9, 9] a, float[9, 9] c)
            => (bool on, float[9, 9] p, float[9, 9] q, float[9] r) {{
        on = Identity(go)  {body}
    }}>
}}"""


@pytest.mark.parametrize(
    ("body", "carried", "made", "inside"),
    [
        ("p = Relu(a)  q = Add(a, c)  r = ReduceSum<keepdims = 0>(a, one)", ("N", 4), ("N", 4), ("N", 4)),
        ("p = Concat<axis = 0>(a, x)  q = Neg(c)  r = ReduceSum<keepdims = 0>(a, one)", (None, 4), ("N", 4), (None, 4)),
        (
            "p = Concat<axis = 0>(c, x)  q = Neg(a)  r = ReduceSum<keepdims = 0>(a, one)",
            (None, 4),
            (None, 4),
            (None, 4),
        ),
        ("p = ReduceSum<keepdims = 0>(x, one)  q = Neg(c)  r = Neg(p)", None, ("N", 4), None),
    ],
)
def test_a_loop_carries_what_does_not_change(
    body: str, carried: tuple[Dim, ...] | None, made: tuple[Dim, ...] | None, inside: tuple[Dim, ...] | None
) -> None:
    root, shapes = facts(LOOP.format(body=body), one=np.array([1]))
    assert of(root, shapes, "y") == carried
    assert of(root, shapes, "z") == made
    assert of(root, shapes, "s") is None  # of no rounds it has a shape of its own
    (loop,) = root.nodes
    assert shapes.shape(loop.bodies[0].inputs[2]) == inside
    assert shapes.shape(loop.bodies[0].inputs[0]) == () and shapes.onnx_dtype(loop.bodies[0].inputs[1]) == 9


def test_a_loop_against_real_runs() -> None:
    body = "p = Concat<axis = 0>(a, x)  q = Neg(c)  r = ReduceSum<keepdims = 0>(c, one)"
    text = LOOP.format(body=body).replace("[9, 9]", "[?, ?]").replace("[9]", "[?]")  # a wrong claim would not run
    proto = model(text, one=np.array([1]))
    proto.graph.output[1].type.Clear()
    for shape in ((2, 4), (1, 4)):
        x = np.ones(shape, np.float32)
        assert wrong_facts(proto, [{"trips": np.int64(trips), "x": x} for trips in (1, 3)]) == []


def test_loops_in_loops() -> None:
    text = """g (int64 trips, float[N, 4] x) => (float[A, B] y) {
        y = Loop(trips, , x)<body = b (int64 i, bool go, float[9, 9] a) => (bool on, float[9, 9] p) {
            on = Identity(go)
            p = Loop(trips, , a)<body = c (int64 j, bool run, float[9, 9] d) => (bool off, float[9, 9] q) {
                off = Identity(run)  q = Add(d, x)
            }>
        }>
    }"""
    root, shapes = facts(text)
    assert (of(root, shapes, "q"), of(root, shapes, "p"), of(root, shapes, "y")) == (("N", 4),) * 3


def test_a_scan() -> None:
    text = """g (float[2] first, float[N, 3, 2] x) => (float[2] last, float[N, 2, 3] all) {
        last, all = Scan<num_scan_inputs = 1, scan_output_axes = [0]>(first, x)<
            body = b (float[?] state, float[?, ?] one) => (float[?] next, float[?, ?] out) {
                sum = ReduceSum<keepdims = 0>(one, zero)  next = Add(state, sum)  out = Transpose(one)
            }>
    }"""
    head = '<ir_version: 8, opset_import: ["": 13]>'
    proto = model(head + text.replace("Scan<num_scan_inputs = 1, scan_output_axes = [0]>(first, x)<",
        "Scan(first, x)<num_scan_inputs = 1, scan_output_axes = [0],"), zero=np.array([0]))  # fmt: skip
    root = decode(proto, Store())
    shapes = infer(root)
    assert of(root, shapes, "last") == (2,) and of(root, shapes, "all") == ("N", 2, 3)
    assert of(root, shapes, "out") == (2, 3)
    assert wrong_facts(proto, feeds_for(proto)[:2]) == []


FUNCTIONS = """<ir_version: 10, opset_import: ["": 21, "local": 1]>
    g (float[N, 4] x) => (float[A, B] y, int64[1] z) { y = local.outer(x)  z = local.sized<first = 1>(x) }
    <domain: "local", opset_import: ["": 21, "local": 1]> outer (a) => (c) { b = local.inner(a, a)  c = Transpose(b) }
    <domain: "local", opset_import: ["": 21]> inner (a, b) => (c) { c = Concat<axis = 1>(a, b) }
    <domain: "local", opset_import: ["": 21]> sized <first> (a) => (c) { c = Shape<start: int = @first>(a) }"""


def test_calls_of_functions() -> None:
    proto = model(FUNCTIONS)
    root = decode(proto, Store())
    shapes = infer(root)
    assert of(root, shapes, "y") == (8, "N")
    assert shapes.value(root.nodes[1].outputs[0]).tolist() == [4]  # type: ignore[union-attr]
    assert wrong_facts(proto, feeds_for(proto)[:2]) == []
    inside = root.functions[1].nodes[0].outputs[0]
    assert shapes.shape(inside) is None  # it depends on who calls


def test_a_function_that_calls_itself() -> None:
    text = FUNCTIONS.replace("c = Concat<axis = 1>(a, b)", "c = local.outer(a)").replace(
        '<domain: "local", opset_import: ["": 21]> inner', '<domain: "local", opset_import: ["": 21, "local": 1]> inner'
    )
    root = decode(model(text), Store())
    assert of(root, infer(root), "y") is None


@pytest.mark.parametrize("name", ["?", "*", "None"])
def test_a_name_that_says_nothing(name: str) -> None:
    proto = model("g (float[N, M] x) => (float[A, B] y) { y = Neg(x) }")
    for dim in proto.graph.input[0].type.tensor_type.shape.dim:
        dim.dim_param = name
    root = decode(proto, Store())
    shapes = infer(root)
    assert shapes.shape(root.inputs[0]) == (None, None)
    found = shapes.dims(root.inputs[0])
    assert found is not None and found[0] != found[1]


def test_elements() -> None:
    root, shapes = facts("g (float[N, 4] x) => (float[A, B] y) { y = Neg(x) }")
    assert str(shapes.elements(root.inputs[0])) == "4*N"
