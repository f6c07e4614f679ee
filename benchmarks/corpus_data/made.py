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


class OrMade:
    """A loader that falls back to made-up inputs where the data of `loader` are missing, or there is none.

    fell: whether it did.
    """

    def __init__(self, loader: Loader | None = None) -> None:
        self.loader = loader
        self.fell = False

    def __call__(self, corpus: Corpus, original: Original, rows: Rows) -> Evidence:
        if self.loader is not None:
            try:
                return self.loader(corpus, original, rows)
            except Missing:
                pass
        self.fell = True
        return made(corpus, original, rows)
