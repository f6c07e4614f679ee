"""What ranks a value may have, and what ranks its readers let it have.

A run in which an operator gets an operand of a rank that it does not take ends without a result. So
in every run that has one, a value that a recurrent layer reads has three axes, and a branch that
would give it another number of them was not taken.
"""

from __future__ import annotations

from graphopt.analysis.constants import constant_of
from graphopt.analysis.matching import integers
from graphopt.analysis.operator_families import UNARY
from graphopt.analysis.shapes import Shapes
from graphopt.ir import Graph, Node, Tensor
from graphopt.ir.sweep import live_nodes

Ranks = frozenset[int]

_DEEP = 64  # nodes that are looked at on the way to one answer
_RECURRENT = {0: 3, 1: 3, 2: 3, 3: 2, 5: 3, 6: 3}  # slots of LSTM, GRU and RNN: X, W, R, B, initial states


class RankDemands:
    """Ranks of the values of one revision of a model."""

    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes
        self._possible: dict[Tensor, Ranks | None] = {}
        self._live: dict[Graph, set[Node]] = {}

    def possible(self, tensor: Tensor) -> Ranks | None:
        """The ranks that `tensor` can have in any run; None when nothing is known."""
        known = self._possible
        pending, entered = [tensor], set[Node]()
        while pending:
            one = pending[-1]
            if one in known:
                pending.pop()
                continue
            maker = one.inputs[0] if len(one.inputs) == 1 else None
            behind = _behind(one, maker)
            if maker is None or not behind:
                rank = self._shapes.rank(one)
                known[one] = None if rank is None else frozenset((rank,))
                continue
            waiting = [each for each in behind if each not in known]
            if waiting and maker not in entered and len(entered) < _DEEP:
                entered.add(maker)
                pending.extend(waiting)
                continue
            sets = [known.get(each) for each in behind]
            step = _step(maker)
            found: set[int] = set()
            for ranks in sets:
                found.update(() if ranks is None else (rank + step for rank in ranks))
            known[one] = None if any(ranks is None for ranks in sets) else frozenset(found)
        return known[tensor]

    def demanded(self, tensor: Tensor) -> tuple[int, Node] | None:
        """The one rank that readers let `tensor` have, and the node that says so; None for any.

        Only readers count that run whenever the value is computed, and whose results are needed.
        """
        graph: Graph | None = tensor.inputs[0].graph if tensor.inputs else None
        if graph is None:
            return None
        pending, looked_at = [(tensor, 0)], 0
        while pending:
            one, shift = pending.pop()
            for reader in one.readers:
                looked_at += 1
                if looked_at > _DEEP:
                    return None
                if not reader.is_standard or reader.graph is not graph or reader not in self._alive(graph):
                    continue
                wanted = self._wanted(reader, one)
                if wanted is not None:
                    return wanted + shift, reader
                if _behind(reader.outputs[0], reader) == [one] and not reader.bodies:
                    pending.append((reader.outputs[0], shift - (_step(reader) or 0)))
        return None

    def _alive(self, graph: Graph) -> set[Node]:
        if graph not in self._live:
            self._live[graph] = live_nodes(graph)
        return self._live[graph]

    def _wanted(self, reader: Node, tensor: Tensor) -> int | None:
        """The rank that `reader` takes in the slots where it reads `tensor`; None for any, or unknown."""
        slot = next(index for index, one in enumerate(reader.inputs) if one is tensor)
        if reader.op in ("LSTM", "GRU", "RNN"):
            return _RECURRENT.get(slot)
        if reader.op in ("Conv", "ConvTranspose") and slot == 0:
            return self._shapes.rank(reader.inputs[1])
        if reader.op in ("MaxPool", "AveragePool", "LpPool") and slot == 0:
            kernel = reader.attrs.get("kernel_shape")
            return len(kernel) + 2 if isinstance(kernel, list) else None
        if reader.op == "Transpose":
            perm = reader.attrs.get("perm")
            return len(perm) if isinstance(perm, list) else None
        return None


def _behind(tensor: Tensor, maker: Node | None) -> list[Tensor]:
    """The values that decide about the rank of `tensor`; empty when only its shape is known, if that."""
    if maker is None or not maker.is_standard:
        return []
    if maker.op == "If":
        place = next(index for index, one in enumerate(maker.outputs) if one is tensor)
        return [body.outputs[place] for body in maker.bodies if place < len(body.outputs)]
    if maker.op in UNARY and maker.inputs:
        return [maker.inputs[0]]
    if maker.op in ("Squeeze", "Unsqueeze") and _axes(maker) is not None:
        return [maker.inputs[0]]
    return []


def _axes(node: Node) -> list[int] | None:
    if len(node.inputs) > 1 and constant_of(node.inputs[1]) is None:
        return None
    axes = integers(node, 1, "axes")
    return axes if axes and len(set(axes)) == len(axes) else None


def _step(node: Node) -> int:
    """How many axes more the result has than the operand."""
    if node.op not in ("Squeeze", "Unsqueeze"):
        return 0
    count = len(_axes(node) or ())
    return count if node.op == "Unsqueeze" else -count
