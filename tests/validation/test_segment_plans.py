"""Where a model is cut: by bytes of weights, where little crosses, and what each segment has with it."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
from onnx import helper

from graphopt.errors import CouldNotTell
from graphopt.storage.read import from_proto
from graphopt.testing import model
from graphopt.testing.random_models import random_model
from graphopt.validation.segments.joint import Standing, joints
from graphopt.validation.segments.net import Net
from graphopt.validation.segments.plan import Cuts, Segment, joined, segments_of

W = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)  # 256 bytes
DEEP = "g (float[N, 8] x) => (float[N, 8] y) { %s y = Identity(h8) }" % " ".join(  # noqa: UP031  (braces)
    f"m{n} = MatMul({'x' if not n else f'h{n}'}, w{n}) h{n + 1} = Relu(m{n})" for n in range(8)
)


def deep(**changed: np.ndarray) -> onnx.ModelProto:
    return model(DEEP, **{f"w{n}": changed.get(f"w{n}", W + n) for n in range(8)})


def net_of(proto: onnx.ModelProto) -> Net:
    return Net.of(from_proto(proto))


def plan(net: Net, most: int) -> list[Segment]:
    return segments_of(net, net.live, Cuts(net, net.live).chosen(most, lambda name: False), {})


def test_segments_hold_as_many_weights_as_they_may() -> None:
    net = net_of(deep())
    segments = plan(net, 600)
    assert [one.weights for one in segments] == [("w0", "w1"), ("w2", "w3"), ("w4", "w5"), ("w6", "w7")]
    assert [one.bytes for one in segments] == [512] * 4
    assert [one.takes for one in segments] == [(), ("h2",), ("h4",), ("h6",)]
    assert [one.gives for one in segments] == [("h2",), ("h4",), ("h6",), ("y",)]
    assert [one.inputs for one in segments] == [("x",), (), (), ()]
    assert len(plan(net, 8 * 256)) == 1
    assert len(plan(net, 8 * 256 - 1)) == 2


def test_one_node_that_reads_more_than_allowed_is_a_segment_of_its_own() -> None:
    net = net_of(deep(w3=np.zeros((8, 8), np.float32)))
    assert max(one.bytes for one in plan(net, 100)) == 256
    assert [len(one.weights) for one in plan(net, 100)].count(1) == 8


def test_cuts_are_where_few_values_cross() -> None:
    # between a and b two values cross, behind the sum one
    net = net_of(model(
        "g (float[N, 8] x) => (float[N, 8] y) { a = MatMul(x, w0) r = Relu(a) b = MatMul(a, w1) s = Add(b, r) "
        "t = Relu(s) c = MatMul(t, w2) d = MatMul(c, w3) y = Add(d, c) }", w0=W, w1=W + 1, w2=W + 2, w3=W + 3,
    ))  # fmt: skip
    assert [one.takes for one in plan(net, 600)] == [(), ("t",)]


def test_constants_go_where_they_are_read_and_are_no_values_that_cross() -> None:
    """What follows from weights alone is made again in each segment that reads it, whatever its place in the file."""
    net = net_of(model(
        "g (float[N, 8] x) => (float[N, 8] y) { k = Constant<value_float = 2.0>() big0 = Mul(w0, k) big1 = Mul(w1, k) "
        "a = MatMul(x, big0) y = MatMul(a, big1) }", w0=W, w1=W,
    ))  # fmt: skip
    first, second = plan(net, 300)
    assert first.weights == ("w0",) and second.weights == ("w1",)
    assert second.takes == ("a",)
    assert [net.nodes[at].op_type for at in second.nodes] == ["Constant", "Mul", "MatMul"]


def test_weights_that_may_be_fed_and_random_numbers_are_no_constants() -> None:
    proto = model("g (float[N, 8] x) => (float[N, 8] y) { v = Add(w, w) r = RandomNormal<shape = [8]>() z = Add(r, v) "
                  "t = Add(z, x) y = Add(t, r) }", w=W[0])  # fmt: skip
    assert [net_of(proto).nodes[at].op_type for at in net_of(proto).live] == ["RandomNormal", "Add", "Add", "Add"]
    proto.graph.input.append(helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, [8]))
    assert len(net_of(proto).live) == 5
    assert plan(net_of(proto), 1 << 20)[0].inputs == ("w", "x")
    proto.ir_version = 3  # where a weight has to be listed, and may not be fed
    assert len(net_of(proto).live) == 4


def test_what_no_output_needs_is_not_run() -> None:
    net = net_of(model("g (float[N] x) => (float[N] y) { dead = Exp(x) y = Relu(x) }"))
    assert [net.nodes[at].op_type for at in net.live] == ["Relu"]


def test_outputs_that_no_node_makes_come_from_the_last_segment() -> None:
    proto = deep()
    proto.graph.output.append(helper.make_tensor_value_info("w2", onnx.TensorProto.FLOAT, [8, 8]))
    proto.graph.output.append(helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 8]))
    last = plan(net_of(proto), 600)[-1]
    assert last.gives == ("y", "w2", "x")
    assert last.weights == ("w2", "w6", "w7") and last.inputs == ("x",)


def test_nodes_in_any_order_are_put_in_one() -> None:
    proto = deep()
    nodes = list(proto.graph.node)[::-1]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    net = net_of(proto)
    place = {name: at for at, node in enumerate(net.nodes) for name in node.output}
    assert all(place[name] < at for at, names in enumerate(net.reads) for name in names if name in place)
    assert len(plan(net, 600)) == 4


def test_values_that_wait_for_each_other_have_a_sentence() -> None:
    proto = model("g (float[N] x) => (float[N] y) { a = Relu(x) y = Add(a, x) }")
    proto.graph.node[0].input[0] = "y"
    with pytest.raises(CouldNotTell, match="wait for each other"):
        net_of(proto)


@pytest.mark.parametrize("seed", range(12))
def test_segments_make_a_whole(seed: int) -> None:
    """Every live node is in one segment, what a segment takes was given before, all outputs come out."""
    net = net_of(random_model(seed))
    segments = plan(net, 0)
    live = [at for one in segments for at in one.nodes if not net.fixed[at]]
    assert sorted(live) == net.live
    given: set[str] = set()
    for one in segments:
        assert given.issuperset(one.takes)
        given.update(one.gives)
        made = {name for at in one.nodes for name in net.nodes[at].output}
        known = made | set(one.takes) | set(one.inputs) | set(one.weights)
        assert all(name in known for at in one.nodes for name in net.reads[at])
    assert given.issuperset(net.outputs)


@pytest.mark.parametrize("seed", range(6))
def test_joined_segments_are_what_a_wider_cut_gives(seed: int) -> None:
    net = net_of(random_model(seed))
    segments = plan(net, 0)
    for number, (one, other) in enumerate(itertools.pairwise(segments)):
        later = {name for each in segments[number + 2 :] for name in each.takes}
        both = joined(one, other, net, later)
        cuts = [sum(len([a for a in each.nodes if not net.fixed[a]]) for each in segments[: k + 1])
                for k in range(len(segments) - 1) if k != number]  # fmt: skip
        expected = segments_of(net, net.live, cuts, {})[number]
        assert set(both.gives) == set(expected.gives) and set(both.takes) == set(expected.takes)
        assert (both.nodes, sorted(both.weights), both.bytes) == (
            expected.nodes,
            sorted(expected.weights),
            expected.bytes,
        )


def found_joints(one: onnx.ModelProto, other: onnx.ModelProto, most: int = 0, **origins: list[str]) -> list[list[str]]:
    old, new = net_of(one), net_of(other)
    cuts = Cuts(old, old.live)
    standing = Standing(old, new, origins)
    found, groups = joints(old, cuts, cuts.chosen(most, lambda name: standing.of(name) is None), standing)
    assert sorted(at for group in groups for at in group) == new.live
    assert len(groups) == len(found) + 1
    return [list(one.pairs.values()) for one in found]


LINE = "g (float[N, 8] x) => (float[N, 8] y) { a = MatMul(x, w0) b = Add(a, w1) c = MatMul(b, w2) y = Relu(c) }"
LINES = {"w0": W, "w1": W[0], "w2": W}


def test_models_of_the_same_names_are_cut_alike() -> None:
    assert found_joints(model(LINE, **LINES), model(LINE, **LINES)) == [["a"], ["b"], ["c"]]


def test_a_value_that_was_fused_away_is_no_cut() -> None:
    fused = model("g (float[N, 8] x) => (float[N, 8] y) { b = Gemm(x, w0, w1) c = MatMul(b, w2) y = Relu(c) }", **LINES)
    assert found_joints(model(LINE, **LINES), fused) == [["b"], ["c"]]


def test_the_record_gives_a_renamed_value_its_place() -> None:
    renamed = model(LINE.replace("b =", "b2 =").replace("(b,", "(b2,"), **LINES)
    assert found_joints(model(LINE, **LINES), renamed) == [["a"], ["c"]]
    assert found_joints(model(LINE, **LINES), renamed, b2=["b"]) == [["a"], ["b2"], ["c"]]
    assert found_joints(model(LINE, **LINES), renamed, b2=["a", "b"]) == [["a"], ["c"]]


def test_no_cut_where_something_else_crosses_in_the_result() -> None:
    """The result reads `a` once more, behind the cut at `b`."""
    other = LINE.replace("y = Relu(c)", "d = Add(c, a) y = Relu(d)")
    assert found_joints(model(LINE, **LINES), model(other, **LINES)) == [["a"]]


def test_a_value_that_the_result_does_without_is_no_hindrance() -> None:
    """A mask crosses in the original; the result has folded it."""
    text = "g (float[N, 8] x) => (float[N, 8] y) { m = Sign(x) a = MatMul(x, w0) b = Add(a, m) c = MatMul(b, w2) %s }"
    old = model(text % "y = Add(c, m)", **LINES)
    new = model("g (float[N, 8] x) => (float[N, 8] y) { a = MatMul(x, w0) b = Add(a, w1) c = MatMul(b, w2) "
                "y = Relu(c) }", **LINES)  # fmt: skip
    assert ["b"] in found_joints(old, new) and ["c"] in found_joints(old, new)


def test_names_say_where_it_is_cut_whatever_the_order_of_the_file() -> None:
    """Two branches that one model has one after the other, and the other in turn."""
    text = "g (float[N, 8] x) => (float[N, 8] y, float[N, 8] z) { %s }"
    one = model(text % "a = MatMul(x, w0) y = MatMul(a, w2) b = Exp(x) z = Add(b, w1)", **LINES)
    other = model(text % "b = Exp(x) a = MatMul(x, w0) z = Add(b, w1) y = MatMul(a, w2)", **LINES)
    assert ["a"] in found_joints(one, other)
