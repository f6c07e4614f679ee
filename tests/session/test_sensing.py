"""`graphopt.sensitivity`: measurements are the whole model's, predictions hold, what cannot be told is said."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper, numpy_helper

import graphopt
from graphopt.errors import CouldNotTell, GraphoptError, UsageError
from graphopt.testing import model
from graphopt.tolerance.compressions import COMPRESSIONS
from graphopt.tolerance.table import Sensitivity

QUICK: dict[str, Any] = {"ladder": (0.01, 0.1), "seeds": 1}
TWO = """g (float[N, 16] x) => (float[N, 8] y) {
    a = Gemm<transB = 1>(x, v, c)  r = Relu(a)  b = MatMul(r, w)  y = Add(b, x0)  }"""


def floats(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def two() -> ModelProto:
    return model(TWO, v=floats(32, 16), c=floats(32), w=floats(32, 8), x0=floats(8))


def test_one_layer_without_more_has_a_gain_of_one_and_is_predicted_exactly() -> None:
    proto = model("g (float[N, 16] x) => (float[N, 8] y) { y = MatMul(x, w) }", w=floats(16, 8))
    x = floats(32, 16) + 3.0
    found = graphopt.sensitivity(proto, feeds={"x": x}, calibration={"x": x}, verify=1, **QUICK)
    (row,) = found.rows
    assert row.by_data
    assert row.weights.gain == pytest.approx(1.0, rel=1e-3)
    assert row.weights.slope == pytest.approx(2.0, rel=1e-3)
    assert set(row.measured) == {"int8-channel", "channels-25"}
    for name, measured in row.measured.items():
        assert row.errors[name] == pytest.approx(measured, rel=2e-2)


def test_what_is_measured_is_what_the_whole_model_does() -> None:
    """The part behind a layer, fed with what was recorded before it, errs as the model with other weights does."""
    proto, x = two(), floats(16, 16, seed=5)
    found = graphopt.sensitivity(proto, feeds={"x": x}, calibration={"x": x}, verify=2, **QUICK)
    assert [row.name for row in found.rows] == ["v", "w"]
    for row in found.rows:
        changed = ModelProto()
        changed.CopyFrom(proto)
        for tensor in changed.graph.initializer:
            if tensor.name == row.name:
                old = numpy_helper.to_array(tensor)
                made = COMPRESSIONS["int8-channel"].make(_layer(proto, row.name), old)
                assert made is not None
                tensor.CopyFrom(numpy_helper.from_array(made, row.name))
        verdict = graphopt.validate(proto, changed, feeds={"x": x}, budget="sqnr_db>=0")
        measured = -10 * math.log10(row.measured["int8-channel"])
        assert min(one.sqnr_db for one in verdict.outputs) == pytest.approx(measured, abs=0.01)
        assert row.predicted_db("int8-channel") == pytest.approx(measured, abs=3.0)
        assert row.predicted_db("int2-channel") < row.predicted_db("int4-channel") < row.predicted_db("int8-channel")  # type: ignore[operator]


def _layer(proto: ModelProto, name: str) -> Any:
    from graphopt.ir import decode
    from graphopt.storage.read import from_proto
    from graphopt.tolerance.layers import find

    source = from_proto(proto, None)
    return next(one for one in find(decode(source.proto, source.store)).layers if one.name == name)


def test_the_table_reads_back_and_is_plain_json() -> None:
    found = graphopt.sensitivity(two(), feeds={"x": floats(8, 16)}, verify=2, **QUICK)
    text = json.dumps(found.to_json(), allow_nan=False)
    again = Sensitivity.from_json(json.loads(text))
    assert [row.name for row in again.rows] == [row.name for row in found.rows]
    for old, new in zip(found.rows, again.rows, strict=True):
        assert dict(new.errors) == pytest.approx(dict(old.errors))
        assert new.weights == old.weights
        assert new.measured == old.measured
    assert again["v"].nodes == found["v"].nodes
    assert [row.name for row in again.ranked("channels-25")] == [row.name for row in found.ranked("channels-25")]
    with pytest.raises(KeyError):
        again["nothing"]


@pytest.mark.parametrize("facts", [None, [], {}, {"format": 2}, {"format": 1}, {"format": 1, "layers": [{}]}])
def test_what_is_no_table_is_refused(facts: Any) -> None:
    with pytest.raises(UsageError, match="table of sensitivities"):
        Sensitivity.from_json(facts)


def test_equal_seeds_give_equal_tables_and_the_model_is_left_alone() -> None:
    proto = two()
    before = proto.SerializeToString()
    first = graphopt.sensitivity(proto, feeds={"x": floats(8, 16)}, **QUICK)
    second = graphopt.sensitivity(proto, feeds={"x": floats(8, 16)}, **QUICK)
    assert [row.errors for row in first.rows] == [row.errors for row in second.rows]
    assert proto.SerializeToString() == before


def test_a_layer_is_the_same_whichever_others_are_measured() -> None:
    feeds = {"x": floats(8, 16)}
    both, one = (graphopt.sensitivity(two(), feeds=feeds, layers=names, **QUICK) for names in ("*", "w"))
    assert len(one.rows) == 1
    assert one["w"].errors == both["w"].errors


def test_a_weight_that_two_operators_share_is_one_layer() -> None:
    text = "g (float[N, 8] x) => (float[N, 8] y) { a = MatMul(x, w)  r = Tanh(a)  y = MatMul(r, w) }"
    x = floats(16, 8)
    found = graphopt.sensitivity(
        model(text, w=floats(8, 8) * 0.2), feeds={"x": x}, calibration={"x": x}, verify=1, **QUICK
    )
    (row,) = found.rows
    assert len(row.nodes) == 2
    assert row.by_data
    assert row.predicted_db("int8-channel") == pytest.approx(-10 * math.log10(row.measured["int8-channel"]), abs=3.0)


def test_layers_in_bodies_are_measured_with_the_data_they_see_there() -> None:
    text = """g (bool c, float[N, 8] x) => (float[N, 5] y) {
        y = If(c) <
            then_branch = t () => (float[N, 5] p) { w = Constant<value = float[8, 5] {%s}>()  p = MatMul(x, w) },
            else_branch = e () => (float[N, 5] q) { w = Constant<value = float[8, 5] {%s}>()  q = MatMul(x, w) }
        > }"""
    values = [", ".join(f"{one:.6f}" for one in floats(8, 5, seed=seed).ravel()) for seed in (1, 2)]
    x = floats(16, 8)
    feeds = [{"c": np.array(taken), "x": x} for taken in (True, True)]
    found = graphopt.sensitivity(model(text % tuple(values)), feeds=feeds, calibration=feeds, verify=2, **QUICK)
    taken, other = found.rows
    assert taken.name != other.name
    assert taken.name.endswith("/w")
    assert taken.by_data
    assert taken.weights.gain == pytest.approx(1.0, rel=1e-3)
    assert taken.errors["int8-channel"] == pytest.approx(taken.measured["int8-channel"], rel=2e-2)
    assert other.weights.gain == 0.0
    assert other.predicted_db("int8-channel") == math.inf


def test_a_weight_that_a_function_is_given_is_a_layer() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17, "f" : 1]>
    g (float[N, 8] x) => (float[N, 5] y) <float[8, 5] w = {%s}> { y = f.linear(x, w) }
    <domain: "f", opset_import: ["" : 17]> linear (p, q) => (r) { s = MatMul(p, q)  r = Relu(s) }"""
    proto = onnx.parser.parse_model(text % ", ".join(f"{one:.6f}" for one in floats(8, 5).ravel()))
    (row,) = graphopt.sensitivity(proto, feeds={"x": floats(16, 8)}, **QUICK).rows
    assert row.by_data
    assert row.weights.gain > 0.1


