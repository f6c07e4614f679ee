"""Patterns of nodes, written as text and matched from their last node.

    GELU = Pattern('''
        a = Div(x, 1.4142135623730951)
        b = Erf(a)
        c = Add(b, 1)
        d = Mul(x, c)
        y = Mul(d, 0.5)
    ''')

Each line is a node; the last one is the root, where a match begins. A name is a tensor, the same
tensor wherever it stands; one that no line makes is an operand of the whole pattern. `?c` is a
constant, `#c` a constant of one number, a number is a constant of one element that is this number up
to what its dtype rounds away, `_` is anything, also nothing. `Mul|Div` is either operator,
`com.microsoft.Gelu` one of another domain. `ReduceMean<keepdims=1>` has that attribute, or leaves it
to that default. Add, Mul, And, Or, Xor, Max, Min, Sum, Mean and Equal of two operands match in both
orders. Two lines may be one node, if it fits both.

The inner values of a match are read by its nodes only, and all its nodes are in one graph. So the
nodes can go once something else makes what the root makes. Matching looks at as many nodes as the
pattern has, at most once for each way to order the operands.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from graphopt.analysis.pattern_terms import attribute, is_constant, is_number, number_of, same_attribute
from graphopt.analysis.pattern_text import Call, Name, Number, Term, parse
from graphopt.ir import Constant, Node, Tensor

_LOOK_AHEAD = 2  # levels of nodes whose operators are compared before anything else
_MANY = 4  # nodes that have to match before a mismatch is worth telling


@dataclass(frozen=True)
class Match:
    """What a pattern was found to stand for. `match["x"]` is the tensor that the pattern calls x."""

    values: dict[str, Tensor]
    calls: dict[str, Node]

    def __getitem__(self, name: str) -> Tensor:
        return self.values[name]

    def node(self, name: str) -> Node:
        """The node that makes the value that the pattern calls `name`."""
        return self.calls[name]

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes of the match, each once, the root first."""
        return tuple(dict.fromkeys(self.calls.values()))

    @property
    def root(self) -> Node:
        """The node that the match began at."""
        return next(iter(self.calls.values()))

    def inner(self) -> list[Tensor]:
        """The values that nobody outside of the match reads."""
        return [one for node in self.nodes[1:] for one in node.outputs if one.name]

    def number(self, name: str) -> float:
        """The number that the constant called `name` in the pattern holds (one written `#name`)."""
        found = number_of(self.values[name])
        assert found is not None, f"{name} is no constant of one number"
        return found


@dataclass(frozen=True)
class Miss:
    """A match that nearly was: how many nodes fitted, and why the next did not, in a clause."""

    depth: int
    why: str


class Pattern:
    """Nodes to look for, as text; see this module.

    The text is read when a pattern is first looked for: modules hold many, and most runs import more
    passes than have something to do. Then ValueError is raised for a text that is no pattern.
    """

    def __init__(self, text: str) -> None:
        self.text = text

    @functools.cached_property
    def calls(self) -> tuple[Call, ...]:
        """The nodes, the last of which is the root."""
        return tuple(parse(self.text))

    @property
    def root(self) -> Call:
        """The node that everything else is found from."""
        return self.calls[-1]

    @functools.cached_property
    def _makers(self) -> dict[str, tuple[Call, int]]:
        return {name: (call, i) for call in self.calls for i, name in enumerate(call.outputs) if name != "_"}

    def possible(self, ops: Collection[str]) -> bool:
        """Whether a graph with these operators can hold the pattern."""
        return all(any(op in ops for _, op in call.ops) for call in self.calls)

    def match(self, root: Node) -> Match | Miss | None:
        """The match whose last node is `root`; a Miss where most of the pattern was there; else None."""
        if not self._could(self.root, root, _LOOK_AHEAD):
            return None
        misses = _Misses(len(self.calls))
        for match in self._solutions(root, misses):
            why = _why_open(match)
            if why is None:
                return match
            misses.note(len(self.calls), why, certain=True)
        return misses.best

    def _could(self, call: Call, node: Node, levels: int) -> bool:
        """Whether operators alone allow for `call` to be `node`, so many levels up: most nodes end here."""
        if not call.fits(node.op, _domain(node)):
            return False
        if not levels:
            return True
        orders = (call.operands, call.operands[::-1]) if call.commutes else (call.operands,)
        return any(
            all(self._could_be(term, tensor, levels - 1) for term, tensor in zip(order, node.inputs, strict=False))
            for order in orders
        )

    def _could_be(self, term: Term, tensor: Tensor, levels: int) -> bool:
        maker: Node | None = tensor.inputs[0] if len(tensor.inputs) == 1 else None
        if isinstance(term, Number) or term.kind:
            return maker is None or maker.op == "Constant"
        made = self._makers.get(term.name)
        return made is None or (maker is not None and self._could(made[0], maker, levels))

    def _solutions(self, root: Node, misses: _Misses) -> Iterator[Match]:
        """Every way to lay the pattern on the nodes above `root`. Only orders of operands are choices."""
        stack = list(self._enter(self.root, root, None, {}, {}, misses))
        while stack:
            goals, values, calls = stack.pop()
            ways: list[_State] | None = None
            while goals is not None and ways is None:
                (term, tensor), goals = goals
                if isinstance(term, Name) and term.name in self._makers and term.name not in values:
                    ways = self._make(term, tensor, goals, values, calls, misses)
                elif (why := _why_not(term, tensor, values)) is not None:
                    misses.note(len(calls), why)
                    ways = []
            if ways is None:
                yield Match(values, calls)
            else:
                stack.extend(ways)

    def _make(
        self, term: Name, tensor: Tensor, goals: _Goals, values: _Values, calls: _Calls, misses: _Misses
    ) -> list[_State]:
        call, place = self._makers[term.name]
        node: Node | None = tensor.inputs[0] if len(tensor.inputs) == 1 else None
        if node is None or not call.fits(node.op, _domain(node)):
            made = "no node" if node is None else node.op
            if misses.wants(len(calls)):
                misses.note(len(calls), f"{tensor.name!r} is made by {made}, not by {call.ops_text}")
            return []
        if place >= len(node.outputs) or node.outputs[place] is not tensor:
            misses.note(len(calls), f"{tensor.name!r} is another output of {node.op} than the pattern has")
            return []
        return self._enter(call, node, goals, values, calls, misses)

    def _enter(
        self, call: Call, node: Node, goals: _Goals, values: _Values, calls: _Calls, misses: _Misses
    ) -> list[_State]:
        """What is left to show once `call` is taken to be `node`: one state for each order of operands."""
        why = _why_not_node(call, node, next(iter(calls.values()), node))
        if why is not None:
            misses.note(len(calls), why)
            return []
        bound, made = dict(values), dict(calls)
        for name, output in zip(call.outputs, node.outputs, strict=False):
            if name != "_":
                bound[name] = output
                made[name] = node
        given = [*node.inputs, *(None for _ in range(len(call.operands) - len(node.inputs)))]
        orders = [call.operands]
        if call.commutes:
            orders.append(call.operands[::-1])
        states: list[_State] = []
        for order in reversed(orders):  # the last one is tried first
            pairs = [(one, tensor) for one, tensor in zip(order, given, strict=False) if one != _ANYTHING]
            rest = goals
            for term, tensor in sorted(pairs, key=lambda pair: self._rank(pair[0]), reverse=True):
                assert tensor is not None, "operands that are not `_` are there"
                rest = ((term, tensor), rest)
            states.append((rest, dict(bound), dict(made)))
        return states

    def _rank(self, term: Term) -> int:
        """What to look at first: numbers, then values that the pattern makes, then operands."""
        return 0 if isinstance(term, Number) else 1 if term.name in self._makers else 2


