"""graphsurgeon's graph methods of the same meaning, safe and linear, for scripts written for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from graphopt.errors import UsageError
from graphopt.ir.clone import clone_graph
from graphopt.ir.node import Node
from graphopt.ir.values import Constant, Tensor, Variable

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph


class StockMethods:
    """`layer`, `tensors`, `cleanup`, `copy` and `fold_constants` of a `Graph`."""

    def layer(
        self,
        *args: Any,
        inputs: Iterable[Any] | None = None,
        outputs: Iterable[Any] | None = None,
        **kwargs: Any,
    ) -> list[Tensor]:
        """Append a node and return its outputs.

        Inputs may be tensors, arrays, numbers or names; outputs tensors or names. A name that
        the graph already knows as an input means that tensor; an output name that is taken gets
        a number.
        """
        graph = cast("Graph", self)
        known: dict[str, Tensor] | None = None
        ins: list[Tensor] = []
        for value in inputs or ():
            if isinstance(value, str):
                known = graph.tensors() if known is None else known
                ins.append(known[value] if value in known else Variable(value))
            elif isinstance(value, np.ndarray | np.generic | int | float | list | tuple):
                array = np.asarray(value)
                if not isinstance(value, np.ndarray | np.generic):
                    array = array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
                ins.append(graph.constant(array, "onnx_graphsurgeon_constant"))
            else:
                ins.append(value)
        outs = [Variable(graph.fresh_name(value)) if isinstance(value, str) else value for value in outputs or ()]
        kwargs |= {"inputs": ins, "outputs": outs}
        node = Node(*args, **kwargs)
        if not node.name:
            node.name = graph.fresh_name(f"onnx_graphsurgeon_node_{graph.name_idx}")
            graph.name_idx += 1
        graph.append(node)
        return list(node.outputs)

    def tensors(self, check_duplicates: bool = False) -> dict[str, Tensor]:
        """Every named tensor of this graph (not of its bodies) by name, captured ones included.

        Raises UsageError with `check_duplicates` when two tensors share a name.
        """
        graph = cast("Graph", self)
        found: dict[str, Tensor] = {}
        groups: list[Iterable[Tensor]] = [graph.inputs, graph.initializers]
        groups += [one for node in graph.nodes for one in (node.inputs, node.outputs)]
        groups.append(graph.outputs)
        for group in groups:
            for tensor in group:
                if not tensor.name:
                    continue
                other = found.setdefault(tensor.name, tensor)
                if check_duplicates and other is not tensor:
                    raise UsageError(f"two different tensors are called {tensor.name!r}")
        return found

    def cleanup(
        self,
        remove_unused_node_outputs: bool = False,
        recurse_subgraphs: bool = True,
        remove_unused_graph_inputs: bool = False,
        recurse_functions: bool = True,
    ) -> Graph:
        """Remove nodes that no output depends on, and initializers that nothing reads."""
        from graphopt.ir.sweep import sweep

        graph = cast("Graph", self)
        sweep(graph, recurse_subgraphs)
        if recurse_functions and graph.root is graph:
            for function in graph.functions:
                sweep(function, recurse_subgraphs)
        if remove_unused_node_outputs:
            for node in graph.nodes:
                for index, output in enumerate(node.outputs):
                    if output.name and not output.is_read:
                        node.outputs[index] = Variable.empty()
        if remove_unused_graph_inputs and not graph.is_body and not graph.is_function:
            graph.inputs = [one for one in graph.inputs if one.is_read]
        return graph

    def fold_constants(self, **_: Any) -> Graph:
        """Refused: folding needs the worker and its limits.

        Raises UsageError.
        """
        raise UsageError("fold_constants() is not available on this graph: run folding as a pass of the pipeline")

    def copy(self, tensor_map: dict[str, Tensor] | None = None) -> Graph:
        """A copy of the graph with nodes and tensors of its own; weights are shared.

        For a body, outer values named in `tensor_map` are replaced by the tensors given.
        """
        return clone_graph(cast("Graph", self), tensor_map or {})


__all__ = ["Constant", "StockMethods"]
