"""The known score of each original model, measured again before anything is compared with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.corpus_data.catalogue import CASES
from benchmarks.corpus_data.evidence import Case, Corpus, Missing, Original, Rows
from benchmarks.corpus_data.metrics import spelled
from graphopt.errors import GraphoptError
from graphopt.runtime.client import Worker
from graphopt.validation.metrics import find_metric


@dataclass(frozen=True)
class Baseline:
    """One line: what was measured and what is known. `reason` is set instead where it was not measured."""

    model: str
    about: str
    known: float
    measured: float | None = None
    reason: str = ""


def baselines(corpus: Corpus, worker: Worker, names: Sequence[str]) -> Iterator[Baseline]:
    """Measure the models of `names` that have a known score, on all of their data."""
    for case in CASES:
        if case.baseline is None or case.loader is None or case.name not in names:
            continue
        try:
            yield _measured(case, corpus, worker)
        except (Missing, GraphoptError) as error:
            yield Baseline(case.name, "", case.baseline, reason=str(error))


def _measured(case: Case, corpus: Corpus, worker: Worker) -> Baseline:
    assert case.baseline is not None and case.loader is not None
    original = Original(corpus.model(case.name), worker)
    try:
        evidence = case.loader(corpus, original, Rows(None))
        assert evidence.metric is not None and evidence.labels is not None
        if case.name == "ppocrv4_rec":
            exact, unspaced = _read_exactly(original, corpus, [str(path) for path in evidence.labels.tolist()])
            about = f"200 lines read exactly ({unspaced:.3f} ignoring spaces)"
            return Baseline(case.name, about, case.baseline, exact)
        outputs = original.outputs(evidence.feeds)
        measured = find_metric(evidence.metric).measure(outputs, outputs, evidence.labels)
        what = "top-1" if evidence.metric == "top1" else "Spearman"
        return Baseline(case.name, f"{what} of {evidence.about}", case.baseline, measured)
    finally:
        original.close()


def _read_exactly(original: Original, corpus: Corpus, read: Sequence[str]) -> tuple[float, float]:
    """The fractions of lines read as their text, and ignoring spaces; `read` are the paths of all lines."""
    charset = original.property("character").split("\n")
    said = [spelled(path, charset) for path in read]
    texts = [str(line) for line in corpus.arrays("ocr_lines_200.npz")["text"]]
    same = [mine == text for mine, text in zip(said, texts, strict=True)]
    unspaced = [mine.replace(" ", "") == text.replace(" ", "") for mine, text in zip(said, texts, strict=True)]
    return float(np.mean(same)), float(np.mean(unspaced))
