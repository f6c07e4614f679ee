"""`graphopt replay`: a bundle run again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graphopt.cli import options
from graphopt.cli.options import Debug, Json, Quiet, Verbose
from graphopt.cli.output import Output


def command(
    ctx: typer.Context,
    bundle: Annotated[
        str, typer.Argument(metavar="BUNDLE", help="what `optimize --bundle` or `bisect --bundle` wrote")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="MODEL",
            help="the model that was run, for a bundle written with --no-weights",
            rich_help_panel=options.RUN,
        ),
    ] = None,
    allow_code: options.AllowCode = False,
    max_: options.Max = None,
    json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run a bundle again and say whether it does the same to the last bit, or after which pass it first differs.

    Exits with 0 when it does the same, also where that is a failure, and with 1 when it differs.
    """
    output: Output = ctx.obj.ask(json=json, quiet=quiet, debug=debug, verbose=verbose)
    from graphopt.report.replay_page import print_replay
    from graphopt.session.replaying import replay

    done = replay(Path(bundle), model=None if model is None else Path(model), allow_code=allow_code, progress=not quiet)
    output.show(done.to_json, lambda console: print_replay(done.to_json(), console))
    raise typer.Exit(done.exit_code)
