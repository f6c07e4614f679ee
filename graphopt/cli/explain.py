"""`graphopt explain`: the page of a pass or recipe, the limits, or what became of a node."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from graphopt.cli.options import Debug, Json, Quiet, Verbose, passes, recipes
from graphopt.cli.output import Output

if TYPE_CHECKING:
    from rich.console import Console


def command(
    ctx: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="a pass, a recipe, or `limits`; with --report a node, a value, or a rewrite as PASS:NUMBER",
            autocompletion=lambda incomplete: [*passes(incomplete), *recipes(incomplete)],
        ),
    ],
    report: Annotated[
        str | None,
        typer.Option(
            "--report", metavar="FILE", help="what `optimize --report FILE` wrote", rich_help_panel="What to explain"
        ),
    ] = None,
    json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Show the page of a pass; or, from a report, what became of a node and why."""
    output: Output = ctx.obj.ask(json=json, quiet=quiet, debug=debug, verbose=verbose)
    if report is not None:
        from graphopt.report.explanation import explain, print_story
        from graphopt.report.saved import read_report

        story = explain(read_report(Path(report)), name)
        output.show(story.to_json, lambda console: print_story(story, console, verbose))
        return
    if name == "limits":
        from graphopt.report.ceilings import ceilings_json, print_ceilings

        output.show(ceilings_json, print_ceilings)
        return
    from graphopt.pipeline.recipe import Recipe
    from graphopt.report.catalogue import find, page_json, print_page, print_recipe, recipe_json

    found = find(name)
    if isinstance(found, Recipe):
        output.show(lambda: recipe_json(found), lambda console: print_recipe(found, console))
        return
    if name not in Recipe.list():
        output.show(lambda: page_json(found), lambda console: print_page(found, console))
        return
    recipe = Recipe.load(name)  # a pass and the recipe that is made of it may share a name

    def both(console: Console) -> None:
        print_page(found, console)
        console.print()
        print_recipe(recipe, console)

    output.show(lambda: {**page_json(found), "recipe": recipe_json(recipe)}, both)
