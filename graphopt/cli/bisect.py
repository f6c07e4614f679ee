"""`graphopt bisect`: which rewrite makes the result wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graphopt.cli import optimize_options as own
from graphopt.cli import options
from graphopt.cli.options import Debug, Json, Quiet, Verbose
from graphopt.cli.output import Output
from graphopt.cli.rewrites import gate_of
from graphopt.cli.running import Extras, bisected

Check = Annotated[
    str | None,
    typer.Option(
        "--check",
        metavar="CMD",
        help="judge models by a command of your own, with {model} for the file: exit 0 is good, 125 cannot tell, "
        "anything else is bad, and after --timeout it is ended; models are held to their contract unless given",
        rich_help_panel=options.JUDGE,
    ),
]
Most = Annotated[
    str,
    typer.Option(
        "--most",
        metavar="N",
        help="judge at most N models when no single rewrite is wrong alone; 100 unless given",
        rich_help_panel=options.LIMIT,
    ),
]


def command(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="the ONNX model that a pipeline breaks")],
    recipe: options.Recipe = None,
    pipeline: own.PipelineText = None,
    constant_inputs: own.ConstantInputs = False,
    check: Check = None,
    budget: options.BudgetOf = None,
    feeds: options.Feeds = None,
    calibration: options.Calibration = None,
    labels: options.LabelsOf = None,
    metric: options.Metric = None,
    input_value: options.InputValues = None,
    dim: options.Dims = None,
    seed: options.Seed = "0",
    custom_ops: options.CustomOps = None,
    disable: own.Disable = None,
    bundle: own.Bundle = None,
    no_weights: own.NoWeights = False,
    allow_code: options.AllowCode = False,
    most: Most = "100",
    timeout: options.Timeout = "600",
    memory: options.Memory = None,
    cache_dir: options.CacheDir = None,
    resume: options.Resume = False,
    max_: options.Max = None,
    json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Find the pass, and the rewrite in it, that makes the result of a pipeline wrong.

    Exits with 0 when nothing is wrong with the result of the whole pipeline, with 1 when a rewrite is
    found, with 6 when nothing can be said of the result.
    """
    output: Output = ctx.obj.ask(json=json, quiet=quiet, debug=debug, verbose=verbose)
    from graphopt.report.finding_page import print_finding
    from graphopt.session.bisecting import asked
    from graphopt.session.choice import plan
    from graphopt.session.job import Job

    clock = options.seconds("--timeout", timeout)
    evidence = {"--budget": budget, "--feeds": feeds, "--labels": labels, "--metric": metric}
    judging = asked(check, clock, evidence | {"--input-value": input_value, "--dim": dim})
    steps, name, budgets, planner = plan(
        recipe=recipe,
        pipeline=pipeline,
        budget=budget,
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
        validate="end" if judging is None else "none",
        gate=gate_of(steps, disable, None),
        seed=options.whole("--seed", seed),
        calibration=options.learned(calibration),
        cache_dir=options.cache(cache_dir, resume),
        custom_ops=tuple(Path(one) for one in custom_ops or ()),
        worker_seconds=clock,
        worker_memory=options.size("--memory", memory),
        progress=not quiet,
        planner=planner,
    )
    extras = Extras.of(bundle=bundle, weights=not no_weights)
    found = bisected(Path(model), job, judging, options.whole("--most", most), extras)
    output.show(found.to_json, lambda console: print_finding(found, console, verbose))
    raise typer.Exit(found.exit_code)