def test_tables_count_by_the_rows_that_are_looked_up() -> None:
    text = "g (int64[N] i) => (float[N, 8] y) { y = Gather(w, i) }"
    table = floats(50, 8)
    table[10:] *= 100.0  # rows that are never read
    i = np.arange(10, dtype=np.int64)
    (row,) = graphopt.sensitivity(model(text, w=table), feeds={"i": i}, calibration={"i": i}, verify=1, **QUICK).rows
    assert row.by_data
    assert row.errors["int8-channel"] == pytest.approx(row.measured["int8-channel"], rel=2e-2)
    assert "channels-25" not in row.errors


def test_weights_that_are_inputs_too_are_perturbed_as_they_are() -> None:
    proto = model("g (float[N, 8] x) => (float[N, 5] y) { y = MatMul(x, w) }", w=floats(8, 5))
    proto.graph.input.append(helper.make_tensor_value_info("w", 1, [8, 5]))
    (row,) = graphopt.sensitivity(proto, feeds={"x": floats(16, 8)}, **QUICK).rows
    assert row.weights.gain == pytest.approx(1.0, rel=1e-3)


def test_a_layer_that_no_output_depends_on_has_no_numbers() -> None:
    text = "g (float[N, 8] x) => (float[N, 5] y) { y = MatMul(x, w)  d = MatMul(x, v) }"
    found = graphopt.sensitivity(
        model(text, w=floats(8, 5), v=floats(8, 5, seed=1)), feeds={"x": floats(8, 8)}, **QUICK
    )
    assert found["v"].note == "no output depends on it"
    assert not found["v"].errors
    assert any("no output depends on it" in one for one in found.warnings)


