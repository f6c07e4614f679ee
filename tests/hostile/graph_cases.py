"""Graphs that are none: cycles, loose ends, names used twice; and graphs that only look wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from building import BOOL, INT64, body, floats, framed, ints, node, number, part, port, save, scalar, tensor, whole
from casebook import FED, Family
from onnx import AttributeProto

GRAPHS = Family("graph")
case = GRAPHS.case
INVALID = "the input is not a valid model"


@case(3, INVALID)
def cycle(folder: Path) -> None:
    """Two nodes that wait for each other."""
    save(folder, whole([node("Mul", ["x", "q"], ["p"]), node("Abs", ["p"], ["q"]), node("Neg", ["q"], ["y"])]))


@case(3, INVALID)
def self_loop(folder: Path) -> None:
    """A node that reads what it makes."""
    save(folder, whole([node("Add", ["x", "y"], ["y"])]))


@case(3, INVALID)
def loose_input(folder: Path) -> None:
    """A value that nothing makes."""
    save(folder, whole([node("Mul", ["x", "nobody"], ["y"])]))


@case(3, INVALID)
def loose_output(folder: Path) -> None:
    """An output that nothing makes."""
    save(folder, whole([node("Abs", ["x"], ["t"])]))


@case(0)
def out_of_order(folder: Path) -> None:
    """A node before the one it reads."""
    save(folder, whole([node("Abs", ["t"], ["y"]), node("Neg", ["x"], ["t"])]))


@case(3, INVALID)
def made_twice(folder: Path) -> None:
    """Two nodes make one value."""
    save(folder, whole([node("Abs", ["x"], ["t"]), node("Exp", ["x"], ["t"]), node("Neg", ["t"], ["y"])]))


@case(3, INVALID)
def input_made_again(folder: Path) -> None:
    """A node makes what the caller gives."""
    save(folder, whole([node("Abs", ["x"], ["x"]), node("Neg", ["x"], ["y"])]))


@case(3, INVALID)
def weight_made_again(folder: Path) -> None:
    """A node makes what is stored."""
    save(folder, whole([node("Abs", ["x"], ["w"]), node("Neg", ["w"], ["y"])], [scalar("w", 1)]))


@case(0, fed=None)
def weight_stored_twice(folder: Path) -> None:
    """Two weights of one name."""
    save(folder, whole([node("Add", ["x", "w"], ["y"])], [scalar("w", 1), scalar("w", 2)]))


@case(3, INVALID)
def input_declared_twice(folder: Path) -> None:
    """Two inputs of one name."""
    save(folder, whole([node("Neg", ["x"], ["y"])], inputs=[port("x"), port("x", (5,))]))


@case(0, "nothing to change", fed=None)
def output_declared_twice(folder: Path) -> None:
    """Two outputs of one name."""
    save(folder, whole([node("Neg", ["x"], ["y"])], outputs=[port("y"), port("y")]))


@case(6, "two nodes with same node name")
def one_name_for_all_nodes(folder: Path) -> None:
    """Nodes are told apart by what they make; onnxruntime wants names to differ."""
    nodes = [node("Identity", ["x"], ["a"], "n"), node("Neg", ["a"], ["b"], "n"), node("Abs", ["b"], ["y"], "n")]
    save(folder, whole(nodes))


@case(0)
def no_names_at_all(folder: Path) -> None:
    """Names of nodes are optional."""
    save(folder, whole([node("Identity", ["x"], ["a"]), node("Neg", ["a"], ["b"]), node("Abs", ["b"], ["y"])]))


@case(3, INVALID)
def types_that_do_not_meet(folder: Path) -> None:
    """A sum of floats and whole numbers."""
    save(folder, whole([node("Add", ["x", "k"], ["y"])], [ints("k", 1, 2, 3)]))


@case(0, "nothing to change")
def wrong_declaration(folder: Path) -> None:
    """A shape stored in the model that is not the one the value has."""
    claims = [port("t", (9, 4))]
    save(
        folder,
        whole(
            [node("Abs", ["x"], ["t"]), node("Size", ["t"], ["y"])], outputs=[port("y", (), INT64)], value_info=claims
        ),
    )


@case(0)
def wrong_output_declaration(folder: Path) -> None:
    """The same of an output."""
    save(folder, whole([node("Identity", ["x"], ["t"]), node("Neg", ["t"], ["y"])], outputs=[port("y", (7, 7))]))


@case(3, "No Op registered for Blend")
def unknown_operator(folder: Path) -> None:
    """An operator that ONNX does not have."""
    save(folder, whole([node("Blend", ["x"], ["y"])]))


@case(3, INVALID)
def no_operator(folder: Path) -> None:
    """A node that does not say what it is."""
    save(folder, whole([node("", ["x"], ["y"])]))


@case(6, "com.example:Mine.* is not a registered function/op")
def foreign_operator(folder: Path) -> None:
    """An operator of somebody's own, without the library that has it."""
    nodes = [
        node("Identity", ["x"], ["t"]),
        node("Mine", ["t"], ["u"], domain="com.example"),
        node("Abs", ["u"], ["y"]),
    ]
    save(folder, whole(nodes, domains=["com.example"]))


