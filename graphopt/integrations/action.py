"""The step of a GitHub workflow: optimize or validate models, and give a table as Markdown.

Reads its inputs from the environment, as `action.yml` sets them, and writes `summary` and `exit-code` to the file that
GITHUB_OUTPUT names, the table also to GITHUB_STEP_SUMMARY.
"""

from __future__ import annotations

import os
import secrets
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphopt.integrations.check import optimized

_TITLE = "### graphopt"


def main(environment: Mapping[str, str] | None = None) -> int:
    """Do what the environment asks for. Returns 0; graphopt's own exit code is an output of the step."""
    given = os.environ if environment is None else environment
    models = shlex.split(given.get("GRAPHOPT_MODELS", ""))
    options = shlex.split(given.get("GRAPHOPT_OPTIONS", ""))
    command = given.get("GRAPHOPT_COMMAND", "optimize")
    if command == "optimize":
        out = given.get("GRAPHOPT_OUT_DIR", "optimized")
        code, table = _optimize(models, out, given.get("GRAPHOPT_WORKERS", "1"), options)
    elif command == "validate":
        code, table = _validate(models, given.get("GRAPHOPT_BASE", ""), options)
    else:
        code, table = 2, f"{_TITLE}\n\ncommand expects optimize or validate, not {cell(command)}"
    _tell(given, table, code)
    return 0


def cell(text: object) -> str:
    """A text that a cell of a Markdown table can hold, whatever is in it."""
    plain = "".join(char if char.isprintable() else " " for char in str(text))
    for mark in "\\`*_{}[]#|":
        plain = plain.replace(mark, f"\\{mark}")
    return plain.replace("<", "&lt;").replace(">", "&gt;").replace("@", "@\u200b")  # and nobody is called


def _optimize(models: list[str], out: str, workers: str, options: list[str]) -> tuple[int, str]:
    said = optimized(["optimize", *models, "--out-dir", out, "--workers", workers, *options])
    if "error" in said:
        return int(said["exit_code"]), f"{_TITLE}\n\n:x: {cell(said['error'])}"
    lines = ["| model | bytes | | nodes | | |", "|---|--:|--:|--:|--:|---|"]
    for row in said["rows"]:
        mark = ":white_check_mark:" if row["exit_code"] == 0 else ":x:"
        sizes = ("bytes_before", "bytes_after", "nodes_before", "nodes_after")
        figures = ["" if row[name] is None else f"{row[name]:,}" for name in sizes]
        lines.append(f"| {mark} {cell(row['model'])} | {' | '.join(figures)} | {cell(row['sentence'])} |")
    table = "\n".join(lines)
    return int(said["exit_code"]), f"{_TITLE}\n\n{said['done']} of {said['models']} models done\n\n{table}"


def _validate(models: list[str], base: str, options: list[str]) -> tuple[int, str]:
    """Hold every model against the file of that name in the commit `base`."""
    from graphopt.errors import GraphoptError
    from graphopt.scale.places import expanded

    lines, worst = ["| model | against the base |", "|---|---|"], 0
    try:
        found = expanded(models)
    except GraphoptError as error:
        return error.exit_code, f"{_TITLE}\n\n:x: {cell(error)}"
    with tempfile.TemporaryDirectory() as folder:
        for number, model in enumerate(found):
            old = Path(folder) / f"{number}.onnx"
            if not base or not _checkout(base, model, old):
                lines.append(f"| :new: {cell(model)} | there is none |")
                continue
            said = optimized(["validate", str(old), model, *options])
            code, sentence = int(said.get("exit_code", 0)), said.get("error") or said.get("sentence", "")
            worst = worst or code
            lines.append(f"| {':x:' if code else ':white_check_mark:'} {cell(model)} | {cell(sentence)} |")
    return worst, f"{_TITLE}\n\n" + "\n".join(lines)


def _checkout(base: str, model: str, target: Path) -> bool:
    """Write a file as it is in a commit; False where the commit has none."""
    words = ["git", "show", f"{base}:./{model}"]
    with target.open("wb") as stream:
        done = subprocess.run(words, stdout=stream, stderr=subprocess.DEVNULL, check=False)
    return done.returncode == 0


def _tell(given: Mapping[str, str], table: str, code: int) -> None:
    mark = secrets.token_hex(16)  # what a model is called must not end the value early
    outputs: dict[str, Any] = {"GITHUB_OUTPUT": f"summary<<{mark}\n{table}\n{mark}\nexit-code={code}\n"}
    outputs["GITHUB_STEP_SUMMARY"] = f"{table}\n"
    for name, text in outputs.items():
        if given.get(name):
            with Path(given[name]).open("a", encoding="utf-8") as stream:
                stream.write(text)
    sys.stdout.write(f"{table}\n")


if __name__ == "__main__":
    sys.exit(main())
