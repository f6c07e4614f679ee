"""The node list of a graph behaves like a list whose elements are in one graph at most."""

from __future__ import annotations

import copy
import random
from typing import Any

import onnx_graphsurgeon as gs
import pytest

from graphopt.ir import Graph, Node


def filled(count: int) -> tuple[Graph, list[Node]]:
    nodes = [Node("Op", f"n{i}") for i in range(count)]
    return Graph(nodes, name="g"), nodes


class Twin:
    """A graph's nodes and a plain list that goes through the same."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.graph, self.plain = filled(self.random.randrange(6))
        self.nodes = self.graph.nodes
        self.free = [Node("Op", f"free{i}") for i in range(12)]

    def step(self) -> str:
        """Do something at random; its name."""
        steps = [name for name in vars(Twin) if name.startswith("do_")]
        likely = [name for name in steps if name in ("do_remove", "do_put_before", "do_put_after", "do_move")]
        what = self.random.choice(steps + likely + likely)
        getattr(self, what)()
        return what

    def fresh(self, amount: int = 1) -> list[Node]:
        """Nodes that are in no graph: new ones, and ones that were taken out before."""
        self.random.shuffle(self.free)
        taken, self.free = self.free[:amount], self.free[amount:]
        return taken

    def place(self) -> int:
        return self.random.randrange(len(self.plain))

    def part(self) -> slice:
        return slice(*sorted(self.random.randrange(len(self.plain) + 1) for _ in range(2)))

    def do_append(self) -> None:
        for new in self.fresh():
            self.nodes.append(new)
            self.plain.append(new)

    def do_extend(self) -> None:
        many = self.fresh(2)
        self.nodes.extend(iter(many))
        self.plain.extend(many)

    def do_add_in_place(self) -> None:
        many = self.fresh(2)
        self.graph.nodes += many
        self.plain += many

    def do_insert(self) -> None:
        where = self.random.randrange(-2, len(self.plain) + 2)
        for new in self.fresh():
            self.nodes.insert(where, new)
            self.plain.insert(where, new)

    def do_put_first(self) -> None:
        for new in self.fresh():
            self.nodes.put_first(new)
            self.plain.insert(0, new)

    def do_put_before(self) -> None:
        for new in self.fresh() if self.plain else ():
            place = self.place()
            self.nodes.put_before(self.plain[place], new)
            self.plain.insert(place, new)

    def do_put_after(self) -> None:
        for new in self.fresh() if self.plain else ():
            place = self.place()
            self.nodes.put_after(self.plain[place], new)
            self.plain.insert(place + 1, new)

    def do_move(self) -> None:
        """Take a node out and put it elsewhere before anybody looks."""
        if len(self.plain) > 1:
            moved = self.plain.pop(self.place())
            self.nodes.discard(moved)
            other = self.place()
            if self.random.random() < 0.5:
                self.nodes.put_before(self.plain[other], moved)
                self.plain.insert(other, moved)
            else:
                self.nodes.put_after(self.plain[other], moved)
                self.plain.insert(other + 1, moved)

    def do_remove(self) -> None:
        if self.plain:
            gone = self.plain.pop(self.place())
            self.random.choice((self.nodes.remove, self.nodes.discard))(gone)
            self.free.append(gone)

    def do_pop(self) -> None:
        if self.plain:
            place = self.place() - len(self.plain)
            gone = self.plain.pop(place)
            assert self.nodes.pop(place) is gone
            self.free.append(gone)

    def do_delete(self) -> None:
        if self.plain:
            place = self.place()
            self.free.append(self.plain.pop(place))
            del self.nodes[place]

    def do_delete_slice(self) -> None:
        part = self.part()
        self.free += self.plain[part]
        del self.nodes[part], self.plain[part]

    def do_set(self) -> None:
        for new in self.fresh() if self.plain else ():
            place = self.place()
            self.free.append(self.plain[place])
            self.nodes[place] = self.plain[place] = new

    def do_set_slice(self) -> None:
        part, many = self.part(), self.fresh(2)
        self.free += self.plain[part]
        self.nodes[part] = iter(many)
        self.plain[part] = many

    def do_set_extended_slice(self) -> None:
        gone = self.plain[::2]
        many = self.fresh(len(gone))
        if len(many) == len(gone):
            self.nodes[::2] = self.plain[::2] = many
            self.free += gone
        else:
            with pytest.raises(ValueError, match="extended slice"):
                self.nodes[::2] = many
            self.free += many

    def do_turn_a_slice_around(self) -> None:
        part = self.part()
        self.nodes[part] = self.plain[part] = self.plain[part][::-1]

    def do_assign(self) -> None:
        gone, many = self.plain[:1], self.fresh(1)
        self.plain[:] = [*many, *self.plain[1:]]
        self.graph.nodes = iter(list(self.plain))
        self.free += gone

    def do_clear(self) -> None:
        if self.random.random() < 0.2:
            self.free += self.plain
            self.nodes.clear()
            self.plain.clear()

    def do_reverse(self) -> None:
        self.nodes.reverse()
        self.plain.reverse()

    def do_sort(self) -> None:
        self.nodes.sort(key=lambda one: one.name, reverse=True)
        self.plain.sort(key=lambda one: one.name, reverse=True)

    def do_arrange(self) -> None:
        self.random.shuffle(self.plain)
        self.nodes.arrange(list(self.plain))


@pytest.mark.parametrize("look", ["always", "sometimes", "at the end"])
@pytest.mark.parametrize("seed", range(30))
def test_it_behaves_like_a_list(seed: int, look: str) -> None:
    twin = Twin(seed)
    for turn in range(200):
        what = twin.step()
        if look == "always" or (look == "sometimes" and turn % 7 == 0) or turn == 199:
            compare(twin, what)


def compare(twin: Twin, what: str) -> None:
    nodes, plain = twin.graph.nodes, twin.plain
    assert list(nodes) == plain, what
    assert list(reversed(nodes)) == plain[::-1]
    assert len(nodes) == len(plain) and bool(nodes) == bool(plain) and nodes == plain
    assert nodes[1:3] == plain[1:3] and type(nodes[1:3]) is list
    for place, node in enumerate(plain):
        assert nodes.index(node) == place and nodes.count(node) == 1 and nodes[place - len(plain)] is node
    assert all(node.graph is twin.graph and node in nodes for node in plain)
    assert all(node.graph is None and node not in nodes for node in twin.free)


def test_a_node_is_in_one_place_only() -> None:
    graph, (one, two) = filled(2)
    other = Graph(name="other")
    refusals: dict[str, Any] = {
        "node 'n0' is already in this graph": lambda: graph.nodes.append(one),
        "node 'n1' is already in this graph": lambda: graph.nodes.put_before(one, two),
        "node 'n1' is already in graph 'g'; remove it there first": lambda: other.nodes.extend([two]),
        "node 'Foo()' is already in this graph": lambda: graph.nodes.extend([nameless := Node("Foo"), nameless]),
    }
    for sentence, attempt in refusals.items():
        with pytest.raises(ValueError) as caught:
            attempt()
        assert str(caught.value) == sentence
    graph.nodes.remove(two)
    other.nodes.append(two)
    assert two.graph is other and list(other.nodes) == [two]


def test_a_refused_assignment_changes_nothing() -> None:
    graph, nodes = filled(4)
    stranger = Node("Op", "stranger")
    foreign = Node("Op", "foreign")
    Graph([foreign], name="other")
    for value in ([stranger, foreign], [nodes[0], nodes[0], nodes[1]], [stranger, "text"]):
        with pytest.raises((ValueError, TypeError)):
            graph.nodes = value
        with pytest.raises((ValueError, TypeError)):
            graph.nodes[1:3] = value
    with pytest.raises(ValueError, match="already in this graph"):
        graph.nodes[0] = nodes[1]
    assert list(graph.nodes) == nodes and all(node.graph is graph for node in nodes)
    assert stranger.graph is None


def test_what_is_not_there_is_named() -> None:
    graph, (one,) = filled(1)
    stranger = Node("Op", "stranger")
    for attempt in (
        lambda: graph.nodes.remove(stranger),
        lambda: graph.nodes.discard(stranger),
        lambda: graph.nodes.index(stranger),
        lambda: graph.nodes.put_after(stranger, Node("Op")),
    ):
        with pytest.raises(ValueError, match="node 'stranger' is not in this graph"):
            attempt()
    with pytest.raises(TypeError, match="a str is no node"):
        graph.nodes.append("text")
    with pytest.raises(IndexError):
        graph.nodes.pop(3)
    with pytest.raises(IndexError):
        del graph.nodes[1]
    assert list(graph.nodes) == [one] and stranger not in graph.nodes and "text" not in graph.nodes


def test_a_loop_may_remove_and_insert() -> None:
    graph, nodes = filled(6)
    seen = []
    for node in graph.nodes:
        seen.append(node)
        assert len(seen) < 20 and len(graph.nodes) > 0  # looking at the length settles what was noted
        if node is nodes[1]:
            graph.nodes.remove(node)
            graph.nodes.remove(nodes[2])
        graph.nodes.put_after(node, Node("Op", "new")) if node is nodes[3] else None
    assert seen == [nodes[0], nodes[1], nodes[3], nodes[4], nodes[5]]
    assert [node.name for node in graph.nodes] == ["n0", "n3", "new", "n4", "n5"]


def test_copies_are_plain_lists() -> None:
    graph, nodes = filled(2)
    for plain in (graph.nodes.copy(), copy.copy(graph.nodes), copy.deepcopy(graph.nodes), graph.nodes + list[Any]()):
        assert type(plain) is list and plain == nodes
    assert graph.nodes.snapshot() == nodes and graph.nodes != nodes[:1] and graph.nodes != "text"
    with pytest.raises(TypeError, match="cannot be repeated"):
        graph.nodes *= 2


def test_stock_nodes_join_in_place() -> None:
    stock = gs.Node(op="Relu", name="stock", inputs=[gs.Variable("a")], outputs=[gs.Variable("b")])
    graph = Graph()
    graph.nodes.append(stock)
    assert type(stock) is Node and graph.nodes[0] is stock and stock.graph is graph
    assert stock.attrs == {} and stock.label == "stock"
    graph.nodes.remove(stock)
    assert list(graph.nodes) == [] and [one.name for one in stock.inputs] == ["a"]
