"""A command line run in this process, and the small models that it is run on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from graphopt.cli.app import app
from graphopt.testing import model

WEIGHT = np.random.default_rng(7).standard_normal((64, 48)).astype(np.float32)
TEXT = """g (float[N,64] x) => (float[N,48] y) {
    a = Identity(x)  b = MatMul(a, w)  y = Relu(b)  d = Exp(b)
}"""


@dataclass(frozen=True)
class Ran:
    """How a command line ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be one JSON object and nothing else."""
        return json.loads(self.out)

    @property
    def sentence(self) -> str:
        """The one line on standard error, without the program's name."""
        assert self.out == ""
        assert self.err.startswith("graphopt: ")
        assert self.err.endswith("\n")
        assert self.err.count("\n") == 1
        return self.err.removeprefix("graphopt: ").removesuffix("\n")


Cli = Callable[..., Ran]


@pytest.fixture
def cli() -> Cli:
    """Runs `graphopt ARGUMENTS` in this process."""

    def run(*arguments: object, **environment: str) -> Ran:
        done = CliRunner().invoke(app, [str(one) for one in arguments], env=environment, catch_exceptions=False)
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
