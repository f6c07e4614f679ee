"""`graphopt localize`: at which value does one model part from another?"""

from __future__ import annotations

from typing import Annotated

import typer

from graphopt.cli import options
from graphopt.cli.running_options import Run, running


@running
def command(
    ctx: typer.Context,
    reference: Annotated[str, typer.Argument(metavar="A", help="the model that is right")],
    candidate: Annotated[str, typer.Argument(metavar="B", help="the model to look into")],
    report: options.MadeBy = None,
    sqnr_db: Annotated[
        str | None,
        typer.Option(
            "--sqnr-db",
            metavar="DB",
            help="values closer than this count as the same; from A's own rounding noise unless given",
            rich_help_panel=options.JUDGE,
        ),
    ] = None,
    *,
    run: Run,
) -> None:
    """Find the first value at which B parts from A, whatever it is called there; exits with 1 if there is one."""
    limit = None if sqnr_db is None else options.decibels("--sqnr-db", sqnr_db)
    plan = run.plan()

    from graphopt.report.localized import located_json, print_located
    from graphopt.session.comparing import localize

    found = localize(
        reference,
        candidate,
        report=report,
        feeds=plan,
        sqnr_db=limit,
        **run.limits,
    )
    run.output.show(lambda: located_json(found), lambda console: print_located(found, console, run.verbose))
    raise typer.Exit(0 if found.first is None else 1)
