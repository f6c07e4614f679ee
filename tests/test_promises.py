"""Every promise that is written down names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs" / "promises.md"
NAMED = re.compile(r"`(tests/[\w/.]+?)(?:::(\w+))?`")


def rows() -> list[str]:
    lines = PAGE.read_text().splitlines()
    return [line for line in lines if line.startswith("|") and not re.match(r"\|(-|\s*promise)", line)]


def missing(place: str, name: str) -> str | None:
    """Why a test that a row names is not there, None when it is."""
    path = REPOSITORY / place
    if not path.exists():
        return f"there is no {place}"
    if name:
        functions = {one.name for one in ast.walk(ast.parse(path.read_text())) if isinstance(one, ast.FunctionDef)}
        if name not in functions:
            return f"{place} has no {name}"
    return None


def test_the_page_has_promises() -> None:
    assert len(rows()) >= 20


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.split("|")[1].strip()[:60])
def test_a_promise_names_tests_that_exist(row: str) -> None:
    found = NAMED.findall(row)
    assert found, f"no test holds: {row}"
    assert [why for place, name in found if (why := missing(place, name))] == []


def test_what_is_not_there_is_noticed() -> None:
    assert missing("tests/test_promises.py", "test_no_such_thing")
    assert missing("tests/no_such_file.py", "")
    assert missing("tests/test_promises.py", "test_what_is_not_there_is_noticed") is None
