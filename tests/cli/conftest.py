"""A command line run in this process, and the small models that it is run on."""

from __future__ import annotations

import inspect
from pathlib import Path

import onnx
import pytest
from command_lines import TEXT, WEIGHT, Cli, Ran
from typer.testing import CliRunner

from graphopt.cli.app import app
from graphopt.testing import model


@pytest.fixture
def cli() -> Cli:
    """Runs `graphopt ARGUMENTS` in this process."""

    # Older versions mix both streams unless told not to, newer ones cannot be told.
    separate = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}

    def run(*arguments: object, **environment: str) -> Ran:
        done = CliRunner(**separate).invoke(
            app, [str(one) for one in arguments], env=environment, catch_exceptions=False
        )
        return Ran(done.exit_code, done.stdout, done.stderr)

    return run


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """A model with an Identity, a dead node, and a weight that is large enough to quantize."""
    return save(tmp_path / "net.onnx", model(TEXT, w=WEIGHT))


@pytest.fixture
def tidy(tmp_path: Path) -> Path:
    """A model in which there is nothing to do."""
    return save(tmp_path / "tidy.onnx", model("g (float[2] x) => (float[2] y) { y = Relu(x) }"))


@pytest.fixture
def random(tmp_path: Path) -> Path:
    """A model that gives something else each time, with an Identity to remove."""
    text = "g (float[2] x) => (float[2] y) { a = Identity(x)  r = RandomNormalLike(a)  y = Add(a, r) }"
    return save(tmp_path / "random.onnx", model(text))


def save(path: Path, made: onnx.ModelProto) -> Path:
    onnx.save(made, path)
    return path
