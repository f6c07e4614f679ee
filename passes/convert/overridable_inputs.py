"""Inputs with default values become plain initializers, and initializers become such inputs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from graphopt.analysis.annotations import Annotations
from graphopt.ir import Constant, Graph, Tensor, Variable
from graphopt.ir.tensors import SparseStored
from graphopt.pipeline.protocol import Context, Contract, Pass, option

_INITIALIZERS_ALONE = 4  # the IR version from which on an initializer need not be an input


@dataclass(frozen=True)
class InitializersFromInputs(Pass):
    """Take inputs that have a default value off the signature.

    What it does
        Precondition: an input of the model has an initializer of its name, so that callers may feed
        another value; models of IR version 3 list all weights so. Rewrite: the input goes, the initializer
        stays, and a model of IR version 3 becomes one of version 4. Then the value is a constant for every
        other pass.

    Example
        before: inputs: x, w = [1, 2]    y = Add(x, w)
        after:  inputs: x    initializers: w = [1, 2]    y = Add(x, w)

    When not
        Callers feed the value. An input that is also an output of the graph stays.

    Contract
        EXACT, for callers who do not feed what is taken off. The inputs change, which is part of the
        signature.

    Source
        ONNX IR specification, "Graphs": initializers and inputs of one name.
    """

    name = "initializers-from-inputs"
    contract = Contract.EXACT
    changes = ("inputs", "defaults")

    only: tuple[str, ...] = option((), "the inputs to take off; all that have a default when empty")

    def run(self, graph: Graph, ctx: Context) -> None:
        gone: set[Tensor] = set()
        for variable, constant in list(graph.defaults.items()):
            if self.only and variable.name not in self.only:
                continue
            if variable.graph_outputs:
                ctx.missed("fix", variable, f"{variable.name!r} is an output too, which an initializer must not be")
            elif ctx.rewrite("fix", variable):
                graph.initializers.discard(constant)
                constant.name = variable.name
                graph.replace_uses(variable, constant)
                graph.initializers.add(constant)
                gone.add(variable)
        if gone:
            graph.inputs = [one for one in graph.inputs if one not in gone]
            if 0 < (graph.ir_version or 0) < _INITIALIZERS_ALONE:
                graph.ir_version = _INITIALIZERS_ALONE


@dataclass(frozen=True)
class InputsFromInitializers(Pass):
    """Let callers feed other values for initializers.

    What it does
        Precondition: an initializer of the main graph. Rewrite: an input of its name, dtype and shape is
        declared after the others, and the initializer becomes its default value.

    Example
        before: inputs: x    initializers: w = [1, 2]    y = Add(x, w)
        after:  inputs: x, w = [1, 2]    y = Add(x, w)

    When not
        Nobody is going to feed them: a runtime cannot compute ahead with what may be another value at each
        run. Sparse initializers and those that are outputs or quantization parameters stay.

    Contract
        EXACT: the default values are those of before. The inputs change, which is part of the signature,
        and the file grows by their declarations.

    Source
        ONNX IR specification, "Graphs": initializers and inputs of one name.
    """

    name = "inputs-from-initializers"
    contract = Contract.EXACT
    changes = ("inputs", "defaults")
    grows = True

    only: tuple[str, ...] = option((), "the initializers to offer; all when empty")

    def run(self, graph: Graph, ctx: Context) -> None:
        annotations = Annotations(graph)
        for constant in list(_chosen(graph, self.only)):
            why = annotations.about(constant)
            if isinstance(constant.stored, SparseStored):
                why = "it is stored sparse"
            elif constant.graph_outputs:
                why = "it is an output of the graph"
            if why is not None:
                ctx.missed("offer", constant, why)
            elif ctx.rewrite("offer", constant):
                variable = Variable(constant.name, constant.export_dtype, constant.shape)
                graph.initializers.discard(constant)
                graph.replace_uses(constant, variable)
                graph.inputs.append(variable)
                graph.initializers.add_default(constant, variable)


def _chosen(graph: Graph, names: Iterable[str]) -> list[Constant]:
    wanted = set(names)
    return [one for one in graph.initializers if not wanted or one.name in wanted]
