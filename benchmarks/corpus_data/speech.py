"""Two recordings of speech: as the steps of a streaming model, and as windows."""

from __future__ import annotations

import wave

import numpy as np

from benchmarks.corpus_data.evidence import Array, Corpus, Evidence, Loader, Original, Rows, batches

# file, samples a second, samples a step, samples of context before them
_RECORDINGS = (("silero_test.wav", 16000, 512, 64), ("aepyx_8k.wav", 8000, 256, 32))


def silero(corpus: Corpus, original: Original, rows: Rows) -> Evidence:
    """Consecutive steps of two recordings, at 16 and at 8 kHz, each with the state the original had there."""
    feeds: list[dict[str, Array]] = []
    each = (rows.most or 64) // len(_RECORDINGS)
    for name, rate, step, context in _RECORDINGS:
        samples = _samples(corpus, name)
        state = np.zeros((2, 1, 128), np.float32)
        start = len(samples) // 2 if rows.part == 1 else context
        for at in range(start, min(start + each * step, len(samples) - step + 1), step):
            feed = {"input": samples[None, at - context : at + step], "state": state, "sr": np.array(rate, np.int64)}
            feeds.append(feed)
            state = np.asarray(original.once(feed)["stateN"])
    return Evidence(feeds, f"{len(feeds)} steps of two recordings, state fed")


def windows(length: int) -> Loader:
    """A loader of windows of `length` samples, [n, length, 1], at the rate of the recording."""

    def load(corpus: Corpus, original: Original, rows: Rows) -> Evidence:
        recordings = [_samples(corpus, name) for name, *_ in _RECORDINGS]
        cut = np.concatenate([each[: len(each) // length * length].reshape(-1, length, 1) for each in recordings])
        chosen = rows.of(len(cut))
        return Evidence(batches({"x": cut[chosen]}, 4), f"{len(chosen)} windows of two recordings")

    return load


def _samples(corpus: Corpus, name: str) -> Array:
    """The samples of a 16-bit mono recording as float32 in -1..1."""
    with wave.open(str(corpus.data(f"speech/{name}")), "rb") as recording:
        data = recording.readframes(recording.getnframes())
    return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)
