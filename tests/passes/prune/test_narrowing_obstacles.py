"""What must stay says why, in a clause that names who is in the way."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from narrowed_models import assert_narrowing_is_silencing, data_of, free_sizes, grouped, obstacles
from onnx import TensorProto, helper

from graphopt.testing import model
from graphopt.testing.running import outputs_of
from passes.prune.narrowing import narrow

Array = np.ndarray[Any, Any]


def some(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng((*shape, seed)).standard_normal(shape).astype(np.float32)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


W, O = some(8, 3, 1, 1), some(5, 8, 1, 1)  # noqa: E741

STAYS: dict[str, tuple[str, str, dict[str, Array]]] = {
    "a graph output": ("a = Conv(x, w)  y = Relu(a)", "'y' is a graph output", {}),
    "added to an input": (
        "a = Conv(x, w)  b = Conv(a, v)  c = Add(b, x)  y = Conv(c, x2)",
        "'x' is a graph input",
        {"w": some(3, 3, 1, 1), "v": some(3, 3, 1, 1), "x2": some(5, 3, 1, 1)},
    ),
    "an unknown operator": ("a = Conv(x, w)  b = my.Op(a)  y = Conv(b, o)", "Op 'Op(b)' is no operator whose", {}),
    "an operator without channels": (
        "a = Conv(x, w)  b = LRN<size=3>(a)  y = Conv(b, o)",
        "LRN 'LRN(b)' is no operator whose channels are understood",
        {},
    ),
    "softmax over channels": ("a = Conv(x, w)  b = Softmax<axis=1>(a)  y = Conv(b, o)", "divides by a sum over it", {}),
    "layer normalization": (
        "a = Conv(x, w)  t = Transpose<perm=[0,2,3,1]>(a)  b = LayerNormalization(t, s)  y = MatMul(b, r)",
        "LayerNormalization 'LayerNormalization(b)' takes its mean and variance over it",
        {"s": some(8), "r": some(8, 5)},
    ),
    "a mean over channels": (
        "a = Conv(x, w)  m = ReduceMean(a, one)  b = Sub(a, m)  y = Conv(b, o)",
        "ReduceMean 'ReduceMean(m)' makes one number of all of it",
        {"one": ints(1)},
    ),
    "the size of the axis in a product": (
        "a = Conv(x, w)  s = Shape<start=1,end=2>(a)  f = Cast<to=1>(s)  q = Sqrt(f)  b = Div(a, q)  y = Conv(b, o)",
        "Sqrt 'Sqrt(q)' computes with its size",
        {},
    ),
    "the number of elements": (
        "a = Conv(x, w)  s = Size(a)  f = Cast<to=1>(s)  b = Div(a, f)  y = Conv(b, o)",
        "Size 'Size(s)' is no operator whose channels are understood",
        {},
    ),
    "put together with places": (
        "a = Conv(x, w)  b = Reshape(a, s)  y = Conv(b, o)",
        "Reshape 'Reshape(b)' cuts across it",
        {"s": ints(2, 12, 8, 3), "o": some(5, 12, 1, 1)},
    ),
    "looked up": (
        "a = Conv(x, w)  i = Cast<to=7>(x)  j = ReduceMax<keepdims=0>(i)  b = Gather<axis=1>(a, j)  y = Relu(b)",
        "Gather 'Gather(b)' looks up indices of it",
        {},
    ),
    "normalized": (
        "a = Conv(x, w)  b = LpNormalization<axis=1>(a)  y = Conv(b, o)",
        "LpNormalization 'LpNormalization(b)' divides by a sum over it",
        {},
    ),
    "weights that are computed": (
        "s = ReduceMean<keepdims=1>(x)  k = Mul(w, s)  a = Conv(x, k)  y = Conv(a, o)",
        "",
        {},
    ),
}


@pytest.mark.parametrize("name", STAYS)
def test_what_stays_says_why(name: str) -> None:
    text, why, weights = STAYS[name]
    header = '<ir_version: 10, opset_import: ["": 21, "my": 1]>'
    case = model(f"{header} g (float[2,3,6,6] x) => (float[P,Q,R,S] y) {{ {text} }}", **{"w": W, "o": O, **weights})
    if not why:
        assert free_sizes(case) == []
        return
    assert any(why in one for one in obstacles(case)), obstacles(case)


def test_only_the_part_that_reaches_an_output_stays() -> None:
    case = model(
        "g (float[2,3,6,6] x) => (float[2,2,6,6] z, float[P,Q,R,S] y) {"
        " a = Conv(x, w)  z, b = Split<axis=1>(a, n)  y = Conv(b, o) }",
        w=W,
        n=ints(2, 6),
        o=some(5, 6, 1, 1),
    )
    assert assert_narrowing_is_silencing(case) == [6]
    assert obstacles(case) == ["'z' is a graph output", "'y' is a graph output"]


def test_units_that_hang_together_are_one() -> None:
    case = model(
        "g (float[2,3,6,6] x) => (float[P,Q,R,S] y) { a = Conv(x, w)  b = Gather<axis=1>(a, turned)  c = Add(a, b)"
        " y = Conv(c, o) }",
        w=W,
        turned=ints(1, 2, 3, 4, 5, 6, 7, 0),
        o=O,
    )
    assert obstacles(case)[0] == "all its channels hang together, as one unit"


def test_overridable_initializers_stay() -> None:
    case = model(
        '<ir_version: 3, opset_import: ["": 9]> g (float[2,3,6,6] x, float[8,3,1,1] w, float[5,8,1,1] o)'
        " => (float[P,Q,R,S] y) { a = Conv(x, w)  y = Conv(a, o) }",
        w=W,
        o=O,
    )
    assert obstacles(case)[0] == "'w' is also a graph input, whose value callers may give"


def test_a_bias_that_happens_to_be_shared_is_copied() -> None:
    case = model(
        "g (float[2,3,6,6] x) => (float[8] b, float[P,Q,R,S] y) {"
        " a = Conv(x, w, b)  c = Conv(a, u, b)  d = Conv(c, t, b)  y = Conv(d, o) }",
        w=W,
        u=some(8, 8, 1, 1),
        t=some(8, 8, 1, 1, seed=1),
        b=some(8),
        o=O,
    )
    graph, groups = grouped(case)
    assert [one.size for one in groups if one.obstacle is None] == [8, 8, 8]
    wide = next(one for one in graph.initializers.declared() if one.name == "b")
    narrow(groups[1], np.arange(3), graph)
    made = onnx.ModelProto.FromString(data_of(graph))
    shapes = {one.name: tuple(one.dims) for one in made.graph.initializer}
    assert shapes["b"] == (8,)
    assert shapes["b_1"] == (3,)
    assert tuple(wide.shape) == (8,)
    onnx.checker.check_model(made, full_check=True)


def test_what_a_body_reads_stays_and_what_is_inside_does_not() -> None:
    case = model(
        "g (float[2,3,6,6] x, bool c) => (float[P,Q,R,S] y) {"
        " a = Conv(x, w)  b = Conv(x, w2)  h = Relu(b)  k = Conv(h, o)"
        " e = If(c) <then_branch = g1 () => (float[P,Q,R,S] t) { p = Conv(a, u)  q = Relu(p)  t = Conv(q, o2) },"
        " else_branch = g2 () => (float[P,Q,R,S] f) { f = Conv(a, v) }>"
        " y = Add(e, k) }",
        w=W,
        w2=some(8, 3, 1, 1, seed=1),
        o=O,
        u=some(4, 8, 1, 1),
        o2=some(5, 4, 1, 1),
        v=O,
    )
    _, groups = grouped(case)
    assert groups[0].obstacle is not None
    assert "reads it in a body" in groups[0].obstacle
    assert assert_narrowing_is_silencing(case, feeds={"x": some(2, 3, 6, 6), "c": np.array(True)}) == [8, 4]


def test_weights_inside_of_a_body_get_shorter() -> None:
    def branch(name: str) -> onnx.GraphProto:
        def weight(key: str, values: Array) -> onnx.NodeProto:
            return helper.make_node("Constant", [], [key], value=onnx.numpy_helper.from_array(values))

        nodes = [
            weight(f"{name}_w", W),
            weight(f"{name}_o", O),
            helper.make_node("Conv", ["x", f"{name}_w"], [f"{name}_a"]),
            helper.make_node("Relu", [f"{name}_a"], [f"{name}_r"]),
            helper.make_node("Conv", [f"{name}_r", f"{name}_o"], [f"{name}_y"]),
        ]
        return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(f"{name}_y", 1, None)])

    choice = helper.make_node("If", ["c"], ["y"], then_branch=branch("one"), else_branch=branch("two"))
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 6, 6]),
        helper.make_tensor_value_info("c", TensorProto.BOOL, []),
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 5, 6, 6])
    case = helper.make_model(helper.make_graph([choice], "g", inputs, [output]), ir_version=10)
    graph, groups = grouped(case)
    free = [one for one in groups if one.obstacle is None]
    free.sort(key=lambda one: one.graph.path, reverse=True)
    assert [(one.size, one.graph.path) for one in free] == [(8, "If(y).then_branch"), (8, "If(y).else_branch")]
    before = outputs_of(data_of(graph), [{"x": some(2, 3, 6, 6), "c": np.array(False)}])[0]["y"]
    narrow(free[0], np.arange(4), graph)
    after = outputs_of(data_of(graph), [{"x": some(2, 3, 6, 6), "c": np.array(False)}])[0]["y"]
    np.testing.assert_array_equal(before, after)


def test_functions_whose_ranks_are_not_known_stay() -> None:
    header = '<ir_version: 10, opset_import: ["": 21, "my": 1]>'
    text = (
        "g (float[2,3] x) => (float[2,2] y) { y = my.Net(x) }"
        '<domain: "my", opset_import: ["": 21]> Net (x) => (y) {'
        " w = Constant<value = float[3,4] {1.,2.,3.,4.,5.,6.,7.,8.,9.,1.,2.,3.}>()"
        " o = Constant<value = float[4,2] {1.,2.,3.,4.,5.,6.,7.,8.}>()"
        " a = MatMul(x, w)  r = Relu(a)  y = MatMul(r, o) }"
    )
    assert obstacles(model(f"{header} {text}")) == [
        "MatMul 'MatMul(a)' has an operand of unknown rank",
        "MatMul 'MatMul(y)' has an operand of unknown rank",
    ]


OLD: dict[str, tuple[int, list[int], str, dict[str, Array]]] = {
    "split, squeeze and pad with attributes": (
        9,
        [2, 6],
        "a = Conv(x, w)  b, c = Split<axis=1, split=[2,6]>(a)  d = Unsqueeze<axes=[0]>(b)  e = Squeeze<axes=[0]>(d)"
        "  f = Concat<axis=1>(e, c)  h = Pad<pads=[0,0,1,1,0,0,1,1]>(f)  y = Conv(h, o)",
        {},
    ),
    "split evenly": (
        11,
        [4, 4],
        "a = Conv(x, w)  b, c = Split<axis=1>(a)  d = Relu(b)  f = Concat<axis=1>(d, c)  y = Conv(f, o)",
        {},
    ),
    "slice with attributes": (
        9,
        [3, 5],
        "a = Conv(x, w)  b = Slice<axes=[1], starts=[0], ends=[3]>(a)  c = Slice<axes=[1], starts=[-5], ends=[9]>(a)"
        "  d = Concat<axis=1>(c, b)  y = Conv(d, o)",
        {},
    ),
    "an upsampling": (
        9,
        [8],
        "a = Conv(x, w)  b = Upsample(a, s)  y = Conv(b, o)",
        {"s": np.array([1, 1, 2, 2], np.float32)},
    ),
    "a mean with attributes": (
        11,
        [8],
        "a = Conv(x, w)  m = ReduceMean<axes=[2,3]>(a)  b = Mul(a, m)  y = Conv(b, o)",
        {},
    ),
    "softmax that flattens": (7, [], "a = Conv(x, w)  b = Softmax<axis=1>(a)  y = Conv(b, o)", {}),
}


@pytest.mark.parametrize("name", OLD)
def test_older_opsets(name: str) -> None:
    version, sizes, text, weights = OLD[name]
    header = f'<ir_version: 7, opset_import: ["": {version}]>'
    case = model(f"{header} g (float[2,3,6,6] x) => (float[P,Q,R,S] y) {{ {text} }}", **{"w": W, "o": O, **weights})
    assert assert_narrowing_is_silencing(case) == sizes, obstacles(case)


def test_group_normalization_of_opset_18_has_a_scale_for_each_group() -> None:
    case = model(
        '<ir_version: 8, opset_import: ["": 18]> g (float[2,3,6,6] x) => (float[P,Q,R,S] y) {'
        " a = Conv(x, w)  b = GroupNormalization<num_groups=4>(a, s, t)  y = Conv(b, o) }",
        w=W,
        s=some(4),
        t=some(4, seed=1),
        o=O,
    )
    graph, groups = grouped(case)
    narrow(groups[0], np.array([1, 2, 3]), graph)
    assert {one.name: list(one.shape) for one in graph.initializers.declared()} == {
        "w": [6, 3, 1, 1],
        "s": [3],
        "t": [3],
        "o": [5, 6, 1, 1],
    }
    assert next(node for node in graph.nodes if node.op == "GroupNormalization").attrs["num_groups"] == 3


def test_groups_beside_each_other_can_be_narrowed_one_after_the_other() -> None:
    case = model(
        "g (float[2,3,6,6] x) => (float[P,Q,R,S] y) { a = Conv(x, w)  b = Conv(x, u)  c = Concat<axis=1>(a, b)"
        " y = Conv(c, o) }",
        w=W,
        u=some(4, 3, 1, 1),
        o=some(5, 12, 1, 1),
    )
    assert assert_narrowing_is_silencing(case, seed=3) == [8, 4]
    graph, groups = grouped(case)
    narrow(groups[0], np.array([1, 5]), graph)
    concatenated = next(node for node in graph.nodes if node.op == "Concat").outputs[0]
    np.testing.assert_array_equal(concatenated.kept[1], [1, 5, 8, 9, 10, 11])
    assert concatenated.shape is None


def test_nothing_to_narrow() -> None:
    assert obstacles(model("g (float[2,3] x) => (float[2,3] y) { y = Relu(x) }")) == []
    assert obstacles(model("g (float x) => (float[3] y) { y = Add(x, w) }", w=some(3))) == []


def test_odd_models_raise_nothing() -> None:
    header = '<ir_version: 10, opset_import: ["": 21, "my": 1]>'
    case = model(
        f"{header} g (float[N,0] x, float z) => (float y) {{ u = my.Made(z)  a = MatMul(u, w)  b = Add(a, u)"
        " c = MatMul(x, e)  d = Concat<axis=0>(c, a)  s = Shape(d)  r = Reshape(d, s)  t = Squeeze(r)"
        " v = Conv(t, k)  q = Gather(w, v)  y = Mul(q, e) }",
        w=some(3, 4),
        e=np.zeros((0, 4), np.float32),
        k=some(2, 2),
    )
    assert free_sizes(case) == []
