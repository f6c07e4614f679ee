"""The passes and recipes that there are, as a table, and the page of one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from graphopt.contract import Contract
from graphopt.errors import UsageError
from graphopt.pipeline.nearest import did_you_mean, nearest
from graphopt.pipeline.page import PassPage
from graphopt.pipeline.recipe import Recipe
from graphopt.pipeline.registry import Broken, Entry, Registry
from graphopt.pipeline.tokens import shorten
from graphopt.report.plain import plain

_COLOURS = {Contract.EXACT: "green", Contract.ROUNDING: "yellow", Contract.LOSSY: "red"}


@dataclass(frozen=True)
class BrokenRecipe:
    """A built-in recipe that cannot be used, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Catalogue:
    """Everything that a pipeline can be made of, in the order of the registry, and what is broken."""

    passes: tuple[tuple[Entry, PassPage], ...]
    recipes: tuple[Recipe, ...]
    broken: tuple[Broken, ...]
    broken_recipes: tuple[BrokenRecipe, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        return {
            "passes": [
                page_json(page) | {"distribution": entry.distribution, "version": entry.version}
                for entry, page in self.passes
            ],
            "recipes": [recipe_json(one) for one in self.recipes],
            "broken": [
                {
                    "family": one.family,
                    "target": one.target,
                    "distribution": one.distribution,
                    "version": one.version,
                    "reason": one.reason,
                }
                for one in self.broken
            ],
            "broken_recipes": [{"name": one.name, "reason": one.reason} for one in self.broken_recipes],
        }


def catalogue(registry: Registry | None = None) -> Catalogue:
    """The installed passes and the built-in recipes (or those passes, and the recipes made of them)."""
    registry = Registry.load() if registry is None else registry
    recipes: list[Recipe] = []
    broken: list[BrokenRecipe] = []
    for name in Recipe.list():
        try:
            recipes.append(Recipe.load(name, registry))
        except UsageError as error:  # its passes are those of a broken plug-in
            broken.append(BrokenRecipe(name, str(error)))
    pages = tuple((entry, registry.page(entry.name)) for entry in registry.entries)
    return Catalogue(pages, tuple(recipes), registry.broken, tuple(broken))


def page_json(page: PassPage) -> dict[str, Any]:
    """The page of a pass as plain data for `json.dumps`."""
    return {
        "kind": "pass",
        "name": page.name,
        "family": page.family,
        "contract": str(page.contract),
        "summary": page.summary,
        "sections": {section.title: section.text for section in page.sections},
        "options": [
            {"name": one.name, "type": one.type_text, "default": one.default_text, "help": one.help}
            for one in page.options
        ],
    }


def recipe_json(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain data for `json.dumps`."""
    return {
        "kind": "recipe",
        "name": recipe.name,
        "description": recipe.description,
        "contract": str(recipe.pipeline.contract),
        "pipeline": str(recipe.pipeline),
        "budget": list(recipe.budget),
    }


def print_catalogue(found: Catalogue, console: Console) -> None:
    """Print the tables of passes and recipes, and what is broken with its reason."""
    console.print(_pass_table(found))
    console.print()
    console.print(_recipe_table(found))
    for broken in found.broken:
        console.print(f"\n[red]broken[/red] {plain(str(broken))}")
    for one in found.broken_recipes:
        console.print(f"\n[red]broken[/red] recipe {plain(one.name)} ({plain(one.reason)})")
    console.print("\n[dim]`graphopt explain NAME` shows the page of a pass or recipe[/dim]")


def print_page(page: PassPage, console: Console) -> None:
    """Print the page of a pass: what it does, when not to use it, its contract and its options."""
    console.print(f"[bold]{plain(page.name)}[/bold]  {_contract(page.contract)}  [dim]{plain(page.family)}[/dim]")
    console.print()
    console.print(plain(page.summary))
    for section in page.sections:
        console.print(f"\n[bold]{plain(section.title)}[/bold]")
        for line in section.text.splitlines():
            console.print(f"  {plain(line)}" if line else "", soft_wrap=True)
    if page.options:
        console.print("\n[bold]Options[/bold]")
        console.print(_option_table(page))


def print_recipe(recipe: Recipe, console: Console) -> None:
    """Print a recipe: what it is for, its passes and its budget."""
    console.print(f"[bold]{plain(recipe.name)}[/bold]  {_contract(recipe.pipeline.contract)}  [dim]recipe[/dim]")
    console.print()
    if recipe.description:
        console.print(plain(recipe.description))
        console.print()
    console.print(f"[bold]Pipeline[/bold]\n  {plain(str(recipe.pipeline))}", soft_wrap=True)
    if recipe.budget:
        console.print("\n[bold]Budget[/bold]")
        for bound in recipe.budget:
            console.print(f"  {plain(bound)}")


def _pass_table(found: Catalogue) -> Table:
    table = _table("pass", "family", "contract", "summary")
    for entry, page in found.passes:
        table.add_row(plain(entry.name), plain(entry.family), _contract(page.contract), plain(page.summary))
    return table


def _recipe_table(found: Catalogue) -> Table:
    table = _table("recipe", "budget", "contract", "summary")
    for one in found.recipes:
        budget = plain(" ".join(one.budget))
        table.add_row(plain(one.name), budget, _contract(one.pipeline.contract), plain(one.description))
    return table


def _option_table(page: PassPage) -> Table:
    table = _table("option", "type", "default", "", indent=2)
    for one in page.options:
        table.add_row(plain(one.name), plain(one.type_text), plain(one.default_text), plain(one.help))
    return table


def _table(*titles: str, indent: int = 0) -> Table:
    table = Table(box=None, pad_edge=bool(indent), padding=(0, 2, 0, indent), header_style="dim")
    for number, title in enumerate(titles):
        table.add_column(title, no_wrap=number == 0, overflow="fold")
    return table


def _contract(contract: Contract) -> str:
    return f"[{_COLOURS[contract]}]{contract}[/{_COLOURS[contract]}]"


def find(name: str, registry: Registry | None = None) -> PassPage | Recipe:
    """The page of the pass called `name`, or the recipe of that name (or file).

    Raises UsageError with the nearest of their names when there is neither.
    """
    registry = Registry.load() if registry is None else registry
    if name in registry.names():
        return registry.page(name)
    built_in = Recipe.list()
    if name in built_in or name.endswith(".toml") or "/" in name:
        return Recipe.load(name, registry)
    if nearest(name, registry.names()) is None:
        if near := did_you_mean(name, built_in):
            raise UsageError(f"no pass or recipe is called {shorten(name)!r}{near}")
        raise UsageError(
            f"no pass or recipe is called {shorten(name)!r}: `graphopt passes` lists them, and for a node of a model "
            "give the --report of its run"
        )
    return registry.page(name)
