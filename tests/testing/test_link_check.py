"""`check_links` finds what disagrees, and nothing in graphs that are in order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from graphopt.ir import Constant, Graph, Node, Variable, decode
from graphopt.ir.store import Store
from graphopt.testing import LawBroken, check_links, model, random_model
from graphopt.testing.samples import samples

TEXT = """g (bool c, float[N] x) => (float[N] y) {
    a = Relu(x)
    r = If(c)<then_branch = t () => (float[N] o) { p = Add(a, w)  o = Neg(p) },
              else_branch = e () => (float[N] o) { o = Abs(a) }>
    y = Mul(r, w)
}"""


def graph() -> Graph:
    return decode(model(TEXT, w=np.float32(2)), Store())


def body(root: Graph) -> Graph:
    found: Graph = root.nodes[1].bodies[0]
    return found


def test_graphs_in_order() -> None:
    for sample in samples():
        check_links(decode(sample.proto, Store()))
    for seed in range(20):
        check_links(decode(random_model(seed), Store()))
    check_links(body(graph()))  # any graph of the model will do


def unlist_node(root: Graph) -> None:
    root.nodes[0].__dict__["graph"] = body(root)


def strange_parent(root: Graph) -> None:
    pending = root.nodes[1].bodies[0]
    pending.__dict__["parent"] = root.nodes[0]


def slot_behind(root: Graph) -> None:
    list.__setitem__(root.nodes[2].inputs, 0, root.inputs[1])


def use_behind(root: Graph) -> None:
    list.append(root.inputs[1].outputs, root.nodes[2])


def left_the_model(root: Graph) -> None:
    root.nodes[2].inputs.append(root.inputs[1])
    lost = Node("Abs", "lost", inputs=[root.inputs[1]], outputs=[Variable("q")])
    assert lost.graph is None


def two_makers(root: Graph) -> None:
    root.append(Node("Abs", inputs=[root.inputs[1]], outputs=[root.nodes[0].outputs[0]]))


def made_initializer(root: Graph) -> None:
    (weight,) = root.initializers
    root.append(Node("Abs", inputs=[root.inputs[1]], outputs=[weight]))


def homeless(root: Graph) -> None:
    (weight,) = root.initializers
    weight.__dict__["home"] = None


def default_of_nothing(root: Graph) -> None:
    root.defaults[Variable("gone")] = Constant("gone", np.zeros(1, np.float32))


def twice(root: Graph) -> None:
    root.nodes[0].outputs[0].name = "r"


def nameless(root: Graph) -> None:
    (weight,) = root.initializers
    weight.name = ""


def output_behind(root: Graph) -> None:
    list.append(root.outputs, root.nodes[0].outputs[0])


def output_of_nothing(root: Graph) -> None:
    root.nodes[0].outputs[0].__dict__.setdefault("_graph_outputs", []).append(Graph())


def output_too_often(root: Graph) -> None:
    root.nodes[2].outputs[0].__dict__["_graph_outputs"].append(root)


def out_of_sight(root: Graph) -> None:
    root.rewire(root.nodes[2], 0, body(root).nodes[0].outputs[0])


def loose(root: Graph) -> None:
    root.rewire(root.nodes[2], 0, Variable("loose"))


def shadowed(root: Graph) -> None:
    """The body declares a name of its own for a value that it also reads from outside."""
    body(root).nodes[0].outputs[0].name = "a"
    (reader,) = (node for node in body(root).nodes if node.op == "Neg" or node.op == "Abs")
    body(root).rewire(reader, 0, root.nodes[0].outputs[0])


def undeclared_maker(root: Graph) -> None:
    list.clear(root.nodes[0].outputs[0].inputs)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (strange_parent, "node 'If.r.' in the main graph does not know its node"),
        (slot_behind, "disagree on how often it reads it"),
        (use_behind, "'x' and node 'Mul.y.' disagree on how often it reads it"),
        (left_the_model, "'x' lists node 'Abs', which is in no graph, as one that reads it"),
        (two_makers, "'a' is (made by 2 nodes|declared twice in the main graph)"),
        (made_initializer, "'w' is declared twice in the main graph"),
        (homeless, "initializer 'w' in the main graph believes to be declared elsewhere"),
        (default_of_nothing, "the default of 'gone' in the main graph is of no input"),
        (twice, "'r' is declared twice in the main graph"),
        (nameless, "an input or initializer in the main graph has no name"),
        (output_behind, "'a' does not know that it is an output in the main graph"),
        (output_of_nothing, "'a' believes to be an output of a graph that is not in the model"),
        (output_too_often, "'y' and its graph disagree on how often it is an output"),
        (out_of_sight, r"'p', read by node 'Mul\(y\)' in the main graph, is neither made"),
        (loose, "'loose', read by node .* is neither made, nor an input, nor an initializer in its sight"),
        (shadowed, "reads a value called 'a', but that name means another one there"),
        (undeclared_maker, "'a' does not know that node 'Relu.a.' makes it"),
        (unlist_node, "'x' lists node 'Relu', which is in no graph, as one that reads it"),
    ],
)
def test_damage_is_named(damage: Callable[[Graph], None], says: str) -> None:
    root = graph()
    damage(root)
    with pytest.raises(LawBroken, match=says) as caught:
        check_links(root)
    assert caught.value.law == "links"
    assert str(caught.value).startswith("the links of the graph disagree: ")
