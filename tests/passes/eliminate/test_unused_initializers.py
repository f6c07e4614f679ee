"""unused-initializers: weights that nobody reads go; what the signature or an annotation needs stays."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, SparseTensorProto, TensorAnnotation, numpy_helper

from graphopt.pipeline.gate import Limits
from graphopt.testing import Applied, apply, assert_missed, model
from passes.eliminate.unused_initializers import UnusedInitializers

ONES = np.ones(4, np.float32)


def swept(before: ModelProto, gate: Limits | None = None) -> Applied:
    return apply(UnusedInitializers(), before, gate=gate)


def left(done: Applied) -> list[str]:
    dense = [one.name for one in done.after.graph.initializer]
    return dense + [one.values.name for one in done.after.graph.sparse_initializer]


def test_an_unread_initializer_goes() -> None:
    done = swept(model("g (float[N, 4] x) => (float[N, 4] y) { y = Add(x, w) }", w=ONES, v=ONES, u=ONES))
    assert left(done) == ["w"]
    assert [(one.node, one.op, one.before, one.after) for one in done.applied] == [
        ("v", "initializer", ("v",), ()),
        ("u", "initializer", ("u",), ()),
    ]


def test_large_weights_go_without_being_looked_at() -> None:
    big = np.ones((64, 64), np.float32)
    done = swept(model("g (float[N, 4] x) => (float[N, 4] y) { y = Add(x, w) }", w=ONES, big=big))
    assert left(done) == ["w"]


def test_an_initializer_that_is_an_output_stays() -> None:
    done = swept(model("g (float[N, 4] x) => (float[N, 4] y, float[4] w) { y = Relu(x) }", w=ONES))
    assert left(done) == ["w"] and done.remarks == ()


def test_an_initializer_that_only_a_body_reads_stays() -> None:
    text = """g (bool c, float[N, 4] x) => (float[N, 4] y) {
        y = If(c)<then_branch = t () => (float[N, 4] o) {
                      o = If(c)<then_branch = u () => (float[N, 4] q) { q = Add(x, w) },
                                else_branch = f () => (float[N, 4] q) { q = Neg(x) }>
                  },
                  else_branch = e () => (float[N, 4] o) { o = Neg(x) }>
    }"""
    assert left(swept(model(text, w=ONES, v=ONES))) == ["w"]


def test_initializers_of_bodies() -> None:
    text = """g (bool c, float[N, 4] x) => (float[N, 4] y) {
        y = If(c)<then_branch = t () => (float[N, 4] o) <float[4] w = {1, 2, 3, 4}, float[4] v = {1, 2, 3, 4}> {
                      o = Add(x, w)
                  },
                  else_branch = e () => (float[N, 4] o) { o = Neg(x) }>
    }"""
    done = swept(model(text))
    assert [(one.node, one.scope) for one in done.applied] == [("v", "If(y).then_branch")]


def test_an_initializer_hidden_by_a_body_goes() -> None:
    """The body reads an initializer of its own by the same name."""
    text = """g (bool c, float[N, 4] x) => (float[N, 4] y) {
        y = If(c)<then_branch = t () => (float[N, 4] o) <float[4] w = {1, 2, 3, 4}> { o = Add(x, w) },
                  else_branch = e () => (float[N, 4] o) { o = Neg(x) }>
    }"""
    done = swept(model(text, w=ONES))
    assert left(done) == [] and [one.scope for one in done.applied] == [""]


@pytest.mark.parametrize("read", [True, False])
def test_the_default_of_an_input_stays(read: bool) -> None:
    other = "w" if read else "x"
    done = swept(model(f"g (float[N, 4] x, float[4] w) => (float[N, 4] y) {{ y = Add(x, {other}) }}", w=ONES))
    assert left(done) == ["w"] and done.applied == ()
    if read:
        assert done.missed == ()
    else:
        missed = assert_missed(done, "unread", "it is the default of input 'w', which callers may override")
        assert missed.node == "w"


def test_sparse_initializers() -> None:
    before = model("g (float[N, 4] x) => (float[N, 4] y) { y = Add(x, w) }")
    for name in ("w", "v"):
        values = numpy_helper.from_array(np.array([1.0], np.float32), name)
        indices = numpy_helper.from_array(np.array([2], np.int64))
        before.graph.sparse_initializer.append(SparseTensorProto(values=values, indices=indices, dims=[4]))
    assert left(swept(before)) == ["w"]


def annotated(subject: str, *order: str) -> ModelProto:
    """Initializers in the given order, of which `s` and `z` belong to `subject` by annotation only."""
    before = model("g (float[N, 4] x) => (float[N, 4] y) { y = Add(x, w) }", **dict.fromkeys(order, ONES))
    note = TensorAnnotation(tensor_name=subject)
    for key, value in (("SCALE_TENSOR", "s"), ("ZERO_POINT_TENSOR", "z")):
        note.quant_parameter_tensor_names.add(key=key, value=value)
    before.graph.quantization_annotation.append(note)
    return before


@pytest.mark.parametrize("subject", ["w", "y", "x", "elsewhere"])
def test_scales_stay_while_their_value_is_there(subject: str) -> None:
    done = swept(annotated(subject, "w", "s", "z"))
    assert left(done) == ["w", "s", "z"] and done.applied == ()
    assert [one.why for one in done.missed] == [f"it is a quantization parameter of '{subject}'"] * 2


@pytest.mark.parametrize("order", [("w", "s", "z", "u"), ("w", "u", "s", "z")])
def test_scales_go_with_their_value(order: tuple[str, ...]) -> None:
    done = swept(annotated("u", *order))
    assert left(done) == ["w"] and done.missed == ()
    assert not done.after.graph.quantization_annotation


def test_a_refused_weight_keeps_its_scales() -> None:
    done = swept(annotated("u", "w", "u", "s", "z"), gate=Limits(frozenset({("unused-initializers", 1)})))
    assert left(done) == ["w", "u", "s", "z"]
    assert [one.node for one in done.disabled] == ["u"] and len(done.missed) == 2
