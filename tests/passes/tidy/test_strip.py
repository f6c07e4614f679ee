"""strip: texts go, everything else stays to the byte."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, helper

from graphopt.testing import apply, model
from passes.tidy.strip import Strip

EVERYTHING = Strip(docs=True, metadata=True, value_info=True, names=True)


def rich() -> ModelProto:
    """A model with a doc string and metadata on everything that can have them."""
    before = model(
        """<ir_version: 10, opset_import: ["": 21, "local": 1]>
        g (bool c, float[N] x) => (float[N] y) {
            k = Constant<value = float {2}>()  a = Mul(x, k)  b = LeakyRelu<alpha = 0.5>(a)  d = local.f(b)
            z = If(c)<then_branch = t () => (float[N] o) { p = Exp(d)  o = Neg(p) },
                      else_branch = e () => (float[N] o) { o = Add(d, w) }>
            y = Relu(z)
        }
        <domain: "local", opset_import: ["": 21]>
        f (a) => (c) { b = Neg(a)  c = Exp(b) }""",
        w=np.float32(3),
    )
    before.graph.value_info.append(helper.make_tensor_value_info("a", 1, ["N"]))
    for node in before.graph.node:
        node.name = f"node_{node.output[0]}"
    body = before.graph.node[4].attribute[0].g
    function = before.functions[0]
    holders = [before, before.graph, before.graph.node[2], before.graph.node[4], body, body.node[0], function]
    holders += [function.node[0], before.graph.input[1], before.graph.output[0], before.graph.value_info[0]]
    holders += [before.graph.initializer[0], before.graph.node[0].attribute[0].t]
    for holder in holders:
        holder.doc_string = "told"
        helper.set_model_props(holder, {"origin": "kept"})
    before.graph.node[2].attribute[0].doc_string = "told"
    return before


def texts(proto: ModelProto) -> tuple[int, int]:
    data = proto.SerializeToString()
    return data.count(b"told"), data.count(b"origin")


def test_doc_strings_go_everywhere() -> None:
    before = rich()
    assert texts(before) == (14, 13)
    done = apply(Strip(), before)
    assert texts(done.after) == (2, 13)  # of an input and an output: they are the signature
    assert [one.rule for one in done.applied] == ["docs"]
    assert done.after.graph.node[2].name == "node_b" and len(done.after.graph.value_info) == 1


def test_metadata_goes_everywhere() -> None:
    done = apply(Strip(docs=False, metadata=True), rich())
    assert texts(done.after) == (14, 2)


def test_declared_shapes_and_names() -> None:
    done = apply(Strip(docs=False, value_info=True), rich())
    assert not done.after.graph.value_info and texts(done.after) == (13, 12)
    done = apply(Strip(docs=False, names=True), rich())
    assert not any(node.name for node in done.after.graph.node)
    assert not any(node.HasField("name") for node in done.after.graph.node)


def test_all_at_once() -> None:
    done = apply(EVERYTHING, rich())
    assert texts(done.after) == (2, 2) and [one.rule for one in done.applied] == [
        "docs",
        "metadata",
        "value-info",
        "names",
    ]


def test_only_that_goes() -> None:
    """The result is the original with these fields cleared, message for message."""
    before, wanted = rich(), rich()
    for node in [*wanted.graph.node, *wanted.functions[0].node]:
        node.ClearField("doc_string")
    done = apply(Strip(), before)
    assert done.after.graph.node[1] == wanted.graph.node[1]
    assert done.after.functions[0].node[0] == wanted.functions[0].node[0]
    assert list(done.after.metadata_props) == list(before.metadata_props)


@pytest.mark.parametrize("pass_", [Strip(), Strip(metadata=True), Strip(docs=False)])
def test_nothing_to_take_off(pass_: Strip) -> None:
    before = model("g (float[N] x) => (float[N] y) { y = Relu(x) }")
    assert apply(pass_, before).applied == ()


def test_a_remark_names_a_node_where_there_is_one() -> None:
    proto = model("g (float[N] x) => (float[N] y) { y = Neg(x) }")
    proto.graph.doc_string = "told"
    assert [one.node for one in apply(Strip(), proto).applied] == ["Neg(y)"]
    bare = model("g () => (float[3] k) { }", k=np.ones(3, np.float32))
    bare.graph.doc_string = "told"
    assert not apply(Strip(), bare, laws=False).after.graph.doc_string
