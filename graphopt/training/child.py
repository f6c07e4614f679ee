"""What the child process does: reads a folder with a model, samples and a lesson, trains, and writes what it learnt."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.errors import GraphoptError
from graphopt.runtime.guard import be_modest, die_with_parent, limit_memory
from graphopt.runtime.procfs import available_memory

LESSON, WEIGHTS, LEARNT = "lesson.json", "weights.npz", "learnt.npz"
SAMPLES, EXPECTED, MODEL = "samples", "expected", "student.onnx"

_SHARE = 0.9  # of the memory that is free


def main() -> None:
    """Entry point: `child FOLDER LIFELINE PARENT MAIN_THREAD`."""
    folder, lifeline, parent, main_thread = Path(sys.argv[1]), *map(int, sys.argv[2:5])
    os.set_inheritable(lifeline, False)
    die_with_parent(lifeline, parent, bool(main_thread))
    be_modest()
    try:
        _tell({"done": True} | _train(folder))
    except _Refused as refused:
        _tell({"refused": str(refused)})
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "allocate" not in str(error):
            raise
        _tell({"refused": "training ran out of memory: give a smaller batch, or more with --memory"})
    sys.stdout.flush()
    # Not through the interpreter's shutdown: a library's destructors may crash or hang there.
    os._exit(0)


class _Refused(Exception):
    """The text is a clause."""


def _tell(said: Mapping[str, Any]) -> None:
    print(json.dumps(said), flush=True)  # noqa: T201 - the parent reads it


def _train(folder: Path) -> dict[str, Any]:
    lesson = json.loads((folder / LESSON).read_text())
    import torch

    from graphopt.analysis.lesson import Course
    from graphopt.training import checkpoint
    from graphopt.training.interpreted import Interpreted
    from graphopt.training.loop import Training
    from graphopt.training.losses import Term
    from graphopt.training.shelf import Samples

    torch.use_deterministic_algorithms(True, warn_only=True)
    free = lesson["memory"] or available_memory()
    if free:
        limit_memory(int(free if lesson["memory"] else free * _SHARE))
    course = Course(**lesson["course"])
    weights = _weights(folder, lesson["weights"])
    terms = [Term(**one) for one in lesson["terms"]]
    try:
        student = Interpreted(folder / MODEL)
        why = student.disagreement(weights, Samples(folder / EXPECTED))
    except GraphoptError as error:
        raise _Refused(str(error).rstrip(".")) from error
    if why is not None:
        raise _Refused(why)

    def say(step: int, loss: float, held: float) -> None:
        _tell({"step": step, "loss": loss, "held": held})

    training = Training(
        student,
        weights,
        terms,
        Samples(folder / SAMPLES),
        course,
        say,
        None if lesson["kept"] is None else Path(lesson["kept"]),
        lesson["seldom"],
    )
    try:
        outcome = training.run()
    except FloatingPointError as error:
        raise _Refused(str(error)) from error
    arrays = {}
    for index, one in enumerate(weights):
        values, scale = one.stored()
        arrays[f"{index}.values"] = values
        if scale is not None:
            arrays[f"{index}.scale"] = scale
    words = []
    for term in terms:
        before, after = outcome.parts[term.name]
        words.append(f"{term.name}: {term.words(before)} before, {term.words(after)} after")
    figures = {name: value for name, value in vars(outcome).items() if name != "parts"}
    figures |= {"parts": words, "samples": len(training.trained), "held_out": len(training.held)}
    checkpoint.write(folder / LEARNT, arrays, figures)
    return {}


def _weights(folder: Path, specs: Sequence[Mapping[str, Any]]) -> list[Any]:
    from graphopt.training.learnable import Learnable

    found = []
    with np.load(folder / WEIGHTS, allow_pickle=False) as stored:
        for index, spec in enumerate(specs):
            arrays = {
                name: stored[f"{index}.{name}"]
                for name in ("values", "scale", "zero", "near")
                if f"{index}.{name}" in stored.files
            }
            found.append(Learnable(**spec, **arrays))
    return found
