"""What a second worker brings a batch of real models, and whether one that is killed loses any.

usage: python -m benchmarks.batches [--models 200] [--nodes 60] [--seed 0] [--workers 1,2] [--rounds 3] [--json FILE]

The models are random ones of a seed. `graphopt optimize MODELS --out-dir D --workers N` is run with each number of
workers in turn, `--rounds` times; throughput is of the whole command, from its start to its end, and the ratio is the
median over the rounds of one round's throughputs. Then a worker of the last number is ended by SIGKILL when a third of
the models are done: the manifest must have all of them, and their results must be those of the other runs. Linux.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import onnx

import graphopt
from benchmarks.record import Record
from graphopt.scale.manifest import NAME as MANIFEST
from graphopt.testing.random_models import random_model

_ROOT: Final = Path(__file__).resolve().parents[1]
_MINUTES: Final = 60  # that one batch may take


@dataclass(frozen=True)
class Batch:
    """One run: seconds of the command, the rows of its manifest, and the hash of each result by its name."""

    seconds: float
    rows: tuple[dict[str, Any], ...]
    results: dict[str, str]

    @property
    def begun_again(self) -> int:
        """How many models a worker died over."""
        return sum(int(row["attempts"]) > 1 for row in self.rows)


def write_models(folder: Path, count: int, seed: int = 0, nodes: int = 60) -> Path:
    """Models of consecutive seeds, as files of a folder."""
    folder.mkdir(parents=True)
    for number in range(count):
        onnx.save(random_model(seed + number, nodes=nodes), str(folder / f"{number:04}.onnx"))
    return folder


def optimized(models: Path, out: Path, workers: int) -> Batch:
    """Run a batch from the command line to its end."""
    start = time.perf_counter()
    with _command(models, out, workers) as child:
        child.wait(60 * _MINUTES)
    return _ended(out, time.perf_counter() - start)


def disturbed(models: Path, out: Path, workers: int, after: int) -> Batch:
    """The same, with one of the workers killed as soon as `after` models are done."""
    start = time.perf_counter()
    killed = False
    with _command(models, out, workers) as child:
        while child.poll() is None:
            if not killed and len(_rows(out)) >= after:
                killed = _kill_one(child.pid)
            time.sleep(0.02)
    if not killed:
        raise RuntimeError("the batch was through before a worker could be killed; give more models")
    return _ended(out, time.perf_counter() - start)


@contextmanager
def _command(models: Path, out: Path, workers: int) -> Iterator[subprocess.Popen[bytes]]:
    paths = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", "graphopt", "optimize", str(models), "--out-dir", str(out)]
    child = subprocess.Popen(
        [*command, "--workers", str(workers), "--quiet"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    try:
        yield child
    finally:
        if child.poll() is None:
            child.terminate()
            child.wait()


def _ended(out: Path, seconds: float) -> Batch:
    results = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(out.rglob("*.onnx"))}
    return Batch(seconds, tuple(_rows(out)), results)


def _rows(out: Path) -> list[dict[str, Any]]:
    """The rows that a manifest has so far; a line that is being written counts as not there."""
    found = []
    with suppress(OSError, ValueError):
        for line in (out / MANIFEST).read_text().splitlines():
            row = json.loads(line)
            if "model" in row:
                found.append(row)
    return found


def _kill_one(pid: int) -> bool:
    """End one worker of the batch; False where none was found."""
    for child in _children(pid):
        with suppress(OSError):
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                os.kill(child, signal.SIGKILL)
                return True
    return False


def _children(pid: int) -> list[int]:
    found = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


def lost(batch: Batch, models: Path, other: Batch) -> list[str]:
    """What is wrong with a batch, in clauses: models that have no row or another end, results that differ."""
    names = {path.name for path in models.glob("*.onnx")}
    ends = {Path(row["model"]).name: row["exit_code"] for row in batch.rows}
    before = {Path(row["model"]).name: row["exit_code"] for row in other.rows}
    found = [f"{name} has no row" for name in sorted(names - set(ends))]
    found += [
        f"{name} ended with {end} and not {before[name]}" for name, end in sorted(ends.items()) if end != before[name]
    ]
    different = {
        name for name in {*batch.results, *other.results} if batch.results.get(name) != other.results.get(name)
    }
    return found + [f"the result of {name} differs" for name in sorted(different)]


def throughputs(models: Path, work: Path, workers: Sequence[int], rounds: int) -> dict[int, list[Batch]]:
    """Batches with each number of workers, in turn; every other round the other way round."""
    found: dict[int, list[Batch]] = {count: [] for count in workers}
    for turn in range(rounds):
        for count in workers if turn % 2 == 0 else reversed(workers):
            batch = optimized(models, work / f"{turn}.{count}", count)
            print(f"round {turn + 1}, {count} workers: {batch.seconds:.1f} s", file=sys.stderr, flush=True)
            found[count].append(batch)
    return found


def ratios(batches: dict[int, list[Batch]]) -> dict[int, list[float]]:
    """By number of workers, each round's throughput over that of the first number."""
    first = next(iter(batches.values()))
    return {
        count: [one.seconds / own.seconds for one, own in zip(first, some, strict=True)]
        for count, some in batches.items()
    }


