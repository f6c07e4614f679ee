"""Models put together from variants of one pipeline: each unit of nodes as one of the variants has it.

Variants come from the same model through the same passes but for the levers, so values of the same name
mean the same, to within what the levers lose. Between two such values, a variant's nodes can stand in for
another's: no pipeline has to run again to see what a mixture does.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from onnx import ModelProto, NodeProto

from graphopt.errors import CouldNotTell
from graphopt.tune.anatomy import Anatomy, labels, renamed
from graphopt.tune.variants import Taken, Variant

_MOST_BYTES: Final = (1 << 31) - (1 << 20)  # of a model that is one message

Mixture = Mapping["Unit", int]
"""Which variant each unit is taken from."""
Key = tuple[int, str, str]
Region = tuple[list[int], set[str]]


@dataclass(frozen=True, eq=False)
class Unit:
    """Nodes that are chosen together, because one rewrite of a lever takes them together.

    `values` are what they make. `kinds` are what the variants make of them: equal numbers for variants that
    make the same. `taken` are the rewrites, by variant. `kind` tells nodes of one shape from others.
    """

    number: int
    values: frozenset[str]
    kinds: tuple[int, ...]
    taken: tuple[tuple[Taken, ...], ...]
    nodes: tuple[str, ...]
    op: str
    kind: Hashable

    def options(self) -> Iterator[int]:
        """The variants that differ for this unit, the first of those that are alike."""
        seen: set[int] = set()
        for index, kind in enumerate(self.kinds):
            if kind not in seen:
                seen.add(kind)
                yield index


@dataclass
class Splice:
    """The variants of a model (the last one without any lever), taken apart into units.

    Raises CouldNotTell where they cannot be put together node by node.
    """

    variants: Sequence[Variant]
    units: list[Unit] = field(init=False)

    def __post_init__(self) -> None:
        self._views = [Anatomy.of(one.proto) for one in self.variants]
        plain = self._views[-1]
        if any(one.proto.functions or one.proto.graph.sparse_initializer for one in self._views):
            raise CouldNotTell("the model has functions or sparse weights, and is quantized as a whole")
        common = set.intersection(*({*one.fed} & {*one.makers} for one in self._views))
        if any(one.name not in common and one.name in plain.fed and one.name not in plain.inputs
               for one in plain.proto.graph.output):  # fmt: skip
            raise CouldNotTell("its outputs are not made alike, and it is quantized as a whole")
        self._borders = common
        self._order = [name for node in plain.nodes for name in node.output if name in common]
        self._signatures = [one.signatures(common) for one in self._views]
        self.units = list(self._units())
        self._unit_of = {name: unit for unit in self.units for name in unit.values}

    def everything(self, variant: int) -> dict[Unit, int]:
        """The mixture that is one of the variants."""
        return dict.fromkeys(self.units, variant)

    def mixed(self, mixture: Mixture) -> bytes:
        """The model that a mixture stands for. Raises CouldNotTell where it is too large to be one message."""
        return _Mixer(self._views, self._borders, self._choices(mixture)).run()

    def _choices(self, mixture: Mixture) -> dict[str, int]:
        # A value that changes and is no unit's follows the others: it is the levers' all the same.
        plain = len(self._views) - 1
        rest = min(mixture.values(), default=plain)
        return {
            name: mixture.get(self._unit_of[name], plain) if name in self._unit_of else rest for name in self._order
        }

    def _units(self) -> Iterator[Unit]:
        plain = self._views[-1]
        changed = [name for name in self._order if len({signature.get(name) for signature in self._signatures}) > 1]
        regions = {name: plain.region(name, self._borders) for name in changed}
        groups = _Groups()
        for view in self._views:
            for node in view.nodes:
                groups.join(*(name for name in node.output if name in regions))
        owned = self._owned(regions)
        for names in owned.values():
            groups.join(*names)
        members: dict[str, list[str]] = defaultdict(list)
        for name in changed:
            members[groups.root(name)].append(name)
        keys: dict[str, set[Key]] = defaultdict(set)
        for key, names in owned.items():
            if names:
                keys[groups.root(names[0])].add(key)
        numbers = itertools.count()
        for root, names in members.items():
            if keys[root]:
                yield self._unit(next(numbers), names, keys[root], regions)

    def _owned(self, regions: Mapping[str, Region]) -> dict[Key, list[str]]:
        """Which changed values each rewrite is behind.

        Those that the nodes and weights it was announced on are needed for. A value of which none was, reads
        what a rewrite put in place.
        """
        plain = self._views[-1]
        known: dict[str, list[str]] = defaultdict(list)
        for name, (nodes, stored) in regions.items():
            for label in labels([plain.nodes[index] for index in nodes]) | stored:
                known[label].append(name)
        owned: dict[Key, list[str]] = {}
        for one in (one for variant in self.variants for one in variant.taken):
            owned.setdefault(one.key, list(known.get(one.node, ())))
        orphans = set(regions).difference(*owned.values())
        for view, variant in zip(self._views, self.variants, strict=True):
            makers = {name: one.key for one in variant.taken for name in one.made}
            for orphan in [name for name in self._order if name in orphans]:
                nodes, stored = view.region(orphan, self._borders)
                inside = {*stored, *(name for index in nodes for name in view.nodes[index].output)}
                found = sorted({makers[name] for name in inside if name in makers})
                if found:
                    owned[found[0]].append(orphan)
                    orphans.discard(orphan)
        return owned

    def _unit(self, number: int, names: Sequence[str], keys: set[Key], regions: Mapping[str, Region]) -> Unit:
        plain = self._views[-1]
        nodes = [plain.nodes[index] for name in names for index in regions[name][0]]
        stored = set[str]().union(*(regions[name][1] for name in names))
        head = _head(nodes)
        return Unit(
            number,
            frozenset(names),
            _numbered([tuple(signature.get(name) for name in names) for signature in self._signatures]),
            tuple(tuple(one for one in variant.taken if one.key in keys) for variant in self.variants),
            tuple(dict.fromkeys(node.name or node.output[0] for node in nodes if node.op_type == head.op_type)),
            head.op_type,
            _shape_of(plain, head, stored),
        )


class _Groups:
    """Names joined into groups."""

    def __init__(self) -> None:
        self._above: dict[str, str] = {}

    def root(self, name: str) -> str:
        while name in self._above:
            name = self._above[name]
        return name

    def join(self, *names: str) -> None:
        for other in names[1:]:
            first, second = self.root(names[0]), self.root(other)
            if first != second:
                self._above[second] = first


@dataclass
class _Mixer:
    """Walks back from the outputs, taking each border from the variant that is chosen for it."""

    views: Sequence[Anatomy]
    borders: set[str]
    choice: Mapping[str, int]

    def run(self) -> bytes:
        plain = self.views[-1]
        self.made = ModelProto()
        self.made.CopyFrom(_shell(plain.proto))
        self.stored: dict[str, tuple[int, str]] = {}
        self.used: set[int] = {len(self.views) - 1}
        self.named: set[str] = set()
        nodes = self._nodes([output.name for output in plain.proto.graph.output])
        size = 0
        for new, (view, old) in self.stored.items():
            tensor = self.views[view].stored[old]
            size += len(tensor.raw_data)
            if size > _MOST_BYTES:
                raise CouldNotTell("the model is larger than 2 GB, and is quantized as a whole")
            kept = self.made.graph.initializer.add()
            kept.CopyFrom(tensor)
            kept.name = new
        self.made.graph.node.extend(nodes)
        versions: dict[str, int] = {}
        for view in self.used:
            for one in self.views[view].proto.opset_import:
                versions[one.domain] = max(one.version, versions.get(one.domain, 0))
        for domain, version in versions.items():
            self.made.opset_import.add(domain=domain, version=version)
        data: bytes = self.made.SerializeToString()
        return data

    def _nodes(self, wanted: Sequence[str]) -> list[NodeProto]:
        """The nodes behind the wanted values, each after what it reads."""
        plain = len(self.views) - 1
        done: dict[tuple[int, int], NodeProto] = {}
        entered: set[tuple[int, int]] = set()
        pending = [(plain, name, False) for name in reversed(wanted)]
        while pending:
            view, name, leaving = pending.pop()
            if name in self.choice:
                view = self.choice[name]
            anatomy = self.views[view]
            if name in anatomy.stored:
                self.stored.setdefault(self._called(view, name), (view, name))
                continue
            index = anatomy.makers.get(name)
            if index is None or (view, index) in done:
                continue
            if leaving:
                done[view, index] = self._copy(view, index)
            elif (view, index) not in entered:
                entered.add((view, index))
                self.used.add(view)
                pending.append((view, name, True))
                pending.extend((view, read, False) for read in anatomy.reads[index])
        return list(done.values())

    def _copy(self, view: int, index: int) -> NodeProto:
        anatomy = self.views[view]
        reads = {name: self._called(view, name) for name in anatomy.reads[index]}
        makes = {name: self._called(view, name) for name in anatomy.nodes[index].output if name}
        for name in makes:
            if self.choice.get(name, view) != view:  # another variant makes it here
                makes[name] = f"{name}/{view}"
        made = renamed(anatomy.nodes[index], reads, makes)
        if made.name and made.name in self.named:  # two variants have it, on different sides of a border
            made.name = f"{made.name}/{view}/{index}"
        self.named.add(made.name)
        return made

    def _called(self, view: int, name: str) -> str:
        """What a value of a variant is called in the mixture."""
        plain = self.views[-1]
        anatomy = self.views[view]
        if name in self.choice or name in plain.inputs or anatomy is plain:
            return name
        if name in anatomy.stored and name in plain.stored and anatomy.stored_hash(name) == plain.stored_hash(name):
            return name
        return f"{name}/{view}"


def _shell(proto: ModelProto) -> ModelProto:
    """A model without its nodes, weights and claims about values."""
    made = ModelProto()
    made.ir_version = proto.ir_version
    made.graph.name = proto.graph.name
    made.graph.input.extend(proto.graph.input)
    made.graph.output.extend(proto.graph.output)
    return made


def _numbered(signatures: Sequence[Hashable]) -> tuple[int, ...]:
    numbers: dict[Hashable, int] = {}
    return tuple(numbers.setdefault(one, len(numbers)) for one in signatures)


_HEAVY: Final = ("Conv", "ConvTranspose", "MatMul", "Gemm", "LSTM", "GRU", "RNN", "Gather", "If", "Loop", "Scan")


def _head(nodes: Sequence[NodeProto]) -> NodeProto:
    """The node that gives a unit its name: the first of the heaviest operators in it."""
    rank = {op: place for place, op in enumerate(_HEAVY)}
    return min(nodes, key=lambda node: rank.get(node.op_type, len(rank)))


def _shape_of(plain: Anatomy, head: NodeProto, stored: set[str]) -> Hashable:
    """What makes nodes cost alike: operator, kernel, groups, and the order of magnitude of their weights."""
    attributes = {one.name: one for one in head.attribute}
    kernel = tuple(attributes["kernel_shape"].ints) if "kernel_shape" in attributes else ()
    grouped = "group" in attributes and attributes["group"].i > 1
    elements = max((_elements(plain, name) for name in stored), default=0)
    return head.op_type, kernel, grouped, elements.bit_length() // 2


def _elements(plain: Anatomy, name: str) -> int:
    count = 1
    for size in plain.stored[name].dims:
        count *= size
    return count
