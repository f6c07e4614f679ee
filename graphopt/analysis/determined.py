"""Which values are the same at every run, because they are computed from constants only."""

from __future__ import annotations

from onnx_graphsurgeon import Node as StockNode

from graphopt.analysis.constants import constant_values
from graphopt.ir import Constant, Function, Graph, Node, Tensor
from graphopt.ir.schema import is_random, schema
from graphopt.ir.tensors import SparseStored
from graphopt.ir.values import Array

_DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
_OUTSIDE = {
    "StringNormalizer": "its result depends on the locales of the machine",
    "ImageDecoder": "its result depends on the decoder of the machine",
}
_MOST_INLINED = 10_000  # nodes of one function call, the calls in it included


class Determined:
    """Tells which values of one model are functions of its constants.

    Constants are initializers and Constant nodes; the default of an input that callers may override
    is none, and what is stored sparse is not looked into. Operators must be ONNX's own, deterministic
    and without bodies; calls of model-local functions that hold only such operators count. Answers are
    kept, so an edit that turns a determined value into a constant needs no new object, any other edit
    does.
    """

    def __init__(self, graph: Graph) -> None:
        self.functions = {function.unique_id: function for function in graph.root.functions}
        self._known: dict[Tensor, str | None] = {}
        self._inside: dict[tuple[Function, int], tuple[str | None, int]] = {}

    def why_not(self, tensor: Tensor) -> str | None:
        """Why `tensor` may differ from run to run, in a clause; None when it cannot."""
        known = self._known
        pending, entered = [tensor], set[Node]()
        while pending:
            one = pending[-1]
            if one in known or isinstance(one, Constant) or len(one.inputs) != 1:
                known.setdefault(one, _of_source(one))
                pending.pop()
                continue
            maker: Node = one.inputs[0]
            waiting = [each for each in _reads(maker) if each not in known]
            if waiting and maker not in entered:
                entered.add(maker)
                pending.extend(waiting)
                continue
            why = f"{one.name!r} depends on itself" if waiting else self._of(maker)
            known.update((output, why) for output in maker.outputs)
        return known[tensor]

    def obstacle(self, node: Node) -> str | None:
        """Why the results of `node` may differ between runs on the same inputs, or cannot be computed
        outside of the model; None when they are a function of the inputs."""
        opset = node.graph.opset_of() if node.graph is not None else 0
        function = self.called(node)
        if function is None:
            return _of_operator(node, opset) or _open_attribute(node)
        return self._of_function(function, opset)[0] or _open_attribute(node)

    def called(self, node: Node) -> Function | None:
        """The model-local function that `node` calls, if it calls one."""
        name = (node.domain or "", node.op)
        return self.functions.get((*name, node.overload) if node.overload else name)

    def _of(self, node: Node) -> str | None:
        return next((why for one in _reads(node) if (why := self._known[one]) is not None), None) or self.obstacle(node)

    def _of_function(self, function: Function, opset: int) -> tuple[str | None, int]:
        """Why not, and how many nodes a call stands for; `opset` is the caller's version."""
        key = (function, opset)
        if key not in self._inside:
            self._inside[key] = (f"function {function.name!r} calls itself", 0)
            self._inside[key] = self._look_into(function, opset)
        return self._inside[key]

    def _look_into(self, function: Function, opset: int) -> tuple[str | None, int]:
        if function.opset != opset:
            return f"function {function.name!r} follows opset {function.opset} and its caller {opset}", 0
        count = 0
        for node in function.nodes:
            inner = self.called(node)
            why, size = (_of_operator(node, opset), 1) if inner is None else self._of_function(inner, opset)
            count += size
            if why is not None:
                return f"in function {function.name!r}, {why}", count
        if count > _MOST_INLINED:
            return f"function {function.name!r} stands for {count} nodes", count
        return None, count


def _of_source(tensor: Tensor) -> str | None:
    if not isinstance(tensor, Constant):
        return f"{tensor.name!r} is known at run time only"
    return f"{tensor.name!r} is stored sparse" if isinstance(tensor.stored, SparseStored) else None


def _reads(node: Node) -> list[Tensor]:
    return [one for one in node.inputs if one.name or isinstance(one, Constant)]


def _open_attribute(node: Node) -> str | None:
    """Whether an attribute of a node in a function refers to one of the function's own, in a clause."""
    found = next((name for name, value in node.attrs.items() if isinstance(value, StockNode.AttributeRef)), None)
    return None if found is None else f"its attribute {found!r} is given by whoever calls the function"


def _of_operator(node: Node, opset: int) -> str | None:
    if (node.domain or "") not in _DOMAINS:
        return f"operators of the domain {node.domain!r} may give another result each time"
    if node.bodies:
        return f"the bodies of {node.op} {node.label!r} are not computed ahead"
    if is_random(node.op, node.domain):
        return f"{node.op} {node.label!r} draws random numbers"
    if node.is_op("Constant") and "sparse_value" in node.attrs:
        return f"{node.label!r} is stored sparse"
    if node.is_op("Dropout") and (why := _why_it_drops(node, opset)) is not None:
        return why
    if node.is_standard and node.op in _OUTSIDE:
        return _OUTSIDE[node.op]
    if schema(node.op, node.domain or "", opset if node.is_standard else 1 << 20) is None:
        return f"ONNX defines no operator {node.op} at opset {opset}"
    return None


def _why_it_drops(node: Node, opset: int) -> str | None:
    if opset < 7:
        return None if node.attrs.get("is_test") else f"Dropout {node.label!r} drops at random"
    if opset < 12 or len(node.inputs) < 3 or not node.inputs[2].name:
        return None
    training: Array | None = constant_values(node.inputs[2])
    if training is None or training.size != 1 or bool(training.reshape(-1)[0]):
        return f"Dropout {node.label!r} may drop at random"
    return None
