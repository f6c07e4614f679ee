"""Attributes and small constant inputs of nodes, where they are known."""

from __future__ import annotations

from graphopt.analysis.constants import constant_values
from graphopt.ir import Node

_MOST = 4096


def integer(node: Node, name: str, usual: int) -> int | None:
    """An integer attribute; None where it is only known where a function is called."""
    value = node.attrs.get(name, usual)
    return value if isinstance(value, int) else None


def text(node: Node, name: str, usual: str) -> str | None:
    """A text attribute; None where it is not known."""
    value = node.attrs.get(name, usual)
    value = value.decode() if isinstance(value, bytes) else value
    return value if isinstance(value, str) else None


def axis_of(node: Node, rank: int, usual: int) -> int | None:
    """The attribute `axis`, counted from the front; None where it is not known."""
    axis = integer(node, "axis", usual)
    return None if axis is None or not -rank <= axis < rank else axis % rank


def has(node: Node, slot: int) -> bool:
    """Whether something is given in an input slot."""
    return slot < len(node.inputs) and bool(node.inputs[slot].name)


def integers(node: Node, name: str, slot: int) -> list[int] | None:
    """Integers that newer operators take in an input slot and older ones as an attribute; None where unknown."""
    value = node.attrs.get(name)
    if isinstance(value, list):
        return [int(one) for one in value]
    if value is not None or not has(node, slot):
        return None
    held = constant_values(node.inputs[slot])
    if held is None or held.size > _MOST or held.dtype.kind not in "iu":
        return None
    return [int(one) for one in held.ravel().tolist()]


def gives(node: Node, name: str, slot: int) -> bool:
    """Whether those integers are given at all."""
    return name in node.attrs or has(node, slot)
