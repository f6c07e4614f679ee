"""Runs command lines in forks of a warmed process (`warm.py`), with a fault, and says how they ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import interposer

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
FIRST = ("graphopt.cli.app", "graphopt.cli.start", "graphopt.runtime.engine", "graphopt.runtime.worker")
NONE = (0, -1, 0, 0, 0, 0, 0)


@dataclass(frozen=True)
class Fault:
    """One fault: the call of these kinds with this number fails with an error (or is short, or a signal
    arrives at it), or all from it on. `smallest`: bytes of the smallest allocation that counts."""

    kinds: tuple[str, ...]
    at: int = -1
    error: int = 0
    on: bool = False
    action: int = interposer.FAIL
    smallest: int = 4096

    def spec(self, log: bool = False) -> tuple[int, ...]:
        mask = interposer.mask(*self.kinds)
        return (mask, self.at, self.error, int(self.on), self.action, self.smallest, int(log))


@dataclass(frozen=True)
class Ended:
    """How a run ended: its status (negative: a signal; None: it hung), what it printed, what is left of it."""

    status: int | None
    out: str
    err: str
    sites: int
    fired: int
    left: tuple[int, ...]
    named_memory: int
    log: tuple[str, ...]


class Warmed:
    """The warmed process, started when first used. `compiled`: with the interposer, else faults are Python's."""

    def __init__(self, compiled: bool = True) -> None:
        self._compiled = compiled
        self._process: subprocess.Popen[str] | None = None

    def run(
        self,
        root: Path,
        arguments: tuple[str, ...],
        fault: Fault | None = None,
        *,
        worker: Fault | None = None,
        limits: dict[str, int] | None = None,
        mild: bool = False,
        log: bool = False,
        told: Path | None = None,
    ) -> Ended:
        """Run `graphopt ARGUMENTS` in `root`/work. `mild`: with the worker in an interpreter of its own."""
        job: dict[str, Any] = {
            "folder": str(root / "work"),
            "arguments": list(arguments),
            "environment": {"TMPDIR": str(root / "tmp"), "XDG_CACHE_HOME": str(root / "home")},
            "out": str(root / "out.txt"),
            "err": str(root / "err.txt"),
            "faults": NONE if fault is None else fault.spec(log),
            "worker": None if worker is None else worker.spec(),
            "limits": limits or {},
            "mild": mild,
            "told": None if told is None else str(told),
        }
        answer = self._ask(job)
        out, err = ((root / name).read_text(errors="replace") for name in ("out.txt", "err.txt"))
        names = ("status", "sites", "fired", "named_memory")
        return Ended(
            out=out,
            err=err,
            left=tuple(answer["left"]),
            log=tuple(answer["log"]),
            **{one: answer[one] for one in names},
        )

    def warm(self, root: Path, arguments: tuple[str, ...]) -> Ended:
        """Run a command line undisturbed, and import what it has imported for those to come."""
        told = root / "modules.txt"
        ended = self.run(root, arguments, told=told)
        names = [one for one in told.read_text().split("\n") if one and one != "__main__"]
        self._ask({"import": names})
        return ended

    def close(self) -> None:
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait(60)
            self._process = None

    def _ask(self, job: dict[str, Any]) -> dict[str, Any]:
        if self._process is None:
            preload = {"LD_PRELOAD": str(interposer.library())} if self._compiled else {}
            self._process = subprocess.Popen(
                [sys.executable, "-X", "faulthandler", str(HERE / "warm.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | preload | {"PYTHONPATH": str(REPOSITORY)} | ONE_THREAD,
            )
            self._ask({"import": list(FIRST)})
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        answer: dict[str, Any] = json.loads(process.stdout.readline())
        return answer
