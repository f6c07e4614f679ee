"""Runs a command on the model and goes on with what it writes."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass

from graphopt.errors import InternalError, OverLimit, UsageError
from graphopt.interop.foreign import Foreign, exchange, read_back
from graphopt.ir import Graph
from graphopt.pipeline.protocol import option

_TAIL = 4096  # bytes of output that the reason is looked for in
_SHOWN = 200


@dataclass(frozen=True)
class Command(Foreign):
    """Run an external optimizer on the model.

    What it does
        Writes the model to a file, runs the command with `{in}` and `{out}` replaced by paths, and goes on
        with the model that it wrote. The command is no shell line: it is split as a shell would, and run.
        It counts as one rewrite, or as none when the model comes out as it went in.

    Example
        `command{run="onnxslim {in} {out}"}`

    When not
        A command that fails, takes longer than `seconds`, or writes no model fails the pass.

    Contract
        Whatever `contract` says, ROUNDING unless given. The signature has to stay, but for versions of operator sets
        and what `changes` names.
    """

    name = "command"
    line: str = option("", "the command, with {in} and {out} where the paths of the models go", name="run")
    seconds: float = option(600.0, "after which the command is ended")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.line and not ("{in}" in self.line and "{out}" in self.line):
            raise ValueError(f"the command {self.line!r} needs {{in}} and {{out}}, where the paths of the models go")
        if not self.seconds > 0:
            raise ValueError(f"seconds expects a number greater than zero, not {self.seconds!r}")

    def code(self) -> str:
        return f"the command {self.line!r}"

    def made(self, graph: Graph) -> Graph:
        self.needed("run", self.line, 'run="onnxslim {in} {out}"')
        try:
            words = shlex.split(self.line)
        except ValueError as error:
            raise UsageError(f"the command {self.line!r} cannot be split into words: {error}") from None
        with exchange(graph) as (given, wanted):
            places = {"{in}": str(given), "{out}": str(wanted)}
            for name, place in places.items():
                words = [word.replace(name, place) for word in words]
            self._run(words)
            return read_back(wanted, self.code())

    def _run(self, words: list[str]) -> None:
        with tempfile.TemporaryFile() as said:
            try:
                running = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # so that what it started can be ended with it
                )
            except OSError as error:
                reason = os.strerror(error.errno or 0).lower()
                raise UsageError(f"{self.code()} cannot be run: {words[0]}: {reason}") from None
            try:
                code = running.wait(self.seconds)
            except subprocess.TimeoutExpired:
                raise OverLimit(f"{self.code()} took longer than {self.seconds:g} s and was ended") from None
            finally:
                with suppress(OSError):
                    os.killpg(running.pid, signal.SIGKILL)
                running.wait()
            if code:
                said.seek(max(0, said.seek(0, os.SEEK_END) - _TAIL))
                lines = said.read().decode("utf-8", "replace").split("\n")
                last = next((line.strip() for line in reversed(lines) if line.strip()), "")[:_SHOWN]
                ended = f"exits with {code}" if code > 0 else f"was ended by signal {-code}"
                raise InternalError(f"{self.code()} {ended}{f': {last}' if last else ''}")
