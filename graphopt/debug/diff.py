"""What two models differ in, as text: nodes, weights, signature, functions, and nothing else.

Names inside of the model are no difference, nor is the order of nodes; metadata, documentation
and declarations of inner values are not looked at.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphopt.debug.align import Alignment, Origins
from graphopt.ir import Constant, Graph, Node, Tensor
from graphopt.ir.text import declared, initializer_line, node_lines
from graphopt.pipeline.protocol import Remark

_REMARKS = 8  # that a hunk is attributed to


@dataclass(frozen=True)
class Hunk:
    """One connected difference: the lines that only A has, and those that only B has.

    `scope` is the path of the body or function, "" for the main graph; `by` are the rewrites that a
    report makes responsible, each as `pass:number`.
    """

    scope: str
    removed: tuple[str, ...]
    added: tuple[str, ...]
    by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Difference:
    """All differences of two models, and counts of nodes: those that both have, those of A only and of B only."""

    a: str
    b: str
    hunks: tuple[Hunk, ...]
    same: int
    removed: int
    added: int
    renamed: int
    notes: tuple[str, ...] = field(default=())

    @property
    def exit_code(self) -> int:
        """0 for the same structure, 1 for a difference."""
        return 1 if self.hunks else 0

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        return {
            "a": self.a,
            "b": self.b,
            "same": not self.hunks,
            "exit_code": self.exit_code,
            "nodes": {"same": self.same, "removed": self.removed, "added": self.added},
            "renamed": self.renamed,
            "hunks": [
                {"scope": one.scope, "removed": list(one.removed), "added": list(one.added), "by": list(one.by)}
                for one in self.hunks
            ],
            "notes": list(self.notes),
        }


def difference(
    a: Graph, b: Graph, *, named: tuple[str, str] = ("A", "B"), origins: Origins | None = None,
    remarks: Sequence[Remark] = (),
) -> Difference:  # fmt: skip
    """What `b` differs in from `a`. `origins` and `remarks` are those of the run that made `b` of `a`."""
    alignment = Alignment(a, b, origins)
    hunks = [*_header(a, b), *_functions(a, b)]
    for one, other in alignment.scopes:
        if one is not a and other is not b:
            hunks += _ends(one, other)
        hunks += _Scope(alignment, one, other, origins or {}, remarks).hunks()
    same = sum(alignment.same(node) for node in alignment.nodes)
    counts = [sum(len(scope.nodes) for scope in whole.scopes()) for whole in (a, b)]
    renamed = sum(one.name != other.name for one, other in alignment.values.items())
    return Difference(*named, tuple(hunks), same, counts[0] - same, counts[1] - same, renamed)


def _header(a: Graph, b: Graph) -> list[Hunk]:
    """Versions of operators and of the format, and the signature."""
    return _lines_hunk("", *([*_versions(one), *_signature(one)] for one in (a, b)))


def _versions(graph: Graph) -> list[str]:
    others = {f"opset {one.domain} {one.version}" for one in graph.import_domains or () if one.domain not in _ONNX}
    return [f"ir {graph.ir_version}", f"opset {graph.opset}", *sorted(others)]


_ONNX = ("", "ai.onnx")


def _signature(graph: Graph) -> list[str]:
    return [f"input {declared(one)}" for one in graph.inputs] + [f"output {declared(one)}" for one in graph.outputs]


def _ends(one: Graph, other: Graph) -> list[Hunk]:
    """Inputs and outputs of a body or function: how many there are; their names are its own affair."""
    counts = [[f"{len(graph.inputs)} inputs", f"{len(graph.outputs)} outputs"] for graph in (one, other)]
    return _lines_hunk(other.path, *counts)


def _lines_hunk(scope: str, left: list[str], right: list[str]) -> list[Hunk]:
    if left == right:
        return []
    gone, new = [one for one in left if one not in right], [one for one in right if one not in left]
    if not gone and not new:  # another order of inputs or outputs
        gone, new = left, right
    return [Hunk(scope, tuple(gone), tuple(new))]


def _functions(a: Graph, b: Graph) -> list[Hunk]:
    sides = [{one.unique_id: one for one in whole.functions} for whole in (a, b)]
    hunks = []
    for key in dict.fromkeys((*sides[0], *sides[1])):
        lines = [_whole(side[key]) if key in side else () for side in sides]
        if not lines[0] or not lines[1]:
            path = (sides[0].get(key) or sides[1][key]).path
            hunks.append(Hunk(path, *lines))
    return hunks


def _whole(graph: Graph) -> tuple[str, ...]:
    return (f"{graph.path} with {len(graph.nodes)} nodes", *itertools.chain(*(node_lines(one) for one in graph.nodes)))


Item = Node | Constant


class _Scope:
    """The differences of two graphs that belong together."""

    def __init__(self, alignment: Alignment, a: Graph, b: Graph, origins: Origins, remarks: Sequence[Remark]) -> None:
        self.alignment, self.a, self.b, self.origins, self.remarks = alignment, a, b, origins, remarks
        self.leader: dict[Item, Item] = {}
        self.order: dict[Item, int] = {}

    def hunks(self) -> list[Hunk]:
        """Connected differences, in the order of the graphs."""
        alike = self.alignment
        gone: list[Item] = [one for one in self.a.initializers if not alike.same_value(one)]
        gone += [one for one in self.a.nodes if not alike.same(one)]
        kept = {alike.nodes[one] for one in self.a.nodes if alike.same(one)}
        held = {alike.values[one] for one in self.a.initializers if alike.same_value(one)}
        new: list[Item] = [one for one in self.b.initializers if one not in held]
        new += [one for one in self.b.nodes if one not in kept]
        for items in (gone, new):
            for place, one in enumerate(items):
                self.leader[one] = one
                self.order[one] = place
        self.join(gone, new)
        groups: dict[Item, tuple[list[Item], list[Item]]] = {}
        for side, items in enumerate((gone, new)):
            for one in items:
                groups.setdefault(self.find(one), ([], []))[side].append(one)
        return [self.hunk(*pair) for pair in groups.values()]

    def hunk(self, gone: list[Item], new: list[Item]) -> Hunk:
        return Hunk(self.b.path, _text(gone), _text(new), self.by({*_names(gone), *_names(new)}))

    def by(self, names: set[str]) -> tuple[str, ...]:
        found = (
            f"{one.pass_name}:{one.number}"
            for one in self.remarks
            if one.kind == "applied" and not names.isdisjoint((*one.before, *one.after))
        )
        return tuple(itertools.islice(dict.fromkeys(found), _REMARKS))

    def join(self, gone: list[Item], new: list[Item]) -> None:
        """Join partners, what stands for what, and neighbours."""
        for one in gone:
            partner = self.alignment.nodes.get(one) if isinstance(one, Node) else self.alignment.values.get(one)
            if partner is not None and partner in self.leader:
                self.union(one, partner)  # type: ignore[arg-type]
        for one in (*gone, *new):
            for value in one.inputs if isinstance(one, Node) else ():
                for other in (value, *value.inputs):
                    if other in self.leader:
                        self.union(one, other)
        makers = {name: one for one in gone for name in _names([one])}
        for one in new:
            for name in _names([one]):
                for old in self.origins.get(name, ()):
                    if old in makers:
                        self.union(makers[old], one)

    def find(self, one: Item) -> Item:
        while self.leader[one] is not one:
            self.leader[one] = self.leader[self.leader[one]]
            one = self.leader[one]
        return one

    def union(self, one: Item, other: Item) -> None:
        self.leader[self.find(other)] = self.find(one)


def _text(items: Iterable[Item]) -> tuple[str, ...]:
    lines = (node_lines(one) if isinstance(one, Node) else [initializer_line(one)] for one in items)
    return tuple(itertools.chain(*lines))


def _names(items: Iterable[Item]) -> list[str]:
    values: list[Tensor] = []
    for one in items:
        values += one.outputs if isinstance(one, Node) else [one]
    return [one.name for one in values if one.name]
