"""Answers lessons: gathers samples and the original's outputs, lets a child process train, keeps what it learnt."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import closing
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np

from graphopt.analysis.lesson import Array, Learnt, Lesson, Trainable
from graphopt.calibration.cache import Statistics
from graphopt.calibration.source import CalibrationData
from graphopt.calibration.tapped import Tapped
from graphopt.errors import GraphoptError
from graphopt.ir import Graph, encode
from graphopt.ir.encode import Encoded
from graphopt.runtime.client import Worker, WorkerFailure
from graphopt.storage.refused import refusals
from graphopt.storage.scratch import Scratch
from graphopt.storage.source import Source
from graphopt.storage.write import stage
from graphopt.training import checkpoint
from graphopt.training.child import EXPECTED, LEARNT, LESSON, MODEL, SAMPLES, WEIGHTS
from graphopt.training.gathering import Asked, Gathered, Gathering, Refused
from graphopt.training.process import Ended, told

MISSING: Final = "training needs PyTorch, which is not installed: pip install 'graphopt[distill]'"

KNOWN: Final = Statistics()
"""What the runs of this process have learnt: a pipeline that runs again trains once."""

SELDOM: Final = 15.0
"""Seconds between two checkpoints at least."""

_FORMAT: Final = 1  # raised where the same lesson comes to give something else
_FIGURES: Final = "figures"


class Trainer:
    """See `graphopt.pipeline.protocol.Training`. `say` hears how far it is."""

    def __init__(
        self,
        graph: Graph,
        worker: Worker,
        data: CalibrationData,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._graph, self._worker, self._data, self._say = graph, worker, data, say

    @property
    @refusals()
    def why_not(self) -> str | None:
        """Why nothing can be trained, in a clause."""
        if find_spec("torch") is None:
            return MISSING
        try:
            found = self._data.survey()
        except GraphoptError as error:
            return str(error).rstrip(". ")
        return None if found.count else "there are no feeds to train on"

    @refusals()
    def train(self, lesson: Lesson) -> Learnt | str:
        """See `graphopt.pipeline.protocol.Training.train`. Why nothing was learnt is noted for the user, too."""
        found = self._answer(lesson)
        if isinstance(found, str):
            note = f"nothing was trained: {found}"
            self._data.notes += [note] if note not in self._data.notes else []
        return found

    def _answer(self, lesson: Lesson) -> Learnt | str:
        why = self.why_not
        if why is not None:
            return why
        now = encode(self._graph.root)
        try:
            labels = self._labels(lesson)
        except Refused as refused:
            return str(refused)
        if labels is None and self._is_original(now):
            return "it is the model as it was read, so there is nothing to learn"
        key = self._key(lesson, now, labels)
        found = self._recalled(key)
        if found is None:
            try:
                found = self._trained(lesson, now, key, labels)
            except Refused as refused:
                return str(refused)
            except WorkerFailure as failure:
                return f"the model does not run on the calibration feeds: {str(failure).rstrip('. ')}"
            self._remember(key, *found)
        arrays, figures = found
        self._data.training[key] = {"figures": figures, **_shown(lesson)}
        return _learnt(lesson, arrays, figures)

    def _is_original(self, now: Encoded) -> bool:
        """Whether the student is its teacher to the last bit: no step could be one in the right direction."""
        before = self._data.original
        return Source(None, now.proto, now.store).sha256() == Source(None, before.proto, before.store).sha256()

    def _trained(
        self, lesson: Lesson, now: Encoded, key: str, labels: Array | None
    ) -> tuple[Mapping[str, Array], dict[str, Any]]:
        with Scratch("training") as name:
            folder = Path(name)
            self._say("distill: the original's outputs")
            gathered = self._gather(lesson, now, folder, labels)
            with stage(folder / MODEL, source=None) as staged:
                staged.put(now.proto, now.store)
                staged.commit()
            kept = self._kept(key)
            specs = _put_weights(lesson, self._originals(lesson), folder / WEIGHTS)
            told_first = {
                "course": dataclasses.asdict(lesson.course),
                "terms": gathered.terms,
                "weights": specs,
                "kept": None if kept is None else str(kept),
                "seldom": SELDOM,
                "memory": self._worker.memory,
            }
            (folder / LESSON).write_text(json.dumps(told_first))
            self._follow(folder, lesson.course.steps)
            found = checkpoint.read(folder / LEARNT)
            if found is None:
                raise Refused("the training process left no result")
            arrays, figures = found
            figures["notes"] = gathered.notes
            if kept is not None:
                kept.unlink(missing_ok=True)
            return arrays, figures

    def _follow(self, folder: Path, steps: int) -> None:
        """Listen to the child until it is done. Raises Refused."""
        done = False
        try:
            with closing(told(folder)) as words:
                for said in words:
                    if "refused" in said:
                        raise Refused(said["refused"])
                    if "step" in said:
                        loss, held = said["loss"], said["held"]
                        self._say(f"distill: step {said['step']} of {steps}, loss {loss:.4g}, held out {held:.4g}")
                    done = done or "done" in said
        except Ended as ended:
            raise Refused(f"the training process {ended}") from ended
        if not done:
            raise Refused("the training process ended before it was done")

    def _gather(self, lesson: Lesson, now: Encoded, folder: Path, labels: Array | None) -> Gathered:
        before = self._data.original
        (folder / SAMPLES).mkdir()
        (folder / EXPECTED).mkdir()
        teacher = Tapped(before.proto, before.store, self._worker, folder / "teacher")
        student = Tapped(now.proto, now.store, self._worker, folder / "student")
        outputs = tuple(name for name in student.outputs if teacher.makes(name) and student.makes(name))
        features = (
            tuple(one for one in lesson.features if teacher.makes(one.original)) if lesson.course.features else ()
        )
        asked = Asked(outputs, features)
        if not outputs:
            raise Refused("the model has no output that the original has, too")
        any_rows = teacher.takes_any_rows and student.takes_any_rows
        with teacher.values(asked.of_teacher) as one, student.values(asked.of_student) as two:
            numbers = set(asked.outputs) - set(one.others)
            asked = Asked(tuple(name for name in outputs if name in numbers), features)
            gathering = Gathering(self._data.feeds(), one, two, asked, any_rows, labels)
            return gathering.write(folder / SAMPLES, folder / EXPECTED, lesson.course)

    def _labels(self, lesson: Lesson) -> Array | None:
        """The labels of the samples, where the lesson asks for them. Raises Refused."""
        if not lesson.course.labels:
            return None
        try:
            labels = self._data.labels()
        except GraphoptError as error:
            raise Refused(str(error).rstrip(". ")) from error
        if labels is None:
            raise Refused(
                "it is to learn from labels, and the calibration samples have none: give --feeds and --labels"
            )
        if labels.dtype.kind not in "iu":
            raise Refused(f"labels of {labels.dtype.name} are no numbers of classes")
        return labels

    def _originals(self, lesson: Lesson) -> dict[str, Array]:
        """Weights of the model as it was read that codes may have been made of, by name."""
        wanted = {name for one in lesson.weights if one.grid is not None for name in one.originals}
        if not wanted:
            return {}
        from graphopt.ir import decode

        before = self._data.original
        graph = decode(before.proto, before.store)
        return {one.name: one.values for one in graph.initializers if one.name in wanted and one.dtype == np.float32}

    def _key(self, lesson: Lesson, now: Encoded, labels: Array | None) -> str:
        """A hash of everything that decides what is learnt."""
        features = [(one.value.name, one.original, [(a, k.tolist()) for a, k in one.kept]) for one in lesson.features]
        weights = [
            (one.name, one.masked, one.decays, one.originals, one.grid is not None and one.grid.scale_held is not None)
            for one in lesson.weights
        ]
        models = (Source(None, now.proto, now.store).sha256(), self._data.original.sha256())
        course = dataclasses.astuple(lesson.course)
        classes = None if labels is None else labels.tolist()
        told_all = (_FORMAT, _version(), models, self._data.survey().sha256, course, features, weights, classes)
        return hashlib.sha256(repr(told_all).encode()).hexdigest()

    def _kept(self, key: str) -> Path | None:
        return None if self._data.folder is None else self._data.folder / f"{key}.training.npz"

    def _recalled(self, key: str) -> tuple[Mapping[str, Array], dict[str, Any]] | None:
        known = KNOWN.get(key)
        if known is not None:
            arrays = {name: array for name, array in known.items() if name != _FIGURES}
            return arrays, json.loads(str(known[_FIGURES]))
        if self._data.folder is None:
            return None
        return checkpoint.read(self._data.folder / f"{key}.learnt.npz")

    def _remember(self, key: str, arrays: Mapping[str, Array], figures: Mapping[str, Any]) -> None:
        KNOWN.put(key, {**arrays, _FIGURES: np.array(json.dumps(figures))})
        if self._data.folder is not None:
            try:
                checkpoint.write(self._data.folder / f"{key}.learnt.npz", arrays, figures)
            except OSError as error:
                self._data.notes.append(f"what was learnt could not be kept in {str(self._data.folder)!r} ({error})")


def _put_weights(lesson: Lesson, originals: Mapping[str, Array], path: Path) -> list[dict[str, Any]]:
    """Write the weights as arrays of numpy's own types; what they are as plain data."""
    specs, arrays = [], dict[str, Array]()
    for index, one in enumerate(lesson.weights):
        spec: dict[str, Any] = {"name": one.name, "masked": one.masked, "decays": one.decays}
        grid = one.grid
        if grid is None:
            spec["kind"] = one.values.dtype.name
            arrays[f"{index}.values"] = one.values if one.values.dtype.kind == "f" else one.values.astype(np.float32)
        else:
            spec |= {"kind": grid.scale.dtype.name, "axis": grid.axis, "block": grid.block}
            spec |= {"low": grid.low, "high": grid.high, "trains_scale": grid.scale_held is not None}
            arrays[f"{index}.values"] = grid.codes.astype(np.int64)
            arrays[f"{index}.scale"] = grid.scale
            if grid.zero is not None:
                arrays[f"{index}.zero"] = grid.zero.astype(np.int64)
            near = next((originals[name] for name in one.originals if name in originals), None)
            if near is not None and near.shape == grid.codes.shape and np.isfinite(near).all():
                arrays[f"{index}.near"] = near
        specs.append(spec)
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return specs


