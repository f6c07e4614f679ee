"""What a made model is worth: bytes, error and score on data that no tool saw, latency against the original."""

from __future__ import annotations

import math
import os
import re
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import onnx
from onnx import GraphProto

import graphopt
from benchmarks.corpus_data.evidence import Array
from benchmarks.steady import LEAST, MOST, raced
from graphopt.analysis.cost import macs
from graphopt.analysis.shapes import infer
from graphopt.errors import GraphoptError
from graphopt.storage.read import read
from graphopt.validation.feeds import gather
from graphopt.validation.plan import FeedPlan, Given
from graphopt.validation.signature import required_inputs

_MINUTES: Final = 30  # that a tool may take for one model
_LONGEST: Final = 240  # letters of a reason
_FOLDERS: Final = re.compile(r"(?<![\w.:/])/(?:[\w.+-]+/)+")
_ROOT: Final = Path(__file__).resolve().parents[1]
LOSSLESS_DB: Final = 300.0
"""Stands for no error at all, since JSON has no infinity."""


@dataclass(frozen=True)
class Halves:
    """A model with its data, cut in halves.

    learn: single feeds of the first half, which is all that a tool sees. feeds, labels, metric: the second half, which
    all figures are of. sample: the feed that latency is measured on.
    """

    model: Path
    learn: Sequence[Mapping[str, Any]]
    feeds: Given
    labels: Array | None
    metric: str | None
    sample: Mapping[str, Any]


@dataclass(frozen=True)
class Judged:
    """The figures and words of a `Record`, or in a sentence why there are none."""

    figures: Mapping[str, float]
    words: Mapping[str, str]
    failure: str = ""


def ran(command: Sequence[str], where: Path) -> tuple[float, str]:
    """Run a tool in a process of its own: the CPU seconds of it and all its children, and in a sentence why it failed,
    "" where it did not. It is run in the folder `where`, because some leave files there."""
    # The copy of the project that runs the benchmark is the one that its children find.
    paths = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    before = _busy()
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, timeout=60 * _MINUTES, cwd=where,
            env={**os.environ, "PYTHONPATH": paths},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return 0.0, f"it was not through after {_MINUTES} minutes"
    except OSError as error:
        return 0.0, f"it could not be started ({error.strerror})"
    said = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1].removeprefix("graphopt: ")
    if done.returncode < 0:
        said = f"its process was ended by signal {-done.returncode}"
    return _busy() - before, "" if done.returncode == 0 else without_folders(said)[:_LONGEST]


def without_folders(text: str) -> str:
    """A reason that says the same on every machine: of paths only the last part is left."""
    return _FOLDERS.sub("", text)


def ours(halves: Halves, calibration: Path, out: Path, options: Sequence[str]) -> list[str]:
    """The command that makes a model with graphopt, learning from a folder of feeds."""
    return [
        sys.executable, "-m", "graphopt", "optimize", str(halves.model.absolute()), *options, "--quiet",
        "--calibration", str(calibration.absolute()), "--validate", "none", "--output", str(out.absolute()),
    ]  # fmt: skip


