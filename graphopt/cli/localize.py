"""`graphopt localize`: at which value does one model part from another?"""

from __future__ import annotations

from typing import Annotated

import typer

from graphopt.cli import options
from graphopt.cli.options import Debug, Json, Quiet, Verbose
from graphopt.cli.output import Output


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
    """Find the first value at which B parts from A, whatever it is called there; exits with 1 if there is one."""
    output: Output = ctx.obj.ask(json=json, quiet=quiet, debug=debug, verbose=verbose)
    limit = None if sqnr_db is None else options.decibels("--sqnr-db", sqnr_db)
    number, clock = options.whole("--seed", seed), options.seconds("--timeout", timeout)
    most = options.size("--memory", memory)
    plan = options.feed_plan(feeds, None, input_value, dim)

    from graphopt.report.localized import located_json, print_located
    from graphopt.session.comparing import localize

    found = localize(
        reference,
        candidate,
        report=report,
        feeds=plan,
        sqnr_db=limit,
        seed=number,
        worker_seconds=clock,
        worker_memory=most,
        custom_ops=custom_ops or (),
    )
    output.show(lambda: located_json(found), lambda console: print_located(found, console, verbose))
    raise typer.Exit(0 if found.first is None else 1)
