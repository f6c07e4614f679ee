"""The generator makes every operator that a pass which keeps outputs looks for."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import onnx

import graphopt.testing.wild as wild
from graphopt.pipeline import Registry
from graphopt.testing.fuzz.choosing import holding_outputs

OPERATORS = {one.name for one in onnx.defs.get_all_schemas_with_history() if not one.domain}
ROOT = Path(inspect.getfile(wild)).parent

RANDOM = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"}
)
ELSEWHERE = {
    **dict.fromkeys(RANDOM, "two runs differ, so there is nothing to compare"),
    "SoftmaxCrossEntropyLoss": "of training, which onnxruntime's own build for it runs",
    "ImageDecoder": "reads files of images",
}
"""What is not made, and why."""


def named(path: Path) -> Iterator[str]:
    """The operators that a file names in its code, docstrings aside."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    holders = (ast.Module, ast.ClassDef, ast.FunctionDef)
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, holders)]
    docs = {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield from OPERATORS.intersection(re.findall(r"[A-Za-z0-9]+", node.value))


def machinery(path: Path, found: set[Path]) -> set[Path]:
    """A file of passes and all of theirs that it imports."""
    if path not in found:
        found.add(path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("passes."):
                machinery(Path(str(inspect.getfile(importlib.import_module(str(node.module))))), found)
    return found


def test_nothing_that_passes_look_for_is_never_made() -> None:
    made = {name for path in ROOT.glob("*.py") for name in named(path)}
    files: set[Path] = set()
    for one in holding_outputs(Registry.load()):
        machinery(Path(inspect.getfile(one)), files)
    looked_for = {name for path in files for name in named(path)}
    assert len(files) > 50 and len(looked_for) > 100
    assert looked_for - made - set(ELSEWHERE) == set()
