"""Contenders in turn: each lives in a process of its own and runs when it is told to.

A contender is `module:function`; the function takes the arguments of the call and returns facts
that JSON can hold. The child reports its own CPU seconds for the call.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final

_ROOT: Final = Path(__file__).resolve().parents[1]


@dataclass
class Runs:
    """The CPU seconds of each call, in order, and what the last call returned."""

    cpu: list[float] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    error: str | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.cpu) if self.cpu else float("nan")


class Contender:
    """One child process that calls one function whenever it is told to."""

    def __init__(self, target: str, python: str = sys.executable) -> None:
        self.target = target
        paths = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
        self._child = subprocess.Popen(
            [python, "-m", "benchmarks.pairs", target], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": paths},
        )  # fmt: skip

    def call(self, *arguments: Any) -> dict[str, Any]:
        """Run once; the answer has `cpu`, and `facts` or `error`."""
        assert self._child.stdin is not None and self._child.stdout is not None
        self._child.stdin.write(json.dumps(arguments) + "\n")
        self._child.stdin.flush()
        line = self._child.stdout.readline()
        if not line:
            return {"cpu": float("nan"), "error": f"the process ended with {self._child.wait()}"}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Contender:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._child.stdin is not None:
            self._child.stdin.close()
        self._child.wait()


def race(
    targets: Sequence[str],
    arguments: Sequence[Any],
    rounds: int,
    warmup: int = 1,
    pythons: Mapping[str, str] | None = None,
) -> dict[str, Runs]:
    """Let the targets run in turn, `rounds` times each after `warmup` uncounted times; a target of `pythons` in that
    interpreter."""
    found = {target: Runs() for target in targets}
    children = [Contender(target, (pythons or {}).get(target, sys.executable)) for target in targets]
    try:
        for turn in range(warmup + rounds):
            for child in children:
                runs = found[child.target]
                if runs.error is not None:
                    continue
                answer = child.call(*arguments)
                runs.error = answer.get("error")
                if runs.error is None and turn >= warmup:
                    runs.cpu.append(answer["cpu"])
                    runs.facts = answer["facts"]
    finally:
        for child in children:
            child.__exit__(None, None, None)
    return found


def ratio(ours: Runs, theirs: Runs) -> float:
    """The median over rounds of our time to theirs."""
    return statistics.median(a / b for a, b in zip(ours.cpu, theirs.cpu, strict=True))


def _serve(target: str) -> None:
    module, _, name = target.partition(":")
    function = getattr(importlib.import_module(module), name)
    answers = sys.stdout
    sys.stdout = sys.stderr  # whatever a contender prints must not mix with the answers
    for line in sys.stdin:
        gc.collect()
        start = time.process_time()
        try:
            facts = function(*json.loads(line))
            answer = {"cpu": time.process_time() - start, "facts": facts}
        except Exception as error:  # noqa: BLE001  a contender's failure is a result of the benchmark
            answer = {"cpu": float("nan"), "error": f"{type(error).__name__}: {str(error)[:200]}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    _serve(sys.argv[1])
