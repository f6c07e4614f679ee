"""`graphopt sensitivity`: what does each layer of a model tolerate?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graphopt.cli import options
from graphopt.cli.options import Debug, Json, Quiet, Verbose
from graphopt.cli.output import Output


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
    feeds: options.Feeds = None,
    calibration: options.Calibration = None,
    input_value: options.InputValues = None,
    dim: options.Dims = None,
    seed: options.Seed = "0",
    custom_ops: options.CustomOps = None,
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
    """Put noise on the weights of each layer, and predict what quantizing or pruning it would do to the outputs."""
    output: Output = ctx.obj.ask(json=json, quiet=quiet, debug=debug, verbose=verbose)
    steps = None if ladder is None else options.numbers("--ladder", ladder)
    draws = None if seeds is None else options.whole("--seeds", seeds)
    most_samples = options.whole("--samples", samples)
    count, number = options.whole("--verify", verify), options.whole("--seed", seed)
    clock, most = options.seconds("--timeout", timeout), options.size("--memory", memory)
    plan = options.feed_plan(feeds, None, input_value, dim)

    from graphopt.report.sensed import print_sensitivity
    from graphopt.report.sensitivity_files import check_files, save_files
    from graphopt.session.sensing import sensitivity

    files = {flag: Path(path) for flag, path in (("--table", table), ("--html", html), ("--plot", plot)) if path}
    given = {"the model": model, "the file of --feeds": feeds, "the file of --calibration": calibration}
    check_files(files, {what: Path(path) for what, path in given.items() if path is not None})
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
        seed=number,
        progress=not (quiet or json),
        cache_dir=options.cache(cache_dir, resume),
        worker_seconds=clock,
        worker_memory=most,
        custom_ops=custom_ops or (),
    )
    save_files(files, found)
    output.show(found.to_json, lambda console: print_sensitivity(found, console, verbose))
