"""Forms of storage on real models: small files, hardly another function, nothing left to compute at each run."""

from __future__ import annotations

import os
import wave
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import graphopt

_FOLDER = os.environ.get("GRAPHOPT_CORPUS")
pytestmark = [
    pytest.mark.corpus,
    pytest.mark.skipif(_FOLDER is None, reason="GRAPHOPT_CORPUS does not name a folder of real models"),
]

Array = np.ndarray[Any, Any]


def corpus(*parts: str) -> Path:
    path = Path(str(_FOLDER), *parts)
    if not path.is_file():
        pytest.skip(f"the corpus that GRAPHOPT_CORPUS names has no {path.name}")
    return path


def stored(name: str, pipeline: str, folder: Path) -> Path:
    """The model after the default recipe and a pipeline."""
    first, second = folder / "default.onnx", folder / "stored.onnx"
    graphopt.optimize(corpus("models", f"{name}.onnx"), output=first, validate="none")
    graphopt.optimize(first, pipeline=pipeline, output=second, validate="none")
    return second


def session(path: Path, optimized: Path | None = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def streamed(one: onnxruntime.InferenceSession, steps: int) -> Array:
    """What a voice detector says of the second half of a recording, fed with its own state."""
    with wave.open(str(corpus("data", "speech", "silero_test.wav")), "rb") as recording:
        data = recording.readframes(recording.getnframes())
    samples = np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)
    state, said = np.zeros((2, 1, 128), np.float32), []
    for at in range(len(samples) // 2, len(samples) // 2 + steps * 512, 512):
        feed = {"input": samples[None, at - 64 : at + 512], "state": state, "sr": np.array(16000, np.int64)}
        output, state = one.run(None, feed)
        said.append(output)
    return np.concatenate(said).astype(np.float64)


@pytest.mark.parametrize(
    ("pipeline", "most"),
    [
        ("weight-codebook{bits=8}", 0.28),
        ("weight-int8,dequantize-as-cast{for=all}", 0.28),
        ('weight-codebook{bits=8 skip=["*stft*"]},weight-int16', 0.31),
    ],
)
def test_a_recurrent_model_with_weights_in_bodies_is_small_and_hears_the_same(
    pipeline: str, most: float, tmp_path: Path
) -> None:
    original = corpus("models", "silero_vad.onnx")
    small = stored("silero_vad", pipeline, tmp_path)
    assert small.stat().st_size < most * original.stat().st_size
    expected, found = (streamed(session(one), 60) for one in (original, small))
    assert 10 * np.log10(np.square(expected).sum() / np.square(expected - found).sum()) > 30


def test_what_is_stored_small_is_computed_at_load(tmp_path: Path) -> None:
    small = stored("silero_vad", "weight-int8{form=cast}", tmp_path)
    session(small, tmp_path / "loaded.onnx")
    graphs, ops = [onnx.load(tmp_path / "loaded.onnx").graph], Counter[str]()
    while graphs:
        for node in graphs.pop().node:
            ops[node.op_type] += 1
            graphs += [one.g for one in node.attribute if one.HasField("g")]
    assert ops["LSTM"] == 2
    assert not {"DequantizeLinear", "MatMulNBits", "Cast"} & set(ops)


def read(scores: Array) -> list[list[int]]:
    """The classes that each line is read as: repeats joined, blanks left out."""
    best = scores.argmax(-1)
    changes = np.concatenate([np.ones((len(best), 1), bool), best[:, 1:] != best[:, :-1]], axis=1)
    return [line[kept].tolist() for line, kept in zip(best, changes & (best != 0), strict=True)]


def test_a_recognizer_at_half_its_size_reads_the_same_lines(tmp_path: Path) -> None:
    original = corpus("models", "ppocrv4_rec.onnx")
    small = stored("ppocrv4_rec", 'weight-int8{form=cast skip=["conv2d_*", "linear_85*"]},weight-int16', tmp_path)
    assert small.stat().st_size < 0.5 * original.stat().st_size
    with np.load(corpus("data", "ocr_lines_200.npz")) as archive:
        grey = (archive["x"][100:104].astype(np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
    feed = {"x": np.repeat(grey[:, None], 3, axis=1)}
    expected, found = (read(session(one).run(None, feed)[0]) for one in (original, small))
    assert expected == found