def _learnt(lesson: Lesson, arrays: Mapping[str, Array], figures: Mapping[str, Any]) -> Learnt | str:
    """What the child wrote, in the types that the model stores."""
    if not figures["best"]:
        return f"no step made the loss on the samples that were held out smaller than {figures['before']:.4g}"
    values, scales = dict[Trainable, Array](), dict[Trainable, Array]()
    for index, one in enumerate(lesson.weights):
        old = one.values if one.grid is None else one.grid.codes
        new = arrays[f"{index}.values"].astype(old.dtype)
        if new.tobytes() != np.ascontiguousarray(old).tobytes():
            values[one] = new
        scale = arrays.get(f"{index}.scale")
        if scale is not None and one.grid is not None:
            scale = scale.astype(one.grid.scale.dtype)
            if scale.tobytes() != one.grid.scale.tobytes():
                scales[one] = scale
    return Learnt(
        values,
        scales,
        figures["before"],
        figures["after"],
        figures["steps"],
        figures["best"],
        figures["seconds"],
        figures["samples"],
        figures["held_out"],
        tuple(figures["parts"]),
        tuple(figures["notes"]),
    )


def _shown(lesson: Lesson) -> dict[str, Any]:
    return {"weights": len(lesson.weights), "features": len(lesson.features), **dataclasses.asdict(lesson.course)}


def _version() -> str:
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return "unknown"
