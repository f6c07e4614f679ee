"""Short names for values that nobody outside of a model can ask for."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, product
from string import ascii_lowercase
from typing import Final

from graphopt.ir.graph import Graph
from graphopt.ir.values import Tensor

_FIRST: Final = ascii_lowercase
_LATER: Final = f"{ascii_lowercase}0123456789"

Named = tuple[Tensor, str]
"""A value, and the name that it could have."""


def shorter(root: Graph) -> list[Named]:
    """The values whose names could be shorter, those that are read most often with the shortest names.

    Inputs and outputs of the model, of bodies and of functions keep theirs, and so does what a quantization annotation
    speaks of. New names are nobody else's in the whole model, so that none hides another.
    """
    found: dict[Tensor, None] = {}
    kept: set[str] = set()
    for graph in root.scopes():
        kept.update(one.name for one in (*graph.inputs, *graph.outputs, *graph.defaults))
        found.update(dict.fromkeys(graph.initializers.declared()))
        found.update(dict.fromkeys(one for node in graph.nodes for one in node.outputs))
        if graph.origin is not None:
            kept.update(graph.origin.other_names())
    names = _names(kept | {one.name for one in found})
    made: list[Named] = []
    name = next(names)
    for value in sorted(found, key=lambda one: -len(one.outputs)):
        if len(name) < len(value.name) and value.name not in kept:
            made.append((value, name))
            name = next(names)
    return made


def _names(taken: set[str]) -> Iterator[str]:
    for length in count():
        for first in _FIRST:
            for rest in product(_LATER, repeat=length):
                name = first + "".join(rest)
                if name not in taken:
                    yield name
