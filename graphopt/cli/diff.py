"""`graphopt diff`: what two models differ in, or what each pass of a run changed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graphopt.cli import options
from graphopt.cli.options import Debug, Json, Quiet, Verbose
from graphopt.cli.output import Output
from graphopt.errors import UsageError


def command(
    ctx: typer.Context,
    a: Annotated[str, typer.Argument(metavar="A", help="a model; with --changed a folder of snapshots")],
    b: Annotated[str | None, typer.Argument(metavar="B", help="the model to compare with it")] = None,
    report: Annotated[
        str | None,
        typer.Option(
            "--report",
            metavar="FILE",
            help="what `optimize --report FILE` wrote when it made B of A; names the rewrites that did it",
        ),
    ] = None,
    changed: Annotated[
        bool, typer.Option("--changed", help="a line a pass for the folder A that `optimize --snapshots` wrote")
    ] = False,
    max_: options.Max = None,
    json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Show what two models differ in as text, weights as dtype, shape and hash.

    Exits with 0 when their structure is the same and with 1 when it differs. Names inside of the models
    are no difference, and neither is the order of nodes.
    """
    output: Output = ctx.obj.ask(json=json, quiet=quiet, debug=debug, verbose=verbose)
    if changed:
        if b is not None or report is not None:
            raise UsageError("--changed takes one folder of snapshots; leave out B and --report")
        from graphopt.debug.changed import changed as changes
        from graphopt.report.difference_page import print_changed

        rows = changes(Path(a))
        facts = {"passes": [one.to_json() for one in rows], "exit_code": 1 if rows else 0}
        output.show(lambda: facts, lambda console: print_changed(rows, console))
        raise typer.Exit(1 if rows else 0)
    if b is None:
        raise UsageError("name two models, A and B; one folder of snapshots is read with --changed")
    from graphopt.report.difference_page import print_difference
    from graphopt.session.differing import diff

    found = diff(Path(a), Path(b), None if report is None else Path(report))
    output.show(found.to_json, lambda console: print_difference(found, console, verbose))
    raise typer.Exit(found.exit_code)
