"""A hook of MkDocs: the catalogue of passes and recipes, made from what is installed."""

from __future__ import annotations

from typing import Any

from graphopt.pipeline.page import PassPage
from graphopt.pipeline.recipe import Recipe
from graphopt.pipeline.registry import Registry


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages to those of the folder."""
    from mkdocs.structure.files import File

    registry = Registry.load()
    pages = [registry.page(name) for name in registry.names()]
    made = {f"passes/{page.name}.md": pass_text(page) for page in pages}
    made["passes/index.md"] = index_text(pages)
    made["recipes.md"] = recipes_text([Recipe.load(name) for name in Recipe.list()])
    for place, text in made.items():
        files.append(File.generated(config, place, content=text))
    return files


def index_text(pages: list[PassPage]) -> str:
    """The table of all passes, family by family."""
    lines = ["# All passes", "", f"{len(pages)} passes; `graphopt passes` lists those that are installed."]
    for family in dict.fromkeys(page.family for page in pages):
        lines += ["", f"## {family}", "", "| pass | contract | |", "|---|---|---|"]
        some = [page for page in pages if page.family == family]
        lines += [f"| [{one.name}]({one.name}.md) | {one.contract} | {cell(one.summary)} |" for one in some]
    return "\n".join(lines) + "\n"


def pass_text(page: PassPage) -> str:
    """The page of a pass: its docstring's sections as they are, and its options."""
    lines = [f"# {page.name}", "", f"*{page.family}, {page.contract}*", "", page.summary]
    for section in page.sections:
        lines += ["", f"## {section.title}", "", "```text", section.text, "```"]
    if page.options:
        lines += ["", "## Options", "", "| option | type | default | |", "|---|---|---|---|"]
        for one in page.options:
            lines.append(f"| `{one.name}` | {cell(one.type_text)} | `{cell(one.default_text)}` | {cell(one.help)} |")
    return "\n".join(lines) + "\n"


def recipes_text(recipes: list[Recipe]) -> str:
    """Every built-in recipe with its pipeline and budget."""
    lines = ["# All recipes"]
    for one in recipes:
        lines += ["", f"## {one.name}", "", one.description, "", "```text", str(one.pipeline), "```"]
        if one.budget:
            lines += ["", "Budget: " + ", ".join(f"`{bound}`" for bound in one.budget)]
    return "\n".join(lines) + "\n"


def cell(text: str) -> str:
    """A text as a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
