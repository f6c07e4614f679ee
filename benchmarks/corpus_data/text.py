"""Files for Magika, sentence pairs for the sentence embedding, lines of text for the recogniser."""

from __future__ import annotations

import numpy as np

from benchmarks.corpus_data.evidence import Corpus, Evidence, Original, Rows, batches
from benchmarks.corpus_data.metrics import paths

_LINES = 16  # lines in one feed of the recogniser


def magika(corpus: Corpus, original: Original, rows: Rows) -> Evidence:
    """The first and last bytes of files, int32 0..256, and their content types."""
    arrays = corpus.arrays("magika_600.npz")
    chosen = rows.of(len(arrays["y"]))
    feeds = {"bytes": arrays["bytes"][chosen].astype(np.int32)}
    return Evidence(feeds, f"{len(chosen)} files", arrays["y"][chosen], "top1")


def sick(corpus: Corpus, original: Original, rows: Rows) -> Evidence:
    """SICK sentence pairs: all first sentences, then all second ones.

    The labels have one row a pair: its score, then the two masks, which the metric pools over.
    """
    arrays = corpus.arrays("sick_1000_tokens.npz")
    chosen = rows.of(len(arrays["y"]))
    feeds = {
        name: np.concatenate([arrays[f"{side}_{name}"][chosen] for side in "ab"]).astype(np.int64)
        for name in ("input_ids", "attention_mask")
    }
    masks = [arrays[f"{side}_attention_mask"][chosen].astype(np.float32) for side in "ab"]
    labels = np.concatenate([arrays["y"][chosen, None], *masks], axis=1)
    return Evidence(feeds, f"{len(chosen)} pairs of sentences", labels, "benchmarks.corpus_data.metrics:similarity")


def lines(corpus: Corpus, original: Original, rows: Rows) -> Evidence:
    """Grey lines of text; the labels are what the original itself reads, as class numbers."""
    arrays = corpus.arrays("ocr_lines_200.npz")
    chosen = rows.of(len(arrays["x"]))
    grey = (arrays["x"][chosen].astype(np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
    feeds = batches({"x": np.repeat(grey[:, None], 3, axis=1)}, _LINES)
    labels = np.array(paths(original.outputs(feeds)), dtype=np.str_)
    about = f"{len(chosen)} lines of text, against the original's reading"
    return Evidence(feeds, about, labels, "benchmarks.corpus_data.metrics:lines_unchanged")
