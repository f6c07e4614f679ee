"""Without PyTorch: training says what to install, and nothing else needs it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from graphopt.errors import UsageError
from graphopt.testing.text import model
from graphopt.training.extra import threads
from graphopt.training.program import Program


def test_without_torch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphopt.training.extra.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'graphopt\[distill\]'"):
        Program.of(model("g (float[2] x) => (float[2] y) { y = Neg(x) }"))
    with pytest.raises(UsageError, match=r"pip install 'graphopt\[distill\]'"), threads(1):
        pass


def test_importing_everything_else_does_not_import_torch() -> None:
    modules = "graphopt, graphopt.training.program, graphopt.training.agreement"
    code = f"import sys, {modules}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
