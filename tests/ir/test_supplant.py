"""A whole model in the place of another one: whoever holds the graph holds the new model, whole and editable."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from graphopt.errors import InternalError
from graphopt.ir import Graph, decode, encode
from graphopt.ir.journal import Edit
from graphopt.ir.supplant import supplant
from graphopt.storage.read import from_proto
from graphopt.storage.wire import join
from graphopt.testing import check_links, model

OLD = "g (float[4] x) => (float[4] y) { a = Abs(x)  b = Add(a, w)  y = Neg(b) }"
NEW = """<ir_version: 10, opset_import: ["": 21, "local": 1]>
    g (float[4] x, bool c, float[4] d) => (float[4] y, float[4] a) {
        a = local.f(x)  k = Add(a, v)  m = Mul(k, d)
        y = If (c) <then_branch = t () => (float[4] p) { p = Neg(m) },
            else_branch = e () => (float[4] q) { q = Abs(k) }>
    }
    <domain: "local", opset_import: ["": 21]> f (s) => (r) { r = Relu(s) }"""


class Heard:
    def __init__(self) -> None:
        self.before: list[str] = []

    def note(self, edit: Edit, before: tuple[str, ...], after: tuple[str, ...]) -> None:
        self.before += before


def graph_of(proto: onnx.ModelProto) -> Graph:
    source = from_proto(proto)
    return decode(source.proto, source.store)


def written(graph: Graph) -> bytes:
    encoded = encode(graph)
    return b"".join(bytes(piece) for piece in join(encoded.proto, encoded.store))


def other() -> onnx.ModelProto:
    made = model(NEW, v=np.arange(4, dtype=np.float32), d=np.ones(4, np.float32))
    made.metadata_props.add(key="made", value="elsewhere")
    return made


def test_the_new_model_is_there_byte_for_byte() -> None:
    graph = graph_of(model(OLD, w=np.ones(4, np.float32)))
    supplant(graph, graph_of(other()))
    assert written(graph) == other().SerializeToString()
    check_links(graph)


def test_what_is_gone_is_told_and_old_nodes_are_in_no_graph() -> None:
    graph = graph_of(model(OLD, w=np.ones(4, np.float32)))
    old, heard = list(graph.nodes), Heard()
    graph.journal = heard
    supplant(graph, graph_of(other()))
    assert sorted(heard.before) == ["b", "w"]
    assert graph.journal is heard
    assert all(node.graph is None for node in old)


def test_the_new_model_can_be_edited() -> None:
    graph = graph_of(model(OLD, w=np.ones(4, np.float32)))
    assert graph.fresh_name("q") == "q"
    supplant(graph, graph_of(other()))
    assert graph.fresh_name("q") == "q_1"
    node = next(one for one in graph.nodes if one.op == "Mul")
    graph.replace_uses(node.outputs[0], node.inputs[0])
    graph.remove(node)
    assert [body.root for body in graph.subgraphs()] == [graph, graph]
    assert graph.functions[0].root is graph
    constant = next(one for one in graph.initializers if one.name == "v")
    graph.set_values(constant, np.zeros(4, np.float32))
    check_links(graph)
    onnx.checker.check_model(encode(graph).proto, full_check=False)


def test_bodies_take_no_place() -> None:
    graph = graph_of(other())
    body = next(graph.subgraphs())
    with pytest.raises(InternalError, match="only a main graph"):
        supplant(body, graph_of(other()))
