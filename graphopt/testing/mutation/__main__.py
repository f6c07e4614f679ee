"""Flip each side condition of passes, one at a time, and count what notices.

    python -m graphopt.testing.mutation --passes eliminate,fold --minutes 30 --json mutants.json
    python -m graphopt.testing.mutation --passes no-op-slices --sample 40 --seed 1
    python -m graphopt.testing.mutation --json mutants.json --again      # what survived, against new tests

A mutant is asked of the tests that run its line, then of the laws on random models, then of the
validator on real ones. What `--json` holds already is not tried again. The exit status is 1 when a mutant
is left that nobody has judged. It needs the repository: pytest, and the tests.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from graphopt.testing.mutation.hunt import Options, groups, hunt
from graphopt.testing.mutation.report import load, survivors, table

_ROOT = Path(__file__).resolve().parents[3]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    options = _options(arguments)
    before = load(options.json)
    asked = Options(
        root=_ROOT,
        passes=tuple(options.passes.split(",")),
        sample=options.sample,
        seed=options.seed,
        seconds=60 * options.minutes,
        json=options.json,
        again=options.again,
        models=options.models,
        corpus=tuple(Path(one) for one in os.environ.get("GRAPHOPT_CORPUS", "").split(os.pathsep) if one),
    )
    found = {
        source.path.relative_to(_ROOT).as_posix(): len(source.sites)
        for group in groups(asked)
        for source in group.sources
    }
    fates = hunt(asked, before)
    text = table(list(fates.values()), found)
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
    sys.stdout.write(text)
    return 1 if survivors(fates.values()) else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m graphopt.testing.mutation",
        description="Flip side conditions of passes and count what notices.",
    )
    parser.add_argument(
        "--passes",
        default="eliminate,fold,fuse,layout,convert,tidy,perturb,quantize,prune,distill",
        help="families, passes, or files under the root, with commas between",
    )
    parser.add_argument("--sample", type=int, metavar="N", help="try only N mutants of each family, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="for --sample")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no mutant after so many minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep what became of each there, and go on from it")
    parser.add_argument("--again", action="store_true", help="try what an earlier run left alive, and no others")
    parser.add_argument("--models", type=int, default=100, metavar="N", help="seeds of random models, of two kinds")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there too")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
