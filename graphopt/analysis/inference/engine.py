"""Inference over the graph itself, kept from one revision of the model to the next.

What is known of a node's outputs is kept together with everything it was derived from: operator,
attributes, and the facts of its inputs. At a later revision it is taken over where all of that is
still so, which costs a comparison, and derived anew where it is not.
"""

from __future__ import annotations

import itertools
from typing import Any

from graphopt.analysis import dims as sizes
from graphopt.analysis.dims import Dim
from graphopt.analysis.inference.fact import Fact
from graphopt.analysis.inference.ground import of_constant
from graphopt.ir import Constant, Graph, Node, Tensor, Variable
from graphopt.ir.values import onnx_number

_PRUNE_EVERY = 16  # revisions
_SAYS_NOTHING = frozenset(("", "?", "*", "-1", "None", "none", "unknown", "Unknown"))


class Entry:
    """The facts of a node's outputs, and what they were derived from."""

    __slots__ = ("basis", "deps", "facts", "outs")

    def __init__(self, basis: tuple[Any, ...], deps: list[Fact | None], outs: list[Tensor], facts: list[Fact]) -> None:
        self.basis, self.deps, self.outs, self.facts = basis, deps, outs, facts


class Inference:
    """What was found out about one model; `view` gives the facts of the model as it is now."""

    def __init__(self, graph: Graph) -> None:
        self.root = graph.root
        self.entries: dict[Node, Entry] = {}
        self._serials = itertools.count(1)
        self._constants: dict[Constant, tuple[Any, Fact]] = {}
        self._declared: dict[Variable, tuple[Any, Fact]] = {}
        self._views = 0

    def advance(self) -> None:
        """Forget now and then what is no longer in the model."""
        self._views += 1
        if self._views % _PRUNE_EVERY == 0:
            self.entries = {node: entry for node, entry in self.entries.items() if node.graph is not None}
            self._constants = {one: kept for one, kept in self._constants.items() if one.is_read}

    def fresh(self, name: str, low: int | None = 0) -> Dim:
        """A size of which nothing is known: a symbol of its own."""
        serial = next(self._serials)
        return sizes.symbol(f"{name}#{serial}", low, serial)

    def constant(self, held: Constant) -> Fact:
        """What an initializer, or the tensor of a Constant node, is."""
        stored = held.__dict__["_values"]
        known = self._constants.get(held)
        if known is None or known[0] is not stored:
            known = self._constants[held] = (stored, of_constant(held))
        return known[1]

    def declared(self, variable: Variable) -> Fact:
        """What the model promises about one of its inputs."""
        shape = variable.shape
        number = onnx_number(variable.dtype) if variable.type == "tensor_type" else 0
        promise = (number, None if shape is None else tuple(shape))
        known = self._declared.get(variable)
        if known is None or known[0] != promise:
            dims = None
            if shape is not None:
                dims = tuple(self._promised(variable.name, one) for one in shape)
            known = self._declared[variable] = (promise, Fact(number, dims))
        return known[1]

    def _promised(self, name: str, declared: int | str | None) -> Dim:
        if isinstance(declared, str):
            return self.fresh(name) if declared in _SAYS_NOTHING else sizes.symbol(declared)
        return self.fresh(name) if declared is None or declared < 0 else declared
