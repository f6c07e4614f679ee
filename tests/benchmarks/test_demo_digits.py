"""The data that ship with the package, as a benchmark takes them."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

import numpy as np

from benchmarks.corpus_data.digits import digits
from benchmarks.corpus_data.evidence import Corpus
from benchmarks.suites import Model


def test_halves_of_the_digits(tmp_path: Path) -> None:
    with as_file(files("graphopt.demo").joinpath("digits_cnn.onnx")) as path:
        model = Model("digits_cnn", path, "image classifier", Corpus(tmp_path), digits, most=None)
        halves = model.halves(samples=32)
        assert len(halves.learn) == 32
        assert isinstance(halves.feeds, dict)
        seen = halves.feeds["image"]
        assert seen.shape == (896, 1, 8, 8)
        assert halves.labels is not None
        assert (len(halves.labels), halves.metric) == (896, "top1")
        for one in halves.learn:  # nothing that is learned from is measured on
            assert not np.any(np.all(seen == one["image"], axis=(1, 2, 3)))
