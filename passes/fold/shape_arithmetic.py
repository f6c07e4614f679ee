"""Shape arithmetic: what is computed from sizes and is the same in every run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.analysis.annotations import Annotations
from graphopt.analysis.extent import Extent
from graphopt.analysis.file_bytes import constant_node_bytes, initializer_bytes, node_bytes
from graphopt.analysis.integers import may_be_integers
from graphopt.analysis.liveness import Effects
from graphopt.analysis.shapes import Shapes
from graphopt.analysis.spelling import longer_names
from graphopt.analysis.storable import constant_node_holds
from graphopt.ir import Constant, Graph, Node, Tensor
from graphopt.ir.dtypes import Array, bits, np_dtype
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.fold.folding import store, sweep
from passes.fold.growth import Growth
from passes.fold.targets import Target, target_of

_INITIALIZERS_ALONE = 4  # the IR version from which on an initializer need not be an input
_STEM, _LIKE_THIS = "target", "target_000000"  # names of constants, and one as long as the longest
_INT64 = 7  # ONNX's number of the type
_LOOKED_AT = 64  # nodes behind a target that are weighed against the constant in its place


@dataclass(frozen=True)
class ShapeArithmetic(Pass):
    """Replace what is computed from sizes by what it is known to be.

    What it does
        Precondition: the sizes are known as expressions over the symbolic dims of the model's inputs,
        from the inputs, the constants and the operators, never from what the model claims of other
        values. Rewrites: small integers that are the same numbers in every run become initializers
        (known-value). The target of a Reshape becomes a constant in which 0 copies a dim of the input and
        -1 stands for at most one other (reshape-target). What is provably equal to a value that was
        computed before in the same graph is read from there (same-sizes). An Expand that provably
        repeats nothing goes (expand). What was there for these alone goes with them. Main graph and bodies.

    Example
        before: s = Shape(x)    d = Gather(s, 0)    t = Concat(d, [12, -1])    y = Reshape(x, t)
        after:  y = Reshape(x, [0, 12, -1])

    When not
        Inside of functions sizes are not known. A target with two dims that can neither be copied nor
        be written as numbers stays. -1 cannot be inferred where another dim is 0, so a dim that was
        computed becomes -1 only when all others are provably at least 1; a target that had its -1
        before keeps it. Where the initializer would take more bytes than what goes, nothing is done.

    Contract
        EXACT, given that the sizes of inputs are as the model declares them: a number is that number,
        one name is one size in every place, and sizes of different names are not 0 at once. Sizes and
        the integers that are computed from them are taken to fit into 32 bits.

    Source
        ONNX operators: Reshape (1, 5, 13, 14 ...), Shape (1, 13, 15 ...), Expand (8, 13).
        Canonical forms of polynomials: Geddes, Czapor and Labahn, "Algorithms for Computer Algebra", 3.
    """

    name = "shape-arithmetic"
    contract = Contract.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        work = _Work(graph.root, ctx)
        # A constant makes the next one cheaper, and what goes frees names and outputs for others.
        while sum([work.known(), work.targets(), work.expands(), work.same()]):
            pass


class _Work:
    def __init__(self, graph: Graph, ctx: Context) -> None:
        self.graph, self.ctx = graph, ctx
        self.annotations, self.effects = Annotations(graph), Effects(graph)
        self.old = 0 < int(graph.ir_version or 0) < _INITIALIZERS_ALONE
        self.disabled: set[tuple[str, Node]] = set()
        self.shared: dict[Target, Tensor] = {}

    def nodes(self, *ops: str) -> Iterator[tuple[Graph, Node]]:
        for scope in self.graph.graphs():
            for node in list(scope.nodes):
                if node.graph is not None and node.is_standard and not node.bodies and (not ops or node.op in ops):
                    yield scope, node

    def allowed(self, rule: str, node: Node, detail: str = "") -> bool:
        if (rule, node) in self.disabled:
            return False
        if self.ctx.rewrite(rule, node, detail):
            return True
        self.disabled.add((rule, node))
        return False

    def sweep(self, node: Node) -> None:
        sweep(node, self.annotations, self.effects)

    def known(self) -> int:
        """Store the integers that are numbers."""
        shapes = self.ctx.shapes
        arrays: dict[Tensor, Array] = {}
        candidates, as_nodes, pinned = list[Node](), set[Tensor](), set[Tensor]()
        for scope, node in may_be_integers(self.nodes()):
            outputs = [one for one in node.outputs if one.name]
            found = {one: array for one in outputs if (array := _numbers(shapes, one)) is not None}
            if (
                not found
                or len(found) < len(outputs)
                or node.op == "Constant"
                or ("known-value", node) in self.disabled
            ):
                continue
            in_nodes = [one for one in outputs if self.old or one.graph_outputs]
            opset = scope.opset_of()
            if not all(constant_node_holds(shapes.onnx_dtype(one), opset) for one in in_nodes):
                self.ctx.missed("known-value", node, f"at opset {opset}, a Constant node cannot hold its type")
                continue
            arrays.update(found)
            candidates.append(node)
            as_nodes.update(in_nodes)
            pinned.update(one for one in outputs if self.annotations.needs(one) is not None)
        extents = {one: _extent(array, shapes.onnx_dtype(one)) for one, array in arrays.items()}
        kept = {one for node in candidates for one in node.inputs if self.annotations.needs(one) is not None}
        plan, applied = Growth(candidates, extents, pinned, as_nodes, kept).plan(), 0
        for node, why in plan.refused.items():
            self.ctx.missed("known-value", node, why)
        for node, stored in plan.fold.items():
            if self.allowed("known-value", node, ", ".join(str(arrays[one].tolist()) for one in stored)):
                store(node, {one: arrays[one] for one in stored}, as_nodes)
                self.sweep(node)
                applied += 1
        return applied

    def targets(self) -> int:
        """Write the targets of Reshapes as constants."""
        shapes, applied = self.ctx.shapes, 0
        for scope, node in self.nodes("Reshape"):
            if len(node.inputs) < 2 or isinstance(node.inputs[1], Constant) or node.inputs[1] not in _computed(node):
                continue
            entries = shapes.value(node.inputs[1])
            if entries is None or all(isinstance(one, int) for one in entries.flat):
                continue
            old = node.inputs[1]
            target, why = target_of(
                shapes.dims(node.inputs[0]), list(entries.reshape(-1)), shapes.dims(node.outputs[0]), node
            )
            if target is None:
                self.ctx.missed("reshape-target", node, why)
            elif (cost := self.cost(target)) > (freed := self.freed(old, node)):
                why = f"the file would grow: {cost} bytes for the constant, where {freed} would go"
                self.ctx.missed("reshape-target", node, why)
            elif self.allowed("reshape-target", node, str(list(target))):
                scope.rewire(node, 1, self.constant(target, node))
                for maker in list(old.inputs):
                    self.sweep(maker)
                applied += 1
        return applied

    def cost(self, target: Target) -> int:
        """Bytes of the constant (none where it is there already) and of its name where it is read."""
        shape, size = [len(target)], 8 * len(target)
        if self.old:
            return constant_node_bytes(_LIKE_THIS, shape, size) + len(_LIKE_THIS)
        found = self.shared.get(target)
        if found is not None and found.is_read:
            return len(found.name)
        return initializer_bytes(_LIKE_THIS, shape, size) + len(_LIKE_THIS)

    def constant(self, target: Target, node: Node) -> Tensor:
        """An initializer of the main graph, the same one for all that want these numbers; a Constant node
        of its own in an old model, whose initializers are inputs."""
        values, scope = np.array(target, np.int64), node.graph
        found = self.shared.get(target)
        if self.old and scope is not None:
            output = scope.variable(_STEM)
            scope.insert(Node("Constant", "", {"value": Constant("", values)}, [], [output]), before=node)
            return output
        if found is None or not found.is_read:
            found = self.shared[target] = self.graph.constant(values, _STEM)
        return found

    def freed(self, value: Tensor, reader: Node) -> int:
        """Bytes of the nodes that go once `reader` no longer reads `value`."""
        gone: dict[Node, None] = {}
        pending, total = [value], len(value.name.encode())
        while pending and len(gone) < _LOOKED_AT:
            one = pending.pop()
            maker = one.inputs[0] if len(one.inputs) == 1 else None
            if maker is None or maker in gone or self.effects.of(maker) is not None:
                continue
            readers = [each for out in maker.outputs for each in out.readers]
            needed = any(out.graph_outputs or self.annotations.needs(out) is not None for out in maker.outputs)
            if not needed and all(each is reader or each in gone for each in readers):
                gone[maker] = None
                total += node_bytes(maker)
                pending.extend(maker.inputs)
        return total

    def expands(self) -> int:
        """Read past the Expands that repeat nothing."""
        shapes = self.ctx.shapes
        return sum(
            self.replace("expand", scope, node, node.inputs[0])
            for scope, node in self.nodes("Expand")
            if (dims := shapes.dims(node.inputs[0])) is not None and dims == shapes.dims(node.outputs[0])
        )

    def same(self) -> int:
        """Read equal sizes from where they were computed first, in the same graph or in one around it."""
        shapes, applied = self.ctx.shapes, 0
        first: dict[tuple[Any, ...], Tensor] = {}
        whole = {node for _, node in may_be_integers(self.nodes())}
        frames: list[tuple[Iterator[Node], list[tuple[Any, ...]]]] = [(iter(list(self.graph.nodes)), [])]
        while frames:
            rest, noted = frames[-1]
            node = next(rest, None)
            if node is None:
                for key in frames.pop()[1]:
                    first.pop(key, None)
                continue
            scope = node.graph
            if scope is None:
                continue
            frames.extend((iter(list(body.nodes)), []) for body in node.bodies)
            if node not in whole or (found := _symbolic(shapes, node)) is None:
                continue
            earlier = first.get(found)
            if earlier is None or not earlier.inputs or earlier.inputs[0].graph is None:
                first[found] = node.outputs[0]  # the first one, or the one before went with its readers
                noted.append(found)
            else:
                applied += self.replace("same-sizes", scope, node, earlier)
        return applied

    def replace(self, rule: str, scope: Graph, node: Node, new: Tensor) -> int:
        """Read `new` in place of the output of `node`; whether that was done."""
        old = node.outputs[0]
        why = self.annotations.about(old) or scope.why_not_replace(old, new)
        if why is None and longer_names(old, new) > node_bytes(node):
            why = f"the file would grow: its readers would spell out {new.name!r}"
        if why is not None:
            self.ctx.missed(rule, node, why)
        elif self.allowed(rule, node, f"as {new.name}"):
            scope.replace_uses(old, new)
            self.sweep(node)
            return 1
        return 0


def _computed(node: Node) -> list[Tensor]:
    """The inputs of a node that other nodes than Constant nodes make."""
    return [one for one in node.inputs if len(one.inputs) == 1 and not one.inputs[0].is_op("Constant")]


def _numbers(shapes: Shapes, tensor: Tensor) -> Array | None:
    """The value of a tensor where it is the same numbers in every run."""
    value = shapes.value(tensor)
    if value is None or not all(isinstance(one, int) for one in value.flat):
        return None
    dtype: Any = np_dtype(shapes.onnx_dtype(tensor))
    return value.astype(np.int64).astype(dtype) if dtype is not None else None


def _symbolic(shapes: Shapes, node: Node) -> tuple[Any, ...] | None:
    """Type, shape and elements of sizes that differ from run to run; None for any other value."""
    if len(node.outputs) != 1 or not node.is_standard or node.bodies or node.op == "Constant":
        return None
    entries = shapes.value(node.outputs[0])
    if entries is None or all(isinstance(one, int) for one in entries.flat):
        return None
    return (shapes.onnx_dtype(node.outputs[0]), entries.shape, *entries.flat)


def _extent(array: Array, number: int) -> Extent:
    return Extent(number, array.shape, array.size, (array.size * bits(number) + 7) // 8)