def test_what_is_left_is_named_with_the_reason() -> None:
    text = "g (float[N, 8] x) => (float[N, 5] y, float[8, 5] z) { a = MatMul(x, w)  y = MatMul(a, v)  z = Relu(w) }"
    bad = floats(5, 5)
    bad[0, 0] = np.nan
    text = text.replace("y = MatMul(a, v)", "y = MatMul(a, v)  n = MatMul(a, u)")
    proto = model(text, w=floats(8, 5), v=floats(5, 5), u=bad)
    found = graphopt.sensitivity(proto, feeds={"x": floats(8, 8)}, **QUICK)
    assert dict(found.left).keys() == {"w", "u"}
    assert "NaN" in dict(found.left)["u"]


def test_no_more_samples_are_run_than_asked_for() -> None:
    few, more = (graphopt.sensitivity(two(), feeds={"x": floats(64, 16)}, samples=n, **QUICK) for n in (4, 64))
    assert few.feeds.startswith("4 samples")
    assert more.feeds.startswith("64 samples")
    assert few.runs < more.runs
    assert few["w"].errors["int4-block"] == pytest.approx(more["w"].errors["int4-block"], rel=1.0)


def test_a_small_bound_on_memory_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphopt.tolerance import rig

    feeds = {"x": floats(8, 16)}
    text = "g (float[N, 16] x) => (float[N, 4] y) { a = MatMul(x, u)  b = MatMul(a, v)  y = MatMul(b, w) }"
    chain = model(text, u=floats(16, 12), v=floats(12, 8), w=floats(8, 4))
    first = graphopt.sensitivity(chain, feeds=feeds, **QUICK)
    monkeypatch.setattr(rig.Bench, "__init__", _bounded(rig.Bench.__init__))
    second = graphopt.sensitivity(chain, feeds=feeds, **QUICK)
    assert [row.errors for row in first.rows] == [row.errors for row in second.rows]
    assert second.runs > first.runs


