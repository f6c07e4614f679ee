"""What the storage tests share: a record of the files that were opened."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

_records: list[list[str]] = []


def _listen(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open":
        for record in _records:
            record.append(str(arguments[0]))


sys.addaudithook(_listen)


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """The paths that Python opens while the test runs."""
    record: list[str] = []
    _records.append(record)
    yield record
    _records.remove(record)
