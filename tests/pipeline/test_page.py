"""The page of a pass: summary, sections and options out of a class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from graphopt.pipeline import Context, Contract, Pass, Registry, option
from graphopt.pipeline.page import SECTIONS, PassPage, page


@dataclass(frozen=True)
class Sample(Pass):
    """Replace a thing
    by another thing.

    What it does
        Looks at `things`:

            first
              second

    Example
        before: Relu(Relu(x))
        after:  Relu(x)

    When not
        When a body captures the value.

    Contract
        EXACT, because copies are copies.

    Source
        Somebody, "Something", 2020.
    """

    name = "sample"
    contract = Contract.EXACT
    min_elements: int = option(256, "smallest tensor that is touched")
    side: Literal["left", "right"] = option("left", "where")
    skip: tuple[str, ...] = option((), "nodes to leave")
    seed: int | None = option(None, "of the noise")

    def run(self, graph: Any, ctx: Context) -> None:
        return None


def of(docstring: str | None) -> PassPage:
    return page(dataclass(frozen=True)(type("Sample", (Sample,), {"__doc__": docstring})))


def test_a_page_in_the_house_form() -> None:
    found = Registry.of([Sample], family="samples").page("sample")
    assert (found.name, found.family, found.contract) == ("sample", "samples", Contract.EXACT)
    assert found.summary == "Replace a thing by another thing."
    assert tuple(section.title for section in found.sections) == SECTIONS
    assert found.section("What it does") == "Looks at `things`:\n\n    first\n      second"
    assert found.section("Example") == "before: Relu(Relu(x))\nafter:  Relu(x)"
    assert found.section("Source") == 'Somebody, "Something", 2020.'
    assert found.section("Nothing") == ""


def test_the_options_of_a_page() -> None:
    assert [(o.name, o.field, o.type_text, o.default_text, o.help) for o in page(Sample).options] == [
        ("min-elements", "min_elements", "int", "256", "smallest tensor that is touched"),
        ("side", "side", "left|right", "left", "where"),
        ("skip", "skip", "[text, ...]", "[]", "nodes to leave"),
        ("seed", "seed", "int or none", "none", "of the noise"),
    ]


@pytest.mark.parametrize(
    "docstring",
    [
        "One.\n\nSource\n    Two.",
        "One.\n\nSource:\n    Two.",
        "One.\n\nsources::\n\n    Two.",
        "One.\n\nSource: Two.",
        "One.\n\nSource\n------\nTwo.",
        "One.\n\n## Source\n\nTwo.\n",
        "One.\n\n**Source:** Two.",
        "One.\n\n**Source**: Two.",
        "One.\nSource: Two.",
        "One.\nSource\n    Two.",
        "    One.\n\n    Source\n        Two.\n    ",
    ],
)
def test_titles_are_read_leniently(docstring: str) -> None:
    found = of(docstring)
    assert found.summary == "One." and [(s.title, s.text) for s in found.sections] == [("Source", "Two.")]


def test_text_before_the_first_title_says_what_the_pass_does() -> None:
    found = of("One.\n\nTwo: a source of x.\nThree.\n\nWhat it does\n    Four.\n\nWhen not: five\n    six")
    assert found.section("What it does") == "Two: a source of x.\nThree.\n\nFour."
    assert found.section("When not") == "five\nsix"


def test_a_title_inside_a_text_is_no_title() -> None:
    found = of("One.\n\nExample\n    Source\n    Contract: two\n")
    assert [(s.title, s.text) for s in found.sections] == [("Example", "Source\nContract: two")]


def test_empty_sections_are_left_out() -> None:
    assert of("One.\n\nExample\n\nSource\n").sections == ()


@pytest.mark.parametrize("docstring", [None, "", "   "])
def test_a_pass_without_a_docstring_has_an_empty_page(docstring: str | None) -> None:
    found = of(docstring)
    assert (found.summary, found.sections) == ("", ())


def test_the_family_of_a_class_that_is_not_registered(registry: Registry) -> None:
    outside: type[Sample] = dataclass(frozen=True)(type("Outside", (Sample,), {"__module__": "passes.tidy.outside"}))
    assert registry.page(outside).family == "tidy"
    assert registry.page(registry.get("sweep")).family == "samples"