def _bounded(made: Any) -> Any:
    def init(self: Any, *given: Any, **named: Any) -> None:
        made(self, *given, **named)
        self.bound = 1

    return init


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"layers": "nothing*"}, "no layer is called nothing"),
        ({"ladder": ()}, "the ladder has no steps"),
        ({"ladder": (0.0,)}, "must be more than 0 and at most 10"),
        ({"ladder": (math.nan,)}, "must be more than 0 and at most 10"),
        ({"seeds": 0}, "must be from 1 to 100"),
        ({"verify": -1}, "cannot be negative"),
        ({"samples": 0}, "must be 1 or more"),
        ({"compressions": ("int9",)}, "there is no compression 'int9'; there are int8-tensor"),
        ({"feeds": "nowhere.npz"}, "there is no file"),
    ],
)
def test_mistakes_are_said_in_a_sentence(options: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        graphopt.sensitivity(two(), **options)


QUANTIZED = """g (float[N, 8] x) => (float[N, 5] y) {
    q = QuantizeLinear(w, s, z)  d = DequantizeLinear(q, s, z)  y = MatMul(x, d) }"""
GRID = {"w": floats(8, 5), "s": np.asarray(0.1, np.float32), "z": np.asarray(0, np.int8)}
HEAD = "g (float[N, 8] x) => (float[N, 5] y) "
DRAWING = HEAD + "{ r = RandomNormalLike(x)  s = Add(x, r)  y = MatMul(s, w) }"
DECIDING = "g (float[N, 8] x) => (int64[N, 1] y) { a = MatMul(x, w)  y = ArgMax<axis = 1>(a) }"
SILENT = HEAD + "{ a = MatMul(x, w)  y = Mul(a, z) }"
NOTHING = np.zeros((1,), np.float32)


@pytest.mark.parametrize(
    ("text", "weights", "why", "kind"),
    [
        ("g (float[2] x) => (float[2] y) { y = Relu(x) }", {}, "the model has no layers", UsageError),
        (QUANTIZED, GRID, "'w' is left because it is quantized already", UsageError),
        (DRAWING, {"w": floats(8, 5)}, "could not tell: RandomNormalLike", CouldNotTell),
        (DECIDING, {"w": floats(8, 5)}, "no output of the model is floating point", CouldNotTell),
        (SILENT, {"w": floats(8, 5), "z": NOTHING}, "all outputs are zero", CouldNotTell),
        (HEAD + "{ y = MatMul(x, w) }", {"w": 0 * floats(8, 5)}, "'w' is left because all of it is zero", UsageError),
    ],
)
def test_what_cannot_be_told_is_said(text: str, weights: dict[str, Any], why: str, kind: type[GraphoptError]) -> None:
    with pytest.raises(kind, match=why):
        graphopt.sensitivity(model(text, **weights), **QUICK)


def test_noise_that_makes_outputs_infinite_is_noted(tmp_path: Path) -> None:
    text = "g (float[N, 8] x) => (float[N, 5] y) { a = MatMul(x, w)  b = Mul(a, k)  y = Exp(b) }"
    path = tmp_path / "steep.onnx"
    onnx.save(model(text, w=np.ones((8, 5), np.float32), k=np.asarray([11.0], np.float32)), path)
    x = np.full((4, 8), 1.0, np.float32)
    found = graphopt.sensitivity(path, feeds={"x": x}, ladder=(0.3,), seeds=3)
    assert found.rows[0].weights.at(0.3) == math.inf
    assert "NaN or infinite" in found.rows[0].note
    assert "Infinity" not in json.dumps(found.to_json(), allow_nan=False)


def test_channels_that_an_activation_drops_anyway_are_not_missed() -> None:
    """The quarter of smallest norm is all that Relu lets through, so that a share by norms would tell nothing."""
    weight = np.full((16, 8), -50.0, np.float32)
    weight[:, :2] = np.abs(floats(16, 2))
    proto = model(
        "g (float[N, 16] x) => (float[N, 8] y) { a = MatMul(x, w)  y = Relu(a) }", w=weight * (1 + 0.01 * floats(16, 8))
    )
    x = np.abs(floats(32, 16))
    (row,) = graphopt.sensitivity(proto, feeds={"x": x}, calibration={"x": x}, verify=1, **QUICK).rows
    assert row.shares["channels-25"] == pytest.approx(1.0)
    assert row.measured["channels-25"] == pytest.approx(1.0)
