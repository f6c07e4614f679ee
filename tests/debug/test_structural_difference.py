"""What two models differ in: names and order do not count, everything that computes does."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from renaming import renamed

from graphopt.debug.diff import Difference, difference
from graphopt.ir import decode
from graphopt.pipeline.protocol import Remark
from graphopt.storage.read import from_proto
from graphopt.testing import model

_FOLDER = os.environ.get("GRAPHOPT_CORPUS")
WEIGHT = np.arange(16, dtype=np.float32).reshape(4, 4)
TEXT = """g (float[N,4] x) => (float[N,4] y) {
    a = MatMul(x, w)  b = Relu(a)  c = MatMul(b, w)  d = Add(c, a)  y = Sigmoid(d)
}"""


def between(a: onnx.ModelProto, b: onnx.ModelProto, **known: object) -> Difference:
    graphs = [decode(one.proto, one.store) for one in (from_proto(a), from_proto(b))]
    return difference(graphs[0], graphs[1], **known)  # type: ignore[arg-type]


def test_a_model_is_the_same_as_itself() -> None:
    found = between(model(TEXT, w=WEIGHT), model(TEXT, w=WEIGHT))
    assert (found.hunks, found.same, found.exit_code) == ((), 5, 0)


def test_names_and_order_are_no_difference() -> None:
    other = renamed(model(TEXT, w=WEIGHT))
    text = TEXT.replace("d = Add(c, a)  y", "e = Relu(x)  d = Add(c, a)  y").replace(
        "=> (float[N,4] y)", "=> (float[N,4] y, float[N,4] e)"
    )
    found = between(model(TEXT, w=WEIGHT), other)
    assert (found.hunks, found.renamed) == ((), 5)
    one = model(text, w=WEIGHT)
    moved = onnx.ModelProto()
    moved.CopyFrom(one)
    last = next(node for node in moved.graph.node if node.output[0] == "e")
    moved.graph.node.remove(last)
    moved.graph.node.insert(0, last)
    assert [node.output[0] for node in moved.graph.node] != [node.output[0] for node in one.graph.node]
    assert between(one, moved).exit_code == 0


@pytest.mark.parametrize(
    ("old", "new", "gone", "came"),
    [
        ("Relu(a)", "Elu(a)", ["b = Relu(a)"], ["b = Elu(a)"]),
        ("Add(c, a)", "Add(c, b)", ["d = Add(c, a)"], ["d = Add(c, b)"]),
        ("b = Relu(a)", "i = Relu(a)  b = Identity(i)", ["b = Relu(a)"], ["i = Relu(a)", "b = Identity(i)"]),
        (
            "Relu(a)  c = MatMul(b",
            "Relu(a)  c = MatMul(a",
            ["b = Relu(a)", "c = MatMul(b, w)"],
            ["b = Relu(a)", "c = MatMul(a, w)"],
        ),
    ],
)
def test_what_differs_is_shown_and_nothing_else(old: str, new: str, gone: list[str], came: list[str]) -> None:
    found = between(model(TEXT, w=WEIGHT), model(TEXT.replace(old, new), w=WEIGHT))
    assert found.exit_code == 1
    lines = [(list(one.removed), list(one.added)) for one in found.hunks]
    if (old, new) == ("Relu(a)  c = MatMul(b", "Relu(a)  c = MatMul(a"):  # the Relu is still there, and read by nobody
        assert lines == [(["c = MatMul(b, w)"], ["c = MatMul(a, w)"])]
    elif "Identity" in new:  # the Relu is still there, under another name
        assert [line for one in lines for line in one[1] if "Identity" in line] == ["b = Identity(i)"]
        assert found.same >= 3
    else:
        assert lines == [(gone, came)]


def test_a_change_is_found_under_other_names() -> None:
    other = renamed(model(TEXT.replace("Relu(a)", "Elu(a)"), w=WEIGHT))
    found = between(model(TEXT, w=WEIGHT), other)
    ((hunk),) = found.hunks
    assert (hunk.removed, hunk.added) == (("b = Relu(a)",), ("other_b = Elu(other_a)",))
    assert (found.same, found.removed, found.added) == (4, 1, 1)


def test_other_values_of_a_weight_are_a_difference_of_the_weight_alone() -> None:
    (hunk,) = between(model(TEXT, w=WEIGHT), model(TEXT, w=WEIGHT * 2)).hunks
    assert [line.split("#")[0] for line in hunk.removed] == ["w = float[4,4] "]
    assert [line.split("#")[0] for line in hunk.added] == ["w = float[4,4] "]
    assert hunk.removed != hunk.added


def test_weights_of_another_dtype_differ() -> None:
    text = "g (float[4] x) => (float[4] y) { c = Cast<to = 1>(w)  y = Add(x, c) }"
    found = between(model(text, w=np.ones(4, np.int32)), model(text, w=np.ones(4, np.int64)))
    assert [one.added for one in found.hunks] == [("w = int64[4] {1, 1, 1, 1}",)]


def test_the_signature_and_versions_are_compared() -> None:
    one = model("g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }")
    other = model("g (float[M,4] x) => (float[N,4] y) { y = Relu(x) }")
    other.opset_import[0].version = 20
    (hunk,) = between(one, other).hunks
    assert hunk.removed == ("opset 21", "input float[N,4] x")
    assert hunk.added == ("opset 20", "input float[M,4] x")


def test_another_order_of_outputs_is_a_difference() -> None:
    text = "g (float[4] x) => (float[4] y, float[4] z) { y = Relu(x)  z = Abs(x) }"
    found = between(model(text), model(text.replace("(float[4] y, float[4] z)", "(float[4] z, float[4] y)")))
    assert found.exit_code == 1


def test_what_differs_inside_a_body_is_shown_with_its_place() -> None:
    text = """g (bool c, float[4] x) => (float[4] y) {
        y = If (c) <then_branch = t () => (float[4] p) { p = Relu(x) },
            else_branch = e () => (float[4] q) { q = Abs(x) }>
    }"""
    (hunk,) = between(model(text), model(text.replace("Abs", "Neg"))).hunks
    assert (hunk.scope, hunk.removed, hunk.added) == ("If(y).else_branch", ("q = Abs(x)",), ("q = Neg(x)",))
    assert between(model(text), renamed(model(text))).exit_code == 0


def test_functions_are_compared_by_name() -> None:
    text = """<ir_version: 10, opset_import: ["": 21, "local": 1]> g (float[4] x) => (float[4] y) { y = local.f(x) }
        <domain: "local", opset_import: ["": 21]> f (a) => (b) { t = Abs(a)  b = Relu(t) }"""
    (hunk,) = between(model(text), model(text.replace("Abs", "Neg"))).hunks
    assert (hunk.scope, hunk.added) == ("function local.f", ("t = Neg(a)",))
    found = between(model(text), model(text.replace("local.f(x)", "Relu(x)").partition("<domain")[0]))
    assert any(one.scope == "function local.f" and not one.added for one in found.hunks)


def test_provenance_joins_what_stands_for_what_and_names_the_rewrite() -> None:
    one = model(TEXT, w=WEIGHT)
    other = model(TEXT.replace("b = Relu(a)", "z = Elu(a)").replace("MatMul(b", "MatMul(z"), w=WEIGHT)
    remark = Remark("applied", "swap", "swap", "n", "Relu", number=3, before=("b",), after=("z",))
    (hunk,) = between(one, other, origins={"z": ("b",)}, remarks=[remark]).hunks
    assert hunk.removed == ("b = Relu(a)", "c = MatMul(b, w)") or hunk.removed == ("b = Relu(a)",)
    assert hunk.by == ("swap:3",)


def test_a_missing_input_is_not_the_same_as_a_given_one() -> None:
    text = "g (float[1,1,4] x) => (float[1,1,4] y) { y = Clip(x, , h) }"
    other = text.replace("(x, , h)", "(x, h)")
    weights = {"h": np.float32(1)}
    assert between(model(text, **weights), model(other, **weights)).exit_code == 1
    assert between(model(text, **weights), model(text, **weights)).exit_code == 0


def test_repeated_layers_are_told_apart() -> None:
    layers = "".join(f"v{i + 1} = Relu(v{i})  " for i in range(300))
    text = f"g (float[4] v0) => (float[4] y) {{ {layers} y = Abs(v300) }}"
    other = renamed(model(text.replace("v151 = Relu(v150)", "v151 = Sigmoid(v150)")))
    (hunk,) = between(model(text), other).hunks
    assert hunk.removed == ("v151 = Relu(v150)",)


@pytest.mark.corpus
@pytest.mark.skipif(_FOLDER is None, reason="GRAPHOPT_CORPUS does not name a folder of real models")
@pytest.mark.parametrize(
    "name",
    ["bert_squad_keras2onnx_opset11", "silero_vad", "resnet_4b_cifar10", "tiny_random_gpt2_fp32_past", "scan_1"],
)
def test_real_models_under_other_names(name: str) -> None:
    assert _FOLDER is not None
    path = Path(_FOLDER) / "models" / f"{name}.onnx"
    if not path.is_file():
        pytest.skip(f"the corpus that GRAPHOPT_CORPUS names has no {name}.onnx")
    proto = onnx.load(path)
    assert between(proto, renamed(proto)).exit_code == 0
    planted = renamed(proto)
    node = planted.graph.node[len(planted.graph.node) // 2]
    node.op_type = "Planted"
    found = between(proto, planted)
    assert [line for one in found.hunks for line in one.added if "Planted" in line]
    assert (found.removed, found.added) == (1, 1)
