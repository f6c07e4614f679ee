"""`graphopt optimize`: the main job."""

from __future__ import annotations

from pathlib import Path

import typer

from graphopt.cli import optimize_options as own
from graphopt.cli import options
from graphopt.cli.options import Debug, Json, Quiet, Verbose
from graphopt.cli.output import Output
from graphopt.cli.rewrites import gate_of, named
from graphopt.cli.running import Extras, optimized, show
from graphopt.errors import UsageError


def command(
    ctx: typer.Context,
    models: own.In,
    out: own.Out = None,
    in_place: own.InPlace = False,
    ort: own.Ort = None,
    keep: own.Keep = False,
    require_change: own.RequireChange = False,
    report: own.ReportFile = None,
    html: own.HtmlFile = None,
    remarks: own.RemarksFile = None,
    bundle: own.Bundle = None,
    bundle_on_failure: own.BundleOnFailure = None,
    no_weights: own.NoWeights = False,
    snapshots: own.Snapshots = None,
    out_dir: own.OutDir = None,
    workers: own.Workers = "1",
    cluster: own.Cluster = None,
    retries: own.Retries = "1",
    recipe: options.Recipe = None,
    pipeline: own.PipelineText = None,
    target: own.TargetOf = None,
    constant_inputs: own.ConstantInputs = False,
    student: own.Student = None,
    to: own.To = None,
    sensitivity: own.SensitivityFile = None,
    validate: own.ValidateWhen = "end",
    budget: options.BudgetOf = None,
    feeds: options.Feeds = None,
    calibration: options.Calibration = None,
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
    cache_dir: options.CacheDir = None,
    resume: options.Resume = False,
    allow_code: options.AllowCode = False,
    latency: own.Latency = False,
    remarks_for: own.RemarksFor = None,
    max_: options.Max = None,
    json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Optimize a model, validate the result against it, and write it if it holds."""
    output: Output = ctx.obj.ask(json=json, quiet=quiet, debug=debug, verbose=verbose)
    if out_dir is not None:
        from graphopt.cli.batch import run

        count = options.positive("--workers", workers)
        raise typer.Exit(run(ctx, models, out_dir, count, cluster, options.whole("--retries", retries), output))
    model = _alone(models, ctx)
    place = _place(model, out, in_place)
    from graphopt.session.choice import plan
    from graphopt.session.job import Job, Target

    steps, name, budgets, planner = plan(
        recipe=recipe,
        pipeline=pipeline,
        budget=budget,
        target=None if target is None else options.choice("--target", target, own.TARGETS),
        to=to,
        constant_inputs=constant_inputs,
        allow_code=allow_code,
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
        gate=gate_of(steps, disable, limit),
        only=named("--only", only, steps),
        until=named("--until", [until] if until is not None else [], steps)[0] if until is not None else None,
        snapshots=None if snapshots is None else Path(snapshots),
        latency=latency,
        seed=options.whole("--seed", seed),
        calibration=options.learned(calibration),
        cache_dir=options.cache(cache_dir, resume),
        custom_ops=tuple(Path(one) for one in custom_ops or ()),
        worker_seconds=options.seconds("--timeout", timeout),
        worker_memory=options.size("--memory", memory),
        progress=not quiet,
        planner=planner,
        student=None if student is None else Path(student),
        sensitivity=None if sensitivity is None else Path(sensitivity),
    )
    goal = Target(place, in_place, keep, require_change, None if ort is None else Path(ort))
    extras = Extras.of(report, html, remarks, bundle, bundle_on_failure, not no_weights)
    result = optimized(Path(model), job, goal, extras)
    show(result, output, remarks_for)
    raise typer.Exit(result.exit_code)


def _alone(models: list[str], ctx: typer.Context) -> str:
    if len(models) > 1:
        raise UsageError(f"there are {len(models)} models; name the folder of their results with --out-dir DIR")
    for name in ("workers", "cluster", "retries"):
        param = next(one for one in ctx.command.params if one.name == name)
        if ctx.params[name] != param.default:
            raise UsageError(f"{param.opts[-1]} is for a batch of models; give --out-dir DIR with it")
    return models[0]


def _place(model: str, out: str | None, in_place: bool) -> Path:
    if out is not None and in_place:
        raise UsageError("give either -o OUT or --in-place, not both")
    if out is None and not in_place:
        raise UsageError("name the output with -o OUT, or say --in-place to replace the input")
    return Path(model if out is None else out)
