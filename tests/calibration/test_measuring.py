"""ctx.measure: what a trial says of a change is what the changed model does."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from graphopt import Graph, Node
from graphopt.analysis.changes import Affine, Change, Measured, in_decibels
from graphopt.calibration.measuring import Baseline, Measurer
from graphopt.calibration.source import CalibrationData
from graphopt.ir import Tensor, decode, encode
from graphopt.pipeline.services import NoServices
from graphopt.session.services import WorkerServices
from graphopt.storage.read import from_proto
from graphopt.storage.wire import join
from graphopt.testing import model
from graphopt.testing.running import outputs_of, shared_worker

TEXT = """g (float[N, 4] x) => (float[N, 4] y, float[N, 3] z) {
    a = MatMul(x, w)  b = Relu(a)  c = MatMul(b, v)  d = Add(b, c)  e = Tanh(d)  y = Add(d, e)  z = MatMul(b, u) }"""


def draw(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def residual() -> onnx.ModelProto:
    return model(TEXT, w=draw(4, 4), v=draw(4, 4, seed=1), u=draw(4, 3, seed=2))


FEEDS = [{"x": draw(6, 4, seed=3)}, {"x": draw(2, 4, seed=4)}]


class Measuring:
    """A model, its graph and feeds."""

    def __init__(self, proto: onnx.ModelProto, feeds: Any = FEEDS, bound: int = 1 << 28) -> None:
        self.proto, self.feeds, self.bound = proto, feeds, bound
        self.source = from_proto(proto)
        self.graph: Graph = decode(self.source.proto, self.source.store)
        self.baseline = Baseline()

    def value(self, name: str) -> Tensor:
        for graph in self.graph.scopes():
            one: Tensor
            for one in (*graph.inputs, *graph.initializers, *(out for node in graph.nodes for out in node.outputs)):
                if one.name == name:
                    return one
        raise LookupError(name)

    def changes(self, *changes: Change, samples: int = 0) -> Measured:
        data = CalibrationData(lambda: self.feeds, self.source)
        measurer = Measurer(self.graph, shared_worker(), data, self.baseline, bound=self.bound)
        return measurer.changes(changes, samples)

    def swap(self, *pairs: tuple[str, Any]) -> Change:
        return Change(tuple((self.value(old), self.value(new) if isinstance(new, str) else new) for old, new in pairs))


def written(graph: Graph) -> bytes:
    made = encode(graph)
    return b"".join(join(made.proto, made.store))


def errors(before: onnx.ModelProto, after: onnx.ModelProto, feeds: Any = FEEDS) -> dict[str, float]:
    """The energy of the difference as a share of that of the outputs, computed apart from the engine."""
    pairs = list(zip(*(outputs_of(one.SerializeToString(), feeds) for one in (before, after)), strict=True))
    found = {}
    for name in pairs[0][0]:
        one, other = (np.concatenate([np.ravel(each[at][name]) for each in pairs]).astype(np.float64) for at in (0, 1))
        found[name] = float(np.square(one - other).sum() / np.square(one).sum())
    return found


def edited(text: str, **weights: Any) -> onnx.ModelProto:
    return model(text, **{"w": draw(4, 4), "v": draw(4, 4, seed=1), "u": draw(4, 3, seed=2), **weights})


HEAD = "g (float[N, 4] x) => (float[N, 4] y, float[N, 3] z) { a = MatMul(x, w)  b = Relu(a)  "
CASES: list[tuple[Any, str, dict[str, Any]]] = [
    (("d", "b"), "e = Tanh(b)  y = Add(b, e)  z = MatMul(b, u) }", {}),
    (("b", "a"), "c = MatMul(a, v)  d = Add(a, c)  e = Tanh(d)  y = Add(d, e)  z = MatMul(a, u) }", {}),
    (
        ("c", np.asarray([1, 2, 3, 4])),
        "d = Add(b, k)  e = Tanh(d)  y = Add(d, e)  z = MatMul(b, u) }",
        {"k": np.asarray([1, 2, 3, 4], np.float32)},
    ),
    (
        ("v", draw(4, 4, seed=7)),
        "c = MatMul(b, v)  d = Add(b, c)  e = Tanh(d)  y = Add(d, e)  z = MatMul(b, u) }",
        {"v": draw(4, 4, seed=7)},
    ),
]


@pytest.mark.parametrize("bound", [1 << 28, 0])
@pytest.mark.parametrize(("pair", "text", "weights"), CASES)
def test_a_trial_says_what_the_edited_model_does(pair: Any, text: str, weights: dict[str, Any], bound: int) -> None:
    asked = Measuring(residual(), bound=bound)
    change = asked.swap(pair)
    found = asked.changes(change)
    assert not found.refused
    real = errors(asked.proto, edited(HEAD + text, **weights))
    for name, effect in found.original[change].outputs.items():
        assert effect.error == pytest.approx(real[name], rel=1e-4)
    assert found.original[change].outputs == found.present[change].outputs
    assert found.now.error == 0 and found.samples == 8
    assert found.original[change].error == max(one.error for one in found.original[change].outputs.values())


@pytest.mark.parametrize("bound", [0, 100, 300, 500, 1 << 28])
def test_however_little_may_be_recorded_the_answers_are_the_same(bound: int) -> None:
    pairs: list[Any] = [("d", "b"), ("e", "d"), ("c", "b"), ("b", "a"), ("a", "x"), ("y", "e")]
    free, bounded = Measuring(residual()), Measuring(residual(), bound=bound)
    expected = free.changes(*(one for one in map(free.swap, pairs)))
    found = bounded.changes(*(one for one in map(bounded.swap, pairs)))
    assert not expected.refused and list(found.original.values()) == list(expected.original.values())


def test_a_model_that_is_too_large_for_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Measuring(residual())
    change = asked.swap(("d", "b"))
    plain = asked.changes(change).original[change]
    monkeypatch.setattr("graphopt.calibration.tapped.MESSAGE", 0)
    asked.baseline.outputs.clear()
    weights = asked.swap(("v", draw(4, 4, seed=7)))
    found = asked.changes(change, weights)
    assert found.original[change] == plain and found.original[weights].error > 0


def test_values_that_are_no_tensors_in_front_of_a_change() -> None:
    proto = model(
        """g (float[4] x) => (float[4] y) <int64 i = {1}, int64 k = {0}> {
            e = Exp(x)  s = SequenceConstruct(x, e)  j = Sub(i, k)  a = SequenceAt(s, j)  y = Neg(a) }"""
    )
    asked = Measuring(proto, [{"x": draw(4)}])
    change = asked.swap(("j", np.asarray(0)))
    x = draw(4).astype(np.float64)
    share = np.square(np.exp(x) - x).sum() / np.square(np.exp(x)).sum()
    assert asked.changes(change).original[change].error == pytest.approx(float(share), rel=1e-4)


def test_rows_whose_largest_entry_changes_are_counted() -> None:
    asked = Measuring(residual())
    change = asked.swap(("d", "b"))
    after = edited(HEAD + "e = Tanh(b)  y = Add(b, e)  z = MatMul(b, u) }")
    rows = [
        np.concatenate([one["y"] for one in outputs_of(each.SerializeToString(), FEEDS)]).argmax(-1)
        for each in (asked.proto, after)
    ]
    flips = asked.changes(change).original[change].outputs["y"].flips
    assert flips == float(np.mean(rows[0] != rows[1])) > 0
    assert "of the rows" in asked.changes(change).original[change].text


def test_channels_are_scaled_masked_and_mixed() -> None:
    asked = Measuring(residual())
    d, b = asked.value("d"), asked.value("b")
    mask = np.asarray([1, 0, 1, 1])
    changes = {
        "m = Mul(d, k)": (Change(((d, Affine(d, factors=mask)),)), mask),
        "m = MatMul(b, k)": (Change(((d, Affine(b, kernel=draw(4, 4, seed=5))),)), draw(4, 4, seed=5)),
        "m = Add(b, k)": (Change(((d, Affine(b, offset=draw(4, seed=5))),)), draw(4, seed=5)),
    }
    found = asked.changes(*(one for one, _ in changes.values()))
    for text, (change, array) in changes.items():
        after = edited(
            f"{HEAD} c = MatMul(b, v)  d = Add(b, c)  {text}  e = Tanh(m)  y = Add(m, e)  z = MatMul(b, u) }}",
            k=array.astype(np.float32),
        )
        assert found.original[change].outputs["y"].error == pytest.approx(errors(asked.proto, after)["y"], rel=1e-4)


def test_several_values_at_once_and_one_behind_another() -> None:
    asked = Measuring(residual())
    change = asked.swap(("e", "d"), ("d", "b"))
    after = edited(HEAD + "y = Add(b, b)  z = MatMul(b, u) }")
    assert asked.changes(change).original[change].error == pytest.approx(errors(asked.proto, after)["y"], rel=1e-4)


def test_against_the_original_and_against_the_graph_as_it_is() -> None:
    asked = Measuring(residual())
    weight: Any = asked.value("v")
    asked.graph.set_values(weight, weight.values * np.float32(0.5))
    change = asked.swap(("d", "b"))
    found = asked.changes(change)
    halved = edited(TEXT[TEXT.index("g (") :], v=draw(4, 4, seed=1) / 2)
    bypassed = edited(HEAD + "e = Tanh(b)  y = Add(b, e)  z = MatMul(b, u) }")
    assert found.now.error == pytest.approx(errors(asked.proto, halved)["y"], rel=1e-4)
    assert found.original[change].error == pytest.approx(errors(asked.proto, bypassed)["y"], rel=1e-4)
    assert found.present[change].error == pytest.approx(errors(halved, bypassed)["y"], rel=1e-4)


def test_the_graph_is_left_alone() -> None:
    asked = Measuring(residual())
    before = written(asked.graph)
    asked.changes(asked.swap(("d", "b")), asked.swap(("v", draw(4, 4))))
    assert written(asked.graph) == before


def test_the_first_samples_only_and_outputs_of_the_original_once() -> None:
    asked = Measuring(residual())
    change = asked.swap(("d", "b"))
    first = asked.changes(change, samples=4)
    assert first.samples == 4
    after = edited(HEAD + "e = Tanh(b)  y = Add(b, e)  z = MatMul(b, u) }")
    real = errors(asked.proto, after, [{"x": FEEDS[0]["x"][:4]}])
    assert first.original[change].error == pytest.approx(real["y"], rel=1e-4)
    kept = asked.baseline.outputs[4]
    assert asked.changes(change, samples=4).original[change] == first.original[change]
    assert asked.baseline.outputs[4] is kept


def test_outputs_of_integers_count_elements_and_a_change_of_shape_is_infinite() -> None:
    proto = model(
        "g (float[2, 3] x) => (int64[2] y, float[2, 3] z) { a = Neg(x)  y = ArgMax<axis = 1, keepdims = 0>(a)"
        " t = Transpose(x)  z = Relu(x) }"
    )
    feeds = [{"x": np.asarray([[1, 2, 3], [5, 5, 5]], np.float32)}]
    asked = Measuring(proto, feeds)
    plain, turned = asked.swap(("a", np.asarray([[1, 2, 3], [3, 2, 1]]))), asked.swap(("z", "t"))
    found = asked.changes(plain, turned)
    assert found.original[plain].outputs["y"].error == 0.5
    assert found.original[plain].outputs["z"].error == 0
    # a graph output of another shape than declared is refused by the runtime, or given as it is
    assert turned in found.refused or found.original[turned].error == np.inf


def test_values_in_bodies_and_functions() -> None:
    proto = model(
        """g (float[4] x, bool p) => (float[4] y) {
            a = Abs(x)
            b = If (p) <then_branch = t () => (float[4] r) { s = Neg(a)  r = Exp(s) },
                        else_branch = e () => (float[4] r2) { r2 = Identity(a) }>
            y = Mul(b, b) }"""
    )
    feeds = [{"x": draw(4), "p": np.asarray(True)}, {"x": draw(4, seed=1), "p": np.asarray(False)}]
    asked = Measuring(proto, feeds)
    change = asked.swap(("s", "a"))
    found = asked.changes(change)
    outputs = [np.exp(np.abs(draw(4))) ** 2, np.abs(draw(4, seed=1)) ** 2]
    expected = [np.exp(-np.abs(draw(4))) ** 2, outputs[1]]
    error = sum(np.square(a - b).sum() for a, b in zip(outputs, expected, strict=True))
    share = error / sum(np.square(b).sum() for b in expected)
    assert found.original[change].error == pytest.approx(float(share), rel=1e-4)
    outside = asked.swap(("y", "s"))
    assert "cannot be seen" in asked.changes(outside).refused[outside]


def test_values_of_functions() -> None:
    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        g (float[4] x) => (float[4] y) { a = local.twice(x)  y = local.twice(a) }
        <domain: "local", opset_import: ["" : 17]> twice (i) => (o) { h = Exp(i)  o = Tanh(h) }"""
    )
    asked = Measuring(proto, [{"x": draw(4)}])
    change = asked.swap(("h", Affine(asked.value("h"), factors=np.asarray(0.5))))
    found = asked.changes(change)
    x = draw(4).astype(np.float64)
    before = np.tanh(np.exp(np.tanh(np.exp(x))))
    after = np.tanh(0.5 * np.exp(np.tanh(0.5 * np.exp(x))))
    share = np.square(before - after).sum() / np.square(before).sum()
    assert found.original[change].error == pytest.approx(float(share), rel=1e-3)


