"""What the child process does: reads a folder with a model, samples and a lesson, trains, and writes what it learnt."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.errors import CouldNotTell, GraphoptError
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
    import torch

    memory, free = json.loads((folder / LESSON).read_text())["memory"], available_memory()
    if memory or free:
        limit_memory(int(memory or (free or 0) * _SHARE))
    torch.use_deterministic_algorithms(True, warn_only=True)
    answer(folder, _tell)
    sys.stdout.flush()
    # Not through the interpreter's shutdown: a library's destructors may crash or hang there.
    os._exit(0)


def _tell(said: Mapping[str, Any]) -> None:
    print(json.dumps(said), flush=True)  # noqa: T201 - the parent reads it


def answer(folder: Path, tell: Callable[[dict[str, Any]], None]) -> None:
    """Train what is in a folder. `tell` hears of steps, and at last that it is done, or in a clause why not."""
    try:
        _train(folder, tell)
    except (GraphoptError, FloatingPointError) as error:
        tell({"refused": str(error).rstrip(".")})
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "allocate" not in str(error):
            raise
        tell({"refused": "training ran out of memory: give a smaller batch, or more with --memory"})
    else:
        tell({"done": True})


def _train(folder: Path, tell: Callable[[dict[str, Any]], None]) -> None:
    lesson = json.loads((folder / LESSON).read_text())
    from graphopt.analysis.lesson import Course
    from graphopt.training import checkpoint
    from graphopt.training.interpreted import Interpreted
    from graphopt.training.loop import Training
    from graphopt.training.losses import Term
    from graphopt.training.shelf import Samples

    weights = _weights(folder, lesson["weights"])
    terms = [Term(**one) for one in lesson["terms"]]
    student = Interpreted(folder / MODEL)
    why = student.disagreement(weights, Samples(folder / EXPECTED))
    if why is not None:
        raise CouldNotTell(why)
    training = Training(
        student,
        weights,
        terms,
        Samples(folder / SAMPLES),
        Course(**lesson["course"]),
        lambda step, loss, held: tell({"step": step, "loss": loss, "held": held}),
        None if lesson["kept"] is None else Path(lesson["kept"]),
        lesson["seldom"],
    )
    outcome = training.run()
    arrays = {}
    for index, one in enumerate(weights):
        values, scale = one.stored()
        arrays[f"{index}.values"] = values
        if scale is not None:
            arrays[f"{index}.scale"] = scale
    words = []
    for term in terms:
        before, after = outcome.parts[term.target]
        words.append(f"{term.name}: {term.words(before)} before, {term.words(after)} after")
    figures = {name: value for name, value in vars(outcome).items() if name != "parts"}
    figures |= {"parts": words, "samples": len(training.trained), "held_out": len(training.held)}
    checkpoint.write(folder / LEARNT, arrays, figures)


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
