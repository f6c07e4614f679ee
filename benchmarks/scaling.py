"""How batches scale with workers: simulated work, and a model of where it bends.

usage: python -m benchmarks.scaling [--workers 1,2,4,8] [--tasks 200] [--milliseconds 100] [--models DIR --real 1,2]

Simulated tasks sleep, so that more workers than cores can be shown; `--real` optimizes the models of a folder,
repeated to --tasks, with each number of workers. Throughput is in tasks a second over the whole batch, the start of
the processes apart (the first task of each is not counted). The model is Gunther's universal scalability law,
X(n) = l n / (1 + s (n - 1) + k n (n - 1)) (N. J. Gunther, Guerrilla Capacity Planning, 2007, chapter 4): l the
throughput of one worker, s the share of the work that is serial, k what workers cost each other; it bends at
sqrt((1 - s) / k).
"""

from __future__ import annotations

import argparse
import itertools
import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from graphopt.scale.batch import Task, work
from graphopt.scale.executor import Work
from graphopt.scale.processes import Processes


def throughput(workers: int, function: Work, tasks: Sequence[object]) -> float:
    """Tasks a second, from when every worker has had its first."""
    with Processes(workers) as executor:
        ended = [time.perf_counter() for _ in executor.each(function, tasks)]
    if len(ended) <= workers + 1:
        raise ValueError(f"{len(ended)} tasks are too few for {workers} workers")
    return (len(ended) - workers) / (ended[-1] - ended[workers - 1])


def law(points: dict[int, float]) -> tuple[float, float, float]:
    """The three numbers of the law by least squares on n / X(n), which is linear in 1/l, s/l and k/l."""
    counts = np.array(sorted(points), float)
    rates = np.array([points[int(one)] for one in counts])
    columns = np.stack([np.ones_like(counts), counts - 1, counts * (counts - 1)], 1)[:, : len(counts)]
    found, *_ = np.linalg.lstsq(columns, counts / rates, rcond=None)
    whole = np.zeros(3)
    whole[: len(found)] = found
    return 1 / whole[0], max(0.0, whole[1] / whole[0]), max(0.0, whole[2] / whole[0])


def report(points: dict[int, float]) -> list[str]:
    """A Markdown table of throughputs and speed-ups, and what the law says of them."""
    first = points[min(points)]
    lines = ["| workers | tasks a second | times one worker |", "|--:|--:|--:|"]
    lines += [f"| {count} | {rate:.2f} | {rate / first:.2f} |" for count, rate in sorted(points.items())]
    one, serial, cost = law(points)
    bend = math.sqrt((1 - serial) / cost) if cost > 0 and serial < 1 else math.inf
    most = "beyond what was measured" if bend > 8 * max(points) else f"at {bend:.0f} workers"
    lines.append(
        f"\none worker {one:.2f} a second, serial share {serial:.4f}, cost of company {cost:.6f}: bends {most}"
    )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", default="1,2,4,8")
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--milliseconds", type=float, default=100.0)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--real", default="1,2")
    given = parser.parse_args()
    if given.models is None:
        naps = [given.milliseconds / 1e3] * given.tasks
        points = {int(count): throughput(int(count), time.sleep, naps) for count in given.workers.split(",")}
        print("\n".join(report(points)))
        return
    from graphopt.cli.batch import one

    models = sorted(given.models.glob("*.onnx"))
    points = {}
    for count in given.real.split(","):
        with tempfile.TemporaryDirectory() as folder:
            chosen = itertools.islice(itertools.cycle(models), given.tasks)
            tasks = [Task(str(model), folder, f"{number}.onnx", (), one) for number, model in enumerate(chosen)]
            points[int(count)] = throughput(int(count), work, tasks)
    print("\n".join(report(points)))


if __name__ == "__main__":
    main()
