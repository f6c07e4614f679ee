"""`graphopt profile-error`: where does the error of a model come from?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graphopt.cli import options
from graphopt.cli.options import Debug, Json, Quiet, Verbose
from graphopt.cli.output import Output


def command(
    ctx: typer.Context,
    reference: Annotated[str, typer.Argument(metavar="A", help="the original")],
    candidate: Annotated[str, typer.Argument(metavar="B", help="what was made of it")],
    report: options.MadeBy = None,
    top: Annotated[
        str,
        typer.Option(
            "--top", metavar="K", help="layers to return to A's values; 5 unless given", rich_help_panel=options.SHOW
        ),
    ] = "5",
    plot: Annotated[
        str | None,
        typer.Option("--plot", metavar="FILE", help="write a plot (.svg)", rich_help_panel=options.WRITE),
    ] = None,
    feeds: options.Feeds = None,
    input_value: options.InputValues = None,
    dim: options.Dims = None,
    seed: options.Seed = "0",
    custom_ops: options.CustomOps = None,
    timeout: options.Timeout = "600",
    memory: options.Memory = None,
    max_: options.Max = None,
    json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Show how far every value of B lies from A, what of it is born where, and which layers to return to A's."""
    output: Output = ctx.obj.ask(json=json, quiet=quiet, debug=debug, verbose=verbose)
    most_layers = options.whole("--top", top)
    number, clock = options.whole("--seed", seed), options.seconds("--timeout", timeout)
    most = options.size("--memory", memory)
    plan = options.feed_plan(feeds, None, input_value, dim)

    from graphopt.report.error_plot import check_plot, save_plot
    from graphopt.report.profiled import print_profile, profile_json
    from graphopt.session.comparing import profile_error

    if plot is not None:
        check_plot(Path(plot), (Path(reference), Path(candidate)))
    found = profile_error(
        reference,
        candidate,
        report=report,
        feeds=plan,
        top=most_layers,
        seed=number,
        worker_seconds=clock,
        worker_memory=most,
        custom_ops=custom_ops or (),
    )
    if plot is not None:
        save_plot(Path(plot), found)
    output.show(lambda: profile_json(found), lambda console: print_profile(found, console, verbose))
