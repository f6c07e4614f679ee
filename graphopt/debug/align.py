"""Which nodes and values of two models are the same ones: by content, by name, by provenance, by neighbours.

Content comes first: two nodes of the same operator and attributes on the same values are one node,
whatever they are called. Where something differs upstream, equal names and what a report says of
new ones go on from there, then the readers of what is the same, then whatever is unique.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence

from graphopt.ir import Constant, Graph, Node, Tensor
from graphopt.ir.attributes import Attrs
from graphopt.ir.text import content

Origins = Mapping[str, Sequence[str]]
_ROUNDS = 8  # in each of which at least one more node finds its partner


class Alignment:
    """Partners of the values and nodes of model `a` in model `b`. `origins` gives old names of new values.

    `scopes` are the pairs of graphs that were compared: main graphs, functions of one name, and the
    bodies of nodes that are partners.
    """

    def __init__(self, a: Graph, b: Graph, origins: Origins | None = None) -> None:
        self.values: dict[Tensor, Tensor] = {}
        self.back: dict[Tensor, Tensor] = {}
        self.nodes: dict[Node, Node] = {}
        self.nodes_back: dict[Node, Node] = {}
        self.scopes: list[tuple[Graph, Graph]] = []
        self._origins = origins or {}
        self._keys: dict[Node, tuple[Hashable, ...]] = {}
        known = {one.unique_id: one for one in b.functions}
        self._scope(a, b, by_name=True)
        for function in a.functions:
            if function.unique_id in known:
                self._scope(function, known[function.unique_id], by_name=False)

    def same(self, node: Node) -> bool:
        """Whether a node of `a` has a partner with the same operator and attributes that reads the same values."""
        partner = self.nodes.get(node)
        return (
            partner is not None
            and self.key(node)[:-1] == self.key(partner)[:-1]
            and all(self._alike(one, other) for one, other in zip(node.inputs, partner.inputs, strict=True))
        )

    def same_value(self, constant: Constant) -> bool:
        """Whether an initializer of `a` has a partner of the same content."""
        partner = self.values.get(constant)
        return isinstance(partner, Constant) and content(constant) == content(partner)

    def key(self, node: Node) -> tuple[Hashable, ...]:
        """Everything that a node is besides names and the values it reads; last the operators in its bodies."""
        key = self._keys.get(node)
        if key is None:
            slots = tuple(bool(one.name) or isinstance(one, Constant) for one in node.inputs)
            outs = tuple(bool(one.name) for one in node.outputs)
            domain = "" if node.is_standard else node.domain or ""
            attrs, bodies = attributes(node.attrs)
            key = self._keys[node] = (domain, node.op, node.overload, attrs, slots, outs, bodies)
        return key

    def _alike(self, one: Tensor, other: Tensor) -> bool:
        if not one.name and not isinstance(one, Constant):
            return not other.name and not isinstance(other, Constant)
        return self.values.get(one) is other

    def _scope(self, a: Graph, b: Graph, *, by_name: bool) -> None:
        pending = [(a, b, by_name)]
        while pending:
            one, other, named = pending.pop()
            self.scopes.append((one, other))
            pairs = _Scope(self, one, other, self._origins, named).align()
            for node, partner in reversed(pairs):
                bodies = {name: value for name, value in partner.attrs.items() if isinstance(value, Graph)}
                for name, value in node.attrs.items():
                    if isinstance(value, Graph) and name in bodies:
                        pending.append((value, bodies[name], False))

    def pair_values(self, one: Tensor, other: Tensor) -> None:
        """Let two values be partners, unless either has one."""
        if one not in self.values and other not in self.back:
            self.values[one] = other
            self.back[other] = one


def attributes(attrs: Attrs) -> tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]:
    """Attributes by name as texts that are equal for equal values; and of the bodies among them the operators."""
    plain, bodies = [], []
    for name in sorted(attrs):
        value = attrs[name]
        if isinstance(value, Graph):
            bodies.append((name, " ".join(one.op for one in value.nodes)))
            plain.append((name, "body"))
        else:
            plain.append((name, content(value)))
    return tuple(plain), tuple(bodies)


class _Scope:
    """The alignment of one graph of `a` with one of `b`."""

    def __init__(self, whole: Alignment, a: Graph, b: Graph, origins: Origins, by_name: bool) -> None:
        self.whole, self.a, self.b, self.origins, self.by_name = whole, a, b, origins, by_name
        self.left = list(a.nodes)
        self.right = list(b.nodes)
        self.pairs: list[tuple[Node, Node]] = []

    def align(self) -> list[tuple[Node, Node]]:
        self.ends(self.a.inputs, self.b.inputs)
        self.initializers()
        self.by_content()
        self.by_names(any_operator=False)
        for _ in range(_ROUNDS):
            before = len(self.pairs)
            self.by_content()
            if len(self.pairs) == before:
                self.by_provenance()
            if len(self.pairs) == before:
                self.by_readers()
            if len(self.pairs) == before:
                self.unique()
            if len(self.pairs) == before:
                break
        self.by_names(any_operator=True)
        self.by_readers(any_operator=True)
        return self.pairs

    def pair(self, one: Node, other: Node) -> bool:
        if one in self.whole.nodes or other in self.whole.nodes_back:
            return False
        self.whole.nodes[one], self.whole.nodes_back[other] = other, one
        self.pairs.append((one, other))
        for value, partner in zip(one.outputs, other.outputs, strict=False):
            if value.name and partner.name:
                self.whole.pair_values(value, partner)
        return True

    def free(self) -> tuple[list[Node], list[Node]]:
        self.left = [one for one in self.left if one not in self.whole.nodes]
        self.right = [one for one in self.right if one not in self.whole.nodes_back]
        return self.left, self.right

    def ends(self, left: Sequence[Tensor], right: Sequence[Tensor]) -> None:
        """Inputs, by name where names are the model's promise; the others by place."""
        if self.by_name:
            named = {one.name: one for one in right}
            for one in left:
                if one.name in named:
                    self.whole.pair_values(one, named[one.name])
        if len(left) == len(right):
            for one, other in zip(left, right, strict=True):
                self.whole.pair_values(one, other)

    def initializers(self) -> None:
        """By name and content, then by content, then by name."""
        left, right = list(self.a.initializers), list(self.b.initializers)
        named = {one.name: one for one in right}
        texts = {one: content(one) for one in (*left, *right)}
        for one in left:
            other = named.get(one.name)
            if other is not None and texts[one] == texts[other]:
                self.whole.pair_values(one, other)
        alike: dict[str, list[Constant]] = defaultdict(list)
        for other in reversed(right):
            if other not in self.whole.back:
                alike[texts[other]].append(other)
        for one in left:
            if one not in self.whole.values and alike[texts[one]]:
                self.whole.pair_values(one, alike[texts[one]].pop())
        for one in left:
            if one.name in named:
                self.whole.pair_values(one, named[one.name])

    def by_content(self) -> None:
        """Nodes whose whole computation is the same, those of one name before the others."""
        table: dict[Hashable, int] = {}
        left = self.computations(self.a.nodes, table, self.whole.values, forward=True)
        right = self.computations(self.b.nodes, table, self.whole.back, forward=False)
        waiting: dict[int, list[Node]] = defaultdict(list)
        for node, number in right.items():
            waiting[number].append(node)
        later: list[tuple[Node, list[Node]]] = []
        for node, number in left.items():
            others = waiting.get(number, [])
            twin = next((one for one in others[:64] if _first(one) == _first(node)), None)
            if twin is not None:
                self.pair(node, twin)
            elif others:
                later.append((node, others))
        places: dict[int, int] = defaultdict(int)
        for node, others in later:
            at = places[id(others)]
            while at < len(others) and others[at] in self.whole.nodes_back:
                at += 1
            places[id(others)] = at
            if at < len(others):
                self.pair(node, others[at])

    def computations(
        self, nodes: Iterable[Node], table: dict[Hashable, int], paired: Mapping[Tensor, Tensor], *, forward: bool
    ) -> dict[Node, int]:
        """A number for each node without a partner, the same for the same computation."""
        numbers: dict[Tensor, Hashable] = {}

        def number(value: Tensor) -> Hashable:
            if value in paired:
                return ("pair", id(paired[value]) if forward else id(value))
            if not value.name and not isinstance(value, Constant):
                return None
            return numbers.get(value, id(value))

        found: dict[Node, int] = {}
        taken = self.whole.nodes if forward else self.whole.nodes_back
        for node in nodes:
            key = (self.whole.key(node), tuple(number(one) for one in node.inputs))
            code = table.setdefault(key, len(table))
            if node not in taken:
                found[node] = code
            for slot, value in enumerate(node.outputs):
                numbers[value] = ("made", code, slot)
        return found

    def by_names(self, *, any_operator: bool) -> None:
        left, right = self.free()
        named = {_first(one): one for one in right if _first(one)}
        for one in left:
            other = named.get(_first(one))
            if other is not None and (any_operator or (one.op, one.domain or "") == (other.op, other.domain or "")):
                self.pair(one, other)

    def by_provenance(self) -> None:
        """New names that stand for the output of one old node of the same operator."""
        left, right = self.free()
        makers = {value.name: one for one in left for value in one.outputs if value.name}
        for other in right:
            for name in self.origins.get(_first(other), ()):
                one = makers.get(name)
                if one is not None and one.op == other.op and one not in self.whole.nodes:
                    self.pair(one, other)
                    break

    def by_readers(self, *, any_operator: bool = False) -> None:
        """Makers of what partners read, and of what the graphs give, where they are of the same kind; with
        `any_operator`, where they read the same."""
        ends: list[tuple[Tensor, Tensor]] = []
        if len(self.a.outputs) == len(self.b.outputs):
            ends = list(zip(self.a.outputs, self.b.outputs, strict=True))
        if self.by_name:
            named = {one.name: one for one in self.b.outputs}
            ends = [(one, named[one.name]) for one in self.a.outputs if one.name in named]
        waiting = [self.read(*pair) for pair in self.pairs]
        pending = [*itertools.chain(*waiting), *ends]
        while pending:
            value, partner = pending.pop()
            if len(value.inputs) != 1 or len(partner.inputs) != 1:
                continue
            one, other = value.inputs[0], partner.inputs[0]
            if one.graph is not self.a or other.graph is not self.b:
                continue
            alike = self.reads_alike(one, other) if any_operator else self.whole.key(one) == self.whole.key(other)
            if alike and self.pair(one, other):
                pending += self.read(one, other)

    @staticmethod
    def read(one: Node, other: Node) -> list[tuple[Tensor, Tensor]]:
        """What two partners read, slot by slot."""
        same = len(one.inputs) == len(other.inputs)
        return list(zip(one.inputs, other.inputs, strict=True)) if same else []

    def reads_alike(self, one: Node, other: Node) -> bool:
        """Whether what two nodes read are partners, in any order, and they make equally many values."""
        left = {self.whole.values.get(value) for value in one.inputs if value.name}
        return left == {value for value in other.inputs if value.name} and len(one.outputs) == len(other.outputs)

    def unique(self) -> None:
        """What is left, where there is only one of its kind on either side."""
        sides: list[dict[Hashable, list[Node]]] = []
        for nodes in self.free():
            kinds: dict[Hashable, list[Node]] = defaultdict(list)
            for one in nodes:
                weights = tuple(content(each) for each in one.inputs if isinstance(each, Constant))
                kinds[self.whole.key(one), weights].append(one)
            sides.append(kinds)
        for key, left in sides[0].items():
            right = sides[1].get(key, [])
            if len(left) == len(right) == 1:
                self.pair(left[0], right[0])


def _first(node: Node) -> str:
    return next((one.name for one in node.outputs if one.name), "")
