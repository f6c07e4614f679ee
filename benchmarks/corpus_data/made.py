"""Inputs that are made up, for models whose data are not here: seeded, of the kinds that a model accepts."""

from __future__ import annotations

from benchmarks.corpus_data.evidence import Corpus, Evidence, Loader, Missing, Original, Rows
from graphopt.storage.read import read
from graphopt.validation.feeds import gather
from graphopt.validation.plan import FeedPlan
from graphopt.validation.trial import ModelTrial

ABOUT = "made-up inputs"
_COUNT = 32


def made(corpus: Corpus, original: Original, rows: Rows) -> Evidence:
    """Inputs without labels; those of the first and of the second half have different seeds.

    Raises CouldNotTell where the model accepts none.
    """
    source = read(original.path)
    trial = ModelTrial(original.path, original.worker)
    try:
        seed = 1 if rows.part == 0 else 2
        plan = FeedPlan(generate=min(rows.most or _COUNT, _COUNT))
        feeds = [dict(feed.values) for feed in gather(plan, source.proto, trial, seed, source.store)]
    finally:
        trial.close()
    return Evidence(feeds, ABOUT)


def or_made(loader: Loader | None) -> Loader:
    """A loader that falls back to made-up inputs where the data of `loader` are missing."""
    if loader is None:
        return made

    def load(corpus: Corpus, original: Original, rows: Rows) -> Evidence:
        try:
            return loader(corpus, original, rows)
        except Missing:
            return made(corpus, original, rows)

    return load
