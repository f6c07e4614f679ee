"""Who is in a quantization annotation, and for how long."""

from __future__ import annotations

import numpy as np
from onnx import GraphProto, TensorAnnotation

from graphopt.analysis.annotations import Annotations
from graphopt.ir import Graph, Tensor, decode
from graphopt.ir.store import Store
from graphopt.testing import model


def annotate(graph: GraphProto, subject: str, **parameters: str) -> None:
    note = TensorAnnotation(tensor_name=subject)
    for key, value in parameters.items():
        note.quant_parameter_tensor_names.add(key=key, value=value)
    graph.quantization_annotation.append(note)


def example() -> Graph:
    one = np.ones(1, np.float32)
    proto = model(
        "g (float[N] x) => (float[N] y) { a = Relu(x)  b = Neg(a)  y = Abs(x) }", s=one, z=one, unread=one, free=one
    )
    annotate(proto.graph, "b", SCALE_TENSOR="s", ZERO_POINT_TENSOR="z")
    annotate(proto.graph, "unread", SCALE_TENSOR="s")
    annotate(proto.graph, "stranger", SCALE_TENSOR="free", ZERO_POINT_TENSOR="nobody")
    return decode(proto, Store())


def tensor(root: Graph, name: str) -> Tensor:
    return root.tensors().get(name) or next(one for one in root.initializers if one.name == name)


def test_what_annotations_need() -> None:
    root = example()
    found = Annotations(root)
    assert found.needs(tensor(root, "s")) == "it is a quantization parameter of 'b'"
    assert found.needs(tensor(root, "z")) == "it is a quantization parameter of 'b'"
    assert found.needs(tensor(root, "free")) == "it is a quantization parameter of 'stranger'"
    assert found.needs(tensor(root, "b")) is None and found.needs(tensor(root, "x")) is None
    assert found.parameters(tensor(root, "b")) == [tensor(root, "s"), tensor(root, "z")]
    assert found.parameters(tensor(root, "y")) == []


def test_what_annotations_are_about() -> None:
    root = example()
    found = Annotations(root)
    assert found.about(tensor(root, "b")) == "a quantization annotation is about 'b'"
    assert found.about(tensor(root, "z")) == "it is a quantization parameter of 'b'"
    assert found.about(tensor(root, "a")) is None


def test_what_is_gone_needs_nothing() -> None:
    root = example()
    found = Annotations(root)
    scale, zero, unread = tensor(root, "s"), tensor(root, "z"), tensor(root, "unread")
    root.remove(root.nodes[1])
    assert found.needs(scale) == "it is a quantization parameter of 'unread'"
    assert found.needs(zero) is None
    root.remove_initializer(unread)  # type: ignore[arg-type]
    assert found.needs(scale) is None


def test_annotations_of_bodies() -> None:
    proto = model(
        """g (bool c, float[N] x) => (float[N] y) {
            y = If(c)<then_branch = t () => (float[N] o) <float[1] s = {1}> { o = Neg(x) },
                      else_branch = e () => (float[N] o) { o = Abs(x) }>
        }"""
    )
    annotate(proto.graph.node[0].attribute[0].g, "o", SCALE_TENSOR="s")
    root = decode(proto, Store())
    (scale,) = root.nodes[0].bodies[0].initializers
    assert Annotations(root).needs(scale) == "it is a quantization parameter of 'o'"
