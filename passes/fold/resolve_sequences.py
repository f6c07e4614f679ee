"""Sequences and optionals whose contents are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from graphopt.analysis.annotations import Annotations
from graphopt.analysis.file_bytes import constant_node_bytes, node_bytes
from graphopt.analysis.liveness import Effects
from graphopt.analysis.sequence_contents import Elements, SequenceContents, position
from graphopt.analysis.spelling import longer_names
from graphopt.ir import Graph, Node, Tensor
from graphopt.ir.dtypes import Array
from graphopt.ir.shadows import out_of_sight, shadowed
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.fold.folding import store, sweep
from passes.fold.split_sequences import SplitSequences

_INITIALIZERS_ALONE = 4  # the IR version from which on an initializer need not be an input


@dataclass(frozen=True)
class ResolveSequences(Pass):
    """Read the tensors of a sequence directly where it is known which they are.

    What it does
        Precondition: a sequence is put together by SequenceConstruct, SequenceEmpty, SequenceInsert and
        SequenceErase at constant positions, or by SplitToSequence; an optional by Optional. Rewrite: who
        reads SequenceAt at a constant position reads the element; SequenceLength and OptionalHasElement
        become constants; ConcatFromSequence becomes a Concat of the elements; OptionalGetElement gives
        way to what the optional holds. A SplitToSequence of known parts, read at constant positions
        only, becomes one Split; SequenceAt of one that takes single slices becomes a Gather, at any
        position. The operators that only put the sequence together go. Main graph, bodies and functions.

    Example
        before: s = SequenceConstruct(a, b, c)    one = 1    u = SequenceAt(s, one)    y = Neg(u)
        after:  y = Neg(b)

    When not
        Sequences that are inputs, that a Loop or an If hands on, or whose positions are computed.
        ConcatFromSequence along a new axis, which would take a node for each element; and one of a
        sequence that something else needs too, because its elements would be listed twice. Where
        longer names made the file grow.

    Contract
        EXACT. Elements are only moved.

    Source
        ONNX operators: SequenceConstruct, SequenceEmpty, SequenceInsert, SequenceErase, SequenceAt,
        SequenceLength, ConcatFromSequence, SplitToSequence (11, 24), Optional (15, 28),
        OptionalHasElement, OptionalGetElement (15, 18, 28), Split (2, 11, 13, 18), Gather (11, 13).
    """

    name = "resolve-sequences"
    contract = Contract.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        if any(node.is_op(*_READERS) for scope in graph.scopes() for node in scope.nodes):
            while _Work(graph, ctx).sweep():  # a sequence of what another one held
                pass


class _Work:
    def __init__(self, graph: Graph, ctx: Context) -> None:
        self.graph, self.ctx = graph, ctx
        self.moved: dict[Tensor, Tensor] = {}  # what this sweep replaced, which its knowledge still speaks of
        self.annotations, self.effects = Annotations(graph), Effects(graph)
        self.applied = 0
        self.old = 0 < int(graph.ir_version or 0) < _INITIALIZERS_ALONE

    def sweep(self) -> int:
        """Go over the model once; how many rewrites there were."""
        self.applied = SplitSequences(self.graph, self.ctx).sweep()
        self.contents = SequenceContents(self.graph)
        in_function = False
        for scope in self.graph.scopes():
            in_function = in_function or scope.is_function
            for node in scope.nodes:
                rule = _READERS.get(node.op) if node.is_standard else None
                if rule is not None and node.inputs and node.outputs and node.outputs[0].name:
                    rule(self, node, in_function)
        return self.applied

    def elements(self, sequence: Tensor) -> Elements | None:
        """What is in a sequence, as the values that are there now."""
        found = self.contents.elements(sequence)
        return None if found is None else tuple(self.now(one) for one in found)

    def now(self, value: Tensor) -> Tensor:
        while value in self.moved:
            value = self.moved[value]
        return value

    def at(self, node: Node, in_function: bool) -> None:
        elements, place = self.elements(node.inputs[0]), position(node, 1)
        if elements is None:
            return
        if place is None:
            self.ctx.missed("sequence-at", node, f"the position {node.inputs[1].name!r} is known at run time only")
        elif -len(elements) <= place < len(elements):
            self.hand_on("sequence-at", node, elements[place])

    def get(self, node: Node, in_function: bool) -> None:
        held = self.contents.element(node.inputs[0])
        if held is None and node.graph is not None and node.graph.opset_of() >= 18:
            held = node.inputs[0] if self.ctx.shapes.onnx_dtype(node.inputs[0]) else None
        if held is not None:
            self.hand_on("optional-get", node, self.now(held))

    def length(self, node: Node, in_function: bool) -> None:
        elements = self.contents.elements(node.inputs[0])
        if elements is not None:
            self.keep("sequence-length", node, np.array(len(elements), np.int64), in_function)

    def has(self, node: Node, in_function: bool) -> None:
        filled = self.contents.is_filled(node.inputs[0])
        if filled is not None:
            self.keep("optional-has", node, np.array(filled), in_function)

    def concat(self, node: Node, in_function: bool) -> None:
        elements, scope, axis = self.elements(node.inputs[0]), node.graph, node.attrs.get("axis")
        if not elements or scope is None or not isinstance(axis, int):
            return
        if node.attrs.get("new_axis", 0):
            self.ctx.missed("concat", node, "along a new axis each element would need an Unsqueeze")
        elif not self.alone(node.inputs[0], node):
            self.ctx.missed("concat", node, f"something else needs {node.inputs[0].name!r} too")
        elif (why := _unseen(elements, node)) is not None:
            self.ctx.missed("concat", node, why)
        elif self.ctx.rewrite("concat", node, f"of {len(elements)}"):
            output = node.outputs[0]
            node.outputs.clear()
            scope.insert(Node("Concat", node.name, {"axis": axis}, elements, [output]), before=node)
            self.retire(node)

    def alone(self, sequence: Tensor, reader: Node) -> bool:
        """Whether all that puts `sequence` together is there for `reader` only."""
        while True:
            if sequence.graph_outputs or sequence.readers != [reader] or not sequence.inputs:
                return False
            reader = sequence.inputs[0]
            if not reader.is_op("SequenceInsert", "SequenceErase", "Identity"):
                return reader.is_op("SequenceConstruct", "SequenceEmpty")
            sequence = reader.inputs[0]

    def hand_on(self, rule: str, node: Node, new: Tensor) -> None:
        """Let `new` stand for the output of `node`, or an Identity of it where that cannot be."""
        scope, old = node.graph, node.outputs[0]
        assert scope is not None, "a node that is walked is in a graph"
        why = self.annotations.about(old) or scope.why_not_replace(old, new)
        if why is not None and (unseen := _unseen((new,), node)) is not None:
            self.ctx.missed(rule, node, unseen)
            return
        # Of an Identity, only the name of what it reads can be longer than what stands there now.
        longer = len(new.name.encode()) if why is not None else longer_names(old, new)
        if longer > node_bytes(node):
            self.ctx.missed(rule, node, f"the file would grow: its readers would spell out {new.name!r}")
        elif self.ctx.rewrite(rule, node):
            if why is None:
                scope.replace_uses(old, new)
                self.moved[old] = new
            else:
                node.outputs.clear()
                scope.insert(Node("Identity", node.name, {}, [new], [old]), before=node)
            self.retire(node)

    def keep(self, rule: str, node: Node, value: Array, inside: bool) -> None:
        output = node.outputs[0]
        as_node = inside or self.old or bool(output.graph_outputs)
        freed = node_bytes(node)
        maker = node.inputs[0].inputs[0] if node.inputs[0].inputs else None
        if maker is not None and node.inputs[0].readers == [node] and not node.inputs[0].graph_outputs:
            freed += node_bytes(maker)
        if as_node and constant_node_bytes(output.name, value.shape, value.nbytes) > freed:
            self.ctx.missed(rule, node, "the file would grow: the constant takes a node of its own")
        elif self.ctx.rewrite(rule, node):
            store(node, {output: value}, {output} if as_node else ())
            self.retire(node)

    def retire(self, node: Node) -> None:
        sweep(node, self.annotations, self.effects)
        self.applied += 1


def _unseen(elements: Elements, node: Node) -> str | None:
    """Which of `elements` cannot be read where `node` stands, in a clause."""
    for one in elements:
        place = out_of_sight(one, [node]) or shadowed(one.name, one, [node])
        if place is not None:
            return f"{one.name!r} cannot be read where {node.label!r} stands"
    return None


_READERS: dict[str, Callable[[_Work, Node, bool], None]] = {
    "ConcatFromSequence": _Work.concat,
    "OptionalGetElement": _Work.get,
    "OptionalHasElement": _Work.has,
    "SequenceAt": _Work.at,
    "SequenceLength": _Work.length,
}
