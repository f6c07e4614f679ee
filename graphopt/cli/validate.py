"""`graphopt validate`: does one model do what another does?"""

from __future__ import annotations

from typing import Annotated

import typer

from graphopt.cli import options
from graphopt.cli.options import Debug, Json, Quiet, Verbose
from graphopt.cli.output import Output

_CONTRACTS = ("exact", "rounding", "lossy")


def command(
    ctx: typer.Context,
    reference: Annotated[str, typer.Argument(metavar="A", help="the model to compare with")],
    candidate: Annotated[str, typer.Argument(metavar="B", help="the model to judge")],
    contract: Annotated[
        str | None,
        typer.Option(
            "--contract",
            metavar="exact|rounding|lossy",
            help="how far B may differ: not in a bit, by rounding, within a --budget; "
            "rounding unless given, lossy with a budget",
            rich_help_panel=options.JUDGE,
            autocompletion=options.one_of(*_CONTRACTS),
        ),
    ] = None,
    budget: options.BudgetOf = None,
    feeds: options.Feeds = None,
    labels: options.LabelsOf = None,
    metric: options.Metric = None,
    input_value: options.InputValues = None,
    dim: options.Dims = None,
    seed: options.Seed = "0",
    segments: Annotated[
        bool,
        typer.Option(
            "--segments",
            help="run the models a segment at a time and say which is wrong, as is done anyway where they would "
            "not fit in memory",
            rich_help_panel=options.JUDGE,
        ),
    ] = False,
    custom_ops: options.CustomOps = None,
    timeout: options.Timeout = "600",
    memory: options.Memory = None,
    max_: options.Max = None,
    json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run two models on the same inputs and say whether B does what A does."""
    output: Output = ctx.obj.ask(json=json, quiet=quiet, debug=debug, verbose=verbose)
    held = None if contract is None else options.choice("--contract", contract, _CONTRACTS)
    number, clock = options.whole("--seed", seed), options.seconds("--timeout", timeout)
    limit = options.size("--memory", memory)
    plan = options.feed_plan(feeds, labels, input_value, dim)

    from graphopt.contract import Contract
    from graphopt.report.comparison import print_verdict
    from graphopt.session.api import validate

    verdict = validate(
        reference,
        candidate,
        contract=None if held is None else Contract[held.upper()],
        feeds=plan,
        labels=labels,
        metric=metric,
        budget=budget,
        seed=number,
        segments=segments,
        custom_ops=custom_ops or (),
        worker_seconds=clock,
        worker_memory=limit,
    )
    output.show(verdict.to_json, lambda console: print_verdict(verdict, console, verbose))
    raise typer.Exit(verdict.exit_code)
