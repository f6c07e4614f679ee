"""What a run measures of its input and its output: files, counts, outputs, latency."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from graphopt.analysis.cost import Facts, Macs, facts, macs
from graphopt.analysis.shapes import infer
from graphopt.errors import BadModel
from graphopt.instruments.check import Check
from graphopt.ir import Graph, decode
from graphopt.report.summary import ModelRow
from graphopt.runtime.client import Options, Worker
from graphopt.runtime.failure import WorkerFailure
from graphopt.session.job import Job
from graphopt.storage.source import Source
from graphopt.storage.wire import join
from graphopt.storage.write import stage

if TYPE_CHECKING:
    from graphopt.measure.latency import Latency
    from graphopt.validation.validate import Validator


def on_disk(source: Source, folder: Path) -> Path:
    """The file that onnxruntime can load a model from: its own, or a copy of a model from memory."""
    if source.path is not None:
        return source.path
    folder.mkdir(parents=True, exist_ok=True)
    with stage(folder / "model.onnx", source=None) as staged:
        staged.put(source.proto, source.store)
        return staged.commit().path


_COMPRESSED = 1 << 28  # bytes; larger files are not compressed to see what that gives
_UNDEFINED = "No Op registered for"  # in the words of ONNX's checker
_SHAPELESS = "Field 'shape' of 'type' is required but missing"


def refuse_invalid(check: Check, reference: Path, worker: Worker, validated: bool) -> None:
    """Refuse an input that neither ONNX's checker nor onnxruntime takes for a model.

    Many models that the checker rejects run all the same; those are optimized, and the report
    says what the checker said. So is one with an operator that ONNX does not define, unless it is to be
    `validated`: other runtimes may bring it. Raises BadModel when onnxruntime rejects the model too.
    """
    fault = check.examine_input()
    if fault is None or (_UNDEFINED in fault and not validated):
        return
    try:
        worker.load(reference, Options(optimize=False, prepack=False)).close()
    except WorkerFailure as failure:
        if failure.kind == "rejected":
            if fault.startswith(
                _SHAPELESS
            ):  # that alone is no reason to refuse a model, and onnxruntime has told the reason
                fault = failure.message.rstrip(".")
            raise BadModel(f"the input is not a valid model: {fault}") from failure


def validator(source: Source, reference: Path, job: Job, worker: Worker) -> Validator:
    """The validator of a run: `reference` is the input's file."""
    from graphopt.validation.validate import Validator

    return Validator(
        reference,
        worker=worker,
        plan=job.judging,
        source=source,
        labels=job.labels,
        metric=job.metric,
        seed=job.seed,
        how="segments" if job.validate == "segments" else "auto",
    )


def input_row(source: Source, counted: Facts) -> ModelRow:
    """The size table's column of the input."""
    return ModelRow(
        str(source.path) if source.path is not None else None,
        source.size + sum(one.size for one in source.external),
        source.sha256(),
        counted,
        lambda: _macs(source),
        lambda: _compressed(source),
    )


def outgrown(written: Source) -> str:
    """That the weights of a model which was one file are beside it now, and why."""
    size = written.size + sum(one.size for one in written.external)
    return (
        f"its weights are in a file beside the model: in one file it would have about {size} bytes, and readers take "
        "no more than 2 GB"
    )


def output_row(written: Source, graph: Graph, before: ModelRow, changed: bool) -> ModelRow:
    """The size table's column of the result, whose file was read back as `written`."""
    if not changed:
        return before
    size = written.size + sum(one.size for one in written.external)
    return ModelRow(None, size, written.sha256(), facts(graph), lambda: _macs(written), lambda: _compressed(written))


def _compressed(source: Source) -> int | None:
    if source.external or source.size > _COMPRESSED:
        return None
    import zlib

    packer = zlib.compressobj()
    pieces = [source.buffer] if source.buffer is not None else join(source.proto, source.store)
    return sum(len(packer.compress(piece)) for piece in pieces) + len(packer.flush())


def _macs(source: Source) -> Macs:
    graph = decode(source.proto, source.store)
    return macs(graph, infer(graph))


def latency(validating: Validator, reference: Path, candidate: Path, worker: Worker) -> Latency:
    """Interleaved timing of input and result on the first feed, with onnxruntime's defaults."""
    from graphopt.measure.latency import compare_latency, timed

    feed = next(iter(validating.feeds()))
    options = timed(Options())
    with worker.load(reference, options) as before, worker.load(candidate, options) as after:
        return compare_latency(worker, before, after, feed.values)
