"""A model's own rounding noise: what is measured, what is left out, what is said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from graphopt.runtime.client import Worker
from graphopt.storage.read import read
from graphopt.testing import model
from graphopt.validation.feed_files import Feed
from graphopt.validation.noise import FLOOR, Noise, OutputNoise
from graphopt.validation.runs import OFF, ON, Runs

RNG = np.random.default_rng(3)
W = RNG.standard_normal((32, 24)).astype(np.float32)
X = RNG.standard_normal((5, 32)).astype(np.float32)


class Measured:
    def __init__(self, worker: Worker, path: Path, folder: Path, feeds: list[dict[str, Any]], weights: bool) -> None:
        self.runs = Runs(path, worker, [Feed(values, "test") for values in feeds], folder)
        self.noise = Noise(self.runs, read(path) if weights else None, seed=0)
        self.noise.measure(range(len(feeds)))


@pytest.fixture
def measure(worker: Worker, save: Any, tmp_path: Path) -> Iterator[Any]:
    def measured(proto: onnx.ModelProto, *feeds: dict[str, Any], weights: bool = True) -> Noise:
        return Measured(worker, save(proto), tmp_path / "runs", list(feeds), weights).noise

    yield measured


def linear(weight: np.ndarray = W) -> onnx.ModelProto:
    return model("g (float[N, 32] x) => (float[N, 24] y) { y = MatMul(x, w) }", w=weight)


def test_rounding_noise_of_a_matrix_product_is_a_few_ulps(measure: Any) -> None:
    noise = measure(linear(), {"x": X})
    assert 1e-8 < noise.of(0, "y").scaled < 2e-6
    assert noise.warnings == []


def test_weights_and_inputs_are_both_nudged(measure: Any) -> None:
    """With whole numbers as weights only the input moves, with a mask as input only the weights do."""
    ones = linear(np.ones_like(W))
    mask = (X > 0).astype(np.float32)
    assert measure(ones, {"x": X}).of(0, "y").scaled > 0.0
    assert measure(ones, {"x": mask}).of(0, "y").scaled == 0.0
    assert measure(linear(), {"x": mask}).of(0, "y").scaled > 0.0
    assert (
        measure(linear(), {"x": mask}).of(0, "y").scaled
        > measure(linear(), {"x": mask}, weights=False).of(0, "y").scaled
    )


def test_every_combination_of_optimizations_and_prepacking_is_a_probe(
    worker: Worker, save: Any, tmp_path: Path
) -> None:
    runs = Runs(save(linear()), worker, [Feed({"x": X}, "test")], tmp_path / "runs")
    noise, seen = Noise(runs, None, seed=0), []
    for what, probes in noise._probes({0: next(iter(runs.feeds))}):
        seen.append((what, [name for _, outputs in probes for name in outputs]))
    assert seen == [
        ("onnxruntime's optimizations", ["y"]),
        ("prepacking", ["y"]),
        ("optimizations without prepacking", ["y"]),
        ("nudged inputs", ["y", "y"]),
    ]


def test_the_floor_is_a_part_of_the_rms(measure: Any) -> None:
    noise = measure(linear(np.ones_like(W)), {"x": np.ones_like(X)})
    assert noise.of(0, "y").scaled == 0.0
    assert noise.scaled("y") == FLOOR == 2.0**-20


def test_the_noise_of_an_output_is_that_of_its_noisiest_feed(measure: Any) -> None:
    shifted = model("g (float[N, 32] x) => (float[N, 24] y) { l = MatMul(x, w)  y = Sub(l, c) }", w=W, c=X[:1] @ W)
    noise = measure(shifted, {"x": X}, {"x": X[:1]})  # on the second feed almost everything cancels
    quiet, loud = noise.of(0, "y").scaled, noise.of(1, "y").scaled
    assert quiet < loud / 10
    assert noise.scaled("y") == loud


def test_decisions_that_do_not_survive_are_listed(measure: Any) -> None:
    proto = model(
        "g (float[N] x) => (bool[N] y) { a = Mul(x, third)  y = Greater(a, zero) }",
        third=np.array(1 / 3, np.float32),
        zero=np.array(1 / 3, np.float32),
    )
    x = np.array([-1.0, 1.0, 2.0, 1.0], np.float32)
    noise = measure(proto, {"x": x}, weights=False)
    assert noise.of(0, "y").unsettled.tolist() in ([1], [3], [1, 3])
    assert noise.of(0, "y").scaled >= 0.0


def test_shapes_that_do_not_survive_are_noted(measure: Any) -> None:
    proto = model("g (float[N] x) => (int64[1, M] y) { a = Sub(x, one)  y = NonZero(a) }", one=np.array(1, np.float32))
    assert not measure(proto, {"x": np.full(50, 2, np.float32)}).of(0, "y").reshaped
    # an input of nothing but zeros and ones is a mask and stays, so one number here is neither
    noise = measure(proto, {"x": np.array([1.0] * 50 + [0.3], np.float32)})
    assert noise.of(0, "y").reshaped


def test_a_probe_that_fails_is_left_out_and_said(measure: Any) -> None:
    """Where x is not 0.3 to the bit, the index is -6, outside the table."""
    proto = model(
        """g (float[1] x) => (float[1] y) {
            a = Equal(x, k)  i = Cast <to = 7> (a)  j = Add(i, offset)  y = Gather(t, j)
        }""",
        k=np.array([0.3], np.float32),
        offset=np.array([-6]),
        t=np.arange(5, dtype=np.float32),
    )
    noise = measure(proto, {"x": np.array([0.3], np.float32)})
    assert noise.measured(0)
    assert len(noise.warnings) == 1
    assert noise.warnings[0].startswith("rounding noise was measured without nudged inputs: onnxruntime failed")


def test_probes_add_up() -> None:
    reference = np.array([3.0, 4.0], np.float32)
    noise = OutputNoise()
    assert noise.seen(reference, reference.copy()) == noise
    first = noise.seen(reference, np.array([3.0, 4.5], np.float32))
    second = first.seen(reference, np.array([3.1, 4.0], np.float32))
    assert second.peak == first.peak == 0.5
    assert second.scaled == pytest.approx(0.5 / np.sqrt(12.5))
    assert second.seen(reference, np.array([np.nan, 4.0], np.float32)).unsettled.tolist() == [0]
    assert second.seen(reference, np.zeros(3, np.float32)).reshaped
    silent = noise.seen(np.zeros(2), np.array([0.0, 1e-9]))
    assert (silent.scaled, silent.peak) == (0.0, 1e-9)


def test_large_outputs_are_kept_in_files_and_mapped(worker: Worker, save: Any, tmp_path: Path) -> None:
    proto = model("g (float[N] x) => (float[N] y, float[1] z) { y = Neg(x)  z = ReduceMax(x) }")
    x = RNG.standard_normal(1 << 19).astype(np.float32)
    runs = Runs(save(proto), worker, [Feed({"x": x}, "a"), Feed({"x": x[:8]}, "b")], tmp_path / "runs")
    first, second = runs.outputs(OFF)
    assert isinstance(first["y"], np.memmap)
    assert not isinstance(second["y"], np.memmap)
    np.testing.assert_array_equal(first["y"], -x)
    assert len(list((tmp_path / "runs").iterdir())) == 1
    assert runs.outputs(OFF) is runs.outputs(OFF)
    assert len(runs.outputs(ON)) == 2
    runs.close()
    assert list((tmp_path / "runs").iterdir()) == []
