"""The page of a pass, made from its docstring and its fields: what `graphopt explain PASS` shows.

The first paragraph of the docstring is the summary. Behind it come sections, each below a line
that holds only its title: What it does, Example, When not, Contract, Source. A title may end with
a colon, be underlined, be marked as Markdown's or stand in any case; text behind its colon belongs
to the section. Text between the summary and the first title belongs to "What it does".
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass

from graphopt.contract import Contract
from graphopt.pipeline.declaration import written_docstring
from graphopt.pipeline.options import Option, options_of
from graphopt.pipeline.protocol import Pass

__all__ = ["SECTIONS", "PassPage", "Section", "page"]

SECTIONS = ("What it does", "Example", "When not", "Contract", "Source")
_TITLES = {title.lower(): title for title in SECTIONS} | {"examples": "Example", "sources": "Source"}
_UNDERLINE = re.compile(r"[-=~^]{3,} *")


@dataclass(frozen=True)
class Section:
    """One titled part of a page: its canonical title, and its text without indentation."""

    title: str
    text: str


@dataclass(frozen=True)
class PassPage:
    """Everything there is to say about a pass. Sections are in the order of the docstring."""

    name: str
    family: str
    contract: Contract
    summary: str
    sections: tuple[Section, ...]
    options: tuple[Option, ...]

    def section(self, title: str) -> str:
        """The text of a section, "" when the docstring has none of that title."""
        return next((section.text for section in self.sections if section.title == title), "")


def page(pass_class: type[Pass], *, family: str = "") -> PassPage:
    """The page of a pass; ValueError when a field of the class cannot be an option."""
    lines = written_docstring(pass_class).splitlines()
    end = next((i for i, line in enumerate(lines) if not line.strip() or _title(line)[0]), len(lines))
    return PassPage(
        name=pass_class.name,
        family=family,
        contract=pass_class.contract,
        summary=" ".join(" ".join(lines[:end]).split()),
        sections=_sections(lines[end:]),
        options=options_of(pass_class),
    )


def _sections(lines: list[str]) -> tuple[Section, ...]:
    texts: dict[str, str] = {}
    title, first, rest = SECTIONS[0], "", list[str]()
    for line in [*lines, *SECTIONS[:1]]:  # one more title, to end the last section
        opened, behind = _title(line)
        if not opened:
            rest.append(line)
            continue
        if rest and _UNDERLINE.fullmatch(rest[0]):
            rest = rest[1:]
        text = "\n".join([first, textwrap.dedent("\n".join(rest))]).strip("\n").rstrip()
        if text:
            texts[title] = f"{texts[title]}\n\n{text}" if title in texts else text
        title, first, rest = opened, behind, []
    return tuple(Section(title, text) for title, text in texts.items())


def _title(line: str) -> tuple[str, str]:
    """The section that a line opens and the text it already holds; ("", "") for any other line."""
    if line.startswith((" ", "\t")):
        return "", ""
    head, _, behind = line.replace("**", "").lstrip("# ").partition(":")
    return _TITLES.get(head.strip().lower(), ""), behind.strip(": ")
