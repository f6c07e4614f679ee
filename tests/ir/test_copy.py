"""Copies share weights and nothing else."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import pytest
from ir_models import body, from_text, model, node, shown, value
from test_fidelity import CONSTRUCTS

from graphopt.ir import Constant, Graph, Node, Variable, decode, encode
from graphopt.ir.store import Store
from graphopt.testing.links import check_links

BODIES = """
<ir_version: 10, opset_import: ["" : 21, "f" : 1]>
main (float x, bool c) => (float y)
<float w = {1.0}>
{
    a = Abs(x)
    y = If(c) <then_branch = t () => (float p) <float own = {1.0}> { q = Sum(a, w, own)  p = f.F(q) },
               else_branch = e () => (float r) { r = Identity(a) }>
}
<opset_import: ["" : 21], domain: "f">
F (arg) => (res) { res = Neg(arg) }
"""


def objects(graph: Graph) -> set[object]:
    """Every node, tensor and graph of a model."""
    found: set[object] = set()
    for scope in graph.scopes():
        found.add(scope)
        found.update(scope.inputs, scope.outputs, scope.initializers.declared())
        for one in scope.nodes:
            found.update([one], one.inputs, one.outputs)
            found.update(v for v in one.attrs.values() if isinstance(v, Constant))
            for tensor in (*one.inputs, *one.outputs):
                found.update(tensor.inputs, tensor.outputs)
    return found


@pytest.mark.parametrize("build", CONSTRUCTS.values(), ids=CONSTRUCTS)
def test_nothing_is_shared(build: object) -> None:
    graph = decode(build(), Store())  # type: ignore[operator]
    copied = graph.copy()
    assert not objects(graph) & objects(copied)


def test_edits_of_a_copy_stay_there() -> None:
    graph = from_text(BODIES)
    before = encode(graph).proto.SerializeToString()
    for copied in (graph.copy(), copy.copy(graph), copy.deepcopy(graph)):
        check_links(copied)
        copied.replace_uses(value(copied, "a"), copied.inputs[0])
        copied.set_values(next(iter(copied.initializers)), np.zeros(3, np.float32))
        copied.functions[0].nodes[0].op = "Exp"
        copied.import_domains[0].version = 22
        copied.nodes[1].attrs["note"] = 1
        copied.nodes[1].bodies[0].nodes.clear()
        copied.inputs[0].shape = [7]
        copied.name = "other"
        assert encode(graph).proto.SerializeToString() == before
        assert encode(copied).proto.SerializeToString() != before


def test_weights_are_shared_until_one_is_replaced() -> None:
    graph = from_text(BODIES)
    copied = graph.copy()
    (old,), (new,) = graph.initializers, copied.initializers
    assert old.stored is new.stored is not None


def test_a_copied_body_shares_what_it_captures() -> None:
    graph = from_text(BODIES)
    original = graph.nodes[1].bodies[0]
    copied = original.copy()
    assert shown(copied) == shown(original) and copied.parent is None
    a = value(graph, "a")
    assert copied.nodes[0].inputs[0] is a and copied.nodes[0].inputs[2] is next(iter(copied.initializers))
    assert copied.nodes[0] in a.outputs and original.nodes[0] in a.outputs
    graph.append(Node("If", "again", {"then_branch": copied, "else_branch": original.copy()}, [graph.inputs[1]], []))
    assert copied.root is graph and len(a.readers) == 4
    check_links(graph)


def test_captures_are_replaced_by_name_and_own_values_are_not() -> None:
    graph = from_text(BODIES)
    outside = {name: Variable(name) for name in ("a", "w", "q", "p", "own")}
    copied = graph.nodes[1].bodies[0].copy(outside)
    assert copied.nodes[0].inputs[0] is outside["a"] and copied.nodes[0].inputs[1] is outside["w"]
    assert copied.nodes[0].inputs[2] is next(iter(copied.initializers))
    assert copied.nodes[0].outputs[0] is not outside["q"] and not outside["q"].outputs
    made = graph.nodes[1].copy(inputs=[graph.inputs[1]], outputs=[Variable("z")], tensor_map=outside)
    assert made.op == "If" and [one.name for one in made.outputs] == ["z"] and made.graph is None
    assert [body.nodes[0].inputs[0] for body in made.bodies] == [outside["a"], outside["a"]]
    assert all(body.parent is made for body in made.bodies)


def test_a_copied_function_stands_alone() -> None:
    graph = from_text(BODIES)
    copied = graph.functions[0].copy()
    assert shown(copied) == ["res = Neg(arg)"] and copied.root is copied
    assert not set(copied.nodes) & set(graph.functions[0].nodes)
    copied.name = "G"
    graph.functions.append(copied)  # type: ignore[arg-type]
    assert [one.name for one in encode(graph).proto.functions] == ["F", "G"]


def test_constants_that_nobody_declared_are_copied_as_initializers() -> None:
    graph = from_text("main (float x) => (float y) { y = Add(x, x) }")
    graph.nodes[0].inputs[1] = Constant("loose", np.float32(1).reshape(()))
    copied = graph.copy()
    assert [one.name for one in copied.initializers] == ["loose"]
    assert not objects(graph) & objects(copied)
    onnx.checker.check_model(encode(copied).proto, full_check=True)


def test_a_body_that_stands_on_two_nodes_becomes_two() -> None:
    graph = from_text(BODIES)
    branch = graph.nodes[1].bodies[0]
    graph.append(Node("If", "", {"then_branch": branch, "else_branch": branch}, [graph.inputs[1]], [Variable("z")]))
    copied = graph.copy()
    first, second, third = (body for node in copied.nodes for body in node.bodies if len(body.nodes) == 2)
    assert shown(first) == shown(second) == shown(third) and len({first, second, third}) == 3
    check_links(copied)


def test_many_bodies_take_time_for_what_is_in_them() -> None:
    """Copying a body must not cost what stands around it."""
    branch = body("b", [node("Neg", "x", "r")], [], ["r"])
    nodes = [node("If", "c", f"y{i}", then_branch=branch, else_branch=branch) for i in range(1500)]
    proto = model([*nodes, *(node("Abs", "x", f"z{i}") for i in range(1500))], ["x", "c"], ["y1"])
    graph = decode(proto, Store())
    assert encode(graph.copy()).proto.SerializeToString() == proto.SerializeToString()
