"""`graphopt profile-error`: where does the error of a model come from?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graphopt.cli import options
from graphopt.cli.running_options import Run, running


@running
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
    *,
    run: Run,
) -> None:
    """Show how far every value of B lies from A, what of it is born where, and which layers to return to A's."""
    most_layers = options.whole("--top", top)
    plan = run.plan()

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
        **run.limits,
    )
    if plot is not None:
        save_plot(Path(plot), found)
    run.output.show(lambda: profile_json(found), lambda console: print_profile(found, console, run.verbose))
