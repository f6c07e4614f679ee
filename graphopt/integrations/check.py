"""The pre-commit hook: every model can be read, and with `--fix` is as `graphopt optimize` would have it.

    graphopt-check model.onnx ...
    graphopt-check --fix [--recipe NAME] model.onnx ...

Exits with 0 when there was nothing to say, 1 when a file was changed, else with the code of the first failure.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from graphopt.errors import GraphoptError

CHANGED = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script `graphopt-check`; returns the exit code."""
    parser = argparse.ArgumentParser(prog="graphopt-check", description=__doc__.split("\n")[0])
    parser.add_argument("--fix", action="store_true", help="optimize files in place where that changes them")
    parser.add_argument("--recipe", default="clean", help="what to optimize with; clean (EXACT passes) unless given")
    parser.add_argument("models", nargs="*")
    given = parser.parse_args(arguments)
    worst = 0
    for model in given.models:
        code, sentence = _fixed(model, given.recipe) if given.fix else _read(model)
        if code:
            sys.stderr.write(f"{model}: {sentence}\n")
            worst = worst or code
    return worst


def _read(model: str) -> tuple[int, str]:
    from graphopt.storage.read import read

    try:
        read(model)
    except GraphoptError as error:
        return error.exit_code, str(error).rstrip(".")
    return 0, ""


def _fixed(model: str, recipe: str) -> tuple[int, str]:
    """Optimize a model in place, in a process of its own."""
    said = optimized(["optimize", model, "--in-place", "--recipe", recipe])
    if "error" in said:
        return int(said["exit_code"]), str(said["error"])
    if said["exit_code"]:
        return int(said["exit_code"]), str(said["verdict"]["sentence"])
    if not said["changed"]:
        return 0, ""
    before, after = said["before"], said["after"]
    return (
        CHANGED,
        f"optimized: {before['nodes']} to {after['nodes']} nodes, {before['bytes']} to {after['bytes']} bytes",
    )


def optimized(words: Sequence[str]) -> dict[str, Any]:
    """What `graphopt ... --json` says."""
    done = subprocess.run(
        [sys.executable, "-m", "graphopt", *words, "--json"], capture_output=True, text=True, check=False
    )
    try:
        said: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        said = {"error": f"the run ended with {done.returncode}: {done.stderr.strip()[-200:]}", "exit_code": 70}
    return said


if __name__ == "__main__":
    sys.exit(main())
