"""Runs a graphsurgeon script on the model."""

from __future__ import annotations

import runpy
from dataclasses import dataclass
from pathlib import Path

from graphopt.errors import InternalError, UsageError
from graphopt.interop.foreign import Foreign
from graphopt.ir import Graph, decode, encode
from graphopt.pipeline.declaration import one_line
from graphopt.pipeline.protocol import option


@dataclass(frozen=True)
class Graphsurgeon(Foreign):
    """Run a script that edits the model with graphsurgeon.

    What it does
        Calls the function `surgery(graph)` of the script with a graph that is graphsurgeon's in everything but
        safety: values are compared by identity, nothing is lost, and stock nodes and tensors that the script
        adds become part of it. The function edits the graph, or returns another one. It counts as one rewrite,
        or as none when nothing was changed.

    Example
        `graphsurgeon{script="surgery.py"}`

    When not
        A script that raises fails the pass.

    Contract
        Whatever `contract` says, ROUNDING unless given. The signature has to stay, but for versions of operator sets
        and what `changes` names.
    """

    name = "graphsurgeon"
    script: str = option("", "the file that defines surgery(graph)")

    def code(self) -> str:
        return f"the script {self.script!r}"

    def made(self, graph: Graph) -> Graph:
        self.needed("script", self.script, 'script="surgery.py"')
        if not Path(self.script).is_file():
            raise UsageError(f"there is no script {self.script!r}; name a file that defines surgery(graph)")
        encoded = encode(graph)
        copy = decode(encoded.proto, encoded.store)
        try:
            surgery = runpy.run_path(self.script, run_name="surgery").get("surgery")
        except (Exception, SystemExit) as error:
            raise InternalError(f"{self.code()} failed when it was read: {one_line(error)}") from error
        if not callable(surgery):
            raise UsageError(f"{self.code()} defines no function surgery(graph)")
        try:
            returned = surgery(copy)
            made = copy if returned is None else returned
            if not isinstance(made, Graph):
                raise UsageError(f"surgery of {self.code()} returned a {type(made).__name__}, not the graph or None")
            encode(made)  # what cannot be written is the script's failure
        except UsageError:
            raise
        except (Exception, SystemExit) as error:
            raise InternalError(f"{self.code()} failed: {one_line(error)}") from error
        return made
