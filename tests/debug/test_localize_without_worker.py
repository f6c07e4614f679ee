"""The search itself, on an engine that is not onnxruntime: ONNX's reference evaluator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from graphopt.debug.localize import Located, localize
from graphopt.debug.profile import profile
from graphopt.debug.taps import Model, groups
from graphopt.runtime.options import Options, Port
from graphopt.storage.read import from_proto
from graphopt.testing import model

_TYPES = {np.dtype("float32"): "tensor(float)", np.dtype("int64"): "tensor(int64)", np.dtype("bool"): "tensor(bool)"}
_FEEDS = [{"x": np.random.default_rng(seed).standard_normal((3, 8)).astype(np.float32)} for seed in (1, 2)]
_RNG = np.random.default_rng(3)
_WEIGHTS = {"w": _RNG.standard_normal((8, 8)).astype(np.float32), "v": _RNG.standard_normal((8, 8)).astype(np.float32)}
_TEXT = "g (float[N,8] x) => (float[N,8] y) { a = MatMul(x, w)  b = Tanh(a)  c = MatMul(b, v)  y = Tanh(c) }"


class _Loaded:
    def __init__(self, path: Path) -> None:
        proto = onnx.load(path)
        self._run = ReferenceEvaluator(proto)
        weights = {one.name for one in proto.graph.initializer}
        self.inputs = tuple(Port(one.name, "") for one in proto.graph.input if one.name not in weights)
        self.overridable: tuple[Port, ...] = ()
        names = [one.name for one in proto.graph.output]
        kinds = ["tensor(int64)" if "Shape" in _maker(proto, name) else "tensor(float)" for name in names]
        self.outputs = tuple(Port(name, kind) for name, kind in zip(names, kinds, strict=True))

    def run(self, feeds: Any) -> dict[str, Any]:
        names = [port.name for port in self.outputs]
        return dict(zip(names, self._run.run(names, dict(feeds)), strict=True))

    def close(self) -> None:
        pass


class _Engine:
    def load(self, model: Path, options: Options, *, label: str = "") -> _Loaded:
        return _Loaded(model)


def _maker(proto: onnx.ModelProto, name: str) -> str:
    return next((node.op_type for node in proto.graph.node if name in node.output), "")


def _models(before: str, after: str, folder: Path, **changed: np.ndarray) -> tuple[Model, Model]:
    protos = model(before, **_WEIGHTS), model(after, **{**_WEIGHTS, **changed})
    old, new = (Model(from_proto(one), _Engine(), folder, "the model") for one in protos)
    return old, new


def _located(before: str, after: str, folder: Path, **changed: np.ndarray) -> Located:
    return localize(*_models(before, after, folder, **changed), _FEEDS)


def test_nothing_diverges_from_itself(tmp_path: Path) -> None:
    found = _located(_TEXT, _TEXT, tmp_path)
    assert found.first is None
    assert found.diverging == 0
    assert not list(tmp_path.iterdir())


def test_a_changed_weight_is_born_and_what_follows_is_inherited(tmp_path: Path) -> None:
    found = _located(_TEXT, _TEXT, tmp_path, w=_WEIGHTS["w"] * np.float32(1.01))
    assert found.first is not None
    assert found.first.value == "a"
    reading = found.first.reading
    assert reading.born is not None and reading.inherited is not None
    assert reading.born.sqnr_db == pytest.approx(40.0, abs=0.1)
    assert reading.inherited.differing == 0
    assert found.diverging == 4
    assert found.others == []


def test_a_second_fault_is_told_from_what_is_inherited(tmp_path: Path) -> None:
    changed = {name: array * np.float32(1.01) for name, array in _WEIGHTS.items()}
    found = _located(_TEXT, _TEXT, tmp_path, **changed)
    assert found.first is not None
    assert found.first.value == "a"
    assert [one.match.reference for one in found.others] == ["c"]


def test_a_lost_value_is_named_with_what_is_read_instead(tmp_path: Path) -> None:
    after = "g (float[N,8] x) => (float[N,8] y) { a = MatMul(x, w)  c = MatMul(a, v)  y = Tanh(c) }"
    found = _located(_TEXT, after, tmp_path)
    assert found.first is not None
    assert (found.first.value, found.first.candidate, found.first.instead) == ("b", None, "a")


def test_a_name_that_a_rewrite_kept_for_something_else_is_no_divergence(tmp_path: Path) -> None:
    doubled = {"w": _WEIGHTS["w"] * np.float32(2)}
    before = "g (float[N,8] x) => (float[N,8] y) { a = MatMul(x, w)  s = Add(a, a)  y = Tanh(s) }"
    after = "g (float[N,8] x) => (float[N,8] y) { a = MatMul(x, w)  y = Tanh(a) }"
    assert _located(before, after, tmp_path, **doubled).first is None


def test_a_limit_of_the_users_own(tmp_path: Path) -> None:
    models = _models(_TEXT, _TEXT, tmp_path, w=_WEIGHTS["w"] * np.float32(1.001))
    assert localize(*models, _FEEDS).first is not None
    assert localize(*models, _FEEDS, limit_db=40.0).first is None


def test_the_split_and_the_layers_whose_return_recovers_most(tmp_path: Path) -> None:
    pruned = np.where(np.abs(_WEIGHTS["v"]) < 0.5, 0, _WEIGHTS["v"]).astype(np.float32)
    models = _models(_TEXT, _TEXT, tmp_path, w=_WEIGHTS["w"] * np.float32(1.001), v=pruned)
    found = profile(*models, _FEEDS, top=2)
    by_name = {one.match.reference: one for one in found.readings}
    assert by_name["a"].weights == "weights"
    assert by_name["c"].weights == "pruning"
    assert by_name["b"].weights == ""
    for name in ("a", "c"):
        assert by_name[name].from_weights is not None and by_name[name].beside_weights is not None
        assert by_name[name].beside_weights.differing == 0
    assert found.recoveries[0].values == ("c",)
    assert found.recoveries[0].output_db > found.output_db + 10
    assert found.together is None or found.together.output_db > found.recoveries[0].output_db


def test_groups_keep_to_their_bytes_and_to_the_order() -> None:
    sizes = {"a": 5, "b": 5, "c": 20, "d": 1}
    assert list(groups(sizes, sizes, 10)) == [["a", "b"], ["c"], ["d"]]


def test_small_groups_find_the_same(tmp_path: Path) -> None:
    models = _models(_TEXT, _TEXT, tmp_path, v=_WEIGHTS["v"] * np.float32(-1))
    found = localize(*models, _FEEDS, group_bytes=1)
    assert found.first is not None
    assert found.first.value == "c"
