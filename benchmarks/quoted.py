"""Tables of benchmarks that pages quote: what stands between two markers is theirs, and everything else the page's.

    <!-- benchmark:SUITE -->            all tables of a suite
    <!-- benchmark:SUITE:TITLE -->      the one with this title
    <!-- benchmark:machine -->          the machines and versions that the results are of
    <!-- /benchmark -->                 ends each of them

A marker stands alone on its line; in a block of code it is text.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from benchmarks.report_text import Told, machine_text, tables_text
from graphopt.errors import UsageError
from graphopt.report.plain import cut

_BEGIN: Final = re.compile(r"\s*<!--\s*benchmark:(.*?)\s*-->\s*")
_END: Final = re.compile(r"\s*<!--\s*/benchmark\s*-->\s*")
_FENCE: Final = re.compile(r"\s*(```+|~~~+)")
MACHINE: Final = "machine"


def read_page(path: Path) -> str:
    """The text of a page. Raises UsageError."""
    name = repr(cut(str(path), 80))
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {name}: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{name} is no text in UTF-8") from None


def quoted(text: str, one: Told, name: str) -> str:
    """A page with what its markers ask for. Raises UsageError, about the page `name`, for a marker that means nothing
    or that nothing ends, and for a page without any."""
    lines: list[str] = []
    fence, begun, asked, several = "", 0, "", 0
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        found = None if begun else _FENCE.match(line)
        if found and (not fence or line.strip().startswith(fence)):
            fence = "" if fence else found[1]
        begin, end = (None, None) if fence else (_BEGIN.fullmatch(line), _END.fullmatch(line))
        if begun and begin:
            raise UsageError(f"{name}, line {number}: a table begins before that of line {begun} has ended")
        if end and not begun:
            raise UsageError(f"{name}, line {number}: a table ends that did not begin")
        if begin:
            begun, asked, several = number, begin[1], several + 1
            lines.append(line)
        elif end:
            lines += ["", *_wanted(asked, one, f"{name}, line {begun}").split("\n"), "", line]
            begun = 0
        elif not begun:
            lines.append(line)
    if begun:
        raise UsageError(f"{name}, line {begun}: the table that begins here has no <!-- /benchmark -->")
    if not several:
        raise UsageError(f"{name} has no marker <!-- benchmark:SUITE -->, so there is nothing to write into it")
    return ("\r\n" if "\r\n" in text else "\n").join(lines)


def _wanted(asked: str, one: Told, where: str) -> str:
    if asked == MACHINE:
        return machine_text(one)
    name, _, title = asked.partition(":")
    name, title = name.strip(), title.strip()
    section = one.section(name)
    if section is None:
        there = ", ".join([*(each.suite for each in one.sections), MACHINE])
        raise UsageError(f"{where}: the results have nothing of {cut(name, 60)!r}; there are {there}")
    tables = [each for each in section.tables if not title or each[0] == title]
    if not tables:
        there = ", ".join(repr(each[0]) for each in section.tables)
        raise UsageError(f"{where}: the suite {name} has no table {cut(title, 80)!r}; it has {there}")
    return tables_text(tables)