@case(3, "No opset import for domain 'com.example'")
def undeclared_domain(folder: Path) -> None:
    """An operator of a domain that the model does not import."""
    save(folder, whole([node("Mine", ["x"], ["y"], domain="com.example")]))


@case(3, INVALID)
def attribute_of_another_type(folder: Path) -> None:
    """A number that is a text."""
    made = node("Softmax", ["x"], ["y"], axis=1)
    made.attribute[0].ClearField("i")
    made.attribute[0].s = b"last"
    save(folder, whole([made]))


@case(3, INVALID)
def attribute_twice(folder: Path) -> None:
    """Two values of one attribute."""
    made = node("Softmax", ["x"], ["y"], axis=1)
    made.attribute.add(name="axis", type=AttributeProto.INT, i=0)
    save(folder, whole([made]))


@case(3, INVALID)
def attribute_without_type(folder: Path) -> None:
    """An attribute that does not say what it holds, of a format that asks for it."""
    made = node("Softmax", ["x"], ["y"], axis=1)
    made.attribute[0].ClearField("type")
    save(folder, whole([made]))


@case(0, "nothing to change", fed=None)
def reference_outside_a_function(folder: Path) -> None:
    """An attribute that stands for a function's, where there is no function."""
    made = node("Softmax", ["x"], ["y"])
    made.attribute.add(name="axis", type=AttributeProto.INT, ref_attr_name="which")
    save(folder, whole([made]))


def _choice(then: object, other: object) -> object:
    ports = [port("x"), port("c", (), BOOL)]
    return whole(
        [node("Exp", ["x"], ["e"]), node("If", ["c"], ["y"], then_branch=then, else_branch=other)], inputs=ports
    )


@case(0, fed={"x": FED, "c": np.array(True)}, keep=("If", "Exp"))
def read_in_a_branch_only(folder: Path) -> None:
    """A value that only a branch reads is not unused."""
    then = body([node("Neg", ["e"], ["p"])], [], [port("p", None)])
    save(folder, _choice(then, body([node("Add", ["e", "w"], ["q"])], [], [port("q", None)], [scalar("w", 3)])))


@case(3, INVALID)
def branch_missing(folder: Path) -> None:
    """An If with one branch."""
    then = body([node("Neg", ["e"], ["p"])], [], [port("p", None)])
    made = _choice(then, then)
    del made.graph.node[1].attribute[1]
    save(folder, made)


@case(3, INVALID)
def branch_without_output(folder: Path) -> None:
    """A branch that gives nothing."""
    then = body([node("Neg", ["e"], ["p"])], [], [port("p", None)])
    save(folder, _choice(then, body([], [], [])))


