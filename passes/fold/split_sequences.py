"""The part of `resolve-sequences` that reads what SplitToSequence makes."""

from __future__ import annotations

import functools

import numpy as np

from graphopt.analysis.constants import constant_values
from graphopt.analysis.file_bytes import node_bytes
from graphopt.analysis.matching import operand
from graphopt.analysis.sequence_contents import position
from graphopt.analysis.shapes import Shapes
from graphopt.ir import Graph, Node, Tensor
from graphopt.ir.shadows import out_of_sight, shadowed
from graphopt.pipeline.protocol import Context

_MOST = 256  # parts
_SPLIT_INPUT, _NUM_OUTPUTS = 13, 18  # opsets from which Split takes its parts as an input, and says how many
_ATTRIBUTE = 20  # bytes of an integer attribute, at most
_NODE, _PART = 15, 14  # bytes of a Split around its names, and of a name for a part that nobody reads
_RULE = "split"


class SplitSequences:
    """Lets SequenceAt of a SplitToSequence read a Split, or a Gather. For one sweep over a model."""

    def __init__(self, graph: Graph, ctx: Context) -> None:
        self.graph, self.ctx = graph, ctx

    @functools.cached_property
    def shapes(self) -> Shapes:
        return self.ctx.shapes

    def sweep(self) -> int:
        """Go over the model once; how many rewrites there were."""
        applied = 0
        for scope in self.graph.scopes():
            for node in scope.nodes:
                if not node.is_op("SplitToSequence") or not node.outputs or not node.outputs[0].readers:
                    continue
                if not isinstance(node.attrs.get("axis", 0), int):
                    continue
                sequence = node.outputs[0]
                other = next((one for one in sequence.readers if not one.is_op("SequenceAt")), None)
                if other is not None or sequence.graph_outputs:
                    self.ctx.missed(_RULE, node, "more than single elements of its result are needed")
                else:
                    applied += self.gather(node) if _takes_slices(node) else self.split(node)
        return applied

    def gather(self, node: Node) -> int:
        """A SequenceAt of single slices is a Gather along the axis, with the position as index."""
        readers, source, axis = node.outputs[0].readers, node.inputs[0], node.attrs.get("axis", 0)
        why = next((why for one in readers if (why := self.why_no_gather(one, source)) is not None), None)
        growth = sum(len(source.name.encode()) + (_ATTRIBUTE if axis else 0) for _ in readers)
        if why is None and growth > node_bytes(node) + len(readers) * (4 + len(node.outputs[0].name.encode())):
            why = "the file would grow: each Gather names its source and axis"
        if why is not None:
            self.ctx.missed(_RULE, node, why)
            return 0
        if not self.ctx.rewrite(_RULE, node, f"as {len(readers)} Gather"):
            return 0
        for reader in readers:
            assert reader.graph is not None, "readers are in the model"
            output = reader.outputs[0]
            reader.outputs.clear()
            attrs = {"axis": axis} if axis else {}
            reader.graph.insert(Node("Gather", reader.name, attrs, [source, reader.inputs[1]], [output]), before=reader)
            reader.graph.remove(reader)
        assert node.graph is not None, "a node that is walked is in a graph"
        node.graph.remove(node)
        return 1

    def why_no_gather(self, reader: Node, source: Tensor) -> str | None:
        values = constant_values(reader.inputs[1])
        rank = self.shapes.rank(reader.inputs[1]) if values is None else values.ndim
        if rank != 0:
            return f"the position {reader.inputs[1].name!r} is not known to be a scalar"
        if out_of_sight(source, [reader]) or shadowed(source.name, source, [reader]):
            return f"{source.name!r} cannot be read where {reader.label!r} stands"
        return None

    def split(self, node: Node) -> int:
        """One Split in place of a SplitToSequence that is read at constant positions only."""
        scope, readers = node.graph, node.outputs[0].readers
        assert scope is not None, "a node that is walked is in a graph"
        found = self.parts(node)
        if isinstance(found, str):
            self.ctx.missed(_RULE, node, found)
            return 0
        count, attrs, inputs = found
        places = [position(one, 1) for one in readers]
        why = None
        if any(place is None for place in places):
            why = "a position is known at run time only"
        elif any(one.graph is not scope for one in readers):
            why = "a body reads its result"
        elif any(not -count <= (place or 0) < count for place in places):
            why = f"a position is not one of {count} parts"
        at = [(place or 0) % count for place in places]
        if why is None and len(set(at)) < len(at):
            why = "an element is read twice"
        names = [*inputs, *(one.outputs[0] for one in readers)]
        size = _NODE + len(node.name.encode()) + sum(len(one.name.encode()) + 2 for one in names)
        size += sum(_ATTRIBUTE + (10 * count if isinstance(one, list) else 0) for one in attrs.values())
        size += _PART * (count - len(at))
        if why is None and size > node_bytes(node) + sum(node_bytes(one) for one in readers):
            why = "the file would grow: the elements that nobody reads need names"
        if why is not None:
            self.ctx.missed(_RULE, node, why)
            return 0
        if not self.ctx.rewrite(_RULE, node, f"in {count}"):
            return 0
        outputs: dict[int, Tensor] = {}
        for reader, place in zip(readers, at, strict=True):
            outputs[place] = reader.outputs[0]
            reader.outputs.clear()
            scope.remove(reader)
        results = [outputs[place] if place in outputs else scope.variable("part") for place in range(count)]
        scope.insert(Node("Split", node.name, attrs, inputs, results), before=node)
        scope.remove(node)
        return 1

    def parts(self, node: Node) -> tuple[int, dict[str, object], list[Tensor]] | str:
        """How many parts there are, and attributes and inputs of a Split that makes them; else why not."""
        scope, source, axis = node.graph, node.inputs[0], node.attrs.get("axis", 0)
        opset = scope.opset_of() if scope is not None else 0
        attrs: dict[str, object] = {"axis": axis} if axis else {}
        given = operand(node, 1)
        sizes = np.array(1) if given is None else constant_values(given)
        if sizes is None:
            return "its parts are known at run time only"
        if sizes.ndim == 1:
            if not 0 < sizes.size <= _MOST:
                return f"it makes {sizes.size} parts"
            if given is not None and opset >= _SPLIT_INPUT and sizes.dtype == np.int64:
                return sizes.size, attrs, [source, given]
            if opset < _SPLIT_INPUT:
                return sizes.size, {**attrs, "split": [int(one) for one in sizes]}, [source]
            return "its parts are not given as int64"
        dims = self.shapes.dims(source)
        size, step = (
            None if dims is None or not -len(dims) <= axis < len(dims) else dims[axis],
            int(sizes.reshape(-1)[0]),
        )
        if not isinstance(size, int) or step < 1 or size % step or not 0 < size // step <= _MOST:
            return "how many equal parts there are is not known"
        equal = {"num_outputs": size // step} if opset >= _NUM_OUTPUTS else {}
        return size // step, {**attrs, **equal}, [source]


def _takes_slices(node: Node) -> bool:
    return operand(node, 1) is None and not node.attrs.get("keepdims", 1)
