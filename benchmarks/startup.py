"""How long the command line takes to say something: CPU seconds of whole processes.

usage: python -m benchmarks.startup [--rounds 11]

The commands run in turn, so that a machine that speeds up or slows down favours none; medians of
user and system time of the child, bytecode already compiled. `python -c pass` is the interpreter's
own share.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
from typing import Final

_CLI: Final = "import sys; sys.argv = ['graphopt', *sys.argv[1:]]; from graphopt.cli.app import main; main()"
COMMANDS: Final = {
    "python -c pass": ["-c", "pass"],
    "python -c 'import graphopt'": ["-c", "import graphopt"],
    "graphopt --help": ["-c", _CLI, "--help"],
    "graphopt passes": ["-c", _CLI, "passes"],
}


def once(arguments: list[str]) -> tuple[float, str]:
    """CPU seconds of one child, and what it said where it failed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    rounds = parser.parse_args().rounds
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    failures: dict[str, str] = {}
    for turn in range(rounds + 1):
        for name, arguments in COMMANDS.items():
            spent, failure = once(arguments)
            if failure:
                failures[name] = failure
            elif turn:  # the first turn compiles bytecode and warms the file cache
                seconds[name].append(spent)
    print(f"{'command':<30} {'CPU s':>7} {'least':>7} {'most':>7}")
    for name, spent_all in seconds.items():
        if name in failures:
            print(f"{name:<30} failed: {failures[name]}")
            continue
        print(f"{name:<30} {statistics.median(spent_all):>7.3f} {min(spent_all):>7.3f} {max(spent_all):>7.3f}")


if __name__ == "__main__":
    main()
