"""ImageNet photographs, CIFAR-10 and MNIST, preprocessed as each model was trained."""

from __future__ import annotations

import io

import numpy as np

from benchmarks.corpus_data.evidence import Array, Corpus, Evidence, Loader, Missing, Original, Rows
from graphopt.validation.metrics import accuracy

_MEAN = np.array([0.4914, 0.4822, 0.4465], np.float32)
_SPREADS = (np.array([0.2023, 0.1994, 0.2010], np.float32), np.array([0.225, 0.225, 0.225], np.float32))
_TRIED = 200  # samples of the first half that choose a normalization


def imagenet(name: str, centre: float, scale: float, *, first_class: int = 0) -> Loader:
    """A loader of JPEG photographs as (x - centre) / scale, NCHW float32.

    `first_class` is added to the labels, for models with a background class.
    """

    def load(corpus: Corpus, original: Original, rows: Rows) -> Evidence:
        arrays = corpus.arrays(name)
        chosen = rows.of(len(arrays["y"]))
        pixels = np.stack([_decode(arrays, index) for index in chosen])
        x = _channels_first((pixels.astype(np.float32) - np.float32(centre)) / np.float32(scale))
        return Evidence({"x": x}, f"{len(chosen)} photographs", arrays["y"][chosen] + first_class, "top1")

    return load


def cifar10(corpus: Corpus, original: Original, rows: Rows) -> Evidence:
    """CIFAR-10, with whichever of the two usual normalizations the model reads better."""
    arrays = corpus.arrays("cifar10_2000_u8.npz")

    def evidence(chosen: Array, spread: Array) -> Evidence:
        x = (arrays["x"][chosen].astype(np.float32) / np.float32(255) - _MEAN) / spread
        return Evidence({"x": _channels_first(x)}, f"{len(chosen)} images of CIFAR-10", arrays["y"][chosen], "top1")

    tried = Rows(0, _TRIED).of(len(arrays["y"]))
    best = max(_SPREADS, key=lambda spread: _top1(original, evidence(tried, spread)))
    return evidence(rows.of(len(arrays["y"])), best)


def mnist(corpus: Corpus, original: Original, rows: Rows) -> Evidence:
    """MNIST as raw bytes or as fractions, whichever the model reads better."""
    arrays = corpus.arrays("mnist_2000_u8.npz")

    def evidence(chosen: Array, scale: float) -> Evidence:
        x = arrays["x"][chosen, None].astype(np.float32) / np.float32(scale)
        return Evidence({"x": x}, f"{len(chosen)} digits of MNIST", arrays["y"][chosen], "top1")

    tried = Rows(0, _TRIED).of(len(arrays["y"]))
    best = max((1.0, 255.0), key=lambda scale: _top1(original, evidence(tried, scale)))
    return evidence(rows.of(len(arrays["y"])), best)


def _top1(original: Original, evidence: Evidence) -> float:
    assert evidence.labels is not None
    return accuracy(original.outputs(evidence.feeds), evidence.labels)


def _decode(arrays: dict[str, Array], index: int) -> Array:
    try:
        from PIL import Image
    except ImportError:
        raise Missing("the photographs need Pillow, which pip install 'graphopt[bench]' brings") from None
    first, last = arrays["offsets"][index : index + 2]
    with Image.open(io.BytesIO(arrays["jpeg"][first:last].tobytes())) as image:
        return np.asarray(image.convert("RGB"))


def _channels_first(pixels: Array) -> Array:
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
