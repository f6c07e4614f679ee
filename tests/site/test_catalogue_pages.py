"""The generated pages of the documentation, and that the site names pages that exist."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from graphopt.pipeline.recipe import Recipe
from graphopt.pipeline.registry import Registry

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_hook", REPOSITORY / "docs" / "site.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_pass_has_a_row_and_a_page_with_its_options(hook: ModuleType) -> None:
    registry = Registry.load()
    pages = [registry.page(name) for name in registry.names()]
    index = hook.index_text(pages)
    for page in pages:
        assert f"[{page.name}]({page.name}.md)" in index
        text = hook.pass_text(page)
        assert page.summary in text and text.count("```") == 2 * len(page.sections)
        assert all(f"| `{one.name}` |" in text for one in page.options)


def test_every_recipe_is_on_its_page(hook: ModuleType) -> None:
    text = hook.recipes_text([Recipe.load(name) for name in Recipe.list()])
    assert all(f"## {name}\n" in text for name in Recipe.list())


def test_cells_hold_what_would_end_them(hook: ModuleType) -> None:
    assert hook.cell("a | b\n<c>") == r"a \| b &lt;c>"


def test_the_site_names_every_page_once() -> None:
    text = (REPOSITORY / "mkdocs.yml").read_text()
    named = re.findall(r"(?:- |: )([\w/-]+\.md)$", text, re.MULTILINE)
    written = {str(one.relative_to(REPOSITORY / "docs")) for one in (REPOSITORY / "docs").rglob("*.md")}
    assert len(named) == len(set(named))
    assert written <= set(named)
    assert set(named) - written == {"passes/index.md", "recipes.md"}
