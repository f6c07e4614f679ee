"""Quantized models, ours and others': bytes, error and score on data that no tool saw, latency against float."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import graphopt
from benchmarks import peers
from benchmarks.cells import by_model, drop, table
from benchmarks.judged import Halves, ours, worth, written
from benchmarks.quantizers import TOOLS
from benchmarks.record import Record
from benchmarks.steady import NOISE
from benchmarks.suites import Asked, Model
from graphopt.errors import GraphoptError, UsageError
from graphopt.pipeline.recipe import Recipe

NAME: Final = "quantization"
HELP: Final = "quantizers on held-out data: bytes, SQNR, cosine, agreement, task metric, paired latency, CPU seconds"
RECIPES: Final = (
    "int8-weights",
    "int8-dynamic",
    "int8-static",
    "int8-auto",
    "int8-fitted",
    "int4-weights",
    "int4-small",
    "small-weights",
    "fp16",
    "int8-static@onnxruntime",
    "int8-auto@onnxruntime",
)
"""Ours, each with the target that its result is for, where that is not any runtime."""
ALLOWED: Final = 0.005
"""The drop of the metric within which a model counts as good as the original, in the table of the best."""
_ROUNDING: Final = 1e-9  # of the difference of two shares
_COLUMNS: Final = (
    "bytes", "of the original", "SQNR dB", "cosine", "agreement", "metric", "latency", "CPU s",
)  # fmt: skip
_QUANTIZERS: Final = Path(__file__).parents[1] / "quantizers.py"


def contenders(only: Sequence[str] = ()) -> list[str]:
    """Those of these names, all for none: a name of a contender, of a tool (`nncf`), or `graphopt:RECIPE[@TARGET]`,
    where a recipe may be a file.

    Raises UsageError for what is none.
    """
    known = [*(f"graphopt:{one}" for one in RECIPES), *TOOLS]
    found: list[str] = []
    for name in only:
        own = [one for one in known if name in (one, one.partition(":")[0])]
        if not own and name.startswith("graphopt:"):
            recipe = name.removeprefix("graphopt:").partition("@")[0]
            try:
                Recipe.load(recipe)
            except GraphoptError as error:
                raise UsageError(f"{name}: {str(error).rstrip('.')}") from None
            own = [name]
        if not own:
            raise UsageError(f"the suite {NAME} has no contender {name!r}; it has {', '.join(known)}")
        found += [one for one in own if one not in found]
    return found if only else known


def measure(models: Sequence[Model], asked: Asked) -> Iterator[Record]:
    """Every contender on every model that has data; what fails is a record with its reason."""
    wanted = contenders(asked.only)
    pythons = {"onnxruntime": Path(sys.executable), **asked.peers}  # graphopt itself needs onnxruntime
    tools = {one.partition(":")[0] for one in wanted}
    versions = {name: peers.version_at(name, python) for name, python in pythons.items() if name in tools}
    for model in models:
        left = [one for one in wanted if (model.name, one) not in asked.done]
        if not left:
            continue
        try:
            halves = model.halves()
        except GraphoptError as error:
            yield from (Record(NAME, model.name, one, "", failure=str(error)) for one in left)
            continue
        with tempfile.TemporaryDirectory(dir=asked.work, prefix="quantization-") as work:
            calibration = written(halves.learn, Path(work) / "calibration")
            for contender in left:
                tool = contender.partition(":")[0]
                version = graphopt.__version__ if tool == "graphopt" else versions.get(tool, "")
                yield _record(model.name, contender, version, halves, calibration, asked, pythons)


def _record(
    model: str,
    contender: str,
    version: str,
    halves: Halves,
    calibration: Path,
    asked: Asked,
    pythons: Mapping[str, Path],
) -> Record:
    tool, _, method = contender.partition(":")
    with tempfile.TemporaryDirectory(dir=asked.work, prefix="tool-") as folder:
        out = Path(folder) / "made.onnx"
        if tool == "graphopt":
            recipe, _, target = method.partition("@")
            recipe = str(Path(recipe).absolute()) if recipe.endswith(".toml") else recipe
            command = ours(halves, calibration, out, ["--recipe", recipe, *(["--target", target] if target else [])])
        elif tool in pythons:
            places = (_QUANTIZERS, halves.model, calibration, out)
            script, *rest = (str(place.absolute()) for place in places)
            command = [str(pythons[tool]), script, contender, *rest]
        else:
            reason = f"{tool} is not installed; python -m benchmarks fetch --peers brings it"
            return Record(NAME, model, contender, version, failure=reason)
        figures, words, failure = worth(command, halves, out, asked)
    return Record(NAME, model, contender, version, figures, words, failure)


def tables(records: Sequence[Record]) -> list[tuple[str, str]]:
    """The best of each tool on each model, then everything, a table for each model."""
    found = by_model(records, NAME)
    if not found:
        return []
    rest = [(f"Quantization of {model}", table(some, _COLUMNS)) for model, some in found.items()]
    return [("Quantization: the best that loses nothing", _best(found)), *rest]


def _best(found: Mapping[str, Sequence[Record]]) -> str:
    """By model, the smallest and the fastest file of each tool whose metric falls by at most `ALLOWED`."""
    tools = list(dict.fromkeys(one.contender.partition(":")[0] for some in found.values() for one in some))
    lines = ["| model | | " + " | ".join(tools) + " |", "|---|---|" + "---|" * len(tools)]
    for model, some in found.items():
        for said, name in (("smallest", "bytes_ratio"), ("fastest", "latency_ratio")):
            cells = [_least(some, tool, name) for tool in tools]
            lines.append(f"| {model} | {said} | " + " | ".join(cells) + " |")
    note = f"of the original's bytes or latency, among what loses at most {ALLOWED:.1%} of the metric (of the classes,"
    return "\n".join([*lines, "", f"{note} where there are no labels)."])


def _least(records: Sequence[Record], tool: str, name: str) -> str:
    own = [one for one in records if one.contender.partition(":")[0] == tool and name in one.figures]
    held = [one for one in own if (fall := drop(one)) is not None and fall <= ALLOWED + _ROUNDING]
    if not held:
        return "none"
    best = min(held, key=lambda one: one.figures[name])
    noise = f", {NOISE}" if name == "latency_ratio" and best.words.get("noise") == NOISE else ""
    return f"{best.figures[name]:.3f} {best.contender.partition(':')[2]}{noise}"
