"""The Python API: load, save, optimize, validate. `graphopt` itself re-exports these."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import onnx

from graphopt.contract import Contract
from graphopt.ir import Graph, decode, encode
from graphopt.limits import limited
from graphopt.pipeline.pipeline import Pipeline
from graphopt.runtime.client import Worker
from graphopt.session.choice import plan
from graphopt.session.evidence import on_disk, validator
from graphopt.session.job import Job, Target, Validate
from graphopt.session.result import Result
from graphopt.session.run import run
from graphopt.storage.read import from_proto, read
from graphopt.storage.scratch import Scratch
from graphopt.storage.source import Source
from graphopt.storage.write import stage
from graphopt.validation.budget import parse_budgets
from graphopt.validation.endless import endless
from graphopt.validation.plan import FeedPlan, Given
from graphopt.validation.verdict import Outcome, Verdict

if TYPE_CHECKING:
    from graphopt.debug.finding import Finding
    from graphopt.validation.labels import Labels
    from graphopt.validation.metrics import Function

Model = str | os.PathLike[str] | onnx.ModelProto | Graph
Budgets = str | Sequence[str] | None


def load(path: str | os.PathLike[str]) -> Graph:
    """Read a model file. Weights stay in the file (memory-mapped) until they are asked for.

    Raises BadModel, Unsafe or OverLimit with one sentence.
    """
    source = read(path)
    graph = decode(source.proto, source.store)
    graph.__dict__["source"] = source
    return graph


def save(graph: Graph, path: str | os.PathLike[str], *, in_place: bool = False) -> Path:
    """Write the model whose main graph is `graph`, atomically; returns the path written.

    A graph that was loaded and not changed gives the bytes of its file. Above 2 GB the weights go
    to one file beside it by themselves. An existing file is replaced only once the new one is
    complete and was read back.

    Raises UsageError (the folder does not exist, or the graph was loaded from `path` and
    `in_place` is not set), Unsafe (`path` holds weights of the graph), OverLimit (no space).
    """
    encoded = encode(graph)
    source: Source | None = graph.__dict__.get("source")
    with stage(Path(path), source=source, in_place=in_place) as staged:
        if source is not None and encoded.proto.SerializeToString() == source.proto.SerializeToString():
            staged.copy(source)
        else:
            staged.put(encoded.proto, encoded.store)
        return staged.commit().path


def source_of(model: Model) -> Source:
    """A model given as a path, a message or a graph, as the rest of a run wants it.

    The caller's object is neither changed nor kept in step.
    """
    if isinstance(model, Graph):
        encoded = encode(model)
        return Source(None, encoded.proto, encoded.store)
    if isinstance(model, onnx.ModelProto):
        return from_proto(model, None)
    return read(model)


def optimize(
    model: Model,
    *,
    recipe: str | Path | None = None,
    pipeline: str | Pipeline | None = None,
    target: Literal["portable", "onnxruntime", "tensorrt", "openvino", "qnn"] | None = None,
    output: str | os.PathLike[str] | None = None,
    feeds: Given | FeedPlan | None = None,
    calibration: Given | FeedPlan | None = None,
    labels: Labels | None = None,
    metric: str | Function | None = None,
    budget: Budgets = None,
    to: str | None = None,
    validate: Validate = "end",
    seed: int = 0,
    constant_inputs: bool = False,
    allow_code: bool = False,
    html: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Result:
    """Optimize a model and validate the result against it. The caller's object is never changed.

    `model` is a path, a ModelProto or a Graph; `recipe` a name or a TOML file; `target` what the result is
    for: "portable" (unless given) keeps to standard ONNX, "onnxruntime" also uses operators that only
    onnxruntime has, the others are for recipes that quantize; `feeds` an npz file, a folder of them,
    "module:function", a mapping of arrays or several, or None to generate them; `calibration` the same, for
    passes that learn from samples (the first half of `feeds` unless given); `budget` texts
    such as "sqnr_db>=30", which LOSSY passes need; `to` what pruning is to reach, such as "latency=0.7" (of the
    original's; or macs, bytes) or "budget", as much as that allows; `constant_inputs` makes
    inputs that have a default value constants first; `allow_code` lets a recipe run code that it
    names; `options` are further fields of `Job`. With `output` the result is also written there,
    if its verdict allows, with `html` a page that shows every rewrite before and after.

    Look at `result.verdict` before using `result.graph`, or call `result.raise_unless_passed()`.
    Raises UsageError, BadModel, Unsafe, OverLimit, and InternalError for a pass that failed.
    """
    steps, name, budgets, planner = plan(
        recipe=recipe,
        pipeline=pipeline,
        budget=(budget,) if isinstance(budget, str) else tuple(budget or ()),
        target=target,
        to=to,
        constant_inputs=constant_inputs,
        allow_code=allow_code,
    )
    job = Job(
        steps,
        name,
        budgets,
        feeds if isinstance(feeds, FeedPlan) else FeedPlan(feeds),
        labels,
        metric,
        validate,
        seed=seed,
        planner=planner,
        calibration=_learned(calibration),
        **options,
    )
    with limited(job.limits):
        source, goal = source_of(model), Target(Path(output)) if output is not None else None
    if html is None:
        return run(source, job, goal)
    from graphopt.instruments.history import History
    from graphopt.report.html import save_page
    from graphopt.storage.files import check_place

    taken = [("the output", goal.path)] if goal is not None else []
    taken += [("the input", source.path)] if source.path is not None else []
    check_place(Path(html), taken, flag="html", what="the page")
    history = History()
    result = run(source, job, goal, None, history)
    save_page(Path(html), result.report, history)
    return result


def _learned(given: Given | FeedPlan | None) -> FeedPlan | None:
    return given if given is None or isinstance(given, FeedPlan) else FeedPlan(given)


def bisect(
    model: Model,
    *,
    recipe: str | Path | None = None,
    pipeline: str | Pipeline | None = None,
    check: str | None = None,
    feeds: Given | FeedPlan | None = None,
    calibration: Given | FeedPlan | None = None,
    labels: Labels | None = None,
    metric: str | Function | None = None,
    budget: Budgets = None,
    seed: int = 0,
    most: int = 100,
    **options: Any,
) -> Finding:
    """Find the rewrite that makes the result of a pipeline wrong (see `graphopt.session.bisecting.bisect`).

    `check` is a shell command with `{model}` in it that judges instead of validation; the other
    arguments are those of `optimize`. Look at `guilty`, `handle` and `together` of what is returned.
    """
    from graphopt.debug.command import Command
    from graphopt.session.bisecting import bisect as find_guilty

    steps, name, budgets, planner = plan(
        recipe=recipe, pipeline=pipeline, budget=(budget,) if isinstance(budget, str) else tuple(budget or ())
    )
    held = feeds if isinstance(feeds, FeedPlan) else FeedPlan(feeds)
    judged: Validate = "end" if check is None else "none"
    learned = _learned(calibration)
    job = Job(
        steps, name, budgets, held, labels, metric, judged,
        seed=seed, calibration=learned, planner=planner, **options,
    )  # fmt: skip
    command = None if check is None else Command(check, job.worker_seconds)
    with limited(job.limits):
        return find_guilty(source_of(model), job, check=command, most=most)


def validate(
    reference: Model,
    candidate: Model,
    *,
    contract: Contract | None = None,
    feeds: Given | FeedPlan | None = None,
    labels: Labels | None = None,
    metric: str | Function | None = None,
    budget: Budgets = None,
    seed: int = 0,
    segments: bool = False,
    custom_ops: Sequence[str | os.PathLike[str]] = (),
    worker_seconds: float = 600.0,
    worker_memory: int | None = None,
) -> Verdict:
    """Compare two models on the same inputs; the verdict says how far `candidate` moved.

    Without a `contract` it is LOSSY when a `budget` is given, else ROUNDING. With `segments` the
    models are run a segment at a time, as those that would not fit in memory are anyway. The other
    arguments are those of `optimize`.
    """
    budgets = parse_budgets((budget,) if isinstance(budget, str) else tuple(budget or ()))
    if contract is None:
        contract = Contract.LOSSY if budgets else Contract.ROUNDING
    job = Job(
        Pipeline(()),
        None,
        budgets,
        feeds if isinstance(feeds, FeedPlan) else FeedPlan(feeds),
        labels,
        metric,
        validate="segments" if segments else "end",
        seed=seed,
        custom_ops=tuple(Path(one) for one in custom_ops),
        worker_seconds=worker_seconds,
        worker_memory=worker_memory,
    )
    with ExitStack() as stack:
        work = stack.enter_context(Scratch())
        worker = stack.enter_context(Worker(seconds=worker_seconds, memory=worker_memory, custom_ops=job.custom_ops))
        first, second = source_of(reference), source_of(candidate)
        if (why := endless(second.proto)) is not None:
            return Verdict(Outcome.COULD_NOT_TELL, contract, reasons=(f"the second model cannot be run: {why}",))
        validating = stack.enter_context(validator(first, on_disk(first, work / "reference"), job, worker))
        return validating.check(on_disk(second, work / "candidate"), contract, budgets)
