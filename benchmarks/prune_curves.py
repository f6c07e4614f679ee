"""Class agreement of pruned networks at several cuts, each technique a line.

usage: python -m benchmarks.prune_curves --corpus DIR [--model efficientnet_lite0_op13_bn] [--cuts 0.1,0.2,0.3,0.4,0.5]
                                         [--techniques 'second-order, repair;...'] [--samples 100] [--steps 80]
                                         [--flips] [--crops N] [--json FILE] [--table FILE] [--keep DIR]

Calibrated on the first half of a model's data, measured on the second. Each cell is the share of samples that get the
class that the float model gives them, and the SQNR of the output in dB; MACs are those of the file that was made.
--flips adds each calibration image mirrored, --crops N parts of each: what more data would do. A technique that ends in
`distill` trains what the one without made (extra `distill`). --table writes the cells of a JSON file as Markdown.
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
from graphopt.errors import GraphoptError
from graphopt.ir import decode
from graphopt.runtime.client import Worker
from graphopt.storage.read import read

Array = np.ndarray[Any, Any]

_CHANNELS: Final = {
    "magnitude": "channels{{share={cut} multiple=8 importance=magnitude allocation=even repair=false}}",
    "magnitude, repair": "channels{{share={cut} multiple=8 importance=magnitude allocation=even}}",
    "activation, repair": "channels{{share={cut} multiple=8 importance=activation}}",
    "second-order": "channels{{share={cut} multiple=8 repair=false}}",
    "second-order, repair": "channels{{share={cut} multiple=8}}",
}
_TRAINING: Final = "distill{{steps={steps}}}"
TECHNIQUES: Final = {
    **{name: (pruning, "") for name, pruning in _CHANNELS.items()},
    "second-order, repair, distill": (
        _CHANNELS["second-order, repair"],
        "distill{{steps={steps}}}",
    ),
    "blocks, repair": ("blocks{{share={cut}}},reconstruct", ""),
    "low-rank": ("low-rank{{share={cut}}}", ""),
}
"""By name, the passes behind those that clean up: what prunes, and what trains the result."""


def cropped(images: Array, times: int, seed: int = 0) -> Array:
    """Parts of images, of 80 to 100 % of each side, as large as the whole by linear interpolation, half of them
    mirrored: `times` of each."""
    draw = np.random.default_rng(seed)
    found = np.empty((times * len(images), *images.shape[1:]), images.dtype)
    side = images.shape[-1]
    for at, image in enumerate(np.tile(images, (times, 1, 1, 1))):
        length = int(draw.integers(side * 4 // 5, side + 1))
        top, left = draw.integers(0, side + 1 - length, 2)
        part = image[:, top : top + length, left : left + length]
        places = np.linspace(0, length - 1, side)
        low = places.astype(np.int64)
        high, weight = np.minimum(low + 1, length - 1), (places - low).astype(images.dtype)
        part = part[:, low] * (1 - weight)[:, None] + part[:, high] * weight[:, None]
        part = part[:, :, low] * (1 - weight) + part[:, :, high] * weight
        found[at] = part[..., ::-1] if draw.random() < 0.5 else part
    return found


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
    held_out = case.loader(corpus, original, Rows(1, None))
    before = flat(original.outputs(held_out.feeds))
    original.close()
    calibration: dict[str, Any] = dict(known.feeds) if isinstance(known.feeds, dict) else {}
    plain = dict(calibration)
    if given.flips:
        calibration = {k: np.concatenate([v, v[..., ::-1]]) for k, v in calibration.items()}
    if given.crops:
        calibration = {k: np.concatenate([v, cropped(plain[k], given.crops)]) for k, v in calibration.items()}
    clean = folder / "clean.onnx"
    graphopt.optimize(path, recipe="default", validate="none", output=clean)
    whole = products(clean)
    for technique in given.techniques.split(";"):
        for cut in given.cuts.split(","):
            try:
                out = made(clean, technique, cut, calibration, given)
            except GraphoptError as error:
                print(f"| {technique} | {cut} | {error} | | |", flush=True)
                continue
            pruned = Original(out, worker)
            agreement, sqnr = cell(before, flat(pruned.outputs(held_out.feeds)))
            pruned.close()
            left = products(out) / whole
            print(f"| {technique} | {cut} | {left:.3f} | {agreement:.3f} | {sqnr:.2f} |", flush=True)
            if given.json is not None:
                line = {"model": case.name, "technique": technique, "cut": float(cut), "macs": left}
                line |= {"flips": given.flips, "crops": given.crops, "samples": len(next(iter(calibration.values())))}
                with given.json.open("a") as lines:
                    lines.write(json.dumps({**line, "agreement": agreement, "sqnr_db": sqnr}) + "\n")


def made(clean: Path, technique: str, cut: str, calibration: dict[str, Any], given: argparse.Namespace) -> Path:
    """The model that a technique makes; what prunes is run once for all that begin with it."""
    pruning, training = TECHNIQUES[technique]
    folder = given.keep or clean.parent
    first = folder / f"{clean.stem}.{_named(pruning.format(cut=cut))}.onnx"
    if not first.exists():
        pipeline = pruning.format(cut=cut)
        graphopt.optimize(clean, pipeline=pipeline, calibration=calibration, validate="none", output=first)
    if not training:
        return first
    out = folder / f"{first.stem}.distill-{given.steps}.onnx"
    graphopt.optimize(
        clean, student=first, pipeline=training.format(cut=cut, steps=given.steps), calibration=calibration,
        validate="none", output=out,
    )  # fmt: skip
    return out


def _named(text: str) -> str:
    return "".join(one if one.isalnum() or one in "-." else "_" for one in text)


def table(path: Path) -> str:
    """The cells of a JSON file as a Markdown table, a technique a line."""
    cells = [json.loads(line) for line in path.read_text().splitlines()]
    cuts = sorted({one["cut"] for one in cells})
    found = {(one["technique"], one.get("flips", False), one.get("crops", 0), one["cut"]): one for one in cells}
    rows = ["| technique | " + " | ".join(f"-{cut:.0%}" for cut in cuts) + " |", "|---|" + "--:|" * len(cuts)]
    for technique, flips, crops in dict.fromkeys(key[:3] for key in found):
        data = (", mirrored" if flips else "") + (f", {crops} parts" if crops else "")
        each = [found.get((technique, flips, crops, cut)) for cut in cuts]
        texts = ["" if one is None else f"{one['agreement']:.0%} ({one['sqnr_db']:.1f} dB)" for one in each]
        rows.append(f"| {technique}{data} | " + " | ".join(texts) + " |")
    return "\n".join(rows)


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=os.environ.get("GRAPHOPT_CORPUS"))
    parser.add_argument("--fetch", type=Path, metavar="DIR", help="where models are that the corpus does not keep")
    parser.add_argument("--model", default="efficientnet_lite0_op13_bn")
    parser.add_argument("--cuts", default="0.1,0.2,0.3,0.4,0.5", help="shares of the multiply-accumulates to save")
    parser.add_argument("--techniques", default=";".join(TECHNIQUES), help="names of techniques, separated by ;")
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--flips", action="store_true", help="calibrate on mirrored images too")
    parser.add_argument("--crops", type=int, default=0, metavar="N", help="calibrate on N parts of each image, too")
    parser.add_argument("--steps", type=int, default=80, help="of training, where a technique trains")
    parser.add_argument("--json", type=Path, metavar="FILE", help="a line for each cell is added to it")
    parser.add_argument("--table", type=Path, metavar="FILE", help="print the cells of such a file, and run nothing")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the models there")
    found = parser.parse_args(given)
    if found.table is None and (found.corpus is None or not Path(found.corpus).is_dir()):
        parser.error("there is no corpus; give its folder as --corpus or in the variable GRAPHOPT_CORPUS")
    unknown = [one for one in found.techniques.split(";") if one not in TECHNIQUES]
    if unknown:
        parser.error(f"there is no technique {unknown[0]!r}; there are {'; '.join(TECHNIQUES)}")
    return found


def main() -> None:
    given = arguments()
    if given.table is not None:
        print(table(given.table))
        return
    if given.keep is not None:
        given.keep.mkdir(parents=True, exist_ok=True)
    print("| technique | cut | MACs left | same class | SQNR dB |\n|---|--:|--:|--:|--:|", flush=True)
    with tempfile.TemporaryDirectory() as folder, Worker() as worker:
        run(given, worker, Path(folder))


if __name__ == "__main__":
    main()
