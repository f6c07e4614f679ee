"""Tables and paragraphs of Markdown, as the suites write them, as HTML. All else that Markdown knows stays text."""

from __future__ import annotations

import re
from html import escape
from itertools import groupby
from typing import Final

from graphopt.report.plain import printable

_CELLS: Final = re.compile(r"(?<!\\)\|")
_RULE: Final = re.compile(r":?-+:?")
_WHOLE: Final = 3  # columns from which on a line whose only text is in the second is a sentence across all


def html_of(text: str) -> str:
    """Blocks of a text, one after the other."""
    blocks = [list(some) for empty, some in groupby(text.splitlines(), key=lambda line: not line.strip()) if not empty]
    parts = []
    for lines in blocks:
        if len(lines) > 1 and all(line.lstrip().startswith("|") for line in lines) and _is_rule(lines[1]):
            parts.append(_table(lines))
        else:
            parts.append(f'<p class="soft">{inline(" ".join(line.strip() for line in lines))}</p>')
    return "\n".join(parts)


def inline(text: str) -> str:
    """Code and strong words of a line; everything in it is text."""
    found = escape(printable(text))
    found = re.sub(r"`([^`]+)`", r"<code>\1</code>", found)
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", found)


def _split(line: str) -> list[str]:
    return [cell.strip().replace("\\|", "|") for cell in _CELLS.split(line.strip().strip("|"))]


def _is_rule(line: str) -> bool:
    return all(_RULE.fullmatch(cell) for cell in _split(line))


def _table(lines: list[str]) -> str:
    heads = _split(lines[0])
    styles = ["" if cell.endswith(":") else ' class="words"' for cell in _split(lines[1])]
    styles += [""] * (len(heads) - len(styles))
    top = "".join(f'<th scope="col"{style}>{inline(head)}</th>' for head, style in zip(heads, styles, strict=False))
    rows = "".join(f"<tr>{_row(_split(line), styles)}</tr>\n" for line in lines[2:])
    return (
        f'<div class="scroll" tabindex="0"><table>\n<thead><tr>{top}</tr></thead>\n<tbody>{rows}</tbody></table></div>'
    )


def _row(cells: list[str], styles: list[str]) -> str:
    first = f'<th scope="row" class="words">{inline(cells[0])}</th>'
    if len(styles) >= _WHOLE and len(cells) > 1 and cells[1] and not any(cells[2:]):
        return f'{first}<td class="words sentence" colspan="{len(styles) - 1}">{inline(cells[1])}</td>'
    return first + "".join(
        f"<td{style}>{inline(cell)}</td>" for cell, style in zip(cells[1:], styles[1:], strict=False)
    )
