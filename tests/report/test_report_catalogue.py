"""The catalogue: what is listed, what is broken, and the page of a pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from page_text import page

from graphopt.contract import Contract
from graphopt.errors import UsageError
from graphopt.pipeline import Context, Pass, Recipe, Registry, option
from graphopt.pipeline.discovery import Broken
from graphopt.report.catalogue import catalogue, find, page_json, print_catalogue, print_page, print_recipe


@dataclass(frozen=True)
class Shuffle(Pass):
    """Shuffle [red]everything[/red].

    What it does:
      Precondition: none.

        y = f[0]

    When not: never.
    """

    name = "shuffle"
    contract = Contract.ROUNDING
    depth: int = option(3, "how deep [bold]")

    def run(self, graph: Any, ctx: Context) -> None:
        return None


BROKEN = Broken("odd", "odd.plugin:PASSES", "odd-passes", "1.2", "importing it failed with ValueError: [red]no[/red]")


@pytest.fixture
def registry() -> Registry:
    return Registry(Registry.of([Shuffle], family="tidy").entries, [BROKEN])


def test_the_table_lists_passes_with_family_contract_and_summary(registry: Registry) -> None:
    text = page(lambda console: print_catalogue(catalogue(registry), console))
    assert "shuffle  tidy    ROUNDING  Shuffle [red]everything[/red]." in text


def test_a_broken_plug_in_is_listed_with_its_reason(registry: Registry) -> None:
    found = catalogue(registry)
    text = page(lambda console: print_catalogue(found, console))
    assert "broken odd of odd-passes 1.2 (importing it failed with ValueError: [red]no[/red])" in text
    assert found.to_json()["broken"] == [
        {
            "family": "odd",
            "target": "odd.plugin:PASSES",
            "distribution": "odd-passes",
            "version": "1.2",
            "reason": BROKEN.reason,
        }
    ]


def test_a_recipe_whose_passes_are_missing_is_listed_with_its_reason(registry: Registry) -> None:
    found = catalogue(registry)
    assert found.recipes == ()
    assert [one.name for one in found.broken_recipes] == list(Recipe.list())
    assert "no pass is called" in found.broken_recipes[0].reason
    assert "broken recipe clean (" in page(lambda console: print_catalogue(found, console))


def test_the_page_of_a_pass_shows_its_text_as_it_is(registry: Registry) -> None:
    text = page(lambda console: print_page(registry.page("shuffle"), console))
    assert text.startswith("shuffle  ROUNDING  tidy\n\nShuffle [red]everything[/red].")
    assert "\nWhat it does\n" in text
    assert "y = f[0]" in text
    assert "\nWhen not\n  never." in text
    assert text.splitlines()[-1].split() == ["depth", "int", "3", "how", "deep", "[bold]"]


def test_the_page_as_data(registry: Registry) -> None:
    facts = page_json(registry.page("shuffle"))
    assert (facts["kind"], facts["contract"], facts["family"]) == ("pass", "ROUNDING", "tidy")
    assert facts["options"] == [{"name": "depth", "type": "int", "default": "3", "help": "how deep [bold]"}]
    assert list(facts["sections"]) == ["What it does", "When not"]


def test_the_page_of_a_recipe(registry: Registry) -> None:
    recipe = Recipe.parse('name = "all"\npipeline = "shuffle{depth=2}"\nbudget = ["sqnr_db>=9"]', registry)
    text = page(lambda console: print_recipe(recipe, console))
    assert "all  ROUNDING  recipe" in text
    assert "shuffle{depth=2}" in text
    assert "sqnr_db>=9" in text


def test_a_name_is_a_pass_or_a_recipe_or_the_nearest_of_them(registry: Registry) -> None:
    assert getattr(find("shuffle", registry), "name", "") == "shuffle"
    assert isinstance(find("clean"), Recipe)
    with pytest.raises(UsageError, match="no pass is called 'shufle'; did you mean 'shuffle'"):
        find("shufle", registry)
    with pytest.raises(UsageError, match="no pass or recipe is called 'claen'; did you mean 'clean'"):
        find("claen", registry)
    with pytest.raises(UsageError, match=r"recipe 'nowhere\.toml' does not exist"):
        find("nowhere.toml", registry)
