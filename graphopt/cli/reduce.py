"""`graphopt reduce`: the smallest part of a model that still fails."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graphopt.cli import optimize_options as own
from graphopt.cli import options
from graphopt.cli.rewrites import gate_of
from graphopt.cli.running_options import Run, running

Check = Annotated[
    str | None,
    typer.Option(
        "--check",
        metavar="CMD",
        help="a command of your own says what fails, with {model} and {feeds} for the files: exit 0 is good, "
        "125 cannot tell, anything else is bad",
        rich_help_panel=options.JUDGE,
    ),
]
Other = Annotated[
    str | None,
    typer.Option(
        "--against",
        metavar="B",
        help="what fails is that the model B gives something else than MODEL",
        rich_help_panel=options.JUDGE,
    ),
]
Report = Annotated[
    str | None,
    typer.Option(
        "--report",
        metavar="FILE",
        help="what `optimize --report FILE` wrote when it made B of MODEL",
        rich_help_panel=options.JUDGE,
    ),
]
Folder = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        metavar="DIR",
        help="a new folder for repro.onnx, feeds.npz and repro.py; MODEL's name and -repro unless given",
        rich_help_panel=options.WRITE,
    ),
]
Most = Annotated[
    str,
    typer.Option("--most", metavar="N", help="judge at most N parts; 1000 unless given", rich_help_panel=options.LIMIT),
]


@running
def command(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="the ONNX model on which something fails")],
    check: Check = None,
    against: Other = None,
    report: Report = None,
    recipe: options.Recipe = None,
    pipeline: own.PipelineText = None,
    out: Folder = None,
    budget: options.BudgetOf = None,
    disable: own.Disable = None,
    allow_code: options.AllowCode = False,
    most: Most = "1000",
    *,
    run: Run,
) -> None:
    """Find the smallest part of a model that still fails, with the values of a real run as its inputs.

    What fails is a command, the comparison with another model, or else what a pipeline makes of MODEL. Exits
    with 0 when nothing fails, with 1 when a part was found, with 6 when nothing can be said of the model.
    """
    from graphopt.report.reduced_page import print_reduced
    from graphopt.session.choice import plan
    from graphopt.session.job import Job
    from graphopt.session.reducing import asked, reduced

    limits = run.limits
    failing = asked(
        check, against, report, limits["worker_seconds"], {"--recipe": recipe, "-p": pipeline, "--disable": disable}
    )
    given = "" if failing.alone and pipeline is None else pipeline
    steps, name, budgets, _ = plan(recipe=recipe, pipeline=given, budget=budget, allow_code=allow_code)
    job = Job(
        steps,
        name,
        budgets,
        feeds=run.plan(),
        gate=gate_of(steps, disable, None),
        seed=limits["seed"],
        custom_ops=tuple(Path(one) for one in limits["custom_ops"]),
        worker_seconds=limits["worker_seconds"],
        worker_memory=limits["worker_memory"],
        progress=run.progress,
    )
    folder = Path(out) if out is not None else Path(f"{Path(model).stem}-repro")
    found = reduced(Path(model), job, failing, folder, options.whole("--most", most))
    run.output.show(found.to_json, lambda console: print_reduced(found, console, run.verbose))
    raise typer.Exit(found.exit_code)
