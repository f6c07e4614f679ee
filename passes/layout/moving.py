"""Moving a region of nodes to before the Transposes that it reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphopt.analysis.annotations import Annotations
from graphopt.analysis.file_bytes import described_bytes, held_bytes, plain_bytes
from graphopt.analysis.liveness import is_unread
from graphopt.analysis.views import composed
from graphopt.ir import Graph, Node, Tensor, Variable
from graphopt.pipeline.protocol import Context
from passes.layout.facts import Facts
from passes.layout.integer_lists import IntegerLists
from passes.layout.transposed_regions import Region, Regions, changed

RULE = "region"
_GROWS = "the file would grow: new names and constants take more than the transposes that go"
_STEM, _NUMBER = "t", 5  # a short name, and the characters that make a name a fresh one
_SLACK = 12  # bytes by which lengths of fields and what is in a constant's message besides its elements can differ


class Mover:
    """Moves what pays, graph by graph, until nothing does."""

    def __init__(self, graph: Graph, ctx: Context, exact: bool) -> None:
        self.graph, self.ctx, self.exact = graph, ctx, exact
        self.annotations = Annotations(graph)
        self.lists = IntegerLists(graph, self.annotations)
        self.disabled: set[Node] = set()
        self.stayed: dict[Node, str] = {}

    def run(self) -> None:
        """Each move makes the Transposes fewer, so this ends."""
        moved = True
        while moved:
            moved, self.stayed = False, {}
            facts = Facts(self.ctx)
            for scope in self.graph.scopes():
                moved = self.sweep(scope, facts) or moved
        for node, why in self.stayed.items():
            self.ctx.missed(RULE, node, why)

    def sweep(self, scope: Graph, facts: Facts) -> bool:
        """Move the regions of one graph that do not touch each other; whether there were any."""
        if not any(node.is_op("Transpose") for node in scope.nodes):
            return False
        regions = Regions(scope, facts, self.annotations, self.exact)
        touched: set[Node] = set()
        moved = False
        for region in regions.found():
            subject = next(iter(region.sources))
            ends = set(changed(region, regions))
            if subject in self.disabled or ends & touched:
                continue
            if region.gain <= 0:
                self.stayed[subject] = "as many Transposes would come as would go"
                continue
            stem = self.stem(region, regions)
            if stem is None:
                self.stayed[subject] = _GROWS
            elif not self.ctx.rewrite(RULE, subject, f"{len(region.nodes)} nodes, {region.gain} transposes fewer"):
                self.disabled.add(subject)
            else:
                touched |= ends
                self.move(scope, region, regions, stem)
                moved = True
        return moved

    def stem(self, region: Region, regions: Regions) -> str | None:
        """What new values are named after such that the file does not grow: "" for the old ones."""
        growth = self.constants_growth(region)
        names = 0
        slots = 0
        for source in region.sources:
            if regions.is_freed(source.outputs[0]):
                growth -= plain_bytes(source)
            length = len(source.inputs[0].name.encode()) - len(source.outputs[0].name.encode())
            growth += length * sum(one is source.outputs[0] for node in region.nodes for one in node.inputs)
        for node in region.nodes:
            for tensor in node.outputs:
                perm = regions.perms.get(tensor)
                if perm is None:
                    continue
                undone = regions.undone(tensor)
                growth -= sum(map(plain_bytes, undone))
                if regions.is_needed(tensor):
                    growth += described_bytes("Transpose", [tensor.name] * 2, {"perm": list(perm)}) + _NUMBER
                uses = 1 + len(tensor.outputs) + sum(len(one.outputs[0].outputs) for one in undone)
                slots += uses
                names += uses * len(tensor.name.encode())
        if growth + sum(self._undone_names(regions, node) for node in region.nodes) + slots * _NUMBER <= 0:
            return ""
        return _STEM if growth + slots * (len(_STEM) + _NUMBER) - names <= 0 else None

    def _undone_names(self, regions: Regions, node: Node) -> int:
        """Bytes by which readers of Transposes that go spell out longer names."""
        total = 0
        for tensor in node.outputs:
            for one in regions.undone(tensor) if tensor in regions.perms else ():
                result = one.outputs[0]
                total += max(0, len(tensor.name.encode()) - len(result.name.encode())) * (len(result.outputs) + 1)
        return total

    def constants_growth(self, region: Region) -> int:
        """Bytes by which constants and attributes grow; what is the same after the move is stored once."""
        growth = 0
        stored = set[tuple[Tensor, tuple[int, ...], bytes]]()
        slots: dict[Tensor, int] = {}
        scope = next(iter(region.nodes)).graph
        assert scope is not None, "a node of a region is in a graph"
        reused = {self.lists.find(scope, listed) for how in region.nodes.values() for listed in how.lists.values()}
        for node, how in region.nodes.items():
            for slot, values in how.constants.items():
                old = node.inputs[slot]
                slots[old] = slots.get(old, 0) + 1
                key = (old, values.shape, values.tobytes())
                if key not in stored:
                    stored.add(key)
                    growth += values.nbytes + len(old.name.encode()) + _NUMBER + _SLACK
            for slot, listed in how.lists.items():
                growth += self.lists.cost(scope, listed, "axes")
                if slot < len(node.inputs) and node.inputs[slot] not in reused:
                    growth -= self.lists.freed(node.inputs[slot], node)
                if slot >= len(node.inputs):
                    growth += len("axes_0000") + 2
            changes = {**node.attrs, **how.attrs}
            growth += described_bytes("", [], changes) - described_bytes("", [], node.attrs)
        for old, count in slots.items():
            if count == len(old.outputs) and not old.graph_outputs and self.annotations.needs(old) is None:
                growth -= held_bytes(old)
        return growth

    def move(self, scope: Graph, region: Region, regions: Regions, stem: str) -> None:
        """Let the nodes of a region read what is before the Transposes, and put what is needed behind."""
        before: dict[Tensor, Tensor] = {one.outputs[0]: one.inputs[0] for one in region.sources}
        held: dict[tuple[Tensor, tuple[int, ...], bytes], Tensor] = {}
        unread: dict[Tensor, None] = {}
        for node, how in region.nodes.items():
            inputs = [before.get(one, one) for one in node.inputs]
            for slot, values in how.constants.items():
                key = (node.inputs[slot], values.shape, values.tobytes())
                if key not in held:
                    held[key] = self.lists.hold(node, values, node.inputs[slot].name or "constant")
                unread[inputs[slot]] = None
                inputs[slot] = held[key]
            for slot, listed in how.lists.items():
                while len(inputs) <= slot:
                    inputs.append(Variable.empty())
                unread[inputs[slot]] = None
                inputs[slot] = self.lists.get(node, listed, "axes")
            self.put(scope, node, {**node.attrs, **how.attrs}, inputs, regions, before, stem)
        for node in region.sources:
            if is_unread(node) and self.annotations.about(node.outputs[0]) is None:
                scope.remove(node)
        for one in unread:
            if one.name:
                self.lists.drop(one)

    def put(
        self,
        scope: Graph,
        node: Node,
        attrs: Mapping[str, Any],
        inputs: list[Tensor],
        regions: Regions,
        before: dict[Tensor, Tensor],
        stem: str,
    ) -> None:
        """Put a node in the place of `node` that reads other values, with the Transposes behind it."""
        results = list(node.outputs)
        outputs: list[Tensor] = []
        for place, tensor in enumerate(results):
            if tensor in regions.perms:
                outputs.append(scope.variable(stem or tensor.name))
                before[tensor] = outputs[-1]
            else:
                outputs.append(tensor)
            node.outputs[place] = Variable.empty()
        scope.insert(Node(node.op, node.name, dict(attrs), inputs, outputs, node.domain), before=node)
        for old, new in zip(results, outputs, strict=True):
            if old is not new:
                self.leave(scope, node, old, new, regions)
        scope.remove(node)

    def leave(self, scope: Graph, node: Node, old: Tensor, new: Tensor, regions: Regions) -> None:
        """Serve those who read `old` and do not follow: with `new`, which is before the Transpose."""
        perm, undone, needed = regions.perms[old], regions.undone(old), regions.is_needed(old)
        for reader in [one for one in dict.fromkeys(old.readers) if regions.order(one) is not None]:
            order = regions.order(reader)
            assert order is not None, "only Transposes are looked at"
            result = reader.outputs[0]
            if reader in undone:
                scope.replace_uses(result, new)
            else:
                reader.outputs[0] = Variable.empty()
                again = {"perm": composed(perm, order)}
                scope.insert(Node("Transpose", reader.name, again, [new], [result]), before=reader)
            scope.remove(reader)
        if needed:
            scope.insert(Node("Transpose", "", {"perm": list(perm)}, [new], [old]), before=node)