@case(3, INVALID)
def loop_without_body(folder: Path) -> None:
    """A Loop of nothing."""
    save(folder, whole([node("Loop", ["m", "", "x"], ["y"])], [tensor("m", np.int64(2))]))


@case(3, INVALID)
def name_of_a_body_outside(folder: Path) -> None:
    """A body's value has the name of one outside, which ONNX does not allow."""
    then = body([node("Neg", ["e"], ["x"]), node("Abs", ["x"], ["p"])], [], [port("p", None)])
    save(folder, _choice(then, body([node("Abs", ["e"], ["q"])], [], [port("q", None)])))


@case(0, fed={"x": FED}, keep=("Relu",))
def outputs_that_pass_through(folder: Path) -> None:
    """An output that is a weight, and one that is an input."""
    outputs = [port("y"), port("w", (3,)), port("x")]
    save(folder, whole([node("Relu", ["x"], ["y"])], [floats("w", 1, 2, 3)], outputs=outputs))


@case(0, fed={"x": FED, "w": np.float32([7, 8, 9])}, keep=("Neg",))
def weight_that_may_be_given(folder: Path) -> None:
    """A weight that is an input too: the caller may give another value."""
    nodes = [node("Neg", ["w"], ["v"]), node("Add", ["x", "v"], ["y"])]
    save(folder, whole(nodes, [floats("w", 1, 2, 3)], inputs=[port("x"), port("w", (3,))]))


@case(0)
def long_chain(folder: Path) -> None:
    """Five thousand nodes in a row."""
    names = ["x", *(f"t{i}" for i in range(4999)), "y"]
    kinds = ("Abs", "Tanh", "Neg")
    save(folder, whole([node(kinds[i % 3], [names[i]], [names[i + 1]]) for i in range(5000)]))


@case(0)
def wide_fan(folder: Path) -> None:
    """One value with five thousand readers, and one node that reads all of theirs."""
    nodes = [node("Mul", ["x", f"k{i}"], [f"t{i}"]) for i in range(5000)]
    nodes += [node("Concat", [f"t{i}" for i in range(5000)], ["c"], axis=0), node("ReduceMin", ["c"], ["y"], axes=[0])]
    save(folder, whole(nodes, [scalar(f"k{i}", i) for i in range(5000)], outputs=[port("y", (1, 3))]))


def _nested(levels: int) -> bytes:
    """An If in an If, written on the wire: protobuf itself does not write what it would not read."""

    def said(name: str) -> bytes:
        return part(1, name.encode()) + part(2, part(1, number(1, 1)))

    def unary(kind: bytes, made: str) -> bytes:
        return part(1, part(1, b"x") + part(2, made.encode()) + part(4, kind))

    def attribute(name: bytes, graph: bytes) -> bytes:
        return part(5, part(1, name) + part(6, graph) + number(20, AttributeProto.GRAPH))

    graph = unary(b"Neg", "i0") + part(2, b"g") + part(12, said("i0"))
    for level in range(1, levels + 1):
        other = unary(b"Abs", f"e{level}") + part(2, b"g") + part(12, said(f"e{level}"))
        branches = attribute(b"then_branch", graph) + attribute(b"else_branch", other)
        inner = part(1, part(1, b"c") + part(2, f"i{level}".encode()) + part(4, b"If") + branches)
        graph = inner + part(2, b"g") + part(12, said(f"i{level}"))
    last = part(1, part(1, f"i{levels}".encode()) + part(2, b"y") + part(4, b"Identity"))
    ports = [part(11, one.SerializeToString()) for one in (port("x"), port("c", (), BOOL))]
    return framed(inner + last + part(2, b"g") + b"".join(ports) + part(12, port("y").SerializeToString()))


@case(0, fed={"x": FED, "c": np.array(True)})
def nested_branches(folder: Path) -> None:
    """Thirty Ifs inside each other: just what protobuf reads."""
    save(folder, _nested(30))


@case(5, "nested too deeply")
def nested_too_deeply(folder: Path) -> None:
    """Three thousand."""
    save(folder, _nested(3000))
