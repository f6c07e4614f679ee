"""Which lines of the files looked at something runs, and how long it takes."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Generic, TypeVar

Line = tuple[str, int]
One = TypeVar("One", bound=Hashable)


@contextmanager
def traced(files: Collection[str]) -> Iterator[set[Line]]:
    """Collect the lines of `files` that are run in the block."""
    seen: set[Line] = set()
    add = seen.add

    def local(frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
        add((frame.f_code.co_filename, frame.f_lineno))
        return local

    def begin(frame: FrameType, event: str, argument: Any) -> Callable[..., Any] | None:
        return local if frame.f_code.co_filename in files else None

    before = sys.gettrace()
    sys.settrace(begin)
    try:
        yield seen
    finally:
        sys.settrace(before)


@dataclass
class Cover(Generic[One]):
    """Things that were run, each with its seconds and the lines it ran."""

    seconds: dict[One, float] = field(default_factory=dict)
    by_line: dict[Line, list[One]] = field(default_factory=lambda: defaultdict(list))
    by_file: dict[str, dict[One, None]] = field(default_factory=lambda: defaultdict(dict))

    def run(self, one: One, files: Collection[str], task: Callable[[], object]) -> None:
        """Run `task` and keep what it ran under `one`."""
        began = time.process_time()
        with traced(files) as seen:
            task()
        self.add(one, time.process_time() - began, seen)

    def add(self, one: One, seconds: float, seen: Collection[Line]) -> None:
        self.seconds[one] = seconds
        for line in seen:
            self.by_line[line].append(one)
            self.by_file[line[0]][one] = None

    def of(self, file: str, lines: tuple[int, int] | None) -> list[One]:
        """What ran one of the lines of the file, or anything in it, the fastest first."""
        if lines is None:
            found = dict(self.by_file.get(file, {}))
        else:
            found = {one: None for at in range(lines[0], lines[1] + 1) for one in self.by_line.get((file, at), ())}
        return sorted(found, key=lambda one: self.seconds[one])
