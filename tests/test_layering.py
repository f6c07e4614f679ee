"""The house: which room may import which, and a few other things that keep rooms small.

The table below is the whole law. Imports under `TYPE_CHECKING`, inside functions, relative ones and
`import_module("...")` with a literal name count like any other. Each rule is also shown a tree that
breaks it, so that a rule which stopped looking would be noticed.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

NOTHING: frozenset[str] = frozenset()
ERRORS = frozenset({"errors", "stopping"})
BASE = frozenset({"errors", "contract", "limits", "stopping"})

ARROWS: dict[str, frozenset[str]] = {
    # room          may import
    "errors": NOTHING,
    "contract": NOTHING,
    "limits": ERRORS,
    "stopping": NOTHING,  # how a signal ends a run, and the steps that it must not cut in two
    "demo": ERRORS,
    "ir": ERRORS | {"limits"},
    "runtime": ERRORS,
    "storage": BASE | {"ir"},
    "analysis": BASE | {"ir"},
    "pipeline": BASE | {"ir", "analysis"},
    "validation": BASE | {"ir", "storage", "analysis", "runtime"},
    "measure": BASE | {"runtime"},
    "calibration": BASE | {"ir", "storage", "analysis", "runtime"},
    "instruments": BASE | {"ir", "storage", "analysis", "pipeline", "validation", "measure"},
    "interop": BASE | {"ir", "storage", "pipeline"},
    "debug": BASE | {"ir", "storage", "analysis", "pipeline", "runtime", "validation"},
    "tune": BASE | {"ir", "storage", "analysis", "pipeline", "runtime", "validation", "measure", "calibration"},
    # As calibration does, it runs a model in the worker and answers in the words of analysis.
    "training": BASE | {"ir", "storage", "analysis", "runtime", "calibration"},
    # perturbs weights in parts of a model, which debug cuts out of it, on what calibration observes in bodies
    "tolerance": BASE | {"ir", "storage", "analysis", "runtime", "validation", "calibration", "debug"},
    "report": BASE
    | {"ir", "storage", "analysis", "pipeline", "validation", "measure", "instruments", "debug", "tune", "tolerance"},
}
ARROWS["scale"] = BASE | {"ir"}
ARROWS["report"] |= {"scale"}
ENGINE = frozenset(ARROWS)
ARROWS["session"] = ENGINE
ARROWS["testing"] = ENGINE | {"session"}
ARROWS["graphopt"] = ENGINE | {"session"}  # graphopt/__init__.py: the Python API
ARROWS["cli"] = ENGINE | {"session", "testing", "graphopt"}
ARROWS["integrations"] = BASE | {"storage", "scale"}
ARROWS["__main__"] = frozenset({"cli"})

# What a pass sees of the engine, and of the world besides the standard library.
PASS_ENGINE = ("graphopt.pipeline.protocol", "graphopt.ir", "graphopt.analysis", "graphopt.contract")
PASS_LIBRARIES = frozenset({"numpy", "ml_dtypes"})

EMPTY_NAMES = frozenset({"utils", "util", "helpers", "helper", "common", "misc", "core"})
MOST_LINES = 320
HEAVY = ("onnx", "numpy", "onnxruntime", "onnx_graphsurgeon")


@dataclass(frozen=True)
class Import:
    """One imported name: the importing file (parts below the root), the line, the dotted target."""

    parts: tuple[str, ...]
    line: int
    target: str

    @property
    def room(self) -> str:
        """`ir` for graphopt/ir/graph.py, `session` for graphopt/session.py, `graphopt` for its __init__."""
        return room_of(self.parts)

    def within(self, module: str) -> bool:
        return self.target == module or self.target.startswith(module + ".")

    def fault(self, why: str) -> str:
        return f"{'/'.join(self.parts)}:{self.line} imports {self.target}: {why}"


def room_of(parts: tuple[str, ...]) -> str:
    second = parts[1].removesuffix(".py")
    return parts[0] if second == "__init__" else second


def sources(root: Path) -> Iterator[tuple[tuple[str, ...], str]]:
    for package in ("graphopt", "passes"):
        for path in sorted((root / package).rglob("*.py")):
            yield path.relative_to(root).parts, path.read_text(encoding="utf-8")


def imports(root: Path) -> Iterator[Import]:
    for parts, text in sources(root):
        for node in ast.walk(ast.parse(text)):
            for target in targets(node, parts):
                yield Import(parts, getattr(node, "lineno", 0), target)


def targets(node: ast.AST, parts: tuple[str, ...]) -> list[str]:
    """The dotted names that one statement or call imports, relative ones resolved."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        above = list(parts[: len(parts) - node.level]) if node.level else []
        base = ".".join(above + ([node.module] if node.module else []))
        return [base if alias.name == "*" else f"{base}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        name = node.args[0].value
        if called in {"import_module", "__import__"} and isinstance(name, str):
            return [name]
    return []


def engine_imports_passes(root: Path) -> list[str]:
    found = (each for each in imports(root) if each.parts[0] == "graphopt" and each.within("passes"))
    return [each.fault("the engine knows no particular pass") for each in found]


def onnxruntime_outside_runtime(root: Path) -> list[str]:
    found = (each for each in imports(root) if each.within("onnxruntime"))
    return [
        each.fault("only graphopt/runtime does")
        for each in found
        if each.parts[0] != "graphopt" or each.room != "runtime"
    ]


def rooms_without_a_row(root: Path) -> list[str]:
    rooms = {room_of(parts) for parts, _ in sources(root) if parts[0] == "graphopt"}
    return [f"graphopt/{room} has no row in ARROWS" for room in sorted(rooms - ARROWS.keys())]


def forbidden_arrows(root: Path) -> list[str]:
    faults = []
    for each in imports(root):
        if each.parts[0] != "graphopt" or not each.within("graphopt"):
            continue
        named = each.target.split(".")
        room = named[1] if len(named) > 1 and named[1] in ARROWS else "graphopt"
        allowed = ARROWS.get(each.room, NOTHING)
        if room != each.room and room not in allowed:
            faults.append(each.fault(f"{each.room} may import {', '.join(sorted(allowed)) or 'no room'}"))
    return faults


def passes_that_see_too_much(root: Path) -> list[str]:
    faults = []
    for each in imports(root):
        if each.parts[0] != "passes":
            continue
        first = each.target.split(".")[0]
        family = f"passes.{each.room}"
        if first == "passes":
            if not each.within(family):
                faults.append(each.fault(f"{family} may not see another family"))
        elif first == "graphopt":
            if not any(each.within(module) for module in PASS_ENGINE):
                faults.append(each.fault(f"of the engine a pass sees {', '.join(PASS_ENGINE)}"))
        elif first not in PASS_LIBRARIES and first not in sys.stdlib_module_names:
            faults.append(each.fault(f"a pass uses the standard library, {' and '.join(sorted(PASS_LIBRARIES))}"))
    return faults


def names_that_say_nothing(root: Path) -> list[str]:
    named = (parts for parts, _ in sources(root))
    return [
        f"{'/'.join(parts)}: name it after what it does"
        for parts in named
        if EMPTY_NAMES.intersection(part.removesuffix(".py") for part in parts)
    ]


def files_too_long(root: Path) -> list[str]:
    lengths = (("/".join(parts), len(text.splitlines())) for parts, text in sources(root))
    return [f"{name} has {lines} lines, over {MOST_LINES}" for name, lines in lengths if lines > MOST_LINES]


RULES: tuple[Callable[[Path], list[str]], ...] = (
    engine_imports_passes,
    onnxruntime_outside_runtime,
    rooms_without_a_row,
    forbidden_arrows,
    passes_that_see_too_much,
    names_that_say_nothing,
    files_too_long,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps(rule: Callable[[Path], list[str]]) -> None:
    assert rule(REPOSITORY) == []


def test_both_packages_are_looked_at() -> None:
    seen = {parts for parts, _ in sources(REPOSITORY)}
    assert ("graphopt", "errors.py") in seen
    assert ("passes", "__init__.py") in seen
    assert any(each.target.startswith("graphopt.contract") for each in imports(REPOSITORY))


def build(root: Path, tree: dict[str, str]) -> Path:
    for name, text in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


KEPT = {
    "graphopt/__init__.py": "from graphopt.session import optimize\n",
    "graphopt/session.py": "from graphopt.report import text\nfrom graphopt.demo import model_path\n",
    "graphopt/ir/graph.py": "from graphopt.errors import BadModel\nfrom . import node\nimport numpy\n",
    "graphopt/runtime/worker.py": "import onnxruntime\n",
    "graphopt/cli/app.py": "def demo():\n    from graphopt import optimize\n    from graphopt.testing import apply\n",
    "passes/__init__.py": "",
    "passes/prune/magnitude.py": (
        "import math\nimport numpy as np\nfrom graphopt.ir import Graph\nfrom graphopt import analysis\n"
        "from graphopt.pipeline.protocol import Pass\nfrom passes.prune.scores import l1\nfrom .scores import l2\n"
    ),
}

BROKEN: list[tuple[Callable[[Path], list[str]], str, str]] = [
    (engine_imports_passes, "graphopt/pipeline/a.py", "from passes.prune import magnitude\n"),
    (engine_imports_passes, "graphopt/testing/a.py", "def f():\n    import passes\n"),
    (onnxruntime_outside_runtime, "graphopt/measure/a.py", "import onnxruntime as ort\n"),
    (
        onnxruntime_outside_runtime,
        "graphopt/measure/a.py",
        "import importlib\nimportlib.import_module('onnxruntime')\n",
    ),
    (onnxruntime_outside_runtime, "passes/runtime/a.py", "from onnxruntime.capi import x\n"),
    (rooms_without_a_row, "graphopt/attic/a.py", ""),
    (rooms_without_a_row, "graphopt/attic.py", ""),
    (forbidden_arrows, "graphopt/ir/a.py", "from graphopt.storage import read\n"),
    (forbidden_arrows, "graphopt/ir/a.py", "from graphopt.contract import Contract\n"),
    (forbidden_arrows, "graphopt/ir/a.py", "from ..storage.read import read\n"),
    (forbidden_arrows, "graphopt/ir/a.py", "from graphopt import storage\n"),
    (forbidden_arrows, "graphopt/validation/a.py", "from graphopt import optimize\n"),
    (forbidden_arrows, "graphopt/pipeline/a.py", "if TYPE_CHECKING:\n    from graphopt.runtime.client import Worker\n"),
    (forbidden_arrows, "graphopt/report/a.py", "def f():\n    import graphopt.session\n"),
    (forbidden_arrows, "graphopt/session.py", "from graphopt.cli.app import main\n"),
    (passes_that_see_too_much, "passes/prune/a.py", "from passes.quantize.scales import f\n"),
    (passes_that_see_too_much, "passes/prune/a.py", "from ..quantize import scales\n"),
    (passes_that_see_too_much, "passes/prune/a.py", "from graphopt.pipeline.manager import run\n"),
    (passes_that_see_too_much, "passes/prune/a.py", "import graphopt\n"),
    (passes_that_see_too_much, "passes/prune/a.py", "from onnx import helper\n"),
    (names_that_say_nothing, "graphopt/ir/utils.py", ""),
    (names_that_say_nothing, "passes/common/a.py", ""),
    (files_too_long, "graphopt/ir/a.py", "#\n" * (MOST_LINES + 1)),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_tree_that_keeps_the_house_passes(rule: Callable[[Path], list[str]], tmp_path: Path) -> None:
    assert rule(build(tmp_path, KEPT)) == []


@pytest.mark.parametrize(("rule", "name", "text"), BROKEN)
def test_a_tree_that_breaks_a_rule_is_named(
    rule: Callable[[Path], list[str]], name: str, text: str, tmp_path: Path
) -> None:
    (fault,) = rule(build(tmp_path, KEPT | {name: text}))
    assert fault.startswith(name) or fault == "graphopt/attic has no row in ARROWS"


def test_every_rule_is_shown_to_fail() -> None:
    assert {rule for rule, _, _ in BROKEN} == set(RULES)


def loaded_by(statement: str) -> list[str]:
    """Which of the heavy libraries a fresh interpreter has loaded after one statement."""
    code = f"import sys\n{statement}\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_the_command_line_starts_without_the_heavy_libraries() -> None:
    if not (REPOSITORY / "graphopt" / "cli" / "app.py").exists():
        pytest.skip("graphopt/cli/app.py does not exist yet")
    assert loaded_by("import graphopt.cli.app") == []


def test_a_heavy_import_would_be_seen() -> None:
    assert loaded_by("import numpy") == ["numpy"]
