"""The digits that ship with the package, and the network that was trained on their first half."""

from __future__ import annotations

from benchmarks.corpus_data.evidence import Corpus, Evidence, Original, Rows
from graphopt.demo import load_data


def digits(corpus: Corpus, original: Original, rows: Rows) -> Evidence:
    """Images of the calibration half (without labels) or, for any other part, of the test half."""
    kept = load_data()
    images = kept.calibration if rows.part == 0 else kept.test
    chosen = Rows(None, rows.most).of(len(images))
    about = f"{len(chosen)} digits"
    if rows.part == 0:
        return Evidence({"image": images[chosen]}, about)
    return Evidence({"image": images[chosen]}, about, kept.labels[chosen], "top1")
