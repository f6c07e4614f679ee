"""What may be folded at all: results whose size is known, and nothing that is stored small on purpose."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.analysis.constants import constant_of, constant_values
from graphopt.analysis.determined import Determined
from graphopt.analysis.evaluated import Evaluated, evaluate_small
from graphopt.analysis.excerpt import excerpt, version_of
from graphopt.analysis.extent import Extent, extents
from graphopt.ir import Graph, Node, Tensor
from graphopt.ir.dtypes import Array, bits, onnx_dtype

_TINY = 64  # bytes of a result up to which unpacking it is no matter
_FLOATS = frozenset((1, 10, 11, 16))  # float32, float16, float64, bfloat16 (ONNX IR, TensorProto.DataType)


class Sizing:
    """The sizes of what candidates compute, before it is computed.

    `nodes` are determined, makers first. `sizes` are bytes in the file, and dims (how many), of each
    result that is known; `refused` says in a clause why a node is not folded.
    """

    def __init__(self, graph: Graph, determined: Determined, nodes: Sequence[Node]) -> None:
        self.nodes = nodes
        self.sizes: dict[Tensor, tuple[int, int]] = {}
        self.refused: dict[Node, str] = {}
        self._types: dict[Tensor, int] = {}
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
                    self._note(one, extent)

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
            before = self.sizes[one][0]
            self._measure(one, array)
            larger = larger or self.sizes[one][0] > before
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
        self._note(tensor, Extent(number, array.shape, array.size, size))

    def _note(self, tensor: Tensor, extent: Extent) -> None:
        self.sizes[tensor] = (extent.bytes, len(extent.shape))
        self._types[tensor] = extent.onnx_dtype

    def _why_not(self, node: Node) -> str | None:
        """Why a node whose results are determined is not folded, in a clause."""
        if node.is_op("DequantizeLinear"):
            return "it unpacks what is stored in few bits"
        unknown = next((one for one in _results(node) if one not in self.sizes), None)
        if unknown is not None:
            return f"how large {unknown.name!r} is cannot be told before it is computed, or it is no tensor"
        if node.is_op("Cast", "CastLike"):
            old, new = self._type(node.inputs[0]), self._types[node.outputs[0]]
            if new in _FLOATS and old and bits(old) < bits(new) and self.sizes[node.outputs[0]][0] > _TINY:
                return f"it makes {bits(new)} bits of each {bits(old)} that are stored"
        return None

    def _type(self, tensor: Tensor) -> int:
        """ONNX's number of an operand's element type, 0 when unknown."""
        held = constant_of(tensor)
        if held is not None:
            return held.onnx_dtype
        values = constant_values(tensor)
        return self._types.get(tensor, 0) if values is None else onnx_dtype(values.dtype)


def _results(node: Node) -> list[Tensor]:
    return [one for one in node.outputs if one.name]
