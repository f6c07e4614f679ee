"""graphsurgeon's graph methods of the same meaning, safe and linear, for scripts written for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import onnx

from graphopt.errors import UsageError
from graphopt.ir.clone import clone_graph
from graphopt.ir.node import Node
from graphopt.ir.schema import schema
from graphopt.ir.sweep import sweep
from graphopt.ir.values import Tensor, Variable

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph

_OPTIONAL = onnx.defs.OpSchema.FormalParameterOption.Optional
_VALUES = (np.ndarray, np.generic, int, float, list, tuple)


class StockMethods:
    """`layer`, `tensors`, `cleanup`, `copy` and `fold_constants` of a `Graph`."""

    def layer(
        self, inputs: Iterable[Any] | None = None, outputs: Iterable[Any] | None = None, *args: Any, **kwargs: Any
    ) -> list[Tensor]:
        """Append a node and return its outputs; the other arguments are those of `Node`.

        Inputs may be tensors, arrays, numbers (alone or in a list) or names; outputs tensors or
        names. A name that the graph already knows as an input means that tensor; an output name
        that is taken gets a number.

        Raises UsageError for an input or output that is none of these.
        """
        graph = cast("Graph", self)
        known: dict[str, Tensor] | None = None
        ins: list[Tensor] = []
        for value in inputs or ():
            if isinstance(value, str):
                known = graph.tensors() if known is None else known
                ins.append(known[value] if value in known else Variable(value))
            elif isinstance(value, _VALUES):
                array = np.asarray(value)
                if not isinstance(value, np.ndarray | np.generic):
                    array = array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
                ins.append(graph.constant(array, "onnx_graphsurgeon_constant"))
            else:
                ins.append(_tensor(value, "input"))
        outs = [
            Variable(graph.fresh_name(value)) if isinstance(value, str) else _tensor(value, "output")
            for value in outputs or ()
        ]
        node = Node(*args, **(kwargs | {"inputs": ins, "outputs": outs}))
        if not node.name:
            node.name = graph.fresh_name(f"onnx_graphsurgeon_node_{graph.name_idx}")
            graph.name_idx += 1
        graph.append(node)
        return list(node.outputs)

    def tensors(self, check_duplicates: bool = False) -> dict[str, Tensor]:
        """Every named tensor of this graph (not of its bodies) by name, captured ones included.

        Of two that share a name the first is given. Raises UsageError with `check_duplicates`.
        """
        graph = cast("Graph", self)
        found: dict[str, Tensor] = {}
        groups: list[Iterable[Tensor]] = [graph.inputs, graph.initializers]
        groups += [one for node in graph.nodes for one in (node.inputs, node.outputs)]
        groups.append(graph.outputs)
        for group in groups:
            for tensor in group:
                name = tensor.name
                if name and found.setdefault(name, tensor) is not tensor and check_duplicates:
                    raise UsageError(f"two different tensors are called {name!r}; rename one of them")
        return found

    def cleanup(
        self,
        remove_unused_node_outputs: bool = False,
        recurse_subgraphs: bool = True,
        remove_unused_graph_inputs: bool = False,
        recurse_functions: bool = True,
    ) -> Graph:
        """Remove nodes that no output depends on, and initializers that nothing reads.

        Whatever made a graph input is cut off first, so `graph.inputs = [...]` isolates a part of
        the model. Unused outputs are left out only where the operator declares them optional.
        """
        graph = cast("Graph", self)
        tops = [graph, *(graph.functions if recurse_functions and graph.root is graph else ())]
        scopes = [one for top in tops for one in (top.graphs() if recurse_subgraphs else (top,))]
        for scope in scopes:
            for variable in scope.inputs:
                for maker in dict.fromkeys(variable.inputs):
                    maker.outputs[maker.outputs.index(variable)] = scope.variable(f"{variable.name}_unused")
        for top in tops:
            sweep(top, recurse_subgraphs)
        if remove_unused_node_outputs:
            for scope in scopes:
                _leave_out_unused(scope)
        if remove_unused_graph_inputs and not graph.is_body and not graph.is_function:
            for variable in [one for one in graph.inputs if not one.is_read]:
                default = graph.defaults.get(variable)
                if default is not None:
                    graph.initializers.discard(default)
            graph.inputs = [one for one in graph.inputs if one.is_read]
        return graph

    def fold_constants(self, *_: Any, **__: Any) -> Graph:
        """Refused: folding needs the worker and its limits.

        Raises UsageError.
        """
        raise UsageError("fold_constants() is not available on this graph: run folding as a pass of the pipeline")

    def copy(self, tensor_map: dict[str, Tensor] | None = None) -> Graph:
        """A copy of the graph with nodes and tensors of its own; weights are shared.

        For a body, outer values named in `tensor_map` are replaced by the tensors given.
        """
        return clone_graph(cast("Graph", self), tensor_map or {})

    def __copy__(self) -> Graph:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> Graph:
        return self.copy()


def _tensor(value: Any, what: str) -> Any:
    if "inputs" not in getattr(value, "__dict__", {}) or isinstance(value, Node):
        raise UsageError(f"layer() cannot use a {type(value).__name__} as an {what}; give a tensor, an array or a name")
    return value


def _leave_out_unused(graph: Graph) -> None:
    for node in graph.nodes:
        known = schema(node.op, node.domain or "", graph.opset_of(node.domain or ""))
        for index, output in enumerate(node.outputs):
            if known is None or index >= len(known.outputs) or output.is_read or not output.name:
                continue
            if known.outputs[index].option == _OPTIONAL:
                node.outputs[index] = Variable.empty()
