"""Pruned and distilled models, technique by technique: MACs, bytes, error and score on held-out data, latency.

usage: python -m benchmarks.prune --corpus DIR [--fetch DIR] [--studies a,b] [--models a,b] [--rows LABEL,...]
                                  [--samples N] [--threads 1] [--seconds 5] [--json FILE] [--keep DIR]

A study is a question (how good are neurons chosen by their norms, by what they bring, with the next layer fitted?),
with pipelines of which each is a row. Passes learn from the first half of a model's data; all figures are of the
second half. MACs, bytes and latency are against the model as it came; latency is the median ratio of interleaved
runs on one sample, both with onnxruntime's defaults, with its 95 % interval. SQNR and agreement are of the worst
output in the worse mode (onnxruntime's optimizations off and on). `distill` needs the extra of that name.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import graphopt
from benchmarks.corpus_data.arguments import corpus_of, corpus_parser, latency_arguments, parsed, refuse_unknown
from benchmarks.corpus_data.catalogue import case_of
from benchmarks.corpus_data.evidence import Corpus, Missing
from benchmarks.prune_studies import STUDIES, Study
from benchmarks.quantize import Row, Task, measure, task
from graphopt.analysis.cost import macs
from graphopt.analysis.shapes import infer
from graphopt.errors import GraphoptError
from graphopt.pipeline.recipe import Recipe
from graphopt.runtime.client import Worker
from graphopt.validation.plan import FeedPlan

_HEADS: Final = "| model | study | row | MACs | bytes | SQNR dB | agreement | metric | latency | CPU s |"


@dataclass
class PrunedRow(Row):
    """One pipeline of a study on one model; `macs` is a share of the original's."""

    study: str = ""
    macs: float = 1.0
    pipeline: str = ""

    def text(self) -> str:
        """The row of the table."""
        first = f"| {self.model} | {self.study} | {self.tool} "
        if self.failure:
            return f"{first}| {self.failure} | | | | | | |"
        metric = "" if self.before is None or self.after is None else f"{self.before:.4f} -> {self.after:.4f}"
        cells = (
            f"{self.macs:.3f}", f"{self.share:.3f}", "" if self.sqnr_db is None else f"{self.sqnr_db:.2f}",
            "" if self.agreement is None else f"{self.agreement:.4f}", metric,
            "" if self.latency is None else f"{self.latency:.3f} ({self.low:.3f} to {self.high:.3f})",
            f"{self.cpu:.1f}",
        )  # fmt: skip
        return f"{first}| " + " | ".join(cells) + " |"


def make(pipeline: str, job: Task, out: Path) -> tuple[float, str]:
    """Run a pipeline behind the recipe `default`; its CPU seconds, and why it failed, "" where it did not."""
    start = time.process_time(), os.times().children_user
    cleaned = str(Recipe.load("default").pipeline)
    try:
        graphopt.optimize(
            job.model, pipeline=f"{cleaned},{pipeline}" if pipeline else cleaned, calibration=FeedPlan(job.calibration),
            feeds=FeedPlan(job.held_out.feeds), validate="none", output=out,
        )  # fmt: skip
    except GraphoptError as error:
        return 0.0, str(error)
    return time.process_time() - start[0] + os.times().children_user - start[1], ""


def share_of_macs(before: Path, after: Path) -> float:
    """Multiply-accumulates of one model as a share of another's, symbolic dims counted as one."""
    counts = [macs(graph, infer(graph)).count for graph in (graphopt.load(before), graphopt.load(after))]
    return counts[1] / max(counts[0], 1)


def run(given: argparse.Namespace, study: Study, name: str, corpus: Corpus, worker: Worker) -> None:
    """All rows of a study on one model."""
    try:
        job = task(case_of(name), corpus, worker, given.samples or study.samples.get(name, 100), study.most)
    except (Missing, GraphoptError) as error:
        print(f"| {name} | {study.name} | {error} | | | | | | | |", flush=True)
        return
    wanted = given.rows.split(",") if given.rows else list(study.rows)
    with tempfile.TemporaryDirectory() as work:
        for label in wanted:
            pipeline = study.rows[label]
            out = (Path(work) if given.keep is None else given.keep) / f"{name}.{label.replace(' ', '-')}.onnx"
            row = PrunedRow(name, label, study=study.name, pipeline=pipeline)
            row.cpu, row.failure = make(pipeline, job, out)
            if not row.failure:
                row.macs = share_of_macs(job.model, out)
                try:
                    measure(row, job, out, worker, given.threads, given.seconds)
                except GraphoptError as error:
                    row.failure = str(error)
            print(row.text(), flush=True)
            if given.json is not None:
                with given.json.open("a") as lines:
                    lines.write(json.dumps(asdict(row)) + "\n")


def _arguments(studies: Sequence[str]) -> argparse.Namespace:
    parser = corpus_parser(__doc__, 0, "to learn from; each study's own number unless given")
    parser.add_argument("--studies", default=",".join(studies))
    parser.add_argument("--models", default="", help="of those that a study is of; all unless given")
    parser.add_argument("--rows", default="", help="labels of rows; all unless given")
    latency_arguments(parser, 5.0)
    arguments = parsed(parser)
    refuse_unknown(parser, arguments.studies, studies, "study")
    known = {label for name in arguments.studies.split(",") for label in STUDIES[name].rows}
    if arguments.rows:
        refuse_unknown(parser, arguments.rows, sorted(known), "row")
    return arguments


def main() -> None:
    given = _arguments(list(STUDIES))
    corpus = corpus_of(given)
    if given.keep is not None:
        given.keep.mkdir(parents=True, exist_ok=True)
    print(_HEADS)
    print("|---|---|---|--:|--:|--:|--:|---|---|--:|", flush=True)
    chosen = set(given.models.split(",")) if given.models else None
    with Worker() as worker:
        for study in (STUDIES[name] for name in given.studies.split(",")):
            for name in study.models:
                if chosen is None or name in chosen:
                    run(given, study, name, corpus, worker)


if __name__ == "__main__":
    main()
