"""`python -m benchmarks fetch|run|compare|report`; each command is a module with `add_arguments` and `main`."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from collections.abc import Sequence
from typing import Final

from graphopt.errors import GraphoptError

COMMANDS: Final = {
    "fetch": "bring the models, and with --peers other tools",
    "run": "measure, and write a line of JSON for each result",
    "compare": "two runs side by side, as ratios with their noise",
    "report": "one HTML page, and the tables of README and docs",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command: its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, about in COMMANDS.items():
        command = commands.add_parser(name, help=about, description=about)
        if given[:1] == [name]:  # the others are not loaded
            importlib.import_module(f"benchmarks.{name}").add_arguments(command)
    options = parser.parse_args(given)
    try:
        return int(importlib.import_module(f"benchmarks.{options.command}").main(options))
    except GraphoptError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("benchmarks: stopped; what is there is kept", file=sys.stderr)
        return 130


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what it started ends with it
    sys.exit(main())
