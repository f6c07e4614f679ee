"""What is read and what is not, and what has to stay although nobody reads it."""

from __future__ import annotations

import onnx

from graphopt.ir import Function, Graph, Node
from graphopt.ir.schema import PURE_DOMAINS, schema

# Operators of the pure domains that reach outside of the graph: they talk to other processes,
# record events, or call back into the program that runs the model.
_COLLECTIVES = ("AllGather", "AllReduce", "AllToAll", "NcclAllGather", "NcclAllReduce", "NcclReduceScatter")
_CALLS = ("Send", "Recv", "RecordEvent", "WaitEvent", "PythonOp", "PythonOpGrad", "YieldOp")
_REACH_OUTSIDE = frozenset((*_COLLECTIVES, *_CALLS))
_NEWEST = onnx.defs.onnx_opset_version()


def is_unread(node: Node) -> bool:
    """Whether nobody reads any output of `node`: no node, in bodies too, and no graph output."""
    return not any(output.is_read for output in node.outputs)


class Effects:
    """Tells which nodes of one model may do more than compute their outputs.

    The operators of ONNX and the contrib operators of onnxruntime are functions of their inputs,
    apart from a few that communicate. Model-local functions are as pure as the nodes in them. Of
    other domains, and of operators that the default domain does not define, nothing is known.
    """

    def __init__(self, graph: Graph) -> None:
        self._functions = {function.unique_id: function for function in graph.functions}
        self._known: dict[Function, str | None] = {}

    def of(self, node: Node) -> str | None:
        """Why the node may have effects besides its outputs, in a clause; None when it has none."""
        pending = [node]
        while pending:
            one = pending.pop()
            function = self._function(one)
            why = self._of_function(function) if function is not None else _of_operator(one)
            if why is not None:
                return why
            pending.extend(inner for body in one.bodies for inner in body.nodes)
        return None

    def _function(self, node: Node) -> Function | None:
        name = (node.domain or "", node.op)
        overload = node.proto.overload if node.proto is not None else ""
        return self._functions.get((*name, overload) if overload else name)

    def _of_function(self, function: Function) -> str | None:
        if function not in self._known:
            self._known[function] = None  # also for functions that call each other, which is not valid
            whys = (self.of(node) for node in function.nodes)
            self._known[function] = next((why for why in whys if why is not None), None)
        return self._known[function]


def _of_operator(node: Node) -> str | None:
    if node.domain and node.domain not in PURE_DOMAINS:
        return f"operators of the domain {node.domain!r} may have effects besides their outputs"
    if node.op in _REACH_OUTSIDE:
        return f"{node.op} reaches outside of the graph"
    if node.is_standard and schema(node.op, "", _NEWEST) is None:
        return f"ONNX defines no operator {node.op}, so it may have effects besides its outputs"
    return None
