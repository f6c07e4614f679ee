"""The tests of the suite against one mutant: those that run the changed line, until one fails."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from graphopt.testing.mutation.cover import Cover
from graphopt.testing.mutation.forks import Report, allow
from graphopt.testing.mutation.memory import remember
from graphopt.testing.mutation.sites import Site, Source
from graphopt.testing.mutation.warm import Loaded, forget, mutated

PATIENCE = 4.0  # seconds of tests that pass after which no further one is asked
LONGEST = 1.0  # seconds; longer tests say how long things take, and take too long here


class Suite:
    """A pytest plugin that collects tests, learns what each runs, and then calls `work` instead of the end."""

    def __init__(
        self, sources: Sequence[Source], work: Callable[[Suite], None], passes: Collection[str] | None = None
    ) -> None:
        """`passes` are those of whom tests are wanted that take the name of a pass; None for all."""
        self.files = {str(one.path) for one in sources}
        self.work, self.passes = work, passes
        self.cover: Cover[int] = Cover()
        self.items: list[pytest.Item] = []
        self.failing: list[str] = []
        self.left_out = 0

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave out what is about other passes."""
        if self.passes is not None:
            items[:] = [one for one in items if _subject(one) is None or _subject(one) in self.passes]

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Instead of running the tests once."""
        self.items = session.items
        remember()
        if session.testsfailed:
            raise pytest.UsageError("the tests cannot be collected")
        self._learn()
        self.work(self)
        return True

    def _learn(self) -> None:
        seconds, passed = [], []
        for item, following in zip(self.items, [*self.items[1:], None], strict=True):
            began = time.process_time()
            passed.append(_passes(item, following))
            seconds.append(time.process_time() - began)
        self.failing = [item.nodeid for item, good in zip(self.items, passed, strict=True) if not good]
        usable = [at for at, good in enumerate(passed) if good and seconds[at] <= LONGEST]
        self.left_out = len(self.items) - len(usable)
        for place, at in enumerate(usable):
            following = self.items[usable[place + 1]] if place + 1 < len(usable) else None
            self.cover.run(at, self.files, partial(_passes, self.items[at], following))
            self.cover.seconds[at] = seconds[at]

    def ordered(self, source: Source, site: Site) -> list[int]:
        """The tests to ask about a mutant: those named after its file first, then the fastest."""
        found = self.cover.of(str(source.path), site.lines if site.function else None)
        stem = source.path.stem
        return sorted(found, key=lambda at: stem not in self.items[at].path.stem)

    def against(self, loaded: Loaded, source: Source, site: Site) -> Report:
        """In a fork: the first test that fails with the mutant in place."""
        chosen = self.ordered(source, site)
        # A function that no test runs may have run when its module was imported.
        runs = bool(chosen) and bool(site.function)
        chosen = chosen or self.cover.of(str(source.path), None)
        if not chosen:
            return {"by": "", "tests": 0}
        allow(20.0)
        code = mutated(source, site)
        if not (runs and loaded.put(code)):
            return self._anew(source, code, chosen)
        spent = 0.0
        for count, (at, following) in enumerate(zip(chosen, [*chosen[1:], None], strict=True)):
            allow(3 + 10 * self.cover.seconds[at])
            if not _passes(self.items[at], None if following is None else self.items[following]):
                return {"by": "tests", "how": self.items[at].nodeid, "tests": count + 1}
            spent += self.cover.seconds[at]
            if spent > PATIENCE:
                return {"by": "", "tests": count + 1, "cut": len(chosen) - count - 1}
        return {"by": "", "tests": len(chosen)}

    def _anew(self, source: Source, code: CodeType, chosen: list[int]) -> Report:
        """With everything imported anew, for what is decided when a module is imported."""
        if source.module.startswith("graphopt."):
            return {"by": "", "tests": 0, "skipped": "decided at import, in the engine"}
        spent, asked = 0.0, list[int]()
        for at in chosen:
            spent += self.cover.seconds[at]
            if spent <= PATIENCE:
                asked.append(at)
        names = [f"{self.items[at].path}{self.items[at].nodeid[self.items[at].nodeid.index('::') :]}" for at in asked]
        forget(code, source.module, [self.items[at].path for at in asked])
        allow(20 + 10 * PATIENCE)
        first = _First()
        status = pytest.main(["-x", *QUIET, *names], plugins=[first])
        if status == pytest.ExitCode.OK:
            return {"by": "", "tests": len(asked), "cut": len(chosen) - len(asked)}
        return {"by": "tests", "how": first.failed or f"{names[0]} cannot be collected", "tests": first.count}


class _First:
    def __init__(self) -> None:
        self.failed, self.count = "", 0

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.count += report.when == "call"
        if report.failed and not self.failed:
            self.failed = report.nodeid


QUIET = ("-qs", "--tb=no", "--no-header", "--no-summary", "--assert=plain", "-p", "no:cacheprovider")


def collect(root: Path, tests: Sequence[Path], suite: Suite) -> None:
    """Collect the tests of these files and folders and let the suite work with them."""
    os.chdir(root)
    sys.dont_write_bytecode = True
    status = pytest.main([*QUIET, *map(str, tests)], plugins=[suite])
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise RuntimeError(f"pytest ended with {status} on {', '.join(map(str, tests))}")


def _subject(item: pytest.Item) -> str | None:
    """The pass that a test of the whole catalogue is about, where it is one."""
    if item.path.parent.name != "passes":
        return None
    name = item.callspec.params.get("name") if isinstance(item, pytest.Function) and hasattr(item, "callspec") else None
    return name if isinstance(name, str) else None


def _passes(item: pytest.Item, following: pytest.Item | None) -> bool:
    reports = runtestprotocol(item, log=False, nextitem=following)
    return not any(one.failed for one in reports)