def test_a_later_value_of_a_function_can_stand_for_an_earlier_one() -> None:
    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        g (float[4] x) => (float[4] y) { y = local.both(x) }
        <domain: "local", opset_import: ["" : 17]> both (i) => (o) { h = Exp(i)  k = Neg(i)  o = Mul(h, k) }"""
    )
    asked = Measuring(proto, [{"x": draw(4)}])
    change = asked.swap(("h", "k"))
    x = draw(4).astype(np.float64)
    share = np.square(x * x + np.exp(x) * x).sum() / np.square(np.exp(x) * x).sum()
    assert asked.changes(change).original[change].error == pytest.approx(float(share), rel=1e-4)


def test_what_cannot_be_tried_is_refused_with_the_reason() -> None:
    asked = Measuring(residual())
    given, cycle = asked.swap(("x", "b")), asked.swap(("b", "d"))
    found = asked.changes(given, cycle)
    assert "is an input" in found.refused[given]
    assert "does not run" in found.refused[cycle]


def test_old_opsets_say_which_one_is_needed() -> None:
    text = "g (float[N, 4] x) => (float[N, 4] y) { a = Abs(x)  y = Neg(a) }"
    proto = model('<ir_version: 4, opset_import: ["": 7]> ' + text)
    asked = Measuring(proto, [{"x": draw(2, 4)}])
    change = asked.swap(("a", np.zeros(4)))
    assert "opset{to=13}" in asked.changes(change).refused[change]


def test_overridable_initializers_are_inputs() -> None:
    proto = residual()
    proto.ir_version = 3
    proto.graph.input.extend(
        onnx.helper.make_tensor_value_info(one.name, onnx.TensorProto.FLOAT, one.dims)
        for one in proto.graph.initializer
    )
    asked = Measuring(proto)
    change, bypass = asked.swap(("v", draw(4, 4))), asked.swap(("d", "b"))
    found = asked.changes(change, bypass)
    assert "is an input" in found.refused[change]
    assert found.original[bypass].error > 0


@pytest.mark.parametrize("feeds", [[], None])
def test_without_feeds_everything_is_refused(feeds: Any) -> None:
    asked = Measuring(residual(), feeds)
    change = asked.swap(("d", "b"))
    if feeds is None:
        for services in (NoServices(), WorkerServices(shared_worker())):
            measure = services.measure(asked.graph)
            assert measure.why_not and measure.changes([change]).refused == {change: measure.why_not}
        return
    assert asked.changes(change).refused == {change: "there are no feeds to calibrate on"}


def test_infinities_and_zeros() -> None:
    proto = model("g (float[2] x) => (float[2] y, float[2] z) { a = Abs(x)  y = Log(a)  z = Sub(a, a) }")
    asked = Measuring(proto, [{"x": np.asarray([1, 2], np.float32)}])
    zero, same = asked.swap(("a", np.zeros(2))), asked.swap(("a", Affine(asked.value("a"), factors=np.ones(1))))
    found = asked.changes(zero, same)
    assert found.original[zero].outputs["y"].error == np.inf  # a logarithm of zero
    assert found.original[zero].outputs["z"].error == 0
    assert found.original[same].error == 0
    assert in_decibels(np.inf) == "no finite error" and in_decibels(0.0) == "no error"
    assert in_decibels(0.01) == "an error 20.0 dB below the outputs"


def test_node_attribute_weights_are_replaced() -> None:
    asked = Measuring(residual())
    stored: Any = asked.value("v")
    held = Node("Constant", "held", {"value": stored.copy()}, [], [asked.graph.variable("vv")])
    asked.graph.insert(held, before=asked.graph.nodes[0])
    asked.graph.replace_uses(stored, held.outputs[0])
    asked.graph.remove_initializer(stored)
    change = asked.swap(("vv", draw(4, 4, seed=7)))
    after = edited(TEXT[TEXT.index("g (") :], v=draw(4, 4, seed=7))
    assert asked.changes(change).original[change].error == pytest.approx(errors(asked.proto, after)["y"], rel=1e-4)


def test_the_helper_of_this_module_agrees_with_numpy() -> None:
    weights = {one.name: numpy_helper.to_array(one) for one in residual().graph.initializer}
    x = FEEDS[0]["x"]
    b = np.maximum(x @ weights["w"], 0)
    made = outputs_of(residual().SerializeToString(), FEEDS)[0]
    assert np.allclose(made["z"], b @ weights["u"], atol=1e-5)
