"""The result in onnxruntime's own format too: converted, run, held against the original, and put beside it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from graphopt.contract import Contract
from graphopt.errors import CouldNotTell, NotEquivalent, UsageError
from graphopt.runtime.client import Options, Worker
from graphopt.runtime.failure import WorkerFailure
from graphopt.runtime.ort_format import SUFFIX, OrtFiles, to_ort
from graphopt.storage.files import check_place, replacing
from graphopt.validation.budget import Budget
from graphopt.validation.validate import Validator
from graphopt.validation.verdict import Verdict

Judge = Callable[[Path], Verdict]


def check_ort(place: Path, taken: Iterable[tuple[str, Path]] = (), flag: str = "--ort") -> list[tuple[str, Path]]:
    """See before a run that both files can be written, which are none of those `taken`: they are the next. Raises
    UsageError."""
    if place.suffix != SUFFIX:
        raise UsageError(f"{flag} {str(place)!r}: onnxruntime knows its format by the name; let it end in {SUFFIX}")
    files, others = OrtFiles.at(place), list(taken)
    check_place(files.model, others, flag=flag, what="the model in onnxruntime's format")
    check_place(files.operators, others, flag=flag, what="the list of its operators")
    return [(f"the file of {flag}", files.model), ("the list of operators beside it", files.operators)]


def judge_of(validating: Validator, contract: Contract, budgets: Iterable[Budget]) -> Judge:
    """The judge that holds a converted model against the original as its ONNX form was held: what onnxruntime's
    optimizations do, which are in it for good, is rounding."""
    of_outputs = tuple(one for one in budgets if one.is_of_outputs)  # its size is another matter than the result's
    loosest = max(contract, Contract.ROUNDING)
    return lambda path: validating.check(path, loosest, of_outputs if loosest is Contract.LOSSY else ())


def make_ort(
    model: Path, folder: Path, worker: Worker, judge: Judge | None, *, keep: bool = False
) -> tuple[str, OrtFiles]:
    """Convert `model` into `folder`, load the result, and judge it: a warning or an empty text, and its files there.

    Raises UsageError where onnxruntime cannot convert the model or not load what it made, NotEquivalent or
    CouldNotTell where the judge does not pass it; with `keep` that is a warning.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        made = to_ort(worker, model, folder)
        worker.load(made.model, Options()).close()
    except WorkerFailure as failure:
        if failure.kind in ("hang", "memory", "crash"):
            raise
        raise UsageError(f"{failure.message.rstrip('.')}; without --ort the model is written as ONNX alone") from None
    verdict = None if judge is None else judge(made.model)
    if verdict is None or verdict.exit_code == 0:
        return "", made
    why = f"the model in onnxruntime's format does not hold: {verdict.sentence()}"
    if keep:
        return why, made
    raise (CouldNotTell if verdict.exit_code == CouldNotTell.exit_code else NotEquivalent)(why)


def put_ort(made: OrtFiles, place: Path) -> OrtFiles:
    """Put converted files in place, the list first: a reader finds the old ones or the new ones, each whole.

    Raises UsageError or OverLimit where they cannot be written.
    """
    files = OrtFiles.at(place)
    for source, target, what in (
        (made.operators, files.operators, "the list of operators"),
        (made.model, files.model, "the model in onnxruntime's format"),
    ):
        with replacing(target, what, "; the model itself is written") as out, source.open("rb") as stream:
            shutil.copyfileobj(stream, out, 1 << 22)
    return files
