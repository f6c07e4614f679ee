"""Labels: components, blocks of a reshape, and that a walk over many nodes stays linear."""

from __future__ import annotations

import time

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphopt.analysis.channels import channel_groups
from graphopt.analysis.channels.blocks import Block, blocks, factors
from graphopt.analysis.channels.components import components
from graphopt.analysis.dims import symbol
from graphopt.analysis.shapes import infer
from graphopt.ir import Graph
from graphopt.ir.decode import decode
from graphopt.ir.store import Store


def by_search(count: int, left: list[int], right: list[int]) -> list[int]:
    near: list[list[int]] = [[] for _ in range(count)]
    for one, other in zip(left, right, strict=True):
        near[one].append(other)
        near[other].append(one)
    found = [-1] * count
    for start in range(count):
        if found[start] < 0:
            pending = [start]
            found[start] = start
            while pending:
                for one in near[pending.pop()]:
                    if found[one] < 0:
                        found[one] = start
                        pending.append(one)
    return found


@pytest.mark.parametrize("seed", range(20))
def test_components_are_those_of_a_search(seed: int) -> None:
    generator = np.random.default_rng(seed)
    count = int(generator.integers(1, 200))
    edges = generator.integers(0, count, (2, int(generator.integers(0, 2 * count))))
    assert components(count, *edges).tolist() == by_search(count, *edges.tolist())


def test_components_of_a_long_path() -> None:
    order = np.random.default_rng(0).permutation(100_000)
    assert not components(len(order), order[:-1], order[1:]).any()


def test_nothing_to_connect() -> None:
    assert components(0, np.zeros(0, np.int64), np.zeros(0, np.int64)).tolist() == []
    assert components(2, np.zeros(0, np.int64), np.zeros(0, np.int64)).tolist() == [0, 1]


N, S = symbol("N"), symbol("S")


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ((2, 3), (2, 3), [((0,), (0,)), ((1,), (1,))]),
        ((2, 3, 4), (2, 12), [((0,), (0,)), ((1, 2), (1,))]),
        ((2, 12), (2, 3, 4), [((0,), (0,)), ((1,), (1, 2))]),
        ((N, S, 24), (N, S, 6, 4), [((0,), (0,)), ((1,), (1,)), ((2,), (2, 3))]),
        ((N, S, 24), (N * S, 24), [((0, 1), (0,)), ((2,), (1,))]),
        ((N, 8, S), (N, 8 * S), [((0,), (0,)), ((1, 2), (1,))]),
        ((N * 8, S), (N, 8, S), [((0,), (0, 1)), ((1,), (2,))]),
        ((2, 3, 1, 1), (2, 3), [((0,), (0,)), ((1,), (1,)), ((2, 3), ())]),
        ((6,), (1, 6, 1), [((0,), (0, 1)), ((), (2,))]),
        ((N, S), (S, N), [((0, 1), (0, 1))]),
        ((0, 4), (0, 2, 2), [((0,), (0,)), ((1,), (1, 2))]),
    ],
)
def test_blocks_of_a_reshape(before: list[int], after: list[int], found: list[tuple[tuple[int, ...], ...]]) -> None:
    assert blocks(before, after) == [Block(*one) for one in found]


def test_factors_of_a_block() -> None:
    found = factors((2, 12), (6, 4))
    assert found is not None
    assert found.sizes == (1, 2, 3, 4)
    assert found.inputs == ((1, 2), (2, 4))
    assert found.outputs == ((1, 3), (3, 4))
    assert factors((2, 3), (3, 2)) is None


def residual_network(blocks: int, channels: int = 8) -> Graph:
    def weight(name: str, *shape: int) -> TensorProto:
        return numpy_helper.from_array(np.zeros(shape, np.float32), name)

    nodes = [helper.make_node("Conv", ["x", "w"], ["a0"])]
    weights = [weight("w", channels, 3, 1, 1), weight("o", 2, channels, 1, 1)]
    for at in range(blocks):
        nodes += [
            helper.make_node("Conv", [f"a{at}", f"u{at}"], [f"b{at}"]),
            helper.make_node("Relu", [f"b{at}"], [f"c{at}"]),
            helper.make_node("Conv", [f"c{at}", f"t{at}"], [f"d{at}"]),
            helper.make_node("Add", [f"a{at}", f"d{at}"], [f"a{at + 1}"]),
        ]
        weights += [weight(f"{name}{at}", channels, channels, 1, 1) for name in "ut"]
    nodes.append(helper.make_node("Conv", [f"a{blocks}", "o"], ["y"]))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    return decode(helper.make_model(helper.make_graph(nodes, "g", inputs, outputs, weights)), Store())


def test_a_trunk_of_many_additions_is_one_group() -> None:
    graph = residual_network(50)
    groups = channel_groups(graph, infer(graph))
    assert [one.size for one in groups] == [8] * 51 + [2]
    trunk = groups[0]
    assert len(trunk.makers) == 51
    assert len(trunk.readers) == 51
    assert trunk.subject is graph.nodes[0]


def seconds(graph: Graph) -> float:
    shapes = infer(graph)
    for node in graph.nodes:
        shapes.dims(node.outputs[0])
    start = time.process_time()
    channel_groups(graph, shapes)
    return time.process_time() - start


def test_time_is_linear_in_the_number_of_nodes() -> None:
    small, large = residual_network(100), residual_network(1000)
    assert seconds(large) < 40 * max(seconds(small), 0.01)