def markdown(count: int, batches: dict[int, list[Batch]]) -> str:
    """A line for each number of workers."""
    lines = ["| workers | models a second | times the first | each round |", "|--:|--:|--:|---|"]
    for workers, each in ratios(batches).items():
        rate = count / median(one.seconds for one in batches[workers])
        lines.append(f"| {workers} | {rate:.2f} | {median(each):.2f} | {', '.join(f'{one:.2f}' for one in each)} |")
    return "\n".join(lines)


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--nodes", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE", help="a record for each number of workers is added to it")
    asked = parser.parse_args(given)
    parts = asked.workers.split(",")
    if min(asked.models, asked.nodes, asked.rounds) < 1 or not all(one.isdecimal() and int(one) for one in parts):
        parser.error("--models, --nodes, --rounds and each of --workers must be at least 1")
    workers = [int(one) for one in parts]
    with tempfile.TemporaryDirectory(prefix="graphopt-batches-") as folder:
        work = Path(folder)
        models = write_models(work / "models", asked.models, asked.seed, asked.nodes)
        batches = throughputs(models, work, workers, asked.rounds)
        first = batches[workers[0]][0]
        wrong = [clause for some in batches.values() for one in some for clause in lost(one, models, first)]
        killed = disturbed(models, work / "killed", workers[-1], max(1, asked.models // 3))
        wrong += [f"with a worker killed, {clause}" for clause in lost(killed, models, first)]
    print(markdown(asked.models, batches))
    print(
        f"\nA worker of {workers[-1]} was killed after a third: {len(killed.rows)} of {asked.models} models have "
        f"a row, {killed.begun_again} was begun again, {sum(row['exit_code'] == 0 for row in killed.rows)} went well."
    )
    for clause in wrong:
        print(f"wrong: {clause}")
    if asked.json is not None:
        _keep(asked.json, asked.models, batches, killed)
    return 1 if wrong else 0


def _keep(path: Path, count: int, batches: dict[int, list[Batch]], killed: Batch) -> None:
    with path.open("a") as lines:
        for workers, each in ratios(batches).items():
            figures = {
                "models": float(count), "seconds": median(one.seconds for one in batches[workers]),
                "throughput_ratio": median(each), "throughput_ratio_low": min(each), "throughput_ratio_high": max(each),
            }  # fmt: skip
            contender = f"graphopt:workers={workers}"
            lines.write(
                json.dumps(Record("batches", "random", contender, graphopt.__version__, figures).to_json()) + "\n"
            )
        figures = {"models": float(count), "rows": float(len(killed.rows)), "begun_again": float(killed.begun_again)}
        record = Record("batches", "random", "graphopt:killed", graphopt.__version__, figures)
        lines.write(json.dumps(record.to_json()) + "\n")


if __name__ == "__main__":
    sys.exit(main())
