"""`graphopt sensitivity`: what does each layer of a model tolerate?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graphopt.cli import options
from graphopt.cli.resuming import resumable
from graphopt.cli.running_options import Run, running


@running
def command(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="the model to look into")],
    layers: Annotated[
        list[str] | None,
        typer.Option(
            "--layers",
            metavar="PATTERN",
            help="only layers with such a name, of the weight or its node, as 'encoder*'; repeatable",
            rich_help_panel=options.CHOOSE,
        ),
    ] = None,
    ladder: Annotated[
        str | None,
        typer.Option(
            "--ladder",
            metavar="EPS,...",
            help="relative deviations of the noise; 0.003,0.01,0.03,0.1,0.3 unless given",
            rich_help_panel=options.RUN,
        ),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option("--seeds", metavar="N", help="draws of each noise; 2 unless given", rich_help_panel=options.RUN),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="measure least: two strengths, one draw", rich_help_panel=options.RUN)
    ] = False,
    verify: Annotated[
        str,
        typer.Option(
            "--verify",
            metavar="N",
            help="really quantize and thin so many layers, and say how well that was predicted",
            rich_help_panel=options.JUDGE,
        ),
    ] = "0",
    samples: Annotated[
        str,
        typer.Option(
            "--samples", metavar="N", help="of the feeds that are run; 16 unless given", rich_help_panel=options.RUN
        ),
    ] = "16",
    table: Annotated[
        str | None,
        typer.Option("--table", metavar="FILE", help="write what --json prints", rich_help_panel=options.WRITE),
    ] = None,
    html: Annotated[
        str | None,
        typer.Option("--html", metavar="FILE", help="write a page with the plot", rich_help_panel=options.WRITE),
    ] = None,
    plot: Annotated[
        str | None,
        typer.Option("--plot", metavar="FILE", help="write the plot alone (.svg)", rich_help_panel=options.WRITE),
    ] = None,
    calibration: options.Calibration = None,
    cache_dir: options.CacheDir = None,
    resume: options.Resume = False,
    *,
    run: Run,
) -> None:
    """Put noise on the weights of each layer, and predict what quantizing or pruning it would do to the outputs."""
    steps = None if ladder is None else options.numbers("--ladder", ladder)
    draws = None if seeds is None else options.whole("--seeds", seeds)
    most_samples = options.whole("--samples", samples)
    count = options.whole("--verify", verify)
    plan = run.plan()

    from graphopt.report.sensed import print_sensitivity
    from graphopt.report.sensitivity_files import check_files, save_files
    from graphopt.session.sensing import sensitivity

    files = {flag: Path(path) for flag, path in (("--table", table), ("--html", html), ("--plot", plot)) if path}
    given = {"the model": model, "the file of --feeds": run.feeds, "the file of --calibration": calibration}
    check_files(files, {what: Path(path) for what, path in given.items() if path is not None})
    folder = options.cache(cache_dir, resume)
    with resumable(True, folder):
        found = sensitivity(
            model,
            feeds=plan,
            calibration=options.learned(calibration),
            layers=tuple(layers or ("*",)),
            ladder=steps,
            seeds=draws,
            quick=quick,
            verify=count,
            samples=most_samples,
            cache_dir=folder,
            progress=run.progress,
            **run.limits,
        )
    save_files(files, found)
    run.output.show(found.to_json, lambda console: print_sensitivity(found, console, run.verbose))
