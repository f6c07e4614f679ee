"""How much each layer tolerates: `sensitivity` as the API and the command line call it."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from graphopt.calibration.cache import check_folder
from graphopt.calibration.source import rows_of, some_rows
from graphopt.errors import CouldNotTell, UsageError
from graphopt.instruments.progress import Progress
from graphopt.ir import decode
from graphopt.runtime.client import Worker
from graphopt.runtime.failure import WorkerFailure
from graphopt.session.api import Model, source_of
from graphopt.session.evidence import on_disk
from graphopt.session.job import GENERATED
from graphopt.storage.scratch import Scratch
from graphopt.storage.source import Source
from graphopt.tolerance.agreement import checked, spread_out
from graphopt.tolerance.compressions import COMPRESSIONS
from graphopt.tolerance.kept_rows import KeptRows
from graphopt.tolerance.layers import find
from graphopt.tolerance.rig import Bench
from graphopt.tolerance.study import DROPS, LADDER, Plan, Study
from graphopt.tolerance.table import Checked, Row, Sensitivity
from graphopt.validation.compare import same_bits
from graphopt.validation.feeds import FeedSet
from graphopt.validation.plan import FeedPlan, Given
from graphopt.validation.reference import random_operators
from graphopt.validation.runs import ON
from graphopt.validation.validate import Validator

SEEDS: Final = 2
SAMPLES: Final = 16
"""Samples that layers are measured on. More are for outputs of which few samples have most of the error."""

_TOGETHER: Final = 4  # samples of a feed that are run at once
_QUICK: Final = (0.01, 0.1)
_QUICK_DROPS: Final = (0.25,)
ORDERED: Final = "int8-channel"
"""The compression by whose predictions the layers that are tried are spread."""

CHECKED: Final = ("int8-channel", "channels-25")
"""What is really tried on the layers that a prediction is checked on."""


def sensitivity(
    model: Model, *, feeds: Given | FeedPlan | None = None, calibration: Given | FeedPlan | None = None,
    layers: str | Sequence[str] = "*", ladder: Sequence[float] | None = None, seeds: int | None = None,
    quick: bool = False, verify: int = 0, compressions: Sequence[str] = CHECKED, samples: int = SAMPLES, seed: int = 0,
    progress: bool = False, cache_dir: str | Path | None = None,
    worker_seconds: float = 600.0, worker_memory: int | None = None, custom_ops: Sequence[str | Path] = (),
) -> Sensitivity:  # fmt: skip
    """Perturb each layer of a model, and predict what quantizing or pruning it alone would do to the outputs.

    `layers` are patterns of names of weights and nodes; `ladder` the relative deviations of the noise, each drawn
    `seeds` times; `quick` measures least. With `verify`, so many layers are really quantized and thinned, and
    `checks` of what is returned says how well that was predicted: on `feeds`, where there is a `calibration` to
    measure on, else on their second half, and the first half measures; `compressions` are those that are tried.
    No more than so many `samples` of either are run. Feeds are generated unless given. With a `cache_dir`, each
    layer that was measured is kept in that folder, and what is there of an earlier study like this is used.

    Raises UsageError (no such layer, feeds that do not fit, a ladder that is none), BadModel, and CouldNotTell where
    nothing can be measured: the model draws random numbers, does not run, or gives no floating-point numbers.
    """
    plan = _plan(ladder, seeds, quick)
    patterns = (layers,) if isinstance(layers, str) else tuple(layers)
    if samples < 1:
        raise UsageError(f"the number of samples must be 1 or more, and {samples} is not")
    if verify < 0:
        raise UsageError(f"the number of layers to verify cannot be negative, and {verify} is")
    unknown = [one for one in compressions if one not in COMPRESSIONS]
    if unknown:
        raise UsageError(f"there is no compression {unknown[0]!r}; there are {', '.join(COMPRESSIONS)}")
    given = feeds if isinstance(feeds, FeedPlan) else FeedPlan(feeds)
    learning = calibration if isinstance(calibration, FeedPlan) or calibration is None else FeedPlan(calibration)
    start = time.perf_counter()
    folder = None if cache_dir is None else Path(cache_dir)
    if folder is not None:
        check_folder(folder)
    source = source_of(model)
    graph = decode(source.proto, source.store)
    drawing = random_operators(source.proto)
    if drawing:
        raise CouldNotTell(
            f"could not tell: {drawing[0]} draws random numbers, so that noise on weights cannot be told from it"
        )
    found = find(graph, patterns)
    if not found.layers:
        raise UsageError(_no_layers(patterns, found.left))
    with ExitStack() as stack:
        work = stack.enter_context(Scratch())
        worker = stack.enter_context(
            Worker(seconds=worker_seconds, memory=worker_memory, custom_ops=tuple(Path(one) for one in custom_ops))
        )
        rooms = _Rooms(source, on_disk(source, work / "model"), work, worker, seed, samples)
        told = Progress()

        def kept(bench: Bench, plan: Plan, warnings: list[str]) -> KeptRows | None:
            return None if folder is None else KeptRows(folder, source, list(bench.feeds), plan.text(), warnings.append)

        say = told.say if progress else _quiet
        own = learning or (replace(given, half="first") if verify and given.feeds is not None else given)
        try:
            bench, warnings = rooms.bench(own)
            study = Study(bench, plan, say, kept=kept(bench, plan, warnings))
            rows = list(study.rows(found.layers))
            checks: tuple[Checked, ...] = ()
            others = None
            if verify:
                held = given if learning is not None or given.feeds is None else replace(given, half="second")
                others, more = rooms.bench(held, 1)
                warnings += [one for one in more if one not in warnings]
                tried = frozenset(spread_out(rows, ORDERED, verify))
                trying = Plan((), (), 0, tried, tuple(compressions))
                trial = Study(others, trying, say, kept=kept(others, trying, warnings))
                rows, checks = checked(
                    rows, list(trial.rows([one for one in found.layers if one.name in tried])), compressions
                )
        except WorkerFailure as failure:
            raise CouldNotTell(f"could not tell: {str(failure).rstrip('. ')}") from None
        finally:
            told.stop()
    return Sensitivity(
        "a model in memory" if source.path is None else source.path.name,
        tuple(rows), tuple(found.left), rooms.about, plan.ladder, plan.seeds, checks,
        (*warnings, *_doubts(rows)),
        bench.runs + (others.runs if others is not None else 0),
        bench.work + (others.work if others is not None else 0.0),
        time.perf_counter() - start,
    )  # fmt: skip


class _Rooms:
    """Makes benches of one model for several feeds."""

    def __init__(self, source: Source, path: Path, work: Path, worker: Worker, seed: int, samples: int) -> None:
        self.source, self.path, self.work, self.worker, self.seed = source, path, work, worker, seed
        self.samples = samples
        self.about = ""

    def bench(self, plan: FeedPlan, further: int = 0) -> tuple[Bench, list[str]]:
        """A bench with some samples of the feeds, and what is to be said of them. Generated feeds are
        `further` ones."""
        plan = replace(plan, generate=GENERATED) if plan.feeds is None else plan
        seed = self.seed + further
        with Validator(self.path, worker=self.worker, plan=plan, source=self.source, seed=seed) as gathering:
            fed = gathering.feeds()
            feeds, warnings = [dict(feed.values) for feed in fed], list(fed.warnings)
        some = self._some(feeds)
        samples = sum(rows_of(feed) for feed in some)
        self.about = self.about or _about(fed, samples)
        if fed.report.generated:
            warnings = [one for one in warnings if not one.startswith("the inputs were generated")]
            warnings.append("the feeds are generated, and layers may tolerate less or more on real ones; give --feeds")
        return Bench(self.source, self.worker, some, self.work), warnings

    def _some(self, feeds: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Some samples, evenly spread, a few of them together where the model takes that. Raises CouldNotTell for
        a model whose outputs cannot be measured."""
        with self.worker.load(self.path, ON) as session:
            pieces = list(feeds)
            if max(rows_of(feed) for feed in feeds) > _TOGETHER:
                cut = [dict(some_rows(feed, at, at + _TOGETHER)) for feed in feeds for at in _starts(rows_of(feed))]
                if _runs(session, cut[0]) and _runs(session, cut[-1]):
                    pieces = cut
            most = max(1, self.samples // max(rows_of(one) for one in pieces))
            chosen = [pieces[at * len(pieces) // min(most, len(pieces))] for at in range(min(most, len(pieces)))]
            first, again = session.run(chosen[0]), session.run(chosen[0])
        if any(not same_bits(first[name], again[name]) for name in first):
            raise CouldNotTell("could not tell: run twice on the same feed the model gives different outputs")
        floats = [one for one in first.values() if isinstance(one, np.ndarray) and one.dtype.kind not in "biuOSU"]
        if not floats:
            raise CouldNotTell("could not tell: no output of the model is floating point")
        if all(not np.any(one) or not np.isfinite(one).any() for one in floats):
            raise CouldNotTell("could not tell: all outputs are zero or not finite on the first feed")
        return chosen


def _starts(rows: int) -> range:
    return range(0, rows, _TOGETHER)


def _runs(session: Any, feed: dict[str, Any]) -> bool:
    try:
        session.run(feed)
    except (WorkerFailure, UsageError):
        return False
    return True


def _plan(ladder: Sequence[float] | None, seeds: int | None, quick: bool) -> Plan:
    steps = tuple(ladder) if ladder is not None else _QUICK if quick else LADDER
    if not steps:
        raise UsageError("the ladder has no steps; give some, such as 0.01,0.1")
    for one in steps:
        if not (math.isfinite(one) and 0 < one <= 10):
            raise UsageError(f"a step of the ladder must be more than 0 and at most 10, and {one:g} is not")
    count = seeds if seeds is not None else 1 if quick else SEEDS
    if not 1 <= count <= 100:
        raise UsageError(f"the number of draws must be from 1 to 100, and {count} is not")
    return Plan(tuple(sorted(set(steps))), _QUICK_DROPS if quick else DROPS, count)


def _no_layers(patterns: Sequence[str], left: Sequence[tuple[str, str]]) -> str:
    if left:
        return f"no layer can be perturbed: {left[0][0]!r} is left because {left[0][1]}"
    if tuple(patterns) == ("*",):
        return "the model has no layers: no operator in it reads a stored weight"
    return f"no layer is called {', '.join(patterns)}; names of weights and nodes are matched, such as 'encoder*'"


def _about(fed: FeedSet, samples: int) -> str:
    whole = f"{samples} sample{'' if samples == 1 else 's'}"
    return f"{whole}, generated" if fed.report.generated else f"{whole} of {fed.report.source}"


def _doubts(rows: Sequence[Row]) -> list[str]:
    odd = [row.name for row in rows if row.note]
    if not odd:
        return []
    first = next(row for row in rows if row.note)
    more = f", and {len(odd) - 1} more have no row of numbers" if len(odd) > 1 else ""
    return [f"nothing is predicted for {first.name!r}: {first.note}{more}"]


def _quiet(text: str) -> None:
    """Say nothing."""