def written(feeds: Sequence[Mapping[str, Any]], folder: Path) -> Path:
    """Feeds as a folder of `.npz` files, one each, in order."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, feed in enumerate(feeds):
        np.savez(folder / f"{index:05}.npz", **{key: np.asarray(value) for key, value in feed.items()})  # type: ignore[arg-type]
    return folder


def singles(model: Path, feeds: Given) -> list[dict[str, Any]]:
    """Feeds of a model, those with a symbolic leading dim cut into single rows."""
    proto = read(model).proto
    leading = {each.name: each.dims[0] if each.dims else None for each in required_inputs(proto)}
    rows = [name for name, dim in leading.items() if isinstance(dim, str)]
    found = []
    for feed in gather(FeedPlan(feeds), proto, lambda values: ""):
        count = len(np.asarray(feed.values[rows[0]])) if len(rows) == len(leading) else 1
        if count == 1:
            found.append(dict(feed.values))
        else:
            found += [{k: np.asarray(v)[i : i + 1] for k, v in feed.values.items()} for i in range(count)]
    return found


class Timing(Protocol):
    """How latency is measured: threads, seconds of one ratio, and whether as little as possible will do."""

    @property
    def threads(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @property
    def quick(self) -> bool: ...


def worth(
    command: Sequence[str], halves: Halves, made: Path, timing: Timing
) -> tuple[dict[str, float], dict[str, str], str]:
    """Run a tool that makes a model, and judge it: figures and words of a `Record`, and why there are none."""
    cpu, failure = ran(command, made.parent)
    if not failure and not made.is_file():
        failure = "it wrote no model"
    if failure:
        return {}, {}, failure
    try:
        found = judged(halves, made, timing)
    except GraphoptError as error:
        return {}, {}, str(error)[:_LONGEST]
    figures = {**found.figures, "cpu_seconds": cpu} if found.figures else {}
    return figures, dict(found.words), found.failure


def judged(halves: Halves, made: Path, timing: Timing) -> Judged:
    """All figures of a model that was made. SQNR, cosine and agreement are of the worst output in the worse mode
    (onnxruntime's optimizations off and on). Errors as of `graphopt.validate`, and WorkerFailure."""
    verdict = graphopt.validate(
        halves.model, made, budget="sqnr_db>=-1000", feeds=halves.feeds, labels=halves.labels, metric=halves.metric
    )
    if not verdict.outputs:
        return Judged({}, {}, verdict.sentence()[:_LONGEST])
    figures = sizes(halves.model, made)
    floats = [one for one in verdict.outputs if one.kind in ("float", "mixed")]
    if floats:
        decibels = min(one.sqnr_db for one in floats)
        figures["sqnr_db"] = LOSSLESS_DB if math.isinf(decibels) and decibels > 0 else float(decibels)
        figures["cosine"] = float(min(one.cosine for one in floats))
    agreed = [one.agreement for one in verdict.outputs if one.agreement is not None]
    if agreed:
        figures["agreement"] = float(min(agreed))
    words = {}
    if verdict.metric is not None and verdict.metric_before is not None and verdict.metric_after is not None:
        words["metric"] = verdict.metric.rpartition(":")[2]
        figures |= {"metric_before": float(verdict.metric_before), "metric_after": float(verdict.metric_after)}
    figures = {name: value for name, value in figures.items() if math.isfinite(value)}
    most = LEAST if timing.quick else MOST
    found = raced(halves.model, made, halves.sample, threads=timing.threads, seconds=timing.seconds, most=most)
    return Judged({**figures, **found.figures()}, {**words, **found.words()})


def sizes(original: Path, made: Path) -> dict[str, float]:
    """Bytes and multiply-accumulates, and what share of the original's they are."""
    whole, left = whole_bytes(original), whole_bytes(made)
    products = [_products(original), _products(made)]
    figures = {"bytes": float(left), "bytes_ratio": left / whole, "macs": float(products[1])}
    if products[0]:
        figures["macs_ratio"] = products[1] / products[0]
    return figures


def whole_bytes(model: Path) -> int:
    """Of a model file, and of the files that its weights are in."""
    found: set[str] = set()
    _locations(onnx.load(str(model), load_external_data=False).graph, found)
    return sum(path.stat().st_size for path in (model, *(model.parent / name for name in sorted(found))))


def _locations(graph: GraphProto, found: set[str]) -> None:
    for tensor in graph.initializer:
        found.update(entry.value for entry in tensor.external_data if entry.key == "location")
    for node in graph.node:
        for attribute in node.attribute:
            found.update(entry.value for entry in attribute.t.external_data if entry.key == "location")
            for body in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                _locations(body, found)


def _products(model: Path) -> int:
    """Multiply-accumulates of one run, symbolic dims counted as one."""
    graph = graphopt.load(model)
    return macs(graph, infer(graph)).count


def _busy() -> float:
    """CPU seconds of all processes that have ended below this one."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
