"""The command line. This module imports nothing heavy: `graphopt --help` and completion must be quick."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from graphopt.cli import (
    bench,
    bisect,
    demo,
    diff,
    explain,
    inspect,
    localize,
    optimize,
    passes,
    profile_error,
    reduce,
    replay,
    sensitivity,
    tune,
    validate,
)
from graphopt.cli.group import Commands
from graphopt.cli.usage import SubCommand

_EXIT_CODES = """
\b
Exit codes:
  0    done: validated, or validation switched off and said so
  1    not equivalent, or over budget
  2    the command line, a recipe, feeds or labels are wrong
  3    not a model that can be read
  4    refused as unsafe
  5    over a limit of time, memory or size
  6    validation could not tell
  70   a fault of graphopt or of a pass
  130  interrupted (143 on SIGTERM, 129 when the terminal was closed)
"""

app = typer.Typer(
    name="graphopt",
    cls=Commands,
    help="Optimize ONNX models after export, and show that they still hold.",
    epilog=_EXIT_CODES,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from graphopt import __version__

        typer.echo(f"graphopt {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Optimize ONNX models after export, and show that they still hold."""


for _name, _function, _short in (
    ("optimize", optimize.command, "Optimize a model, validate it, write it."),
    ("demo", demo.command, "Optimize the model that comes with graphopt."),
    ("passes", passes.command, "List all passes and recipes."),
    ("explain", explain.command, "Show a pass's page, or what became of a node."),
    ("validate", validate.command, "Compare two models on the same inputs."),
    ("bench", bench.command, "Measure models side by side."),
    ("tune", tune.command, "Search for the best pipeline for a model."),
    ("bisect", bisect.command, "Find the rewrite that makes a result wrong."),
    ("reduce", reduce.command, "Find the smallest part of a model that fails."),
    ("replay", replay.command, "Run a bundle again: the same, or where not."),
    ("diff", diff.command, "Show what two models differ in."),
    ("localize", localize.command, "Find the first value at which two models part."),
    ("profile-error", profile_error.command, "Show where the error of a model comes from."),
    ("sensitivity", sensitivity.command, "Predict what each layer tolerates."),
    ("inspect", inspect.command, "Show what a model is made of."),
):
    app.command(_name, cls=SubCommand, short_help=_short)(_function)


def main() -> None:
    """The console script `graphopt`."""
    # numpy's linear algebra starts a thread a core when it is imported, and they spin: a fifth of the time of
    # a run on a small model. Models are computed by onnxruntime, whose threads are its own.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    app()
