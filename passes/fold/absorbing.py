"""Scales and shifts that a linear operator beside them takes into its weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

from graphopt.analysis.annotations import Annotations
from graphopt.analysis.matching import only_reader
from graphopt.analysis.shapes import Shapes
from graphopt.ir import Constant, Graph, Node, Tensor
from graphopt.pipeline.protocol import Context
from passes.fold.affine import Affine
from passes.fold.folding import sweep
from passes.fold.linear import OPERATORS, Linear, behind, linear
from passes.fold.releasing import freed_bytes
from passes.fold.reweighting import Change, bias_of, scaled_after, scaled_before

Read = Callable[[Node], Affine | str | None]
_SHAPE_ONLY = ("Shape", "Size")  # readers that do not look at values


class Absorbing:
    """One run of a pass that hands the nodes which `read` knows over to linear operators.

    The rules are `after-OPERATOR` for one whose result is scaled, `before-OPERATOR` for one whose
    operand is.
    """

    def __init__(self, graph: Graph, ctx: Context, ops: Sequence[str], read: Read) -> None:
        self.graph, self.ctx, self.ops, self.read = graph, ctx, ops, read
        self.annotations = Annotations(graph)

    @cached_property
    def shapes(self) -> Shapes:
        """Asked for once: what goes on existing keeps its shape."""
        return self.ctx.shapes

    def run(self) -> None:
        """Over and over, as what one operator took may have stood between two others."""
        while self._sweep():
            pass
        for node, (rule, why) in self.stayed.items():
            if node.graph is not None:
                self.ctx.missed(rule, node, why)

    def _sweep(self) -> bool:
        self.stayed: dict[Node, tuple[str, str]] = {}
        applied = False
        for scope in self.graph.scopes():
            nodes = [node for node in scope.nodes if node.is_op(*self.ops) and self._is_beside(node)]
            for node in nodes:
                applied |= self._try(node, self._after)
            for node in reversed(nodes):  # the one next to the operator first
                if node.graph is not None:
                    applied |= self._try(node, self._before)
        return applied

    def _is_beside(self, node: Node) -> bool:
        """Whether linear operators, or others of the kind, are before or behind the node."""
        kinds = (*OPERATORS, *self.ops, "Add")
        makers = (one for tensor in node.inputs for one in tensor.inputs)
        return any(one.is_op(*kinds) for one in (*makers, *(one for out in node.outputs for one in out.readers)))

    def _try(self, node: Node, attempt: Callable[[Affine], tuple[str, str] | bool]) -> bool:
        found = self.read(node)
        if found is None:
            return False
        if isinstance(found, str):
            if self._touches(node):
                self.stayed[node] = (node.op.lower(), found)
            return False
        result = attempt(found)
        if isinstance(result, bool):
            return result
        self.stayed.setdefault(node, result)
        return False

    def _touches(self, node: Node) -> bool:
        makers = (one for tensor in node.inputs for one in tensor.inputs)
        return any(one.is_op(*OPERATORS) for one in (*makers, *node.outputs[0].readers))

    def _after(self, affine: Affine) -> tuple[str, str] | bool:
        found = behind(affine.data, self.shapes)
        if found is None or found.biased.graph is not affine.node.graph:
            return False
        rule = f"after-{found.node.op.lower()}"
        if only_reader(found.result) is not affine.node:
            return rule, f"{found.result.name!r} is read elsewhere too"
        split = affine.along(found.axis, found.outputs, found.rank)
        if split is None or not affine.rank_fits(found.rank, -found.axis):
            return rule, "its constants are not known to be one number, or one a channel"
        becomes_gemm = split[1] is not None and found.bias_slot is None
        if becomes_gemm and not affine.channelled:
            return False  # an Add behind a MatMul is the bias that it has
        change = scaled_after(found, *split)
        if isinstance(change, str):
            return rule, change
        donor = self._donor(affine) if change.makes_bias else None
        if becomes_gemm and change.bias is not None:
            return self._carry_out(rule, affine, [change], donor, lambda: self._as_gemm(affine, change, donor))
        return self._carry_out(
            rule, affine, [change], donor, lambda: self._place(affine, [change], found.result, donor)
        )

    def _before(self, affine: Affine) -> tuple[str, str] | bool:
        if affine.result.graph_outputs:
            return False
        readers = list(dict.fromkeys(affine.result.readers))
        targets = [one for one in readers if not one.is_op(*_SHAPE_ONLY)]
        found = [linear(one, self.shapes) for one in targets]
        operators = [one for one in found if one is not None]
        if not operators:
            return False
        rule = f"before-{operators[0].node.op.lower()}"
        if len(operators) != len(targets):
            return rule, f"{affine.result.name!r} is read elsewhere too"
        changes: list[Change] = []
        for one in operators:
            change = self._fed(affine, one)
            if isinstance(change, str):
                return rule, change
            changes.append(change)
        donor = self._donor(affine) if len(changes) == 1 and changes[0].makes_bias else None
        return self._carry_out(rule, affine, changes, donor, lambda: self._place(affine, changes, affine.data, donor))

    def _fed(self, affine: Affine, one: Linear) -> Change | str:
        if one.node.graph is not affine.node.graph:
            return f"{one.node.label!r} is in another graph"
        if one.node.inputs[one.data] is not affine.result:
            return f"{affine.result.name!r} is not the operand of {one.node.label!r}"
        split = affine.along(one.axis, one.inputs, one.rank)
        if split is None or not self._keeps_shape(affine, one):
            return "its constants are not known to be one number, or one a channel"
        return scaled_before(one, *split)

    def _keeps_shape(self, affine: Affine, one: Linear) -> bool:
        """Whether the constants do not make the value that they meet any larger."""
        if affine.channelled or not affine.constants:
            return True
        constant = affine.constants[0]
        rank = self.shapes.rank(affine.data)
        if len(constant.shape) > (rank or 0) and not (one.rank is not None and len(constant.shape) < one.rank):
            return False
        if all(int(dim) == 1 for dim in constant.shape):
            return True
        dims = self.shapes.dims(affine.data)
        return dims is not None and len(dims) >= -one.axis and dims[one.axis] == one.inputs

    def _carry_out(
        self, rule: str, affine: Affine, changes: list[Change], donor: Constant | None, edit: Callable[[], None]
    ) -> tuple[str, str] | bool:
        if any(one.onnx_dtype != changes[0].linear.weight.onnx_dtype for one in affine.constants):
            return rule, "its constants are of another type than the weights"
        new = changes[0].linear.result if rule.startswith("after") else affine.data
        scope = affine.node.graph
        assert scope is not None, "a node that is looked at is in a graph"
        changed = [tensor for one in changes for tensor in (one.linear.node.inputs[one.linear.slot], one.linear.result)]
        about = (self.annotations.about(one) for one in (affine.result, new, *changed))
        why = next((one for one in about if one is not None), None) or scope.why_not_replace(affine.result, new)
        if why is not None:
            return rule, why
        grown = sum(one.cost(donor) for one in changes) - freed_bytes(
            affine.node, (affine.data, donor), self.annotations
        )
        if grown > 0:
            return rule, f"the file would grow by {grown} bytes"
        if not self.ctx.rewrite(rule, affine.node):
            return False
        edit()
        sweep(affine.node, self.annotations)
        return True

    def _place(self, affine: Affine, changes: list[Change], new: Tensor, donor: Constant | None) -> None:
        for one in changes:
            one.apply(donor)
        assert affine.node.graph is not None, "it was looked at there"
        affine.node.graph.replace_uses(affine.result, new)

    def _as_gemm(self, affine: Affine, change: Change, donor: Constant | None) -> None:
        """A MatMul has no bias, so of two matrices it becomes a Gemm."""
        old, scope = change.linear.node, change.linear.node.graph
        assert scope is not None, "it was looked at there"
        scope.set_values(change.linear.weight, change.weight)
        bias = bias_of(change, scope, donor)
        output = scope.variable(old.outputs[0].name)
        scope.insert(Node("Gemm", old.name, {}, [*old.inputs, bias], [output]), before=old)
        scope.replace_uses(affine.result, output)

    def _donor(self, affine: Affine) -> Constant | None:
        """An initializer that goes with the node: the bias can take its place and name."""
        tensors: list[Tensor] = [one for one in affine.node.inputs if one is not affine.data]
        tensor = tensors[1 if affine.channelled else 0] if tensors else None
        if not isinstance(tensor, Constant) or self.annotations.needs(tensor) is not None:
            return None
        return tensor if only_reader(tensor) is affine.node else None
