"""Which values may be integers, told from operators alone: a sieve before shapes are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from graphopt.analysis.constants import constant_of
from graphopt.analysis.inference.values import RULES
from graphopt.ir import Constant, Graph, Node, Tensor
from graphopt.ir.values import onnx_number

_FLOATS = frozenset((1, 10, 11, 16, 17, 18, 19, 20, 23, 24))  # ONNX's numbers of floats, also those of 4 and 8 bits
_MAKERS = frozenset(("Shape", "Size", "Cast", "CastLike", "ConstantOfShape", "Range", "Constant"))
"""Operators that give integers whatever they read."""


def may_be_integers(nodes: Iterable[tuple[Graph, Node]]) -> Iterator[tuple[Graph, Node]]:
    """Of nodes in order, makers first, those whose results may be integers that are known.

    Only some operators have results that can be known at all; a node of others gives nothing that a
    later one could be known from. Of the inputs one that may be an integer is enough.
    """
    found: set[Tensor] = set()
    for scope, node in nodes:
        if node.op not in RULES and node.op not in _MAKERS:
            continue
        if node.op in _MAKERS or any(_may_be(one, found) for one in node.inputs):
            found.update(node.outputs)
            yield scope, node


def _may_be(tensor: Tensor, found: set[Tensor]) -> bool:
    if tensor in found:
        return True
    held = constant_of(tensor)
    if held is not None:
        return held.onnx_dtype not in _FLOATS
    if isinstance(tensor, Constant) or onnx_number(tensor.dtype) in _FLOATS:
        return False
    maker: Node | None = tensor.inputs[0] if tensor.inputs else None
    return maker is None or bool(maker.bodies) or not maker.is_standard
