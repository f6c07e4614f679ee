"""Lets single nodes compute in 16 bits, with casts around them that go when their neighbours follow."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from graphopt.analysis.constants import constant_node, constant_of
from graphopt.ir import Constant, Graph, Node, Tensor
from passes.quantize.half_slots import Slots

_FLOAT = 1
_TYPES: dict[str, tuple[np.dtype[Any], int]] = {
    "float16": (np.dtype(np.float16), 10),
    "bfloat16": (np.dtype(ml_dtypes.bfloat16), 16),
}


class Writer:
    """Remembers which 16-bit value stands for which float32 one."""

    def __init__(self, graph: Graph, to: str) -> None:
        self._dtype, self._number = _TYPES[to]
        self._to = to
        self._halves: dict[Tensor, Tensor] = {}
        self._back: dict[Tensor, Node] = {}  # the cast that makes a float32 value of its 16-bit one
        self._home: dict[Tensor, Graph] = {}
        for scope in graph.root.graphs():
            own: tuple[Tensor, ...] = (*scope.inputs, *scope.initializers.declared())
            self._home.update(dict.fromkeys(own, scope))

    def halve(self, node: Node, found: Slots) -> None:
        """Let a node read and make 16-bit values in its slots."""
        graph = node.graph
        assert graph is not None, "a node that is chosen is in a graph"
        for slot in found.inputs:
            old = node.inputs[slot]
            graph.rewire(node, slot, self._half(old))
            self._sweep(old)
        for slot in found.outputs:
            old = node.outputs[slot]
            half = graph.variable(f"{old.name}_{self._to}")
            node.outputs[slot] = half
            self._halves[old] = half
            if old.is_read or old.graph_outputs:
                cast = Node("Cast", graph.fresh_name(f"{old.name}_Cast"), {"to": _FLOAT}, [half], [old])
                self._back[old] = graph.insert(cast, after=node)

    def _half(self, old: Tensor) -> Tensor:
        if old not in self._halves:
            self._halves[old] = self._made(old)
        return self._halves[old]

    def _made(self, old: Tensor) -> Tensor:
        held = constant_of(old)
        if held is not None:
            maker = constant_node(old)
            home = maker.graph if maker is not None else self._home[old]
            assert home is not None, "a constant that is read is somewhere"
            with np.errstate(over="ignore"):
                return home.constant(held.values.astype(self._dtype), f"{old.name}_{self._to}")
        maker = old.inputs[0] if old.inputs else None
        home = maker.graph if maker is not None else self._home[old]
        assert home is not None, "a value that is read is made somewhere"
        half = home.variable(f"{old.name}_{self._to}")
        cast = Node("Cast", home.fresh_name(f"{old.name}_Cast"), {"to": self._number}, [old], [half])
        if maker is not None:
            home.insert(cast, after=maker)
        else:
            home.insert(cast, before=next(iter(home.nodes)))
        return half

    def _sweep(self, old: Tensor) -> None:
        """Take out what only the node read that reads something else now."""
        if old.is_read or old.graph_outputs:
            return
        if old in self._back:
            cast = self._back.pop(old)
            assert cast.graph is not None, "it was put there"
            cast.graph.remove(cast)
        elif isinstance(old, Constant):
            self._home[old].remove_initializer(old)
        elif (maker := constant_node(old)) is not None and maker.graph is not None:
            maker.graph.remove(maker)
