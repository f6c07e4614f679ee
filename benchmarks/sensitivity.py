"""How well `graphopt sensitivity` predicts: each layer of a model really compressed, on data that were not used.

usage: python -m benchmarks.sensitivity --corpus DIR [--fetch DIR] [--models a,b] [--samples 16] [--quick]
                                        [--json FILE]

Noise on the weights is measured on the first half of a model's data. Then each layer alone is rounded to 8 and 4 bits,
loses its smallest weights, and loses its smallest channels, and the outputs are measured on the second half. The
table has the rank correlation (Spearman) of predicted and measured error over all layers, and in brackets the median
of how far the prediction is off in decibels. Runs are of parts of the model on up to four samples; `work` is what
they amount to in runs of the whole model, and seconds are those of the prediction and of trying everything.
"""

from __future__ import annotations

import argparse
import json
import math
from typing import Any, Final

import graphopt
from benchmarks.corpus_data.arguments import corpus_of, corpus_parser, parsed, refuse_unknown
from benchmarks.corpus_data.catalogue import CASES, case_of
from benchmarks.corpus_data.evidence import Corpus, Missing, Original, Rows
from graphopt.errors import GraphoptError
from graphopt.runtime.client import Worker
from graphopt.tolerance.table import Sensitivity
from graphopt.validation.plan import FeedPlan

MODELS: Final = tuple(case.name for case in CASES if case.loader is not None and "quant" not in case.name)
TRIED: Final = ("int8-channel", "int8-tensor", "int4-block", "sparse-50", "channels-25", "channels-50")
_HEADS: Final = ("model", "layers", *TRIED, "runs", "work", "seconds")


def study(corpus: Corpus, name: str, samples: int, quick: bool) -> Sensitivity:
    """Predict on the first half of a model's data, try on the second. Raises `Missing` and GraphoptError."""
    case = case_of(name)
    assert case.loader is not None
    path = corpus.model(name)
    with Worker() as worker:
        original = Original(path, worker)
        try:
            halves = [case.loader(corpus, original, Rows(part, samples)) for part in (0, 1)]
        finally:
            original.close()
    first, second = (FeedPlan(one.feeds) for one in halves)
    return graphopt.sensitivity(
        path, feeds=second, calibration=first, quick=quick, verify=10**6, compressions=TRIED, samples=samples
    )


def text(name: str, found: Sensitivity) -> str:
    """The row of the table."""
    cells = [name, str(len(found.rows))]
    for one in found.checks:
        known = "" if math.isnan(one.spearman) else f"{one.spearman:.3f} "
        cells.append(f"{known}({one.off_db:.1f} dB, {one.count})" if one.count else "")
    return "| " + " | ".join([*cells, f"{found.runs}", f"{found.work:.0f}", f"{found.seconds:.0f}"]) + " |"


def _arguments() -> argparse.Namespace:
    parser = corpus_parser(__doc__, 16)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--quick", action="store_true", help="two strengths of noise, one draw")
    arguments = parsed(parser)
    refuse_unknown(parser, arguments.models, MODELS, "model with data")
    return arguments


def main() -> None:
    given = _arguments()
    corpus = corpus_of(given)
    print("| " + " | ".join(_HEADS) + " |")
    print("|---|" + "--:|" * (len(_HEADS) - 1), flush=True)
    for name in given.models.split(","):
        try:
            found = study(corpus, name, given.samples, given.quick)
        except (Missing, GraphoptError) as error:
            print(f"| {name} | {error} |" + " |" * (len(_HEADS) - 2), flush=True)
            continue
        print(text(name, found), flush=True)
        if given.json is not None:
            facts: dict[str, Any] = {"name": name, **found.to_json()}
            with given.json.open("a") as lines:
                lines.write(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
