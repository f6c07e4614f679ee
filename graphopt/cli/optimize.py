"""`graphopt optimize`: the main job."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from graphopt.cli import optimize_options as own
from graphopt.cli import options
from graphopt.cli.options import Debug, Json, Quiet, Verbose
from graphopt.cli.output import Output
from graphopt.cli.running import optimized, show
from graphopt.errors import UsageError

if TYPE_CHECKING:
    from graphopt.pipeline.gate import Gate
    from graphopt.pipeline.pipeline import Pipeline


def command(
    ctx: typer.Context,
    model: own.In,
    out: own.Out = None,
    in_place: own.InPlace = False,
    keep: own.Keep = False,
    require_change: own.RequireChange = False,
    report: own.ReportFile = None,
    snapshots: own.Snapshots = None,
    recipe: options.Recipe = None,
    pipeline: own.PipelineText = None,
    target: own.TargetOf = None,
    validate: own.ValidateWhen = "end",
    budget: options.BudgetOf = None,
    feeds: options.Feeds = None,
    labels: options.LabelsOf = None,
    metric: options.Metric = None,
    input_value: options.InputValues = None,
    dim: options.Dims = None,
    seed: options.Seed = "0",
    custom_ops: options.CustomOps = None,
    only: own.Only = None,
    until: own.Until = None,
    disable: own.Disable = None,
    limit: own.Limit = None,
    on_error: own.OnErrorOf = "stop",
    timeout: options.Timeout = "600",
    memory: options.Memory = None,
    latency: own.Latency = False,
    json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Optimize a model, validate the result against it, and write it if it holds."""
    output: Output = ctx.obj.ask(json=json, quiet=quiet, debug=debug, verbose=verbose)
    place = _place(model, out, in_place)
    from graphopt.session.job import Job, Target, plan

    steps, name, budgets = plan(
        recipe=recipe,
        pipeline=pipeline,
        budget=budget,
        target=None if target is None else options.choice("--target", target, own.TARGETS),
    )
    job = Job(
        steps,
        name,
        budgets,
        feeds=options.feed_plan(feeds, labels, input_value, dim),
        labels=labels,
        metric=metric,
        validate=options.choice("--validate", validate, own.VALIDATE),
        on_error=options.choice("--on-error", on_error, own.ON_ERROR),
        gate=_gate(steps, disable, limit),
        only=_named("--only", only, steps),
        until=_named("--until", [until] if until is not None else [], steps)[0] if until is not None else None,
        snapshots=None if snapshots is None else Path(snapshots),
        latency=latency,
        seed=options.whole("--seed", seed),
        custom_ops=tuple(Path(one) for one in custom_ops or ()),
        worker_seconds=options.seconds("--timeout", timeout),
        worker_memory=options.size("--memory", memory),
        progress=not quiet,
    )
    goal = Target(place, in_place=in_place, keep=keep, require_change=require_change)
    result = optimized(Path(model), job, goal, None if report is None else Path(report))
    show(result, output)
    raise typer.Exit(result.exit_code)


def _place(model: str, out: str | None, in_place: bool) -> Path:
    if out is not None and in_place:
        raise UsageError("give either -o OUT or --in-place, not both")
    if out is None and not in_place:
        raise UsageError("name the output with -o OUT, or say --in-place to replace the input")
    return Path(model if out is None else out)


def _gate(steps: Pipeline, disable: Sequence[str] | None, limit: str | None) -> Gate:
    from graphopt.pipeline.gate import Limits, parse_disabled

    _named("--disable", [text.partition(":")[0] for text in disable or ()], steps)
    known = frozenset(one.name for one in steps.passes())
    return Limits(
        parse_disabled(tuple(disable or ()), known), None if limit is None else options.whole("--limit", limit)
    )


def _named(flag: str, names: Sequence[str] | None, steps: Pipeline) -> tuple[str, ...]:
    """Names of passes that the pipeline has; UsageError with the nearest for one that it has not."""
    known = sorted({one.name for one in steps.passes()})
    for name in names or ():
        if name not in known:
            from graphopt.pipeline.nearest import did_you_mean

            ending = did_you_mean(name, known) or f"; it has {', '.join(known) or 'none at all'}"
            raise UsageError(f"{flag} {name}: the pipeline has no such pass{ending}")
    return tuple(names or ())
