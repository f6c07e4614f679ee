"""Edits cost what they touch: large graphs within seconds of processor time.

The ceilings are ten times what was measured, far below what anything quadratic takes: 50,000 times
50,000 steps are minutes.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from ir_models import model, node

from graphopt.ir import Constant, Function, Graph, Node, Variable, decode, encode
from graphopt.ir.garbage import collector_paused
from graphopt.ir.store import Store

MANY = 50_000


@pytest.fixture(autouse=True)
def _undisturbed() -> Iterator[None]:
    """Keep the collector from walking what other tests left behind, again and again."""
    with collector_paused():
        yield


@contextmanager
def within(seconds: float) -> Iterator[None]:
    begin = time.process_time()
    yield
    took = time.process_time() - begin
    assert took < seconds, f"{took:.1f} s of processor time"


def hub(readers: int = MANY) -> Graph:
    """One value with many readers, two slots each for some."""
    graph = Graph(inputs=[Variable("x", np.float32, [2])])
    centre = Variable("centre")
    graph.nodes.append(Node("Neg", "maker", None, graph.inputs, [centre]))
    for index in range(readers):
        ins = [centre, centre] if index % 10 == 0 else [centre]
        graph.nodes.append(Node("Sum", f"n{index}", None, ins, [Variable(f"v{index}")]))
    return graph


def test_replacing_a_value_with_many_readers() -> None:
    graph = hub()
    centre = graph.nodes[0].outputs[0]
    with within(5):
        graph.replace_uses(centre, graph.inputs[0])
    assert not centre.is_read and len(graph.inputs[0].readers) == MANY + 1


@pytest.mark.parametrize(("order", "count"), [("forwards", MANY // 2), ("backwards", MANY // 2), ("random", MANY)])
def test_rewiring_and_removing_readers_one_by_one(order: str, count: int) -> None:
    graph = hub(count)
    centre, x = graph.nodes[0].outputs[0], graph.inputs[0]
    readers = list(graph.nodes)[1:]
    if order == "backwards":
        readers.reverse()
    elif order == "random":
        random.Random(5).shuffle(readers)
    with within(5):
        for one in readers[::2]:
            graph.rewire(one, 0, x)
        for one in readers:
            graph.remove(one)
    assert len(graph.nodes) == 1 and not centre.outputs and len(x.outputs) == 1


def test_emptying_a_hub_from_its_side_beside_a_node_that_reads_it_very_often() -> None:
    graph = hub()
    centre = graph.nodes[0].outputs[0]
    often = graph.append(Node("Concat", "often", None, [centre] * MANY, [Variable("c")]))
    with within(5):
        while centre.outputs[0] is not often:
            centre.outputs[0].inputs.clear()
        for one in graph.nodes.snapshot()[1:-1]:
            one.inputs.clear()
    assert centre.readers == [often] and len(centre.outputs) == MANY


def test_inserting_beside_one_node_and_beside_all() -> None:
    graph = hub(MANY // 2)
    anchor = graph.nodes[0]
    with within(5):
        for index, one in enumerate(list(graph.nodes)[1:]):
            graph.insert(Node("A", f"a{index}"), after=anchor)
            graph.insert(Node("B", f"b{index}"), before=one)
    nodes = list(graph.nodes)
    assert len(nodes) == 3 * (MANY // 2) + 1 and nodes[1].name == f"a{MANY // 2 - 1}" and nodes[-2].op == "B"


def test_constants_in_a_function() -> None:
    function = Function("F", "f", [Node("Neg", f"n{i}", None, [], [Variable(f"v{i}")]) for i in range(MANY)])
    nodes = list(function.nodes)
    with within(5):
        for one in nodes[: MANY // 5]:
            one.inputs.append(function.constant(np.ones(1), "k"))
            function.nodes.remove(one)
    assert len(function.nodes) == MANY


def test_many_loose_constants_and_names() -> None:
    graph = hub()
    readers = list(graph.nodes)[1 : MANY // 5]
    with within(5):
        for one in readers:
            one.inputs.append(Constant("same", np.ones(1, np.float32)))
            graph.fresh_name("same")
        encode(graph)
    assert len({one.name for one in graph.initializers}) == len(readers)


def chain(count: int) -> Graph:
    """x -> v1 -> v2 ..., the last node first, and a dead end at every other value."""
    nodes = [node("Neg", f"v{i}", f"v{i + 1}") for i in range(count // 2)]
    nodes += [node("Abs", f"v{i}", f"dead{i}") for i in range(count // 2)]
    proto = model(nodes[::-1], ["v0"], [f"v{count // 2}"])
    with within(8):
        return decode(proto, Store())


def test_reading_sorting_writing_and_removing_a_long_chain() -> None:
    graph = chain(2 * MANY)
    with within(5):
        graph.toposort()
    assert graph.nodes[0].inputs[0] is graph.inputs[0]
    with within(5):
        proto = encode(graph).proto
    assert len(proto.graph.node) == 2 * MANY
    graph.outputs.clear()
    with within(5):
        for one in reversed(graph.nodes):
            graph.remove(one)
    assert len(graph.nodes) == 0


def test_copying_and_cleaning_a_long_chain() -> None:
    graph = chain(MANY)
    with within(5):
        copied = graph.copy()
    with within(5):
        copied.cleanup()
    assert len(copied.nodes) == MANY // 2
