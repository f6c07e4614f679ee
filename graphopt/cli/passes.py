"""`graphopt passes`: every pass and recipe that there is."""

from __future__ import annotations

import typer

from graphopt.cli.options import Debug, Json, Quiet, Verbose
from graphopt.cli.output import Output


def command(
    ctx: typer.Context, json: Json = False, verbose: Verbose = 0, quiet: Quiet = False, debug: Debug = False
) -> None:
    """List the passes and recipes that can be named, and plug-ins that are broken."""
    from graphopt.report.catalogue import catalogue, print_catalogue

    output: Output = ctx.obj.ask(json=json, quiet=quiet, debug=debug, verbose=verbose)
    found = catalogue()
    output.show(found.to_json, lambda console: print_catalogue(found, console))
