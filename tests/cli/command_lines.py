"""What a command line printed and how it ended, and the model that most of them get."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

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
