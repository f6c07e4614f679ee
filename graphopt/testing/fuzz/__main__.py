"""The command line of the fuzzer."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from graphopt.pipeline import Registry
from graphopt.testing.fuzz.campaign import Plan, campaign
from graphopt.testing.fuzz.choosing import KINDS, holding_outputs, pairs
from graphopt.testing.fuzz.holding import Failure
from graphopt.testing.fuzz.saving import save
from graphopt.testing.fuzz.tally import UNSURE, Tally

_EVERY = 30.0  # seconds between two lines of progress
_ALIKE = 3  # failures of one kind that are reduced and saved


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line: 1 when anything failed."""
    options = _options(arguments)
    registry = Registry.load()
    first, last = (int(one) for one in options.seeds.split(":"))
    state = Path(options.state) if options.state else None
    tally = Tally.load(state) if state is not None and state.exists() else Tally(first)
    kinds = KINDS if options.pipeline == "all" else (options.pipeline,)
    plan = Plan(kinds, options.nodes)
    alike: Counter[str] = Counter()

    def found(failure: Failure) -> None:
        sys.stdout.write(str(failure))
        sys.stdout.flush()
        kind = f"{failure.law} {failure.blamed[:40]}"
        alike[kind] += 1
        if options.save and failure.law != UNSURE and alike[kind] <= _ALIKE:
            sys.stdout.write(save(failure, Path(options.save), registry, options.nodes) + "\n")
            sys.stdout.flush()

    begun, said = time.monotonic(), time.monotonic()
    before = tally.seconds
    until = begun + 60 * options.minutes
    for _ in campaign(range(max(first, tally.next), last), plan, tally, registry, until=until, found=found):
        tally.seconds = before + time.monotonic() - begun
        if time.monotonic() - said > _EVERY:
            said = time.monotonic()
            sys.stderr.write(tally.progress() + "\n")
            sys.stderr.flush()
            if state is not None:
                tally.save(state)
    tally.seconds = before + time.monotonic() - begun
    if state is not None:
        tally.save(state)
    sys.stdout.write(tally.table(len(pairs(registry)), (one.name for one in holding_outputs(registry))))
    return 1 if tally.failures else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m graphopt.testing.fuzz", description="Hold passes to their laws on random models."
    )
    parser.add_argument(
        "--seeds", default="0:1000000", metavar="A:B", help="the seeds from A up to B, B not among them"
    )
    parser.add_argument(
        "--pipeline",
        default="all",
        help="default, alone (each pass), some (two passes, each alone), pairs, random (a few together), lossy, "
        "all (all of them but alone), or a pipeline's text",
    )
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no other seed after so many minutes")
    parser.add_argument("--nodes", type=int, default=14, help="about how many nodes a model has")
    parser.add_argument("--save", metavar="FOLDER", help="reduce what fails and write it there")
    parser.add_argument("--state", metavar="FILE", help="keep the counts there, and go on where they stopped")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
