"""`graphopt demo`: the main job on the model that comes with graphopt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from graphopt.cli import options
from graphopt.cli.optimize_options import Keep, Latency, Out, ReportFile
from graphopt.cli.options import Debug, Json, Quiet, Verbose
from graphopt.cli.output import Output
from graphopt.cli.running import Extras, optimized

if TYPE_CHECKING:
    from rich.console import Console

_RECIPE = "int8-weights"


def command(
    ctx: typer.Context,
    out: Out = None,
    keep: Keep = False,
    report: ReportFile = None,
    recipe: options.Recipe = _RECIPE,
    budget: options.BudgetOf = None,
    latency: Latency = False,
    json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Optimize a small digit classifier: cleaned, its weights in 8 bits, and its accuracy before and after."""
    output: Output = ctx.obj.ask(json=json, quiet=quiet, debug=debug, verbose=verbose)

    from graphopt.demo import load_data, model_path
    from graphopt.report.comparison import accuracy_json, print_accuracy
    from graphopt.report.text import print_report
    from graphopt.session.choice import plan
    from graphopt.session.job import Job, Target
    from graphopt.validation.plan import FeedPlan

    data = load_data()
    steps, name, budgets, planner = plan(recipe=recipe or _RECIPE, pipeline=None, budget=budget)
    job = Job(
        steps,
        name,
        budgets,
        feeds=FeedPlan({"image": data.test}),
        labels=data.labels,
        metric="top1",
        validate="each",
        latency=latency,
        progress=not quiet,
        planner=planner,
        calibration=FeedPlan({"image": data.calibration}) if any(one.calibrates for one in steps.passes()) else None,
    )
    target = None if out is None else Target(Path(out), keep=keep)
    result = optimized(model_path(), job, target, Extras.of(report))

    def draw(console: Console) -> None:
        print_report(result.report, console, verbose)
        print_accuracy(result.verdict, len(data.labels), console)

    output.show(lambda: result.report.to_json() | accuracy_json(result.verdict, len(data.labels)), draw)
    raise typer.Exit(result.exit_code)
