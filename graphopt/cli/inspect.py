"""`graphopt inspect`: what a model is made of."""

from __future__ import annotations

from typing import Annotated

import typer

from graphopt.cli import options
from graphopt.cli.options import Debug, Json, Quiet, Verbose
from graphopt.cli.output import Output


def command(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="an ONNX model")],
    max_: options.Max = None,
    json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Show operators, sizes, opsets, inputs and outputs, and the weights with their sparsity."""
    from graphopt.ir import decode
    from graphopt.report.inspection import inspect
    from graphopt.report.inspection_page import print_inspection
    from graphopt.storage.read import read

    output: Output = ctx.obj.ask(json=json, quiet=quiet, debug=debug, verbose=verbose)
    source = read(model)
    found = inspect(
        decode(source.proto, source.store),
        source.proto,
        path=str(source.path),
        size=source.size,
        external=tuple((one.location, one.size) for one in source.external),
        sha256=source.sha256(),
    )
    output.show(found.to_json, lambda console: print_inspection(found, console, verbose))
