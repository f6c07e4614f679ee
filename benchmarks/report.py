"""Results of the benchmarks as one HTML page, as Markdown, and as the tables that pages of the project quote.

usage: python -m benchmarks report RESULTS... [--html PAGE] [--markdown FILE] [--readme PAGE...] [--check]

Without any of them the Markdown is printed. With --check nothing is written: it says which files are not what they
would be, and ends with 1 where there are any; with 2 where a file is no results file or a marker means nothing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from benchmarks.quoted import quoted, read_page
from benchmarks.report_page import page
from benchmarks.report_text import markdown, told
from benchmarks.results import read
from graphopt.errors import GraphoptError
from graphopt.report.plain import printable
from graphopt.storage.files import replacing

HELP: Final = "tables and plots of results, as a page of HTML, as Markdown, and between the markers of other pages"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `report`."""
    parser.add_argument("results", type=Path, nargs="+", metavar="RESULTS", help="results files, the newest last")
    parser.add_argument("--html", type=Path, metavar="PAGE", help="write a page that needs no network")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write all tables as Markdown")
    parser.add_argument(
        "--readme",
        type=Path,
        nargs="+",
        default=[],
        metavar="PAGE",
        help="replace the tables between the markers of pages",
    )
    parser.add_argument("--check", action="store_true", help="write nothing; say what is not up to date")


def main(options: argparse.Namespace) -> int:
    """Write what was asked for; 1 where a check finds something, 2 where it cannot be made."""
    try:
        return _report(options)
    except GraphoptError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return error.exit_code


def _report(options: argparse.Namespace) -> int:
    one = told([run for path in options.results for run in read(path)])
    made: dict[Path, str] = {}
    if options.html is not None:
        made[options.html] = page(one)
    if options.markdown is not None:
        made[options.markdown] = markdown(one)
    for path in options.readme:
        made[path] = quoted(read_page(path), one, printable(str(path)))
    if not made:
        print(markdown(one), end="")
        return 0
    stale = [path for path, text in made.items() if not _is(path, text)]
    for path in stale:
        if options.check:
            print(f"{printable(str(path))} is not what the results say; without --check it is written anew")
            continue
        with replacing(path, "the page", rest="") as stream:
            stream.write(_bytes(made[path]))
        print(f"wrote {printable(str(path))}")
    if not stale:
        print("everything is up to date")
    return int(options.check and bool(stale))


def _is(path: Path, text: str) -> bool:
    try:
        return path.read_bytes() == _bytes(text)
    except OSError:
        return False


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")
