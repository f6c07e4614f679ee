"""A model as it was a moment ago, node by node, so that what a rewrite did to it can be told afterwards.

A pass edits in place, and nobody knows beforehand how far it will reach. So a description of every node is kept,
and after a rewrite those nodes are described again that its edits can have touched. What differs is
the rewrite; what it read from and was read by is its neighbourhood.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from onnx import TensorProto

from graphopt.instruments.attribute_text import attribute_text, constant_text
from graphopt.ir import Constant, Graph, Node, Tensor
from graphopt.ir.membership import in_place

MOST = 30  # nodes that one side of a rewrite shows, neighbours among them
_READERS = 8  # neighbours that one value brings


class Value(NamedTuple):
    """A value in a slot of a node. `kind` is "value", "constant", "input" or "none" (a slot left out);
    `stamp` tells the contents of constants apart."""

    name: str
    kind: str
    text: str
    stamp: int = 0


class Described(NamedTuple):
    """A node as it was at some moment. `scope` is the path of its graph, which `home` tells apart."""

    op: str
    label: str
    ins: tuple[Value, ...]
    outs: tuple[Value, ...]
    attrs: str
    home: int
    scope: str

    def same(self, other: Described) -> bool:
        """Whether nothing has changed. A path hangs on names of other nodes and does not count."""
        return self[:-1] == other[:-1]


@dataclass
class Change:
    """What one rewrite did: nodes as they were before and as they are after, and the unchanged ones `around`.

    The first `changed` of both lists are the same nodes, which it changed; the others went away or came. Nodes far
    from where the rewrite was announced are left out where there are many: `hidden` counts them on each side.
    """

    before: list[Described] = field(default_factory=list)
    after: list[Described] = field(default_factory=list)
    around: list[Described] = field(default_factory=list)
    changed: int = 0
    hidden: tuple[int, int] = (0, 0)
    touched: frozenset[str] = frozenset()  # operators of all nodes of both sides


class Shadow:
    """Descriptions of all nodes of `graph`, kept up by `settle`."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._now: dict[Node, Described] = {}
        self._makers: dict[str, dict[Node, None]] = {}
        self._readers: dict[str, dict[Node, None]] = {}
        self._bodies: dict[Graph, dict[Node, None]] = {}
        self._paths: dict[Graph, str] = {}
        self._texts: dict[int, tuple[Any, str]] = {}  # of the contents of constants, which are held so that ids last
        self.renew()

    def __len__(self) -> int:
        return len(self._now)

    def renew(self) -> None:
        """Describe the whole model again."""
        for table in (self._now, self._makers, self._readers, self._bodies, self._paths):
            table.clear()
        for scope in self._graph.scopes():
            for node in scope.nodes:
                self._enter(node, self._describe(node))

    def settle(self, subject: Node | Tensor, names: Iterable[str]) -> Change:
        """Tell what has changed around `subject` and the values called `names` since the last call."""
        self._paths.clear()  # of bodies: they hang on the names of nodes
        gone, came = self._compare(self._suspects(subject, names))
        around: dict[Node, None] = dict.fromkeys(self._around(gone))
        for node in gone:
            self._leave(node)
        for node, described in came.items():
            self._enter(node, described)
        around.update(dict.fromkeys(self._around(came)))
        if not gone and not came:
            around = self._still(subject)
        kept = [self._now[node] for node in around if node not in gone and node not in came and node in self._now]
        first = list(islice(gone, MOST))
        both = [node for node in (first or list(islice(came, MOST))) if node in gone and node in came]
        before = [*both, *(node for node in first if node not in came)]
        after = [*both, *islice((node for node in came if node not in gone), MOST - len(both))]
        ops = frozenset(one.op for side in (gone, came) for one in side.values())
        return Change(
            [gone[node] for node in before],
            [_marked(gone[node], came[node]) if node in gone else came[node] for node in after],
            kept[: MOST - max(len(before), len(after))],
            len(both),
            (len(gone) - len(before), len(came) - len(after)),
            ops,
        )

    def _suspects(self, subject: Node | Tensor, names: Iterable[str]) -> list[Node]:
        found: dict[Node, None] = {}
        if isinstance(subject, Node):
            found[subject] = None
            known = self._now.get(subject)
            names = (*names, *(value.name for value in known.outs)) if known is not None else names
        else:
            names = (*names, subject.name)
        for name in names:
            found.update(self._makers.get(name, {}))
            found.update(self._readers.get(name, {}))
        return list(found)

    def _compare(self, suspects: list[Node]) -> tuple[dict[Node, Described], dict[Node, Described]]:
        """The nodes that differ from their descriptions, as they were and as they are."""
        gone: dict[Node, Described] = {}
        came: dict[Node, Described] = {}
        seen = set(suspects)
        queue = deque(suspects)  # so that the nearest come first

        def suspect(nodes: Iterable[Node]) -> None:
            for one in nodes:
                if one not in seen:
                    seen.add(one)
                    queue.append(one)

        while queue:
            node = queue.popleft()
            was = self._now.get(node)
            now = self._describe(node) if self._stands(node) else None
            if now is not None:  # a new node can hang between old ones that notice nothing
                suspect(one for tensor in node.inputs for one in tensor.inputs if one not in self._now)
                suspect(one for tensor in node.outputs for one in tensor.outputs if one not in self._now)
            if was is now or (was is not None and now is not None and was.same(now)):
                continue
            moved = was is None or now is None or was.outs != now.outs
            if was is not None:
                gone[node] = was
                if now is None and node.graph is not None:  # its body or function went away as a whole
                    suspect(list(self._bodies.get(node.graph, ())))
                for value in was.ins:
                    suspect(self._makers.get(value.name, ()))
                for value in was.outs if moved else ():
                    suspect(self._readers.get(value.name, ()))
                if any(value.kind in ("input", "output") for value in (*was.ins, *was.outs)):
                    suspect(self._at_the_rim())
            if now is not None:
                came[node] = now
                for tensor in node.inputs:
                    suspect(tensor.inputs)
                for tensor in node.outputs if moved else ():
                    suspect(tensor.outputs)
            for body in node.bodies if was is None or now is None else ():
                for graph in body.graphs():
                    suspect(list(self._bodies.get(graph, ())))
                    suspect(list(graph.nodes))
        return gone, came

    def _stands(self, node: Node) -> bool:
        """Whether the node is part of the model: not taken out, nor in a body or function that was."""
        graph = node.graph
        if graph is None or not in_place(node):
            return False
        while isinstance(graph.parent, Node) and graph.parent.graph is not None:
            graph = graph.parent.graph
        return graph is self._graph or any(one is graph for one in self._graph.functions)

    def _at_the_rim(self) -> list[Node]:
        """The nodes next to inputs and outputs of graphs that are not described yet."""
        rims = [rim for graph in (self._graph, *self._bodies) for rim in (graph.inputs, graph.outputs)]
        near = (node for rim in rims for tensor in rim for node in (*tensor.inputs, *tensor.outputs))
        return [node for node in near if node not in self._now]

    def _around(self, changed: dict[Node, Described]) -> list[Node]:
        """The nodes that make what changed nodes read, and some that read what they make."""
        found: dict[Node, None] = {}
        for described in changed.values():
            for value in described.ins:
                found.update(dict.fromkeys(islice(self._makers.get(value.name, ()), _READERS)))
            for value in described.outs:
                found.update(dict.fromkeys(islice(self._readers.get(value.name, ()), _READERS)))
            if len(found) > MOST + len(changed):
                break
        return [node for node in found if node not in changed][:MOST]

    def _still(self, subject: Node | Tensor) -> dict[Node, None]:
        """What is next to the subject of a rewrite that changed no node."""
        if isinstance(subject, Node):
            return {subject: None}
        near = (*self._makers.get(subject.name, ()), *self._readers.get(subject.name, ()))
        return dict.fromkeys(near[:_READERS])

    def _enter(self, node: Node, described: Described) -> None:
        self._now[node] = described
        for value in described.outs:
            if value.name:
                self._makers.setdefault(value.name, {})[node] = None
        for value in described.ins:
            if value.name:
                self._readers.setdefault(value.name, {})[node] = None
        if node.graph is not None and node.graph.parent is not None:
            self._bodies.setdefault(node.graph, {})[node] = None

    def _leave(self, node: Node) -> None:
        described = self._now.pop(node)
        for table, values in ((self._makers, described.outs), (self._readers, described.ins)):
            for value in values:
                nodes = table.get(value.name)
                if nodes is not None:
                    nodes.pop(node, None)
                    if not nodes:
                        del table[value.name]

    def _describe(self, node: Node) -> Described:
        graph = node.graph
        assert graph is not None, "only nodes in place are described"
        scope = self._paths.get(graph)
        if scope is None:
            scope = self._paths[graph] = graph.path
        return Described(
            node.op if node.is_standard else f"{node.domain}.{node.op}",
            node.label,
            tuple(self._value(tensor, made=False) for tensor in node.inputs),
            tuple(self._value(tensor, made=True) for tensor in node.outputs),
            attribute_text(node),
            id(graph),
            scope,
        )

    def _value(self, tensor: Tensor, made: bool) -> Value:
        if isinstance(tensor, Constant):
            values = tensor.__dict__["_values"]
            known = self._texts.get(id(values))
            if known is None or known[0] is not values:
                known = self._texts[id(values)] = (values, constant_text(tensor))
            return Value(tensor.name, "constant", known[1], id(values))
        if not tensor.name:
            return _LEFT_OUT
        if made:
            return Value(tensor.name, "output" if tensor.__dict__.get("_graph_outputs") else "value", _type(tensor))
        return Value(tensor.name, "value" if tensor.inputs else "input", _type(tensor))


def _marked(was: Described, now: Described) -> Described:
    """`now`, with a word where a weight goes by the same name and looks the same and holds something else."""
    if len(was.ins) != len(now.ins):
        return now
    ins = tuple(
        new._replace(text=f"{new.text} (new values)") if new != old and new[:3] == old[:3] else new
        for old, new in zip(was.ins, now.ins, strict=True)
    )
    return now._replace(ins=ins)


def _type(tensor: Tensor) -> str:
    shape, number = tensor.shape, tensor.onnx_dtype
    if not number and shape is None:
        return ""
    dims = "?" if shape is None else ",".join("?" if dim is None else str(dim) for dim in shape)
    return f"{TensorProto.DataType.Name(number).lower() if number else '?'}[{dims}]"


_LEFT_OUT = Value("", "none", "")
