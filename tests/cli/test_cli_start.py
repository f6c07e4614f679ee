"""Starting: what is imported, the help, the version, and `python -m graphopt`."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import graphopt

COMMANDS = ("optimize", "demo", "passes", "explain", "validate", "inspect")
HEAVY = ("onnx", "numpy", "onnxruntime", "onnx_graphsurgeon", "google.protobuf")


def started(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "graphopt", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["optimize", "--help"], ["optimise"]])
def test_what_needs_no_model_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom graphopt.cli.app import main\n"
        f"sys.argv = ['graphopt', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"


def test_help_names_every_sub_command_and_the_exit_codes() -> None:
    done = started("--help")
    assert done.returncode == 0
    assert all(f"\n  {name} " in done.stdout for name in COMMANDS)
    assert "6    validation could not tell" in done.stdout


def test_help_of_optimize_has_sections_and_names_its_values() -> None:
    done = started("optimize", "--help")
    assert "Usage: graphopt optimize IN [OPTIONS]" in done.stdout
    assert "-o, --output OUT" in done.stdout
    assert "\nValidation:\n" in done.stdout
    assert "\nWhich rewrites:\n" in done.stdout
    assert "<str>" not in done.stdout


def test_version() -> None:
    done = started("--version")
    assert (done.returncode, done.stdout) == (0, f"graphopt {graphopt.__version__}\n")


def test_no_arguments_show_the_help_as_a_mistake() -> None:
    done = started()
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Commands:" in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_completion_for_shells(shell: str) -> None:
    done = started(_GRAPHOPT_COMPLETE=f"source_{shell}")
    assert done.returncode == 0
    assert "_GRAPHOPT_COMPLETE" in done.stdout


def test_values_are_completed() -> None:
    words = "graphopt optimize m.onnx --recipe int8-w"
    done = started(_GRAPHOPT_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD="4")
    assert done.stdout.split() == ["int8-weights"]
