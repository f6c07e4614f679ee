"""The arguments that benchmarks on the corpus share, and the corpus that they name."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from benchmarks.corpus_data.catalogue import FETCHED
from benchmarks.corpus_data.evidence import Corpus
from benchmarks.fetch import bring
from benchmarks.manifest import chosen


def corpus_parser(about: str | None, samples: int, told: str | None = None) -> argparse.ArgumentParser:
    """A parser with --corpus, --fetch, --samples and --json."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=os.environ.get("GRAPHOPT_CORPUS"))
    parser.add_argument("--fetch", type=Path, metavar="DIR", help="bring the model that the corpus does not keep")
    parser.add_argument("--samples", type=int, default=samples, help=told)
    parser.add_argument("--json", type=Path, metavar="FILE", help="a line for each row is added to it")
    return parser


def latency_arguments(parser: argparse.ArgumentParser, seconds: float) -> None:
    """Add --threads, --seconds and --keep."""
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=seconds)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the models there")


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """What was given; ends with a sentence where there is no corpus."""
    arguments = parser.parse_args()
    if arguments.corpus is None or not Path(arguments.corpus).is_dir():
        parser.error("there is no corpus; give its folder as --corpus or in the variable GRAPHOPT_CORPUS")
    return arguments


def refuse_unknown(parser: argparse.ArgumentParser, given: str, known: Iterable[str], what: str) -> None:
    """End with a sentence where one of the names, with commas between them, is not known."""
    names = list(known)
    unknown = set(given.split(",")) - set(names)
    if unknown:
        parser.error(f"there is no {what} {sorted(unknown)[0]!r}; there are {', '.join(names)}")


def corpus_of(given: argparse.Namespace) -> Corpus:
    """The corpus that was named, with what --fetch brings."""
    if given.fetch is None:
        return Corpus(Path(given.corpus))
    (one,) = bring(chosen([FETCHED]), given.fetch)
    if one.failure:
        print(f"{FETCHED}: {one.failure}", file=sys.stderr)
    return Corpus(Path(given.corpus), (given.fetch / "models",))
