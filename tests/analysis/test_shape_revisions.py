"""Facts while a graph is edited: what is kept is still so, and what changed is found out again."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from graphopt.analysis.shapes import SharedShapes, stale
from graphopt.ir import Constant, Graph, Node, Tensor, decode
from graphopt.ir.store import Store
from graphopt.testing import model


def graph(text: str, **weights: object) -> Graph:
    return decode(model(text, **weights), Store())


def value(root: Graph, name: str) -> Tensor:
    found: Tensor = next(one for node in root.nodes for one in node.outputs if one.name == name)
    return found


def ints(*values: int) -> object:
    return np.array(values, np.int64)


TEXT = """g (float[N, 2, 6] x) => (float[A, B, C] y) {
    a = Relu(x)  t = Transpose<perm = [0, 2, 1]>(a)  s = Shape(t)  y = Reshape(a, k)  u = NonZero(a)  v = Transpose(u)
}"""


def test_what_did_not_change_is_the_same_fact() -> None:
    root = graph(TEXT, k=ints(0, 3, 4))
    shared = SharedShapes()
    before = shared.of(root)
    dims = {node.op + str(i): before.dims(node.outputs[0]) for i, node in enumerate(root.nodes)}
    root.append(Node("Abs", inputs=[root.inputs[0]], outputs=[root.variable("fresh")]))
    after = shared.of(root)
    assert after is not before
    for i, node in enumerate(list(root.nodes)[:-1]):
        found = after.dims(node.outputs[0])
        assert found is dims[node.op + str(i)], node.op  # symbols that nothing is known of included
    assert after.shape(root.nodes[-1].outputs[0]) == ("N", 2, 6)


def test_an_attribute_that_is_changed_in_place() -> None:
    root = graph(TEXT, k=ints(0, 3, 4))
    shared = SharedShapes()
    assert shared.of(root).shape(value(root, "t")) == ("N", 6, 2)
    node = value(root, "t").inputs[0]
    node.attrs["perm"][:] = [2, 1, 0]
    assert shared.of(root).shape(value(root, "t")) == (6, 2, "N")
    assert [str(one) for one in shared.of(root).value(value(root, "s"))] == ["6", "2", "N"]  # type: ignore[union-attr]
    node.op = "Identity"
    assert shared.of(root).shape(value(root, "t")) == ("N", 2, 6)


def test_a_constant_that_is_changed_in_place() -> None:
    root = graph(TEXT, k=ints(0, 3, 4))
    shared = SharedShapes()
    assert shared.of(root).shape(value(root, "y")) == ("N", 3, 4)
    (held,) = root.initializers
    assert isinstance(held, Constant)
    root.set_values(held, np.array([-1, 12]))
    assert shared.of(root).shape(value(root, "y")) == ("N", 12)


def test_an_input_that_is_declared_anew_and_another_opset() -> None:
    root = graph(
        '<ir_version: 8, opset_import: ["": 12]> g (float[N, 6] x) => (float[A] y) { y = ReduceSum<axes = [0]>(x) }'
    )
    shared = SharedShapes()
    made = value(root, "y")
    assert shared.of(root).shape(made) == (1, 6)
    root.inputs[0].shape = ["N", 8]
    assert shared.of(root).shape(made) == (1, 8)
    root.opset = 13  # where `axes` is no attribute any more
    assert shared.of(root).shape(made) == (1, 1)


def test_a_value_that_gets_another_maker() -> None:
    root = graph(TEXT, k=ints(0, 3, 4))
    shared = SharedShapes()
    old = value(root, "u")
    first = shared.of(root).dims(old)
    old.inputs[0].outputs[0] = root.variable("moved")
    root.insert(Node("NonZero", inputs=[value(root, "t")], outputs=[old]), before=root.nodes[4])
    now = shared.of(root)
    assert now.dims(old) is not None and now.dims(old) != first
    assert now.dims(value(root, "moved")) != now.dims(old)


def test_another_graph_is_another_matter() -> None:
    shared = SharedShapes()
    one, two = graph(TEXT, k=ints(0, 3, 4)), graph(TEXT.replace("N, 2, 6", "4, 2, 6"), k=ints(0, 3, 4))
    assert shared.of(one).shape(value(one, "y")) == ("N", 3, 4)
    assert shared.of(two).shape(value(two, "y")) == (4, 3, 4)


def test_claims_that_are_wrong() -> None:
    proto = model(
        "g (float[N, 4] x) => (float[N, 4] y) { a = Relu(x)  b = Abs(a)  c = Neg(b)  d = Shape(c)  y = Neg(c) }"
    )

    claims: list[tuple[str, int, list[int | str]]] = [
        ("a", TensorProto.FLOAT, ["K", 4]),  # another name, maybe the same size
        ("b", TensorProto.FLOAT, [2, 5]),
        ("c", TensorProto.FLOAT, [2]),
        ("d", TensorProto.FLOAT, [2]),
    ]
    for name, dtype, shape in claims:
        proto.graph.value_info.append(helper.make_tensor_value_info(name, dtype, shape))
    found = {one.tensor.name: one.why for one in stale(decode(proto, Store()))}
    assert found == {
        "b": "dim 1 is declared as 5 and is 4",
        "c": "it is declared with 1 dims and has 2",
        "d": "it is declared as type 1 and is of type 7",
    }
