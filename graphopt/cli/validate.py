"""`graphopt validate`: does one model do what another does?"""

from __future__ import annotations

from typing import Annotated

import typer

from graphopt.cli import options
from graphopt.cli.running_options import Run, running

_CONTRACTS = ("exact", "rounding", "lossy")


@running
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
    labels: options.LabelsOf = None,
    metric: options.Metric = None,
    segments: Annotated[
        bool,
        typer.Option(
            "--segments",
            help="run the models a segment at a time and say which is wrong, as is done anyway where they would "
            "not fit in memory",
            rich_help_panel=options.JUDGE,
        ),
    ] = False,
    *,
    run: Run,
) -> None:
    """Run two models on the same inputs and say whether B does what A does."""
    held = None if contract is None else options.choice("--contract", contract, _CONTRACTS)
    plan = run.plan(labels)

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
        segments=segments,
        **run.limits,
    )
    run.output.show(verdict.to_json, lambda console: print_verdict(verdict, console, run.verbose))
    raise typer.Exit(verdict.exit_code)
