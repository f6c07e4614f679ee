"""Class agreement of pruned networks at several cuts, each technique a line.

usage: python -m benchmarks.prune_curves --corpus DIR [--model efficientnet_lite0_op13_bn] [--cuts 0.1,0.2,0.3,0.4,0.5]
                                         [--techniques 'second-order, repair;...'] [--samples 100]
                                         [--flips] [--json FILE] [--keep DIR]

Calibrated on the first half of a model's data, measured on the second. Each cell is the share of samples that get the
class that the float model gives them, and the SQNR of the output in dB; MACs are those of the file that was made.
--flips adds each calibration image mirrored: what more data would do.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

import graphopt
from benchmarks.corpus_data.catalogue import case_of
from benchmarks.corpus_data.evidence import Corpus, Original, Rows
from graphopt.analysis.cost import macs
from graphopt.analysis.shapes import infer
from graphopt.ir import decode
from graphopt.runtime.client import Worker
from graphopt.storage.read import read

Array = np.ndarray[Any, Any]

TECHNIQUES: Final = {
    "magnitude": "channels{{share={cut} multiple=8 importance=magnitude allocation=even repair=false}}",
    "magnitude, repair": "channels{{share={cut} multiple=8 importance=magnitude allocation=even}}",
    "activation, repair": "channels{{share={cut} multiple=8 importance=activation}}",
    "second-order": "channels{{share={cut} multiple=8 repair=false}}",
    "second-order, repair": "channels{{share={cut} multiple=8}}",
}
"""By name, the passes behind those that clean up."""


def products(path: Path) -> int:
    """Multiply-accumulates of one run of a model."""
    source = read(path)
    graph = decode(source.proto, source.store)
    return macs(graph, infer(graph)).count


def flat(outputs: dict[str, list[Any]]) -> Array:
    """The first output of all samples together, [samples, classes]."""
    values = np.concatenate([np.asarray(one) for one in next(iter(outputs.values()))])
    return values.reshape(len(values), -1)


def cell(before: Array, after: Array) -> tuple[float, float]:
    """Class agreement, and decibels of the outputs less their means."""
    agreement = float((before.argmax(1) == after.argmax(1)).mean())
    spread = np.square(before - before.mean(0), dtype=np.float64).sum()
    return agreement, float(10 * np.log10(spread / max(np.square(before - after, dtype=np.float64).sum(), 1e-30)))


def run(given: argparse.Namespace, worker: Worker, folder: Path) -> None:
    """The table of one model."""
    case = case_of(given.model)
    corpus = Corpus(Path(given.corpus), (given.fetch,) if given.fetch is not None else ())
    path = corpus.model(case.name)
    assert case.loader is not None, "the argument was checked"
    original = Original(path, worker)
    known = case.loader(corpus, original, Rows(0, given.samples))
    held_out = case.loader(corpus, original, Rows(1, case.most))
    before = flat(original.outputs(held_out.feeds))
    original.close()
    calibration: dict[str, Any] = dict(known.feeds) if isinstance(known.feeds, dict) else {}
    if given.flips:
        calibration = {k: np.concatenate([v, v[..., ::-1]]) for k, v in calibration.items()}
    clean = folder / "clean.onnx"
    graphopt.optimize(path, recipe="default", validate="none", output=clean)
    whole = products(clean)
    for technique in given.techniques.split(";"):
        for cut in given.cuts.split(","):
            out = (given.keep or folder) / f"{case.name}.{technique.replace(', ', '-').replace(' ', '-')}.{cut}.onnx"
            pipeline = TECHNIQUES[technique].format(cut=cut)
            graphopt.optimize(clean, pipeline=pipeline, calibration=calibration, validate="none", output=out)
            pruned = Original(out, worker)
            agreement, sqnr = cell(before, flat(pruned.outputs(held_out.feeds)))
            pruned.close()
            left = products(out) / whole
            print(f"| {technique} | {cut} | {left:.3f} | {agreement:.3f} | {sqnr:.2f} |", flush=True)
            if given.json is not None:
                line = {"model": case.name, "technique": technique, "cut": float(cut), "macs": left}
                with given.json.open("a") as lines:
                    lines.write(json.dumps({**line, "agreement": agreement, "sqnr_db": sqnr}) + "\n")


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=os.environ.get("GRAPHOPT_CORPUS"))
    parser.add_argument("--fetch", type=Path, metavar="DIR", help="where models are that the corpus does not keep")
    parser.add_argument("--model", default="efficientnet_lite0_op13_bn")
    parser.add_argument("--cuts", default="0.1,0.2,0.3,0.4,0.5", help="shares of the multiply-accumulates to save")
    parser.add_argument("--techniques", default=";".join(TECHNIQUES), help="names of techniques, separated by ;")
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--flips", action="store_true", help="calibrate on mirrored images too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="a line for each cell is added to it")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the models there")
    found = parser.parse_args(given)
    if found.corpus is None or not Path(found.corpus).is_dir():
        parser.error("there is no corpus; give its folder as --corpus or in the variable GRAPHOPT_CORPUS")
    unknown = [one for one in found.techniques.split(";") if one not in TECHNIQUES]
    if unknown:
        parser.error(f"there is no technique {unknown[0]!r}; there are {'; '.join(TECHNIQUES)}")
    return found


def main() -> None:
    given = arguments()
    if given.keep is not None:
        given.keep.mkdir(parents=True, exist_ok=True)
    print("| technique | cut | MACs left | same class | SQNR dB |\n|---|--:|--:|--:|--:|", flush=True)
    with tempfile.TemporaryDirectory() as folder, Worker() as worker:
        run(given, worker, Path(folder))


if __name__ == "__main__":
    main()
