"""How much faster optimized models run in onnxruntime, its own optimizations on: interleaved pairs.

usage: python -m benchmarks.latency [--models DIR] [--only a,b] [--recipes default] [--threads 1,2]
                                    [--seconds 10] [--markdown FILE]

Every model is optimized with each recipe (validation off; the suite `simplification` looks at that), then
original and result run in turn in one worker process on one generated feed. A figure is the median of the
ratios of pairs, with its 95 % interval; `noisy` where that is wider than 5 %.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import graphopt
from graphopt.errors import GraphoptError
from graphopt.measure.latency import Latency, compare_latency, timed
from graphopt.runtime.client import Worker
from graphopt.runtime.failure import WorkerFailure
from graphopt.runtime.options import Options
from graphopt.storage.read import read
from graphopt.validation.feeds import gather
from graphopt.validation.plan import FeedPlan
from graphopt.validation.trial import ModelTrial


def measure(
    model: Path, recipes: Sequence[str], threads: Sequence[int], seconds: float
) -> Iterator[tuple[str, int, Latency]]:
    """The ratio of each recipe's result to the original, by number of threads."""
    with tempfile.TemporaryDirectory() as folder, Worker() as worker:
        trial = ModelTrial(model, worker)
        source = read(model)
        feeds = list(gather(FeedPlan(), source.proto, trial, 0, source.store))
        trial.close()
        for recipe in recipes:
            target = Path(folder) / f"{recipe}.onnx"
            graphopt.optimize(model, recipe=recipe, output=target, validate="none")
            for count in threads:
                options = timed(Options(threads=count))
                with worker.load(model, options) as before, worker.load(target, options) as after:
                    yield (
                        recipe,
                        count,
                        compare_latency(worker, before, after, feeds[0].values, rounds=401, budget=seconds),
                    )


def row(model: str, recipe: str, threads: int, found: Latency) -> str:
    """A row of the table."""
    said = "noisy" if found.noisy else {True: "faster", False: "slower", None: "the same"}[found.faster]
    return (
        f"| {model} | {recipe} | {threads} | {found.a * 1e3:.3f} | {found.b * 1e3:.3f} "
        f"| {found.ratio:.3f} | {found.low:.3f} to {found.high:.3f} | {said} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--recipes", default="default")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--markdown", type=Path)
    given = parser.parse_args()
    folder = given.models or Path(os.environ.get("GRAPHOPT_CORPUS", ".")) / "models"
    wanted = [name for name in given.only.split(",") if name]
    lines = [
        "| model | recipe | threads | before ms | after ms | ratio | 95 % | |",
        "|---|---|--:|--:|--:|--:|---|---|",
    ]
    for model in sorted(folder.glob("*.onnx")):
        if wanted and model.stem not in wanted:
            continue
        try:
            for recipe, count, found in measure(
                model, given.recipes.split(","), [int(one) for one in given.threads.split(",")], given.seconds
            ):
                lines.append(row(model.stem, recipe, count, found))
                print(lines[-1], flush=True)
        except (GraphoptError, WorkerFailure) as error:
            print(f"{model.stem}: {error}", flush=True)
    if given.markdown:
        given.markdown.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
