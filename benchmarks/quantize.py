"""Quantized models, ours and others': bytes, error and score on held-out data, latency against float.

usage: python -m benchmarks.quantize --corpus DIR [--fetch DIR] [--models a,b] [--tools t,...] [--recipes r,...]
                                     [--peers PYTHON] [--samples 32] [--threads 1] [--seconds 8]
                                     [--json FILE] [--keep DIR]

Every tool sees the first half of a model's data; all figures are of the second half. A tool is a recipe of
graphopt (`int8-static`, or `int8-static@onnxruntime` for its target), or a quantizer of `quantize_peers`, which
runs in the environment of --peers. Latency is the median ratio of interleaved runs on one sample against the
original float model, both with onnxruntime's defaults, with its 95 % interval. SQNR, cosine and agreement are
of the worst output in the worse mode (onnxruntime's optimizations off and on).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

import graphopt
from benchmarks.corpus_data.arguments import corpus_of, corpus_parser, latency_arguments, parsed, refuse_unknown
from benchmarks.corpus_data.catalogue import CASES, case_of
from benchmarks.corpus_data.evidence import Case, Corpus, Evidence, Missing, Original, Rows
from benchmarks.quantize_peers import TOOLS
from graphopt.errors import GraphoptError
from graphopt.measure.latency import compare_latency, timed
from graphopt.runtime.client import Options, Worker
from graphopt.storage.read import read
from graphopt.validation.feeds import gather
from graphopt.validation.plan import FeedPlan
from graphopt.validation.signature import required_inputs

MODELS: Final = tuple(case.name for case in CASES if case.loader is not None)
RECIPES: Final = ("int8-weights", "int8-dynamic", "int8-static", "int8-auto", "int4-weights", "int4-small", "fp16")
_HEADS: Final = "| model | tool | bytes | of float | SQNR dB | cosine | agreement | metric | latency | CPU s |"


@dataclass
class Row:
    """One tool on one model. `failure` says in a sentence why there are no figures."""

    model: str
    tool: str
    bytes: int = 0
    share: float = 0.0
    sqnr_db: float | None = None
    cosine: float | None = None
    agreement: float | None = None
    metric: str = ""
    before: float | None = None
    after: float | None = None
    latency: float | None = None
    low: float | None = None
    high: float | None = None
    cpu: float = 0.0
    failure: str = ""

    def text(self) -> str:
        """The row of the table."""
        if self.failure:
            return f"| {self.model} | {self.tool} | {self.failure} | | | | | | | |"
        metric = "" if self.before is None or self.after is None else f"{self.before:.4f} -> {self.after:.4f}"
        latency = "" if self.latency is None else f"{self.latency:.3f} ({self.low:.3f} to {self.high:.3f})"
        cells = (
            f"{self.bytes:,}", f"{self.share:.3f}", _shown(self.sqnr_db, ".2f"), _shown(self.cosine, ".6f"),
            _shown(self.agreement, ".4f"), metric, latency, f"{self.cpu:.1f}",
        )  # fmt: skip
        return f"| {self.model} | {self.tool} | " + " | ".join(cells) + " |"


def _shown(value: float | None, form: str) -> str:
    return "" if value is None else f"{value:{form}}"


@dataclass(frozen=True)
class Task:
    """One model with its data, cut into halves: what every tool gets, and what it is measured on."""

    case: Case
    model: Path
    calibration: list[dict[str, Any]]
    held_out: Evidence
    sample: Mapping[str, Any]


def task(case: Case, corpus: Corpus, worker: Worker, samples: int, most: int | None = 0) -> Task:
    """The halves of a model's data; of the second `most` rows (0: as many as the case says, None: all).

    Raises `Missing`.
    """
    assert case.loader is not None
    path = corpus.model(case.name)
    original = Original(path, worker)
    try:
        first = case.loader(corpus, original, Rows(0, samples))
        second = case.loader(corpus, original, Rows(1, most or most_of(case, most)))
    finally:
        original.close()
    calibration = singles(path, first)[:samples]
    return Task(case, path, calibration, second, singles(path, second)[0])


def most_of(case: Case, most: int | None) -> int | None:
    """How many rows of a case are measured on; all lines of text, few as they are."""
    return None if most is None or case.name == "ppocrv4_rec" else case.most


def singles(model: Path, evidence: Evidence) -> list[dict[str, Any]]:
    """The feeds of some evidence, those with a symbolic leading dim cut into single rows."""
    proto = read(model).proto
    leading = {each.name: each.dims[0] if each.dims else None for each in required_inputs(proto)}
    rows = [name for name, dim in leading.items() if isinstance(dim, str)]
    found = []
    for feed in gather(FeedPlan(evidence.feeds), proto, lambda values: ""):
        count = len(np.asarray(feed.values[rows[0]])) if len(rows) == len(leading) else 1
        if count == 1:
            found.append(dict(feed.values))
        else:
            found += [{k: np.asarray(v)[i : i + 1] for k, v in feed.values.items()} for i in range(count)]
    return found


def make(tool: str, job: Task, out: Path, peers: str, folder: Path) -> tuple[float, str]:
    """Run a tool; its CPU seconds and why it failed, in a sentence, "" where it did not."""
    if tool in TOOLS:
        script = Path(__file__).with_name("quantize_peers.py")
        paths = [str(Path(one).absolute()) for one in (script, job.model, folder, out)]
        command = [str(Path(peers).absolute()), paths[0], tool, *paths[1:]]
        # some leave files where they run
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800, cwd=folder.parent)
        if done.returncode != 0 or not out.is_file():
            return 0.0, (done.stderr.strip().splitlines() or ["it gave no reason"])[-1][:160]
        return float(json.loads(done.stdout.strip().splitlines()[-1])["cpu"]), ""
    recipe, _, target = tool.partition("@")
    start = time.process_time(), os.times().children_user
    try:
        graphopt.optimize(
            job.model,
            recipe=recipe,
            target=target or None,  # type: ignore[arg-type]
            calibration=FeedPlan(job.calibration),
            feeds=FeedPlan(job.held_out.feeds),
            validate="none",
            output=out,
        )
    except GraphoptError as error:
        return 0.0, str(error)
    return time.process_time() - start[0] + os.times().children_user - start[1], ""


def measure(row: Row, job: Task, out: Path, worker: Worker, threads: int, seconds: float) -> None:
    """Fill in the figures of a model that was made."""
    evidence = job.held_out
    verdict = graphopt.validate(
        job.model, out, budget="sqnr_db>=-1000", feeds=evidence.feeds, labels=evidence.labels, metric=evidence.metric
    )
    if not verdict.outputs:
        row.failure = verdict.sentence()
        return
    row.bytes, row.share = out.stat().st_size, out.stat().st_size / job.model.stat().st_size
    floats = [one for one in verdict.outputs if one.kind in ("float", "mixed")]
    if floats:
        row.sqnr_db = min(one.sqnr_db for one in floats)
        row.cosine = min(one.cosine for one in floats)
    agreed = [one.agreement for one in verdict.outputs if one.agreement is not None]
    row.agreement = min(agreed) if agreed else None
    row.metric, row.before, row.after = verdict.metric or "", verdict.metric_before, verdict.metric_after
    options = timed(Options(threads=threads))
    with worker.load(job.model, options) as before, worker.load(out, options) as after:
        found = compare_latency(worker, before, after, job.sample, rounds=401, budget=seconds)
    row.latency, row.low, row.high = found.ratio, found.low, found.high


def _arguments() -> argparse.Namespace:
    parser = corpus_parser(__doc__, 32)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--tools", default=",".join(TOOLS), help="quantizers of others; '' for none")
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON", help="the environment of the others")
    latency_arguments(parser, 8.0)
    arguments = parsed(parser)
    refuse_unknown(parser, arguments.models, MODELS, "model with data")
    return arguments


def run(given: argparse.Namespace, corpus: Corpus, name: str, tools: Sequence[str], worker: Worker) -> None:
    """All tools on one model."""
    try:
        job = task(case_of(name), corpus, worker, given.samples)
    except (Missing, GraphoptError) as error:
        print(f"| {name} | {error} | | | | | | | | |", flush=True)
        return
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "calibration"
        folder.mkdir()
        for index, feed in enumerate(job.calibration):
            np.savez(folder / f"{index:04}.npz", **{key: np.asarray(value) for key, value in feed.items()})
        for tool in tools:
            keep = Path(work) if given.keep is None else given.keep
            out = keep / f"{name}.{tool.replace('/', '_').replace('@', '.')}.onnx"
            row = Row(name, tool)
            row.cpu, row.failure = make(tool, job, out, given.peers, folder)
            if not row.failure:
                try:
                    measure(row, job, out, worker, given.threads, given.seconds)
                except GraphoptError as error:
                    row.failure = str(error)
            print(row.text(), flush=True)
            if given.json is not None:
                with given.json.open("a") as lines:
                    lines.write(json.dumps(asdict(row)) + "\n")


def main() -> None:
    given = _arguments()
    corpus = corpus_of(given)
    if given.keep is not None:
        given.keep.mkdir(parents=True, exist_ok=True)
    tools = [one for one in (*given.tools.split(","), *given.recipes.split(",")) if one]
    print(_HEADS)
    print("|---|---|--:|--:|--:|--:|--:|---|---|--:|", flush=True)
    with Worker() as worker:
        for name in given.models.split(","):
            run(given, corpus, name, tools, worker)


if __name__ == "__main__":
    main()
