"""What is in a sequence or an optional, where the operators that made it say so."""

from __future__ import annotations

from graphopt.analysis.constants import constant_values
from graphopt.analysis.matching import operand
from graphopt.ir import Graph, Node, Tensor

Elements = tuple[Tensor, ...]

_MOST = 1024  # elements of a sequence that is followed


class SequenceContents:
    """The elements of every sequence of a model that is put together from single values at known places.

    Good for one revision of the graph.
    """

    def __init__(self, graph: Graph) -> None:
        self._elements: dict[Tensor, Elements] = {}
        self._filled: dict[Tensor, Tensor | None] = {}
        for scope in graph.scopes():  # outer before inner, and makers before readers
            for node in scope.nodes:
                if node.is_standard and node.outputs:
                    self._visit(node, node.outputs[0])

    def elements(self, sequence: Tensor) -> Elements | None:
        """The elements of a sequence in order; None when they are not known."""
        return self._elements.get(sequence)

    def element(self, optional: Tensor) -> Tensor | None:
        """What a filled optional holds; None where it is empty or not known."""
        return self._filled.get(optional)

    def is_filled(self, optional: Tensor) -> bool | None:
        """Whether an optional holds something; None when that is not known."""
        return self._filled[optional] is not None if optional in self._filled else None

    def _visit(self, node: Node, result: Tensor) -> None:
        if node.op == "Optional":
            self._filled[result] = operand(node, 0)
            return
        found = self._made(node)
        if found is not None and len(found) <= _MOST:
            self._elements[result] = found

    def _made(self, node: Node) -> Elements | None:
        if node.op == "SequenceConstruct":
            return tuple(node.inputs) if all(one.name for one in node.inputs) else None
        if node.op == "SequenceEmpty":
            return ()
        if node.op not in ("Identity", "SequenceInsert", "SequenceErase", "OptionalGetElement") or not node.inputs:
            return None
        if node.op == "OptionalGetElement":
            inside = self._filled.get(node.inputs[0])
            return None if inside is None else self._elements.get(inside)
        old = self._elements.get(node.inputs[0])
        if old is None or node.op == "Identity":
            return old
        inserts = node.op == "SequenceInsert"
        slot, count = (2, len(old) + 1) if inserts else (1, len(old))
        place = len(old) if inserts else len(old) - 1  # without a position: at the end
        if operand(node, slot) is not None:
            known = position(node, slot)
            if known is None:
                return None
            place = known + len(old) if known < 0 else known
        if not 0 <= place < count:
            return None
        return (*old[:place], node.inputs[1], *old[place:]) if inserts else (*old[:place], *old[place + 1 :])


def position(node: Node, slot: int) -> int | None:
    """The constant position that a node takes in input `slot`; None when it is not constant."""
    tensor = operand(node, slot)
    values = None if tensor is None else constant_values(tensor)
    return None if values is None or values.size != 1 or values.dtype.kind != "i" else int(values.reshape(-1)[0])
