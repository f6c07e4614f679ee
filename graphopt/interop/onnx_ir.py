"""Runs a pass of onnx_ir on the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graphopt.errors import InternalError, UsageError
from graphopt.interop.foreign import Foreign, exchange, read_back
from graphopt.interop.named import library, named
from graphopt.ir import Graph
from graphopt.pipeline.declaration import one_line
from graphopt.pipeline.protocol import option


@dataclass(frozen=True)
class OnnxIr(Foreign):
    """Run a pass of onnx_ir on the model.

    What it does
        Reads the model with onnx_ir, calls the pass, and goes on with what it gives. `module:NAME` names a pass, or
        a class or function that makes one without arguments. It counts as one rewrite, or as none when the
        model comes out as it went in. Needs the package onnx-ir.

    Example
        `onnx-ir{pass="onnx_ir.passes.common:CommonSubexpressionEliminationPass"}`

    When not
        A pass that raises fails this one.

    Contract
        Whatever `contract` says, ROUNDING unless given. The signature has to stay, but for versions of operator sets
        and what `changes` names.
    """

    name = "onnx-ir"
    which: str = option("", "the pass, as module:NAME", name="pass")

    def code(self) -> str:
        return f"the onnx_ir pass {self.which!r}"

    def made(self, graph: Graph) -> Graph:
        self.needed("pass", self.which, 'pass="onnx_ir.passes.common:IdentityEliminationPass"')
        ir = library("onnx_ir", "onnx-ir", self.name)
        found = named(self.which, "pass")
        base = ir.passes.PassBase

        def work(model: Any) -> Any:
            running = found if isinstance(found, base) else found()
            if not isinstance(running, base):
                raise UsageError(f"{self.code()} is a {type(running).__name__}, and no pass of onnx_ir")
            return running(model).model

        return through(self, graph, ir, work)


def through(running: Foreign, graph: Graph, ir: Any, work: Any) -> Graph:
    """What `work` makes of the model as onnx_ir has it. Raises InternalError where it fails."""
    with exchange(graph) as (given, wanted):
        try:
            ir.save(work(ir.load(given)), wanted)
        except UsageError:
            raise
        except Exception as error:
            raise InternalError(f"{running.code()} failed: {one_line(error)}") from error
        return read_back(wanted, running.code())
