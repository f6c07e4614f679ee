"""Parts of one tensor: Slices that become a Split, and parts that are put together again."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from graphopt.analysis.annotations import Annotations
from graphopt.analysis.constants import constant_of
from graphopt.analysis.file_bytes import described_bytes, fresh, initializer_bytes, plain_bytes
from graphopt.analysis.parts import Part, part_of
from graphopt.analysis.pattern_terms import is_constant
from graphopt.analysis.shapes import Shapes
from graphopt.ir import Graph, Node, Tensor
from graphopt.ir.supersede import remove_all, supersede
from graphopt.pipeline.protocol import Context, Contract, Pass

_GATHERED = 64  # indices of a Gather that takes over from copies of whole runs
_SIZES_AS_INPUT, _EQUAL_PARTS = 13, 18  # opsets that changed Split


@dataclass(frozen=True)
class SplitGatherConcat(Pass):
    """Take several parts of a tensor at once, and do not take apart what is put together again.

    What it does
        Preconditions: Slices, Gathers and Splits with constant operands take parts of one tensor along one
        axis, whose size is known. Rewrites: where Slices with step 1, or Gathers of consecutive indices, cut
        the tensor into parts that cover it without overlap, they become one Split. A Concat
        of parts along the same axis that puts the tensor together as it was is read past; one that puts
        it together in another way becomes one Gather, if at least one other node goes with it; of a
        constant that is read in no other way, here and in bodies, the elements are stored in the
        new order instead. Main graph, bodies and functions, as far as sizes are known.

    Example
        before: a = Slice(x, [0], [2], [1])    b = Slice(x, [2], [4], [1])
        after:  a, b = Split<axis=1>(x)
        before: a, b = Split<axis=1>(x)    y = Concat<axis=1>(b, a)
        after:  y = Gather<axis=1>(x, [2, 3, 0, 1])

    When not
        Parts that leave something out or overlap stay Slices. A Concat of more than 64 elements along the axis,
        for which a Gather is slower. Anything that would make the file larger.

    Contract
        EXACT. Elements are copied, to the same places.

    Source
        ONNX operators Slice (1, 10, 11, 13), Gather (1, 11, 13), Split (2, 11, 13, 18), Concat (4, 11, 13).
    """

    name = "split-gather-concat"
    contract = Contract.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        work = _Work(graph, ctx)
        scopes = {one: {node.op for node in one.nodes if node.is_standard} for one in graph.scopes()}
        for scope, ops in scopes.items():
            work.opset = scope.opset
            if "Concat" in ops and ops & {"Slice", "Gather", "Split"}:
                for node in list(scope.nodes):
                    if node.is_op("Concat") and node.graph is not None:
                        work.concat(scope, node)
        work.weights()
        for scope, ops in scopes.items():
            work.opset = scope.opset
            if ops & {"Slice", "Gather"} and work.opset >= 2:
                work.slices(scope)


class _Work:
    """One run: facts of the values as they were when it began."""

    def __init__(self, graph: Graph, ctx: Context) -> None:
        self.ctx = ctx
        self.annotations = Annotations(graph)
        self.opset = 0
        self._shapes: Shapes | None = None
        self._weights: dict[Tensor, list[tuple[Graph, Node, int, list[int]]]] = {}

    def part(self, tensor: Tensor) -> Part | None:
        """The part of another tensor that a value is."""
        if len(tensor.inputs) != 1 or not tensor.inputs[0].is_op("Slice", "Gather", "Split"):
            return None
        if self._shapes is None:
            self._shapes = self.ctx.shapes
        return part_of(tensor, self._shapes, self.opset)

    def concat(self, scope: Graph, node: Node) -> None:
        """A Concat of nothing but parts of one tensor along its own axis."""
        parts = [self.part(one) for one in node.inputs]
        first = parts[0] if parts else None
        axis = node.attrs.get("axis", 1)
        if first is None or not isinstance(axis, int):
            return
        assert self._shapes is not None
        rank = self._shapes.rank(first.source)
        if rank is None or axis % rank != first.axis:
            return
        if any(one is None or one.source is not first.source or one.axis != first.axis for one in parts):
            return
        indices = [index for one in parts if one is not None for index in one.indices]
        if indices == list(range(first.size)):
            self._whole(scope, node, first.source)
        elif constant_of(first.source) is not None:
            self._weights.setdefault(first.source, []).append((scope, node, first.axis, indices))
        else:
            self._gather(scope, node, first, indices)

    def _whole(self, scope: Graph, node: Node, source: Tensor) -> None:
        old = node.outputs[0]
        why = self.annotations.about(old) or scope.why_not_replace(old, source)
        if why is not None:
            self.ctx.missed("parts-of-a-whole", node, why)
        elif self.ctx.rewrite("parts-of-a-whole", node):
            scope.replace_uses(old, source)
            remove_all([node, *self._only_for(node)], self._needed)

    def weights(self) -> None:
        """Constants that are only ever read rearranged, and always in the same way."""
        for source, found in self._weights.items():
            held = constant_of(source)
            assert held is not None
            nodes = [node for _, node, _, _ in found]
            parts = [maker for node in nodes for maker in self._only_for(node)]
            why = self._why_not_rearranged(source, found, parts)
            if why is not None:
                self.ctx.missed("weight-rearranged", nodes[0], why)
            elif self.ctx.rewrite("weight-rearranged", source, f"read by {len(nodes)} Concat"):
                _, _, axis, indices = found[0]
                for place, node, _, _ in found:
                    place.replace_uses(node.outputs[0], source)
                remove_all([*nodes, *parts], self._needed)
                found[0][0].set_values(source, np.take(held.values, indices, axis=axis))

    def _why_not_rearranged(
        self, source: Tensor, found: list[tuple[Graph, Node, int, list[int]]], parts: list[Node]
    ) -> str | None:
        _, _, axis, indices = found[0]
        if any((one, other) != (axis, indices) for _, _, one, other in found):
            return f"{source.name!r} is put together in more than one way"
        if set(source.readers) - set(parts) or source.graph_outputs or not is_constant(source):
            return f"{source.name!r} is read as it is too"
        held = constant_of(source)
        if held is None or len(indices) > int(held.shape[axis]):
            return "the file would grow"
        whys = (self.annotations.about(one) for one in (source, *(node.outputs[0] for _, node, _, _ in found)))
        others = (place.why_not_replace(node.outputs[0], source) for place, node, _, _ in found)
        return next((why for why in (*whys, *others) if why is not None), None)

    def _gather(self, scope: Graph, node: Node, part: Part, indices: list[int]) -> None:
        going = self._only_for(node)
        if not going:
            return
        names = [part.source.name, fresh("indices"), node.outputs[0].name]
        growth = initializer_bytes(names[1], [len(indices)], 8 * len(indices)) - plain_bytes(node)
        growth += described_bytes("Gather", names, {"axis": part.axis}, node.name) - sum(map(plain_bytes, going))
        if len(indices) > _GATHERED or growth > 0:
            many = f"they are more than {_GATHERED} elements along the axis"
            self.ctx.missed("parts-rearranged", node, many if len(indices) > _GATHERED else "the file would grow")
        elif self.ctx.rewrite("parts-rearranged", node):
            order = scope.constant(np.asarray(indices, np.int64), "indices")
            made = Node("Gather", node.name, {"axis": part.axis}, [part.source, order], [])
            supersede(node, [node, *going], [made], self._needed)

    def _only_for(self, node: Node) -> list[Node]:
        """The makers of a node's inputs that nothing else reads."""
        found = []
        for maker in dict.fromkeys(maker for one in node.inputs for maker in one.inputs):
            outputs = [one for one in maker.outputs if one.name]
            mine = all(not one.graph_outputs and set(one.readers) <= {node} for one in outputs)
            if mine and maker.graph is node.graph and all(self.annotations.about(one) is None for one in outputs):
                found.append(maker)
        return found

    def slices(self, scope: Graph) -> None:
        """Slices and Gathers that cut one tensor into runs."""
        groups: dict[Hashable, list[Part]] = {}
        for node in scope.nodes:
            if node.is_op("Slice", "Gather") and len(node.inputs[0].outputs) > 1:
                part = self.part(node.outputs[0])
                if part is not None and part.is_run and part.indices:
                    groups.setdefault((id(part.source), part.axis), []).append(part)
        for parts in groups.values():
            if len(parts) > 1:
                self._split(scope, parts)

    def _split(self, scope: Graph, parts: list[Part]) -> None:
        runs: dict[tuple[int, ...], Part] = {}
        for part in parts:
            runs.setdefault(part.indices, part)
        ordered = [runs[indices] for indices in sorted(runs)]
        first = parts[0]
        if len(runs) < 2 or [index for one in ordered for index in one.indices] != list(range(first.size)):
            return
        doubles = [one for one in parts if runs[one.indices] is not one]
        pairs = [(one.node.outputs[0], runs[one.indices].node.outputs[0]) for one in doubles]
        whys = (self.annotations.about(old) or scope.why_not_replace(old, new) for old, new in pairs)
        why = next((one for one in whys if one is not None), None)
        sizes = [len(one.indices) for one in ordered]
        if why is None and self._growth(first, sizes, parts, ordered) > 0:
            why = "the file would grow"
        if why is not None:
            self.ctx.missed("cut-into-parts", first.node, why)
        elif self.ctx.rewrite("cut-into-parts", first.node, f"{len(parts)} parts"):
            for old, new in pairs:
                scope.replace_uses(old, new)
            outputs = [one.node.outputs[0] for one in ordered]
            for one in ordered:
                one.node.outputs.clear()
            attrs, listed = self._form(first, sizes)
            operands = [first.source]
            if listed:
                operands.append(scope.constant(np.asarray(sizes, np.int64), "split"))
            scope.insert(Node("Split", first.node.name, attrs, operands, outputs), before=first.node)
            remove_all([one.node for one in parts], self._needed)

    def _form(self, part: Part, sizes: list[int]) -> tuple[dict[str, object], bool]:
        """The attributes of the Split, and whether it reads its sizes from a list."""
        attrs: dict[str, object] = {"axis": part.axis}
        equal = len(set(sizes)) == 1
        if equal and self.opset >= _EQUAL_PARTS:
            attrs["num_outputs"] = len(sizes)
        elif not equal and self.opset < _SIZES_AS_INPUT:
            attrs["split"] = sizes
        return attrs, not equal and self.opset >= _SIZES_AS_INPUT

    def _growth(self, part: Part, sizes: list[int], parts: list[Part], ordered: list[Part]) -> int:
        attrs, listed = self._form(part, sizes)
        names = [part.source.name, *(one.node.outputs[0].name for one in ordered)]
        new = 0
        if listed:
            names.append(fresh("split"))
            new = initializer_bytes(names[-1], [len(sizes)], 8 * len(sizes))
        return (
            new + described_bytes("Split", names, attrs, part.node.name) - sum(plain_bytes(one.node) for one in parts)
        )

    def _needed(self, tensor: Tensor) -> bool:
        return self.annotations.needs(tensor) is not None
