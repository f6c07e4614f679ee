"""Every recipe on real models: nodes, bytes, seconds, verdict, SQNR, and the metric where there are labels.

usage: python -m benchmarks.corpus [--corpus DIR] [--models a,b] [--recipes clean,int8-weights,prune-50]
                                   [--budget TEXT] [--fetch DIR] [--baselines] [--keep DIR]
                                   [--json FILE] [--markdown FILE]

The corpus is the folder of --corpus or of the environment variable GRAPHOPT_CORPUS. A model with
data is fed its second half, the others are fed generated inputs. `optimize s` is reading, the
passes and writing; `validate s` is validation, almost all of it onnxruntime. SQNR is that of the
worst output in the worse mode (onnxruntime's optimizations off and on). Whatever fails is a row
with its reason.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import graphopt
from benchmarks.corpus_data.arguments import corpus_of
from benchmarks.corpus_data.baselines import baselines
from benchmarks.corpus_data.catalogue import CASES
from benchmarks.corpus_data.evidence import Case, Corpus, Evidence, Missing, Original, Rows
from graphopt.errors import GraphoptError
from graphopt.pipeline.recipe import Recipe
from graphopt.runtime.client import Worker

RECIPES: Final = ("clean", "int8-weights", "prune-50")
_NAME: Final = re.compile(r" '[^']*'")  # the names and sizes by which reasons of one kind differ
_SIZE: Final = re.compile(r"it has \d+ elements,")
HEADS: Final = ("model", "recipe", "nodes", "bytes", "optimize s", "validate s", "verdict", "SQNR dB", "metric")


@dataclass
class Row:
    """One model through one recipe. `facts` is the report as JSON, empty where the run failed."""

    model: str
    recipe: str
    facts: dict[str, Any] = field(default_factory=dict)
    failure: str = ""
    about: str = ""
    note: str = ""

    def cells(self) -> list[str]:
        """The row of the table."""
        recipe = Path(self.recipe).stem  # a recipe may be a file
        if self.failure:
            return [self.model, recipe, "", "", "", "", "failed", "", ""]
        before, after, seconds = self.facts["before"], self.facts["after"], self.facts["seconds"]
        return [
            self.model,
            recipe,
            f"{before['nodes']:,} -> {after['nodes']:,}",
            f"{before['bytes']:,} -> {after['bytes']:,}",
            f"{seconds.get('passes', 0) + seconds.get('write', 0):.2f}",
            f"{seconds.get('validate', 0):.2f}",
            self.facts["verdict"]["outcome"] if self.facts["changed"] else "unchanged",
            self._sqnr(),
            self._metric(),
        ]

    def reasons(self) -> list[str]:
        """Why the run failed, or why its verdict is not that it passed, or what weakens it."""
        if self.failure:
            return [self.failure]
        verdict = self.facts["verdict"]
        said = [] if verdict["passed"] or not self.facts["changed"] else list(verdict["reasons"])
        return said + self._idle() + ([self.note] if self.note else [])

    def _idle(self) -> list[str]:
        """For every lossy pass that did nothing: what it left and why, like reasons counted together."""
        said = []
        for row in self.facts["passes"]:
            if row["contract"] != "LOSSY" or row["applied"]:
                continue
            left = [one["why"] for one in self.facts["remarks"] if one["pass_name"] == row["name"]]
            kinds = Counter(_SIZE.sub("it has", _NAME.sub("", why)) for why in left)
            parts = [f"{count} because {why}" for why, count in kinds.most_common(3)]
            said.append(f"{row['name']} did nothing: of {len(left)} it left " + "; ".join(parts))
        return said

    def _sqnr(self) -> str:
        outputs = [one for one in self.facts["verdict"]["outputs"] if one["kind"] in ("float", "mixed")]
        if not outputs:
            return ""
        if not any(one["differing"] for one in outputs):
            return "exact"
        return f"{min(float(one['sqnr_db']) for one in outputs):.1f}"

    def _metric(self) -> str:
        metric = self.facts["verdict"]["metric"]
        if metric is None:
            return ""
        return f"{metric['name'].rpartition(':')[2]} {metric['before']:.3f} -> {metric['after']:.3f}"


def rows(
    corpus: Corpus, worker: Worker, names: Sequence[str], recipes: Sequence[str], budget: str | None, keep: Path | None
) -> Iterator[Row]:
    """Run every model of `names` through every recipe."""
    for case in CASES:
        if case.name not in names:
            continue
        try:
            path = corpus.model(case.name)
        except Missing as missing:
            yield from (Row(case.name, recipe, failure=str(missing)) for recipe in recipes)
            continue
        evidence, note = _evidence(case, corpus, path, worker)
        for recipe in recipes:
            yield _row(Row(case.name, recipe, note=note), path, evidence, budget, keep)


def _evidence(case: Case, corpus: Corpus, path: Path, worker: Worker) -> tuple[Evidence | None, str]:
    """The real data of a model, or None and why there are none although it has some."""
    if case.loader is None:
        return None, ""
    try:
        original = Original(path, worker)
        try:
            return case.loader(corpus, original, Rows(1, case.most)), ""
        finally:
            original.close()
    except (Missing, GraphoptError) as error:
        return None, f"fed generated inputs: {error}"


def _row(row: Row, path: Path, evidence: Evidence | None, budget: str | None, keep: Path | None) -> Row:
    lossy = bool(Recipe.load(row.recipe).budget)
    output = None if keep is None else keep / f"{row.model}.{Path(row.recipe).stem}.onnx"
    try:
        result = graphopt.optimize(
            path,
            recipe=row.recipe,
            feeds=None if evidence is None else evidence.feeds,
            labels=None if evidence is None else evidence.labels,
            metric=None if evidence is None else evidence.metric,
            budget=budget if lossy else None,
            output=output,
        )
    except GraphoptError as error:
        row.failure = f"{type(error).__name__} (exit code {error.exit_code}): {error}"
    except Exception as error:  # noqa: BLE001  a fault is a result of the benchmark, and the other rows still count
        row.failure = f"a fault, {type(error).__name__}: {error}"
    else:
        row.facts = result.report.to_json()
        row.about = evidence.about if evidence is not None else "generated inputs"
    return row


def markdown(found: Sequence[Row]) -> str:
    """The table, and under it a line for every row that needs a reason."""
    lines = ["| " + " | ".join(HEADS) + " |", "| --- | --- | ---: | ---: | ---: | ---: | --- | ---: | --- |"]
    lines += ["| " + " | ".join(row.cells()) + " |" for row in found]
    reasons = [f"- `{row.model}`, {row.recipe}: {reason}" for row in found for reason in row.reasons()]
    return "\n".join(lines + (["", *reasons] if reasons else [])) + "\n"


def _widths() -> list[int]:
    model = max(len(case.name) for case in CASES)
    return [model, 12, 14, 24, 10, 10, 14, 8, 32]


def _print(cells: Sequence[str], widths: Sequence[int]) -> None:
    right = {2, 3, 4, 5, 7}
    parts = [
        f"{cell:>{width}}" if at in right else f"{cell:<{width}}"
        for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    print("  ".join(parts).rstrip(), flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=os.environ.get("GRAPHOPT_CORPUS"))
    parser.add_argument("--models", default=",".join(case.name for case in CASES))
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--budget", help="instead of the recipe's own, for recipes that have one")
    parser.add_argument("--fetch", type=Path, metavar="DIR", help="bring the model that the corpus does not keep")
    parser.add_argument("--baselines", action="store_true", help="measure the originals against their known scores")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="write the results that passed there")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    if arguments.corpus is None or not Path(arguments.corpus).is_dir():
        parser.error("there is no corpus; give its folder as --corpus or in the variable GRAPHOPT_CORPUS")
    unknown = set(arguments.models.split(",")) - {case.name for case in CASES}
    if unknown:
        parser.error(f"the corpus has no model {sorted(unknown)[0]!r}; it has {', '.join(case.name for case in CASES)}")
    return arguments


def main() -> None:
    arguments = _arguments()
    if arguments.keep is not None:
        arguments.keep.mkdir(parents=True, exist_ok=True)
    corpus = corpus_of(arguments)
    names, recipes = arguments.models.split(","), arguments.recipes.split(",")
    with Worker() as worker:
        if arguments.baselines:
            for line in baselines(corpus, worker, names):
                said = line.reason or f"{line.measured:.3f} where {line.known} is known, {line.about}"
                print(f"{line.model}: {said}", flush=True)
            return
        found: list[Row] = []
        _print(HEADS, _widths())
        for row in rows(corpus, worker, names, recipes, arguments.budget, arguments.keep):
            found.append(row)
            _print(row.cells(), _widths())
            for reason in row.reasons():
                print(f"    {reason}", flush=True)
    if arguments.markdown is not None:
        arguments.markdown.write_text(markdown(found))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([vars(row) for row in found], indent=1))


if __name__ == "__main__":
    main()
