"""A model run a segment at a time gives the bits of the whole model: bodies, functions, sequences, outside weights."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from graphopt.errors import CouldNotTell
from graphopt.runtime.client import Worker
from graphopt.runtime.failure import WorkerFailure
from graphopt.storage.read import read
from graphopt.testing import model
from graphopt.testing.random_models import random_model
from graphopt.validation.compare import same_bits
from graphopt.validation.plan import FeedPlan
from graphopt.validation.running import Key, Runner, Values, Whole
from graphopt.validation.runs import OFF
from graphopt.validation.segments import shelf
from graphopt.validation.segments.runner import Segmented
from graphopt.validation.segments.shelf import Full, Shelf
from graphopt.validation.validate import Validator

FOLDER = Path(os.environ.get("GRAPHOPT_CORPUS", "")) / "models"
RNG = np.random.default_rng(0)
W = RNG.standard_normal((8, 8)).astype(np.float32)
X = RNG.standard_normal((3, 8)).astype(np.float32)


def outputs(runner: Runner, path: Path, feeds: list[dict[str, Any]]) -> list[dict[str, Any]]:
    def given() -> Iterator[tuple[Key, Values]]:
        for number, feed in enumerate(feeds):
            yield (number, 0), feed

    with runner.open(path, OFF) as running:
        found = list(running.each(given))
    assert [key for key, _ in found] == [(number, 0) for number in range(len(feeds))]
    return [dict(values) for _, values in found]


def both(path: Path, feeds: list[dict[str, Any]], worker: Worker, most: int = 0) -> int:
    """Assert that whole and in segments the same bits come out; the number of segments."""
    segmented = Segmented(worker, path.parent / "scratch", path, most=most)
    whole, parted = outputs(Whole(worker), path, feeds), outputs(segmented, path, feeds)
    for one, other in zip(whole, parted, strict=True):
        assert list(one) == list(other)
        assert all(same_bits(one[name], other[name]) for name in one)
    assert not list((path.parent / "scratch").rglob("*.bin"))
    return segmented.report().original


@pytest.mark.parametrize("seed", range(16))
def test_random_models(worker: Worker, save: Any, seed: int) -> None:
    path = save(random_model(seed, nodes=18))
    with Validator(path, worker=worker, how="whole") as validator:
        feeds = [dict(one.values) for one in validator.feeds()]
    both(path, feeds, worker)


CORPUS = {
    "basic_pitch_nmp": 50_000, "bert_squad_keras2onnx_opset11": 10_000, "brainmaze_seizure_A": 0,
    "efficientnet_lite0_op13_bn": 1_000_000, "magika_v3_3": 100_000, "mnist_cntk": 0,
    "mobilenet_v1_025_128_quant_qdq_tflite": 20_000, "paraphrase_minilm_l3_fp32": 1_000_000, "ppocrv4_rec": 400_000,
    "resnet_4b_cifar10": 0, "scan_1": 0, "silero_vad": 0, "tashkeel_bilstm_int8": 0, "tiny_random_gpt2_fp32_past": 0,
    "tract_lgbm_classifier": 0, "vit_cifar10_pgd_2_3_16": 0,
}  # fmt: skip


@pytest.mark.corpus
@pytest.mark.parametrize("name", CORPUS)
def test_real_models(worker: Worker, tmp_path: Path, name: str) -> None:
    path = FOLDER / f"{name}.onnx"
    if not path.is_file():
        pytest.skip("GRAPHOPT_CORPUS does not name a folder that has this model")
    with Validator(path, worker=worker, plan=FeedPlan(generate=2), how="whole") as validator:
        feeds = [dict(one.values) for one in validator.feeds()][:2]
    link = tmp_path / path.name
    link.symlink_to(path)
    assert both(link, feeds, worker, CORPUS[name]) > 1


def test_bodies_capture_what_earlier_segments_made(worker: Worker, save: Any) -> None:
    path = save(model(
        "g (float[N, 8] x, bool c) => (float[N, 8] y) { a = MatMul(x, w0) b = MatMul(a, w1) "
        "d = If (c) <then_branch = t () => (float[N, 8] p) { q = Add(a, b) p = MatMul(q, w0) }, "
        "else_branch = e () => (float[N, 8] r) { r = Sub(b, w2) }> y = MatMul(d, w1) }", w0=W, w1=W + 1, w2=W[0],
    ))  # fmt: skip
    assert both(path, [{"x": X, "c": np.array(flag)} for flag in (True, False)], worker) == 4


def test_functions_go_with_the_segments_that_call_them(worker: Worker, save: Any) -> None:
    path = save(model(
        '<ir_version: 10, opset_import: ["": 21, "local": 1]> '
        "g (float[N, 8] x) => (float[N, 8] y) { a = local.outer(x, w0) b = MatMul(a, w1) y = local.inner(b) } "
        '<domain: "local", opset_import: ["": 21]> inner (i) => (o) { o = Tanh(i) } '
        '<domain: "local", opset_import: ["": 21, "local": 1]> outer (i, w) => (o) { m = MatMul(i, w) '
        "o = local.inner(m) }", w0=W, w1=W,
    ))  # fmt: skip
    assert both(path, [{"x": X}], worker) == 3


def test_what_is_no_tensor_crosses_no_cut(worker: Worker, save: Any) -> None:
    path = save(model(
        "g (float[N, 8] x) => (float[N, 8] y) { a = MatMul(x, w0) b = MatMul(x, w1) s = SequenceConstruct(a, b) "
        "c = MatMul(a, w1) i = Constant<value_int = 1>() t = SequenceInsert(s, c) d = SequenceAt(t, i) "
        "e = MatMul(d, w0) y = Relu(e) }", w0=W, w1=W + 1,
    ))  # fmt: skip
    assert both(path, [{"x": X}], worker) == 5  # a | b | sequences | e | y


def test_several_shapes_are_run_together(worker: Worker, save: Any) -> None:
    path = save(model("g (float[N, M] x) => (float[M, N] y, float[1] z) { a = Exp(x) y = Transpose(a) "
                      "s = Shape(y) f = Cast<to = 1>(s) r = ReduceProd<keepdims = 1>(f) z = Mul(r, w) }",
                      w=np.ones(1, np.float32)))  # fmt: skip
    feeds = [{"x": RNG.standard_normal(shape).astype(np.float32)} for shape in ((2, 3), (0, 4), (5, 1))]
    assert both(path, feeds, worker) > 1


def test_strings_and_narrow_types_cross(worker: Worker, save: Any) -> None:
    proto = model("g (float[N, 8] x) => (float[N, 8] y) { a = Mul(x, w) b = Cast<to = 16>(a) "
                  "r = Gather<axis = 1>(b, i) h = Cast<to = 19>(r) y = Cast<to = 1>(h) }",
                  w=W[0], i=np.arange(8)[::-1].copy())  # fmt: skip
    assert both(save(proto), [{"x": X}], worker) > 2
    text = model("g (float[N] x) => (string[N] y) { a = Add(x, w) s = Cast<to = 8>(a) t = Cast<to = 1>(s) "
                 "u = Mul(t, w) y = Cast<to = 8>(u) }", w=np.ones(1, np.float32))  # fmt: skip
    assert both(save(text), [{"x": X[0]}], worker) > 2


def test_defaults_may_be_given_or_not(worker: Worker, save: Any) -> None:
    proto = model("g (float[N, 8] x, float[8] d) => (float[N, 8] y) { a = Add(x, d) m = MatMul(a, w) y = Add(m, d) }",
                  d=W[0], w=W)  # fmt: skip
    assert both(save(proto), [{"x": X}, {"x": X, "d": X[0]}], worker) == 3


def test_sparse_weights_go_along(worker: Worker, save: Any) -> None:
    proto = model("g (float[N, 8] x) => (float[N, 8] y) { a = MatMul(x, s) b = MatMul(a, w) y = MatMul(b, s) }", w=W)
    values = helper.make_tensor("s", TensorProto.FLOAT, [2], [1.0, 2.0])
    places = helper.make_tensor("s_at", TensorProto.INT64, [2], [3, 17])
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [8, 8]))
    assert both(save(proto), [{"x": X}], worker) == 3


def outside(folder: Path, location: str = "weights.bin") -> Path:
    big = [RNG.standard_normal((64, 64)).astype(np.float32) for _ in range(4)]
    proto = model("g (float[N, 64] x) => (float[N, 64] y) { a = MatMul(x, w0) b = MatMul(a, w1) c = MatMul(b, w2) "
                  "y = MatMul(c, w3) }", **{f"w{n}": one for n, one in enumerate(big)})  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / location).parent.mkdir(parents=True, exist_ok=True)
    onnx.save(proto, folder / "m.onnx", save_as_external_data=True, location=location, size_threshold=0)
    return folder / "m.onnx"


@pytest.mark.parametrize("location", ["weights.bin", "deep/er/weights.bin"])
def test_weights_outside_of_the_model_file_are_used_where_they_are(
    worker: Worker, tmp_path: Path, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = outside(tmp_path, location)
    loads: list[Any] = []
    load = Worker.load
    monkeypatch.setattr(Worker, "load", lambda self, one, *m, **n: (loads.append(one), load(self, one, *m, **n))[1])
    assert both(path, [{"x": RNG.standard_normal((2, 64)).astype(np.float32)}], worker) == 4
    assert [len(one) < 2000 for one in loads if isinstance(one, bytes)] == [True] * 4


def test_weights_behind_links_are_found(worker: Worker, tmp_path: Path) -> None:
    """As model caches have it: links into a folder of files that are named otherwise."""
    path = outside(tmp_path / "real")
    blobs, links = tmp_path / "blobs", tmp_path / "snapshot"
    blobs.mkdir()
    links.mkdir()
    path.rename(blobs / "1f")
    (tmp_path / "real" / "weights.bin").rename(blobs / "2e")
    (links / "m.onnx").symlink_to("../blobs/1f")
    (links / "weights.bin").symlink_to("../blobs/2e")
    assert both(links / "m.onnx", [{"x": RNG.standard_normal((2, 64)).astype(np.float32)}], worker) == 4


def test_a_failure_names_the_segment(worker: Worker, save: Any, tmp_path: Path) -> None:
    path = save(model("g (float[N, 8] x, int64[K] s) => (float[A, B] y) { a = MatMul(x, w) y = Reshape(a, s) }", w=W))
    runner = Segmented(worker, tmp_path / "scratch", path, most=0)
    with pytest.raises(WorkerFailure, match="running segment 2 of 2 of the original") as caught:
        outputs(runner, path, [{"x": X, "s": np.array([5, 5])}])
    assert caught.value.kind == "failed"


def test_a_shelf_has_a_ceiling_and_cleans_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "_LARGE", 64)
    kept = Shelf(tmp_path, ceiling=1000)
    small, large = np.arange(4, dtype=np.int8), np.arange(100, dtype=np.float32)
    kept.keep("a", small)
    kept.keep("b", large)
    assert same_bits(kept["a"], small) and same_bits(kept["b"], large)
    assert len(list(tmp_path.iterdir())) == 1 and kept.bytes == 404
    kept.keep("b", large + 1)
    assert kept.bytes == 404 and len(list(tmp_path.iterdir())) == 1
    kept.keep("c", large)
    with pytest.raises(Full, match="tensors between segments take more than 1e-06 GB") as caught:
        kept.keep("d", large)
    assert isinstance(caught.value, CouldNotTell)
    kept.clear()
    assert (kept.bytes, kept.peak, list(tmp_path.iterdir()), "b" in kept) == (0, 804, [], False)


def test_types_are_told_before_anything_runs(worker: Worker, save: Any, tmp_path: Path) -> None:
    path = save(model("g (float[N, 8] x, seq(int64[N]) s) => (float[N, 8] y) { y = Relu(x) }"))
    with Segmented(worker, tmp_path / "scratch", path).open(path, OFF) as running:
        assert running.inputs == {"x": "tensor(float)", "s": ""}
        assert running.outputs == {"y": "tensor(float)"}
    assert read(path).proto.graph.name == "g"
