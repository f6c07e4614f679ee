"""What may be folded at all: results whose size is known, and nothing that is stored small on purpose."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from graphopt.analysis.constants import constant_of, constant_values
from graphopt.analysis.determined import Determined
from graphopt.analysis.evaluated import Evaluated, evaluate_small
from graphopt.analysis.excerpt import excerpt, version_of
from graphopt.analysis.extent import Extent, extents
from graphopt.analysis.storable import constant_node_holds
from graphopt.ir import Graph, Node, Tensor
from graphopt.ir.dtypes import Array, bits, onnx_dtype

_TINY = 64  # bytes of a result up to which unpacking it is no matter
_FLOATS = frozenset((1, 10, 11, 16))  # float32, float16, float64, bfloat16 (ONNX IR, TensorProto.DataType)


class Sizing:
    """The sizes of what candidates compute, before it is computed.

    `nodes` are determined, makers first; results in `as_nodes` would become Constant nodes. `extents`
    are of each result that is known; `refused` says in a clause why a node is not folded.
    """

    def __init__(
        self, graph: Graph, determined: Determined, nodes: Sequence[Node], as_nodes: Collection[Tensor]
    ) -> None:
        self.nodes = nodes
        self.as_nodes = as_nodes
        self.extents: dict[Tensor, Extent] = {}
        self.refused: dict[Node, str] = {}
        self._failed: dict[Node, str] = {}
        small = evaluate_small((one for node in nodes for one in _results(node)), determined)
        groups: dict[tuple[int, int], list[Tensor]] = {}
        for node in nodes:
            assert node.graph is not None, "candidates are in graphs"
            groups.setdefault(version_of(node.graph), []).extend(one for one in _results(node) if one not in small)
        for one, array in small.items():
            self._measure(one, array)
        for group in groups.values():
            made = excerpt(group, determined, graph, small)
            known = extents(made)
            for one in group:
                extent = known[made.names[one]]
                if extent is not None:
                    self.extents[one] = extent

    def foldable(self) -> list[Node]:
        """The candidates that may be folded; what reads the results of another one may not be either."""
        found: list[Node] = []
        barred: set[Tensor] = set()
        self.refused = {}
        for node in self.nodes:
            behind = any(one in barred for one in node.inputs)
            why = None if behind else self._failed.get(node) or self._why_not(node)
            if why is not None:
                self.refused[node] = why
            if behind or why is not None:
                barred.update(node.outputs)
            else:
                found.append(node)
        return found

    def learn(self, answer: Evaluated) -> bool:
        """Take in what was computed; whether that upsets plans: something failed, or is larger than it
        seemed."""
        larger = False
        for one, array in answer.items():
            before = self.extents[one].bytes
            self._measure(one, array)
            larger = larger or self.extents[one].bytes > before
        for one, why in answer.refused.items():
            self._failed[one.inputs[0]] = why
        return larger or bool(answer.refused)

    def _measure(self, tensor: Tensor, array: Array) -> None:
        number = onnx_dtype(array.dtype)
        width = bits(number)
        if width:
            size = (array.size * width + 7) // 8
        else:
            size = sum(len(one if isinstance(one, bytes) else one.encode()) + 5 for one in array.ravel().tolist())
        self.extents[tensor] = Extent(number, array.shape, array.size, size)

    def _why_not(self, node: Node) -> str | None:
        """Why a node whose results are determined is not folded, in a clause."""
        if node.is_op("DequantizeLinear"):
            return "it unpacks what is stored in few bits"
        unknown = next((one for one in _results(node) if one not in self.extents), None)
        if unknown is not None:
            return f"how large {unknown.name!r} is cannot be told before it is computed, or it is no tensor"
        opset = node.graph.opset_of() if node.graph is not None else 0
        for one in _results(node):
            if one in self.as_nodes and not constant_node_holds(self.extents[one].onnx_dtype, opset):
                return f"{one.name!r} would need a Constant node, which cannot hold its type at opset {opset}"
        if node.is_op("Cast", "CastLike"):
            old, new = self._type(node.inputs[0]), self.extents[node.outputs[0]]
            wide, narrow = bits(new.onnx_dtype), bits(old) if old else 0
            if new.onnx_dtype in _FLOATS and 0 < narrow < wide and new.bytes > _TINY:
                return f"it makes {wide} bits of each {narrow} that are stored"
        return None

    def _type(self, tensor: Tensor) -> int:
        """ONNX's number of an operand's element type, 0 when unknown."""
        held = constant_of(tensor)
        if held is not None:
            return held.onnx_dtype
        values = constant_values(tensor)
        if values is not None:
            return onnx_dtype(values.dtype)
        extent = self.extents.get(tensor)
        return 0 if extent is None else extent.onnx_dtype


def _results(node: Node) -> list[Tensor]:
    return [one for one in node.outputs if one.name]
