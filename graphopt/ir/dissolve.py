"""Taking a body apart: what is in it takes the place of the node that holds it.

Nodes and initializers are moved, not copied. The values that the body gives out become the very
outputs of the node, under their names, so nobody outside notices; inside of the model every moved
value gets a name that nothing else has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import onnx

from graphopt.ir.node import Node
from graphopt.ir.shadows import declared
from graphopt.ir.tensors import SparseStored
from graphopt.ir.values import Tensor, Variable

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph

_INITIALIZERS_ALONE = 4  # the IR version from which on an initializer need not be an input
_BFLOAT16_CONSTANTS = 13  # the opset from which on a Constant node may hold bfloat16
_IDENTITY_OF_ALL = 16  # the opset from which on Identity takes sequences and optionals
_FRESH = 6  # bytes that a fresh name is longer than the one it stands for, at most
_CONSTANT_NODE = 40  # bytes of a Constant node around its tensor
_IDENTITY = 20  # bytes of an Identity without its names


class Dissolver:
    """Dissolves bodies of one model. It counts names once, and keeps count of its own edits only."""

    def __init__(self) -> None:
        self._counts: dict[Graph, Counter[str]] = {}
        self._nodes: dict[Graph, set[str]] = {}
        self._unsaid: dict[Graph, set[Tensor]] = {}

    def _count_in(self, node: Node) -> Counter[str]:
        """How often each name is declared in the main graph or function that `node` is in, bodies included."""
        top = _home(node)._top
        if top not in self._counts:
            self._counts[top] = Counter(name for scope in top.graphs() for name in _names(scope))
        return self._counts[top]

    def _nodes_in(self, outer: Graph) -> set[str]:
        """The names of nodes in one graph; some runtimes want them to be unique."""
        if outer not in self._nodes:
            self._nodes[outer] = {one.name for one in outer.nodes}
        return self._nodes[outer]

    def meet(self, node: Node, body: Graph) -> None:
        """Hear of a `body` that is no body of `node` yet: the copy of a function that it calls."""
        self._count_in(node).update(name for scope in body.graphs() for name in _names(scope))

    def why_not(
        self, node: Node, body: Graph, arguments: Mapping[Tensor, Tensor], *, first: int = 0, extra: int = 0
    ) -> str | None:
        """Why `body` cannot take the place of `node`, in a clause; None when it can.

        `arguments` says what stands for each input of the body; the outputs of the node are those of the
        body from `first` on. `extra` is how many bytes the caller is going to add.
        """
        outer, results = _home(node), list(body.outputs)[first:]
        origin = body.origin
        if origin is not None and isinstance(origin.proto, onnx.GraphProto) and origin.proto.quantization_annotation:
            return "quantization annotations are about values of its body"
        if body.defaults:
            return "an input of its body has a default"
        if constants_are_nodes(outer):
            for constant in body.initializers:
                if isinstance(constant.stored, SparseStored):
                    return f"{constant.name!r} is stored sparse, which no initializer outside of the body could be"
                if constant.onnx_dtype == onnx.TensorProto.BFLOAT16 and outer.opset < _BFLOAT16_CONSTANTS:
                    return f"{constant.name!r} would need a Constant node, which cannot hold its type"
        for old, result in zip(node.outputs, results, strict=False):
            made = any(one.graph is body for one in result.inputs)
            if not made and old.type != "tensor_type" and outer.opset < _IDENTITY_OF_ALL:
                return f"{old.name!r} would need an Identity, which cannot copy its type at opset {outer.opset}"
        over = self._growth(node, body, arguments, results) + extra - _freed(node, body)
        return f"the file would grow by up to {over} bytes of names" if over > 0 else None

    def dissolve(self, node: Node, body: Graph, arguments: Mapping[Tensor, Tensor], *, first: int = 0) -> None:
        """Put what is in `body` in the place of `node`, which goes with its other bodies."""
        outer, count = _home(node), self._count_in(node)
        for other in node.bodies:
            if other is not body:
                count.subtract(name for graph in other.graphs() for name in _names(graph))
        results = list(body.outputs)[first:]
        body.outputs.clear()
        self._make_room(node, body, {one.name for one in (*node.outputs, *arguments.values())})
        taken: dict[Tensor, Tensor] = {}
        copies: list[tuple[Tensor, Tensor]] = []
        for index, (old, result) in enumerate(zip(list(node.outputs), results, strict=False)):
            if not old.name:
                continue
            maker = next((one for one in result.inputs if one.graph is body), None)
            if maker is None or result in taken:
                copies.append((old, result))
                continue
            node.outputs[index] = Variable.empty()
            place = next(slot for slot, one in enumerate(maker.outputs) if one is result)
            maker.outputs[place] = old
            _exchange(result, old)
            taken[result] = old
            if not old.graph_outputs:
                self._unsaid.setdefault(outer, set()).add(old)
        self._move_initializers(node, body, {result for _, result in copies})
        kept, names = set(taken.values()), self._nodes_in(outer)
        for one in body.nodes.snapshot():
            body.nodes.discard(one)
            for tensor in one.outputs:
                if tensor not in kept:
                    self._make_unique(node, tensor)
                    for key in ("_dtype", "_shape", "_kind"):  # so that no value_info joins for what had none
                        tensor.__dict__.pop(key, None)
            if one.name and one.name in names:
                one.name = outer.fresh_name(one.name)
            names.add(one.name)
            outer.nodes.put_before(node, one)
        for variable, argument in arguments.items():
            _exchange(variable, argument)
        outer._note("rewire", [one.name for one in taken], [one.name for one in taken.values()])
        for old, result in copies:
            hand_through(node, old, taken.get(result) or arguments.get(result, result))
        outer.remove(node)

    def finish(self) -> None:
        """Take back what was declared of the outputs of nodes that are gone: of a node with bodies a model
        may say what holds for another one of them."""
        for outer, values in self._unsaid.items():
            if outer.origin is not None and outer.origin.infos:
                outer.origin.infos = [(info, one) for info, one in outer.origin.infos if one not in values]
            for tensor in values:
                if not tensor.graph_outputs:
                    for key in ("_info", "_dtype", "_shape", "_kind"):
                        tensor.__dict__.pop(key, None)
        self._unsaid = {}

    def _make_room(self, node: Node, body: Graph, reserved: set[str]) -> None:
        """Rename what bodies inside of `body` declare by names that will mean something around them."""
        for graph in body.graphs():
            if graph is body:
                continue
            for tensor in _declarations(graph):
                if tensor.name in reserved:
                    self._rename(node, tensor)

    def _make_unique(self, node: Node, tensor: Tensor) -> None:
        if tensor.name and self._count_in(node)[tensor.name] > 1:
            self._rename(node, tensor)

    def _rename(self, node: Node, tensor: Tensor) -> None:
        count = self._count_in(node)
        count[tensor.name] -= 1
        tensor.name = _home(node).fresh_name(tensor.name)
        count[tensor.name] += 1

    def _move_initializers(self, node: Node, body: Graph, given_out: set[Tensor]) -> None:
        outer = _home(node)
        for constant in list(body.initializers):
            body.initializers.discard(constant)
            if not constant.outputs and constant not in given_out:
                continue
            self._make_unique(node, constant)
            if not constants_are_nodes(outer):
                outer.initializers.add(constant)
                continue
            held = constant.copy()
            held.name = ""
            variable = constant.to_variable(constant.export_dtype, constant.shape)
            outer.nodes.put_before(node, Node("Constant", "", {"value": held}, [], [variable]))

    def _growth(self, node: Node, body: Graph, arguments: Mapping[Tensor, Tensor], results: list[Tensor]) -> int:
        """Bytes that longer names may take, at most."""
        total = 0
        reserved = {one.name for one in (*node.outputs, *arguments.values())}
        count, given = self._count_in(node), dict(zip(results, node.outputs, strict=False))
        for graph in body.graphs():
            for tensor in _declarations(graph):
                uses = 1 + len(tensor.outputs)
                if graph is body and (tensor in given or tensor in arguments):
                    stands = given.get(tensor) or arguments[tensor]
                    total += max(0, len(stands.name.encode()) - len(tensor.name.encode())) * uses
                elif count[tensor.name] > 1 or tensor.name in reserved:
                    total += _FRESH * uses
        total += _FRESH * sum(bool(one.name) and one.name in self._nodes_in(_home(node)) for one in body.nodes)
        for old, result in zip(node.outputs, results, strict=False):
            if not any(one.graph is body for one in result.inputs):
                source = arguments.get(result, result)
                longer = len(source.name.encode()) - len(old.name.encode())
                total += max(_IDENTITY, longer * len(old.outputs))
        if constants_are_nodes(_home(node)):
            total += _CONSTANT_NODE * len(body.initializers)
        return total


def hand_through(node: Node, old: Tensor, source: Tensor) -> None:
    """Let `source` stand for `old`, an output of `node`, or a copy of it where that cannot be."""
    outer = _home(node)
    noted = outer.origin is not None and old in outer.origin.annotated.values()
    if not noted and outer.why_not_replace(old, source) is None:
        outer.replace_uses(old, source)
        return
    node.outputs[next(index for index, one in enumerate(node.outputs) if one is old)] = Variable.empty()
    outer.insert(Node("Identity", "", {}, [source], [old]), before=node)


def constants_are_nodes(outer: Graph) -> bool:
    """Whether constants of `outer` have to be Constant nodes: in functions, and before IR version 4,
    where an initializer has to be an input."""
    if outer.is_function:
        return True
    return not outer.is_body and 0 < (outer.ir_version or _INITIALIZERS_ALONE) < _INITIALIZERS_ALONE


def _home(node: Node) -> Graph:
    assert node.graph is not None, "a node that is dissolved is in a graph"
    return node.graph


def _freed(node: Node, body: Graph) -> int:
    """Bytes that go with `node`, at least: its own, what its body declares, and its other bodies."""
    total = len(node.op) + len(node.name.encode()) + 4 + sum(len(one.name.encode()) + 2 for one in node.inputs)
    for name, value in node.attrs.items():
        total += len(name.encode()) + 7 if value in node.bodies else 0
    total += _declarations_bytes(body)
    for other in node.bodies:
        if other is body:
            continue
        for graph in other.graphs():
            for one in graph.nodes:
                total += len(one.op) + 4 + sum(len(each.name.encode()) + 2 for each in (*one.inputs, *one.outputs))
        total += _declarations_bytes(other)
    return total


def _declarations_bytes(body: Graph) -> int:
    """Bytes of what a body says of its values, which nothing says of them once they are moved."""
    total = len(body.name.encode()) + 2 + sum(len(one.name.encode()) + 4 for one in (*body.inputs, *body.outputs))
    infos = [info for info, _ in (*body.origin.infos, *body.origin.outputs)] if body.origin is not None else []
    infos += [info for one in body.inputs if (info := one.__dict__.get("_info")) is not None]
    return total + sum(max(int(info.ByteSize()) - len(info.name.encode()) - 2, 0) for info in infos)


def _names(scope: Graph) -> Iterator[str]:
    yield from declared(scope)
    if scope.origin is not None:
        yield from scope.origin.other_names()


def _declarations(graph: Graph) -> list[Tensor]:
    made: list[Tensor] = [*graph.inputs, *graph.initializers.declared()]
    return made + [one for node in graph.nodes for one in node.outputs if one.name]


def _exchange(old: Tensor, new: Tensor) -> None:
    """Let every reader of `old`, and every graph that gives it out, have `new`."""
    readers: Iterable[Any] = list(dict.fromkeys(old.outputs))
    for reader in readers:
        for index, one in enumerate(reader.inputs):
            if one is old:
                reader.inputs[index] = new
    for graph in dict.fromkeys(old.graph_outputs):
        for index, one in enumerate(graph.outputs):
            if one is old:
                graph.outputs[index] = new
