"""The files that `graphopt sensitivity` writes, and reads: its table, its page, its plot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from graphopt.errors import UsageError
from graphopt.report.plain import printable
from graphopt.report.sensitivity_page import save_sensitivity_page, save_sensitivity_plot
from graphopt.storage.files import check_place, reason, replacing
from graphopt.tolerance.table import Sensitivity

MAX_FILE = 1 << 28  # bytes; a table of a thousand layers has about a thousandth of that
_WHAT = {"--table": "the table", "--html": "the page", "--plot": "the plot"}


def check_files(files: Mapping[str, Path], taken: Mapping[str, Path]) -> None:
    """See before a run that each file, by its flag, can be written and is none of `taken`, nor another one of
    them. Raises UsageError."""
    known = dict(taken)
    for flag, path in files.items():
        if flag == "--plot" and path.suffix.lower() != ".svg":
            raise UsageError(f"--plot {printable(str(path))}: plots are SVG; name a file that ends in .svg")
        check_place(path, known.items(), flag=flag, what=_WHAT[flag])
        known[f"the file of {flag}"] = path


def save_files(files: Mapping[str, Path], found: Sensitivity) -> None:
    """Write the files that were asked for. Raises UsageError or OverLimit when one cannot be written."""
    for flag, path in files.items():
        if flag == "--html":
            save_sensitivity_page(path, found)
        elif flag == "--plot":
            save_sensitivity_plot(path, found)
        else:
            with replacing(path, "the table") as stream:
                stream.write((json.dumps(found.to_json(), indent=2, allow_nan=False) + "\n").encode())


def read_table(path: Path) -> Sensitivity:
    """A table that was written before. Raises UsageError where the file is none."""
    shown = printable(str(path))
    try:
        if path.exists() and not path.is_file():
            raise UsageError(f"the table {shown!r} is not a regular file")
        if path.stat().st_size > MAX_FILE:
            raise UsageError(f"the table {shown!r} is larger than {MAX_FILE >> 20} MiB, which no table is")
        text = path.read_bytes()
    except (OSError, ValueError) as error:
        raise UsageError(f"the table {shown!r} cannot be read: {reason(error)}") from None
    try:
        facts = json.loads(text)
    except RecursionError:
        raise UsageError(f"the table {shown!r} is nested too deeply to be one") from None
    except ValueError:
        raise UsageError(f"the table {shown!r} is not JSON") from None
    return Sensitivity.from_json(facts)
