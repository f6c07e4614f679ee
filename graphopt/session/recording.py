"""What a run leaves behind for a bundle, and the bundle made of it."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy

from graphopt.debug import bundle
from graphopt.debug.archive import Packing
from graphopt.debug.bundle import Manifest, PackedJob, PackedModel, PassHash
from graphopt.errors import GraphoptError, UsageError
from graphopt.instruments.hashes import Hashes
from graphopt.ir import decode
from graphopt.ir.text import to_text
from graphopt.pipeline.gate import Limits, Open
from graphopt.pipeline.protocol import Remark
from graphopt.report.brief import plain_data
from graphopt.report.summary import versions
from graphopt.session.job import Job
from graphopt.storage.copying import digest
from graphopt.storage.files import replacing
from graphopt.storage.source import Source
from graphopt.validation.labels import read_labels

if TYPE_CHECKING:
    from graphopt.session.calibrating import Calibrating
    from graphopt.session.result import Result
    from graphopt.validation.validate import Validator

_MOST_FEEDS = 1 << 30  # bytes of feeds that a bundle holds


class Recording:
    """Kept by `run` while it goes: hashes after passes, what knows the feeds, to compare on and to learn from, and
    the job as it was planned."""

    def __init__(self) -> None:
        self.hashes = Hashes()
        self.job: Job | None = None
        self.validating: Validator | None = None
        self.calibrating: Calibrating | None = None


def write_bundle(
    path: Path, source: Source, job: Job, recording: Recording, *,
    result: Result | None = None, error: GraphoptError | None = None, weights: bool = True,
) -> None:  # fmt: skip
    """Pack a run that ended with `result`, or with `error`, so that `replay` does it again.

    Raises UsageError for a job that only this process can run (a function of its own as metric or
    gate), and UsageError or OverLimit when the file cannot be written.
    """
    feeds, learned, notes = _all_feeds(recording)
    job = recording.job if recording.job is not None else job
    labels = None if job.labels is None else read_labels(job.labels)
    if feeds and labels is not None and recording.validating is not None:
        labels = recording.validating.labels  # those of the feeds that are packed
    if labels is not None and labels.dtype.hasobject:
        labels = labels.astype(np.str_)
    name = source.path.name if source.path is not None else "model.onnx"
    name = name if name.isprintable() and "\\" not in name else "model.onnx"
    manifest = Manifest(
        versions(),
        packed(job),
        PackedModel(name, source.sha256(), _external_hashes(source), weights),
        [PassHash(**dataclasses.asdict(one)) for one in recording.hashes.seen],
        feeds=len(feeds),
        labels=labels is not None,
        outcome=None if result is None else str(result.verdict.outcome),
        verdict=None if result is None else result.verdict.sentence(),
        failure=None if error is None else str(error).rstrip("."),
        notes=notes,
        learned=len(learned),
    )
    with replacing(path, "the bundle") as stream, Packing(stream) as pack:
        pack.text(bundle.MANIFEST, manifest.dump())
        pack.text(bundle.REMARKS, _lines(result.report.remarks if result is not None else []))
        if weights:
            for member, piece in _files(source, name):
                if isinstance(piece, Path):
                    pack.file(bundle.MODEL + member, piece)
                else:
                    with pack.member(bundle.MODEL + member) as out:
                        for one in piece:
                            out.write(one)
        else:
            pack.text(bundle.MODEL_TEXT, to_text(decode(source.proto, source.store)).encode())
        for folder, several in ((bundle.FEEDS, feeds), (bundle.CALIBRATION, learned)):
            for index, arrays in enumerate(several):
                with pack.member(f"{folder}{index:04d}.npz") as out:
                    _write_npz(out, arrays)
        if labels is not None:
            with pack.member(bundle.LABELS) as out:
                npy.write_array(out, labels, allow_pickle=False)


def packed(job: Job) -> PackedJob:
    """A job as plain values; UsageError for one that holds what only this process has."""
    if job.student is not None:
        raise UsageError("a bundle holds one model, and a run from a student has two")
    gate = Limits() if isinstance(job.gate, Open) else job.gate
    if not isinstance(gate, Limits):
        raise UsageError("a run with a gate of its own cannot be packed in a bundle; use --disable and --limit")
    if job.metric is not None and not isinstance(job.metric, str):
        raise UsageError("a run whose metric is a function cannot be packed in a bundle; name it as module:function")
    learned = None if job.calibration is None else job.calibration.feeds
    ordered = sorted(gate.disabled, key=lambda one: (one[0], one[1] or 0))
    return PackedJob(
        job.pipeline.text(full=True),
        job.recipe,
        [str(one) for one in job.budgets],
        str(job.feeds.feeds) if isinstance(job.feeds.feeds, str | Path) else None,
        [f"{name}={value}" for name, value in job.feeds.values.items()],
        [f"{name}={size}" for name, size in job.feeds.sizes.items()],
        str(job.labels) if isinstance(job.labels, str | Path) else None,
        job.metric,
        job.validate,
        job.on_error,
        [name if number is None else f"{name}:{number}" for name, number in ordered],
        gate.limit,
        list(job.only),
        job.until,
        job.check,
        job.seed,
        [str(one) for one in job.custom_ops],
        job.worker_seconds,
        job.worker_memory,
        str(learned) if isinstance(learned, str | Path) else None,
        job.limits.changed(),
    )


def _all_feeds(recording: Recording) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]:
    """The feeds that outputs were compared on and those that passes learned from, as arrays that a file can
    hold; or neither, because they may be halves of the same, and a note that says why."""
    validating, calibrating = recording.validating, recording.calibrating
    compared = None if validating is None else validating.gathered
    learned = None if calibrating is None else calibrating.gathered
    if learned is not None and compared is None and validating is not None:
        return [], [], ["the run ended before the feeds were known; they are made again by a replay"]
    found: list[list[dict[str, Any]]] = [[], []]
    size = 0
    for place, gathered in enumerate((compared, learned)):
        for feed in gathered or ():
            arrays = {name: _storable(value) for name, value in feed.values.items()}
            size += sum(one.nbytes for one in arrays.values() if one is not None)
            if any(one is None for one in arrays.values()):
                return [], [], ["the feeds hold values that an .npz file cannot; they are made again by a replay"]
            if size > _MOST_FEEDS:
                return [], [], [f"the feeds have more than {_MOST_FEEDS} bytes; they are made again by a replay"]
            found[place].append(arrays)
    return found[0], found[1], []


def _storable(value: Any) -> np.ndarray[Any, Any] | None:
    if not isinstance(value, np.ndarray):
        return None
    if value.dtype == object:
        return value.astype(np.str_) if all(isinstance(one, str) for one in value.ravel()) else None
    return value if value.dtype.kind in "biufcUS" else None


def _write_npz(stream: Any, arrays: dict[str, Any]) -> None:
    """As numpy.savez does, which takes no array called `file`."""
    with Packing(stream) as pack:
        for name, array in arrays.items():
            with pack.member(f"{name}.npy") as out:
                npy.write_array(out, np.asarray(array), allow_pickle=False)


def _files(source: Source, name: str) -> Iterator[tuple[str, Path | Iterator[memoryview | bytes]]]:
    if source.buffer is not None:
        yield name, iter([source.buffer])
        for file in source.external:
            yield os.path.normpath(file.location), file.path
        return
    from graphopt.storage.wire import join

    yield name, iter(join(source.proto, source.store))


def _external_hashes(source: Source) -> dict[str, str]:
    return {file.location: digest(file.path) for file in source.external}


def _lines(remarks: list[Remark]) -> bytes:
    return b"".join(json.dumps(plain_data(one)).encode() + b"\n" for one in remarks)
