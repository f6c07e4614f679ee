"""Einsum: letters say which axes belong together, which are summed over and which are left."""

from __future__ import annotations

from graphopt.analysis.channels.attributes import text
from graphopt.analysis.channels.elementwise import joined
from graphopt.analysis.channels.flow import Flow, Labels, named
from graphopt.ir import Node


def _einsum(node: Node, flow: Flow) -> str | None:
    equation = (text(node, "equation", "") or "").replace(" ", "")
    left, arrow, result = equation.partition("->")
    terms = left.split(",")
    axes = [flow.axes(tensor) for tensor in node.inputs]
    if "." in equation or len(terms) != len(axes) or any(len(set(term)) != len(term) for term in terms):
        return "has an equation that is not understood"
    if not arrow:
        letters = "".join(terms)
        result = "".join(sorted(one for one in set(letters) if letters.count(one) == 1))
    found = dict[str, list[Labels]]()
    for term, mine in zip(terms, axes, strict=True):
        if mine is None or len(mine) != len(term):
            return "has an operand of unknown rank"
        for letter, labels in zip(term, mine, strict=True):
            found.setdefault(letter, []).append(labels)
    if not set(result) <= set(found):
        return "has an equation that is not understood"
    together = {letter: joined(flow, parts) for letter, parts in found.items()}
    for letter, parts in found.items():
        if letter not in result and len(parts) == 1:
            flow.bar(parts[0], f"{named(node)} makes one number of all of it")
    for slot, term in enumerate(terms):
        for axis, letter in enumerate(term):
            if letter in result and len(found[letter]) == 1:
                flow.maker(node, slot, axis)
            elif letter not in result and len(found[letter]) > 1:
                flow.reader(node, slot, axis)
    flow.give(node.outputs[0], [together[letter] for letter in result])
    return None


RULES = {"Einsum": _einsum}