def first_match(patterns: Iterable[Pattern], root: Node) -> Match | Miss | None:
    """The match of the first pattern that has one at `root`; else the nearest miss."""
    best: Miss | None = None
    for pattern in patterns:
        found = pattern.match(root)
        if isinstance(found, Match):
            return found
        if found is not None and (best is None or found.depth > best.depth):
            best = found
    return best


_Values = dict[str, Tensor]
_Calls = dict[str, Node]
_Goals = Any  # a linked list ((term, tensor), rest) or None
_State = tuple[_Goals, _Values, _Calls]
_ANYTHING = Name("_")


class _Misses:
    """The mismatch that came after the most nodes."""

    def __init__(self, size: int) -> None:
        self.enough = max(_MANY, size // 2 + 1)
        self.best: Miss | None = None

    def wants(self, depth: int, certain: bool = False) -> bool:
        """Whether a mismatch after so many nodes would be the nearest miss so far."""
        return (certain or depth >= self.enough) and (self.best is None or depth > self.best.depth)

    def note(self, depth: int, why: str, certain: bool = False) -> None:
        if self.wants(depth, certain):
            self.best = Miss(depth, why)


def _domain(node: Node) -> str:
    return "" if node.is_standard else str(node.domain)


def _why_not_node(call: Call, node: Node, root: Node) -> str | None:
    if node.graph is not root.graph:
        return f"{node.label!r} is in another graph"
    given = len(node.inputs)
    while given and _left_out(node.inputs[given - 1]):
        given -= 1
    needed = max((i + 1 for i, term in enumerate(call.operands) if term != _ANYTHING), default=0)
    if not needed <= given <= len(call.operands):
        return f"{node.op} {node.label!r} has {given} operands"
    if any(_left_out(one) and term != _ANYTHING for one, term in zip(node.inputs, call.operands, strict=False)):
        return f"{node.op} {node.label!r} leaves operands out"
    if len(node.outputs) < len(call.outputs):
        return f"{node.op} {node.label!r} has {len(node.outputs)} outputs"
    for name, wanted in call.attrs:
        found = attribute(node, name)
        if not same_attribute(found, wanted):
            return f"{node.op} {node.label!r} has {name}={found!r}, not {wanted!r}"
    return None


def _left_out(tensor: Tensor) -> bool:
    return not tensor.name and not isinstance(tensor, Constant)


def _why_not(term: Term, tensor: Tensor, values: _Values) -> str | None:
    """Why `tensor` is not what the pattern has there; else None, and a name stands for it from now on."""
    if isinstance(term, Number):
        return None if is_number(tensor, term.value) else f"{tensor.name!r} is not {term.value}"
    known = values.get(term.name)
    if known is not None:
        return None if known is tensor else f"{tensor.name!r} stands where {known.name!r} is expected"
    if term.kind == "?" and not is_constant(tensor):
        return f"{tensor.name!r} is no constant"
    if term.kind == "#" and number_of(tensor) is None:
        return f"{tensor.name!r} is no constant of one number"
    values[term.name] = tensor
    return None


def _why_open(match: Match) -> str | None:
    """Why the nodes of a match cannot go, because others read their values."""
    nodes = set(match.nodes)
    for node in match.nodes:
        for output in node.outputs:
            if node is match.root and (not output.name or any(output is one for one in match.values.values())):
                continue
            if output.graph_outputs:
                return f"{output.name!r} is a graph output"
            for reader in output.readers:
                if reader not in nodes:
                    return f"{output.name!r} is also read by {reader.op} {reader.label!r}"
    made = set(match.calls)
    for name, value in match.values.items():
        if name not in made and any(node in nodes for node in value.inputs):
            return f"{value.name!r} is an operand and made inside of the pattern"
    return None
