"""All mutants of the files asked for, family by family, against all that may kill them."""

from __future__ import annotations

import functools
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from graphopt.demo import model_path
from graphopt.pipeline import Pass, Registry
from graphopt.testing.fuzz import candidates
from graphopt.testing.mutation.drawn import Models
from graphopt.testing.mutation.forks import Report, in_fork, settle
from graphopt.testing.mutation.judged import Judged
from graphopt.testing.mutation.report import Fate, save
from graphopt.testing.mutation.sites import Site, Source, read
from graphopt.testing.mutation.tests import Suite, collect
from graphopt.testing.mutation.warm import Loaded

_SAVE_EVERY = 100


@dataclass(frozen=True)
class Options:
    """What to look at, how long, and where to keep what came of it."""

    root: Path
    passes: tuple[str, ...]
    sample: int | None = None
    seed: int = 0
    seconds: float = float("inf")
    json: Path | None = None
    again: bool = False
    models: int = 100
    corpus: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Group:
    """Files that are looked at together, the tests that may know them, and the passes that use them."""

    name: str
    sources: tuple[Source, ...]
    tests: tuple[Path, ...]
    passes: tuple[type[Pass], ...]


def hunt(options: Options, before: dict[str, Fate]) -> dict[str, Fate]:
    """Try the mutants that `before` does not know; what became of those and these."""
    fates, until = dict(before), time.monotonic() + options.seconds
    judged, real = Judged.read(), [model_path().parent, *options.corpus]
    models = functools.cache(lambda: Models.of(options.models, real))
    for group in groups(options):
        if time.monotonic() > until:
            break
        sites = [(source, site) for source in group.sources for site in source.sites]
        present = {site.key for _, site in sites}
        files = {source.path.relative_to(options.root).as_posix() for source in group.sources}
        fates = {key: one for key, one in fates.items() if one.file not in files or key in present}
        if options.sample is not None:
            sites = random.Random(options.seed).sample(sites, min(options.sample, len(sites)))
        alive = {key for key, one in fates.items() if not one.by}
        left = [pair for pair in sites if (pair[1].key in alive if options.again else pair[1].key not in fates)]
        for one in judged.stale(site for source in group.sources for site in source.sites):
            _tell(f"judged, but not there any more: {dict(one)}")
        if left:
            chase = Chase(options, group, left, fates, judged, models, until)
            collect(options.root, group.tests, Suite(group.sources, chase.run, {one.name for one in group.passes}))
        if options.json:
            save(options.json, fates.values())
    return fates


@dataclass
class Chase:
    """The mutants of one group, one after the other."""

    options: Options
    group: Group
    sites: list[tuple[Source, Site]]
    fates: dict[str, Fate]
    judged: Judged
    models: functools._lru_cache_wrapper[Models]
    until: float

    def run(self, suite: Suite) -> None:
        """Called by the suite once it knows what its tests run."""
        for one in suite.failing:
            _tell(f"not used, since it fails without a change: {one}")
        _tell(f"{self.group.name}: {len(self.sites)} mutants; {len(suite.items)} tests, {suite.left_out} not used")
        loaded, count, known = Loaded(self.group.sources), 0, Counter[str]()
        settle()
        for count, (source, site) in enumerate(self.sites, 1):
            if time.monotonic() > self.until:
                break
            fate = self._fate(suite, loaded, source, site)
            self.fates[site.key] = fate
            known[fate.by or "left"] += 1
            if count % _SAVE_EVERY == 0:
                _tell(f"{self.group.name}: {count} of {len(self.sites)}: {dict(known)}")
                if self.options.json:
                    save(self.options.json, self.fates.values())

    def _fate(self, suite: Suite, loaded: Loaded, source: Source, site: Site) -> Fate:
        began = time.monotonic()
        report = in_fork(lambda: suite.against(loaded, source, site))
        if "died" in report:
            report = {"by": "tests", "how": report["died"]}
        notes = [_said(report)]
        if not report["by"] and (why := self.judged.why(site)) is not None:
            report = {"by": "judged", "how": why}
        if not report["by"] and self.options.models:
            models = self.models()
            models.learn(self.group.passes, self.group.sources)
            report = models.tried(loaded, source, site)
            notes.append(_said(report))
        note = "" if report["by"] else ", ".join(notes)
        return Fate.of(site, report["by"], str(report.get("how", "")), note, time.monotonic() - began)


def groups(options: Options) -> list[Group]:
    """The files asked for, a family at a time; ValueError for what is neither family, pass nor file."""
    registry, root = Registry.load(), options.root
    files: dict[str, dict[Path, None]] = {}
    for name in options.passes:
        if (root / "passes" / name).is_dir():
            found = [one for one in sorted((root / "passes" / name).rglob("*.py")) if one.name != "__init__.py"]
        elif (root / name).is_file():
            found = [root / name]
        elif name in registry.names():
            found = [root / (registry.get(name).__module__.replace(".", "/") + ".py")]
        else:
            raise ValueError(f"{name!r} is neither a family of passes, nor a pass, nor a file")
        for one in found:
            files.setdefault(one.relative_to(root).parts[1], {})[one] = None
    return [_group(root, family, list(found), registry) for family, found in files.items()]


def _group(root: Path, family: str, files: list[Path], registry: Registry) -> Group:
    sources = tuple(read(root, one) for one in files)
    if not (root / "passes" / family).is_dir():
        exact = ("eliminate", "fold", "fuse", "layout", "convert", "tidy")
        tests = [root / "tests" / family, *(root / "tests" / "passes" / one for one in exact)]
        return Group(family, sources, tuple(one for one in tests if one.is_dir()), tuple(candidates(registry)))
    folder = root / "tests" / "passes" / family
    odd = root / "tests" / "passes" / "test_odd_nodes.py"
    each = [sorted(folder.rglob(f"test_*{file.stem}*.py")) for file in files]
    own = list(dict.fromkeys(one for found in each for one in found)) if all(each) else []
    every = [registry.get(one) for one in registry.names()]
    modules = {source.module for source in sources}
    near = [one for one in every if one.__module__.startswith(f"passes.{family}.") and _draws(one)]
    used = [one for one in near if one.__module__ in modules] if own else near
    return Group(family, sources, (*(own or [folder]), odd), tuple(used))


def _draws(one: type[Pass]) -> bool:
    """Whether the pass does something on any model that it is given, without data or training."""
    return not one.calibrates


def _said(report: Report) -> str:
    if "skipped" in report:
        return str(report["skipped"])
    what = "tests" if "tests" in report else "models"
    said = f"{report.get(what, 0)} {what}"
    if report.get("cut"):
        said += f" of {report['tests'] + report['cut']}"
    if report.get("lawful"):
        said += f", {report['lawful']} of them lawfully different"
    return said


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
