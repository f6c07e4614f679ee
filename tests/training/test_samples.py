"""Samples on disk, and how they are joined."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from graphopt.training.shelf import Samples, Writer, batches


def shelf(folder: Path, lengths: list[int], together: bool = True) -> Samples:
    draw = np.random.default_rng(0)
    writer = Writer(folder)
    for length in lengths:
        ids = draw.integers(0, 9, (1, length))
        writer.add({"ids": ids, "rate": np.array(2.0)}, {"y": draw.normal(size=(1, length, 3)).astype(np.float32)})
    writer.close(together)
    return Samples(folder)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "bool", "uint8", "bfloat16"])
def test_arrays_come_back_as_they_went(tmp_path: Path, dtype: str) -> None:
    kind = np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype)
    array = (np.arange(24).reshape(2, 3, 4) % 7).astype(kind)
    writer = Writer(tmp_path)
    writer.add({"x": array}, {"empty": array[:0], "scalar": np.array(1, kind)})
    writer.add({"x": array[:, ::2]}, {})
    writer.close(False)
    samples = Samples(tmp_path)
    assert len(samples) == 2
    assert samples[0].inputs["x"].dtype == kind
    np.testing.assert_array_equal(samples[0].inputs["x"], array)
    assert samples[0].targets["empty"].shape == (0, 3, 4)
    assert samples[0].targets["scalar"].shape == ()
    np.testing.assert_array_equal(samples[1].inputs["x"], array[:, ::2])


def test_samples_of_one_shape_are_joined(tmp_path: Path) -> None:
    samples = shelf(tmp_path, [5, 4, 5, 5, 4])
    made = batches(samples, [0, 1, 2, 3, 4], samples.together, most=2)
    assert [one.inputs["ids"].shape for one in made] == [(2, 5), (1, 5), (2, 4)]
    assert [one.targets["y"].shape for one in made] == [(2, 5, 3), (1, 5, 3), (2, 4, 3)]
    assert made[0].inputs["rate"].shape == ()
    np.testing.assert_array_equal(made[2].inputs["ids"][1], samples[4].inputs["ids"][0])


def test_samples_that_do_not_go_together_stay_apart(tmp_path: Path) -> None:
    samples = shelf(tmp_path, [5, 5, 5], together=False)
    made = batches(samples, [0, 1, 1], samples.together, most=16)
    assert [one.inputs["ids"].shape for one in made] == [(1, 5)] * 3  # also one that comes twice


def test_scalars_that_differ_keep_samples_apart(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    for rate in (8000, 16000, 8000):
        writer.add({"x": np.zeros((1, 2), np.float32), "rate": np.array(rate)}, {})
    writer.close(True)
    made = batches(Samples(tmp_path), [0, 1, 2], True, most=16)
    assert [(one.inputs["x"].shape[0], int(one.inputs["rate"])) for one in made] == [(2, 8000), (1, 16000)]
