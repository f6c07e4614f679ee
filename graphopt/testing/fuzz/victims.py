"""The ten files that are damaged, each with the command that reads it."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto

from graphopt.testing.feeds import feeds_for
from graphopt.testing.samples import samples
from graphopt.testing.text import model
from graphopt.testing.wild import wild_model

Run = Callable[[list[str], Path], object]

_RECIPE = """name = "own"
description = "A recipe of one's own."
base = "clean"
pipeline = "repeat{max=4}(identities,dead-nodes),weight-int8{min-elements=16 granularity=\\"channel\\"}"
budget = ["sqnr_db>=20"]

[targets]
onnxruntime = "dynamic-int8"
"""


@dataclass(frozen=True)
class Victim:
    """A file of a folder that is damaged, and the arguments of the command that is then run there.

    `quick` are the arguments that spare the worker process as far as they can.
    """

    name: str
    file: str
    arguments: tuple[str, ...]
    quick: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


_MADE = ("-o", "out.onnx")
_QUICK = ("--validate", "none")
_PRUNING = (
    "-p", "neurons{multiple=1}", "--budget", "sqnr_db>=1", "--to", "macs=0.9", "--sensitivity", "table.json",
)  # fmt: skip

VICTIMS = (
    Victim("a model", "dense.onnx", ("optimize", "dense.onnx", *_MADE), _QUICK),
    Victim("a model with bodies", "bodies.onnx", ("optimize", "bodies.onnx", *_MADE), _QUICK),
    Victim("a model with functions", "wild.onnx", ("optimize", "wild.onnx", *_MADE), _QUICK),
    Victim(
        "a model, its weights aside", "outside.onnx", ("optimize", "outside.onnx", *_MADE), _QUICK, ("weights.bin",)
    ),
    Victim("weights of a model", "weights.bin", ("optimize", "outside.onnx", *_MADE), _QUICK, ("outside.onnx",)),
    Victim("feeds", "feeds.npz", ("validate", "dense.onnx", "dense.onnx", "--feeds", "feeds.npz"), (), ("dense.onnx",)),
    Victim("a bundle", "bundle.zip", ("replay", "bundle.zip")),
    Victim(
        "a recipe",
        "recipe.toml",
        ("optimize", "dense.onnx", "--recipe", "recipe.toml", *_MADE),
        _QUICK,
        ("dense.onnx",),
    ),
    Victim("a sensitivity table", "table.json", ("optimize", "dense.onnx", *_PRUNING, *_MADE), (), ("dense.onnx",)),
    Victim("a report", "report.json", ("explain", "a", "--report", "report.json")),
)


def prepare(folder: Path, run: Run) -> None:
    """Write all files, unharmed, to a folder; `run` runs the command there."""
    by_name = {one.name: one.proto for one in samples()}
    dense = by_name["perceptron"]
    _write(folder / "dense.onnx", dense)
    _write(folder / "bodies.onnx", by_name["branches"])
    _write(folder / "wild.onnx", wild_model(9))
    outside = model(
        "g (float[N, 16] x) => (float[N, 8] y) { a = Identity(x) b = MatMul(a, w) y = Add(b, c) }",
        w=np.linspace(-1, 1, 128, dtype=np.float32).reshape(16, 8), c=np.ones(8, np.float32),
    )  # fmt: skip
    onnx.save_model(
        outside, str(folder / "outside.onnx"), save_as_external_data=True, location="weights.bin", size_threshold=16
    )
    (folder / "feeds.npz").write_bytes(_npz(feeds_for(dense)[0]))
    (folder / "recipe.toml").write_text(_RECIPE, encoding="utf-8")
    run(
        ["optimize", "dense.onnx", "-o", "made.onnx", "--bundle", "bundle.zip", "--report", "report.json", "-q"], folder
    )
    run(["sensitivity", "dense.onnx", "--quick", "--table", "table.json", "-q"], folder)
    (folder / "made.onnx").unlink()
    assert zipfile.is_zipfile(folder / "bundle.zip"), "the command made no bundle"
    json.loads((folder / "table.json").read_text(encoding="utf-8"))


def _write(path: Path, proto: ModelProto) -> None:
    path.write_bytes(proto.SerializeToString())


def _npz(feeds: dict[str, object]) -> bytes:
    held = io.BytesIO()
    np.savez(held, **feeds)  # type: ignore[arg-type]
    return held.getvalue()
