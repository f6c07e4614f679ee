"""Passes that are right in all of their rewrites but one.

Each turns nodes into others that compute the same; for the node whose place is `at` it makes one
of the mistakes that passes are known for. Nothing marks the wrong rewrite: its remark is as the
others are.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.analysis.constants import constant_values
from graphopt.ir import Constant, Graph, Node, Tensor
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.eliminate import common_subexpressions as subexpressions
from passes.eliminate import duplicate_initializers as duplicates
from passes.fold import constants as folding

Values = np.ndarray[Any, Any]


def place(subject: Node | Tensor) -> str:
    """What tells a node (or an initializer) from the others of a model."""
    if isinstance(subject, Node):
        scope = subject.graph.path if subject.graph is not None else ""
        return f"{scope}/{subject.label}"
    home: Any = subject.__dict__.get("home")
    return f"{home.path if home is not None else ''}/{subject.name}"


def put(before: Node, op: str, inputs: list[Tensor], attrs: dict[str, Any] | None = None) -> Tensor:
    """A new node in front of `before`; its output."""
    scope = before.graph
    assert scope is not None
    out = scope.variable(f"{op.lower()}_new")
    scope.insert(Node(op, scope.fresh_name(f"{op}_new"), attrs or {}, inputs, [out]), before=before)
    return out


def stand_in(node: Node, new: Tensor) -> None:
    """Let `new` stand for the first output of `node`, which goes."""
    scope = node.graph
    assert scope is not None
    scope.replace_uses(node.outputs[0], new)
    scope.remove(node)


def fresh(node: Node, values: Values, stem: str = "made") -> Tensor:
    """A new constant that `node` can read."""
    scope = node.graph
    assert scope is not None
    return scope.constant(np.asarray(values), stem)


def known(tensor: Tensor) -> Values:
    found = constant_values(tensor)
    assert found is not None
    return np.array(found)


@dataclass(frozen=True)
class Planted(Pass):
    """One rewrite of each node that `fits`, wrong at `at`."""

    at: str = ""

    def run(self, graph: Graph, ctx: Context) -> None:
        for scope in graph.scopes():
            for node in list(scope.nodes):
                if node.outputs and self.fits(node) and ctx.rewrite("rewrite", node):
                    self.rewrite(node, place(node) == self.at)

    @abstractmethod
    def fits(self, node: Node) -> bool: ...

    @abstractmethod
    def rewrite(self, node: Node, wrong: bool) -> None: ...


@dataclass(frozen=True)
class SubtractionSwapped(Planted):
    """a - b as a + (-b); wrong: b - a."""

    name = "subtraction-swapped"
    contract = Contract.EXACT

    def fits(self, node: Node) -> bool:
        return node.is_op("Sub")

    def rewrite(self, node: Node, wrong: bool) -> None:
        a, b = reversed(node.inputs) if wrong else node.inputs
        stand_in(node, put(node, "Add", [a, put(node, "Neg", [b])]))


@dataclass(frozen=True)
class NegativeDropped(Planted):
    """max(x, 0) as (x + |x|) / 2; wrong: as |x|, which keeps what is negative."""

    name = "negative-dropped"
    contract = Contract.ROUNDING

    def fits(self, node: Node) -> bool:
        return node.is_op("Relu")

    def rewrite(self, node: Node, wrong: bool) -> None:
        x = node.inputs[0]
        size = put(node, "Abs", [x])
        both = put(node, "Add", [x, size])
        stand_in(node, size if wrong else put(node, "Mul", [both, fresh(node, np.float32(0.5))]))


@dataclass(frozen=True)
class BetaDoubled(Planted):
    """Gemm as MatMul and Add; wrong: the addend counts twice."""

    name = "beta-doubled"
    contract = Contract.ROUNDING

    def fits(self, node: Node) -> bool:
        plain = node.attrs.get("alpha", 1.0) == 1.0 and not node.attrs.get("transA", 0)
        return node.is_op("Gemm") and plain and len(node.inputs) == 3 and constant_values(node.inputs[1]) is not None

    def rewrite(self, node: Node, wrong: bool) -> None:
        b = known(node.inputs[1])
        product = put(node, "MatMul", [node.inputs[0], fresh(node, b.T.copy() if node.attrs.get("transB") else b)])
        addend = node.inputs[2]
        if wrong:
            addend = put(node, "Add", [addend, addend])
        stand_in(node, put(node, "Add", [product, addend]))


@dataclass(frozen=True)
class BiasDropped(Planted):
    """The bias of a Conv as an Add behind it; wrong: no Add."""

    name = "bias-dropped"
    contract = Contract.ROUNDING

    def fits(self, node: Node) -> bool:
        return node.is_op("Conv") and len(node.inputs) == 3 and constant_values(node.inputs[2]) is not None

    def rewrite(self, node: Node, wrong: bool) -> None:
        bias = known(node.inputs[2])
        kernel = node.inputs[1]
        rank = len(kernel.shape) if kernel.shape is not None else 4
        conv = put(node, "Conv", list(node.inputs[:2]), dict(node.attrs))
        shaped = fresh(node, bias.reshape(1, -1, *[1] * (rank - 2)))
        stand_in(node, conv if wrong else put(node, "Add", [conv, shaped]))


@dataclass(frozen=True)
class PermutationWrong(Planted):
    """A Transpose as two; wrong: two axes of the second are exchanged."""

    name = "permutation-wrong"
    contract = Contract.EXACT

    def fits(self, node: Node) -> bool:
        return node.is_op("Transpose") and len(node.attrs.get("perm") or []) >= 3

    def rewrite(self, node: Node, wrong: bool) -> None:
        perm = list(node.attrs["perm"])
        first = perm[::-1]
        second = [first.index(axis) for axis in perm]
        if wrong:
            second[-1], second[-2] = second[-2], second[-1]
        once = put(node, "Transpose", [node.inputs[0]], {"perm": first})
        stand_in(node, put(node, "Transpose", [once], {"perm": second}))


@dataclass(frozen=True)
class AxisWrong(Planted):
    """A Softmax written out; wrong: its sum goes over the axis before."""

    name = "axis-wrong"
    contract = Contract.ROUNDING

    def fits(self, node: Node) -> bool:
        scope = node.graph
        assert scope is not None
        return node.is_op("Softmax") and scope.opset_of() < 13 and node.attrs.get("axis") in (-1, 3)

    def rewrite(self, node: Node, wrong: bool) -> None:
        x = node.inputs[0]
        top = put(node, "ReduceMax", [x], {"axes": [-1], "keepdims": 1})
        powers = put(node, "Exp", [put(node, "Sub", [x, top])])
        total = put(node, "ReduceSum", [powers], {"axes": [-2 if wrong else -1], "keepdims": 1})
        stand_in(node, put(node, "Div", [powers, total]))


@dataclass(frozen=True)
class ShapeStale(Planted):
    """The target of a Reshape as a constant of its own; wrong: two sizes as they were before a transposition."""

    name = "shape-stale"
    contract = Contract.EXACT

    def fits(self, node: Node) -> bool:
        return node.is_op("Reshape") and constant_values(node.inputs[1]) is not None and known(node.inputs[1]).size >= 3

    def rewrite(self, node: Node, wrong: bool) -> None:
        target = known(node.inputs[1])
        if wrong:
            target[[-1, -2]] = target[[-2, -1]]
        stand_in(node, put(node, "Reshape", [node.inputs[0], fresh(node, target)], dict(node.attrs)))


@dataclass(frozen=True)
class ZeroPointOffByOne(Planted):
    """The zero point of a DequantizeLinear as a constant of its own; wrong: one too many."""

    name = "zero-point-off-by-one"
    contract = Contract.EXACT

    def fits(self, node: Node) -> bool:
        dequantizes = node.is_op("DequantizeLinear") and len(node.inputs) == 3
        return dequantizes and constant_values(node.inputs[2]) is not None and known(node.inputs[2]).dtype == np.uint8

    def rewrite(self, node: Node, wrong: bool) -> None:
        zero = known(node.inputs[2])
        zero = zero + zero.dtype.type(wrong)
        made = put(node, node.op, [*node.inputs[:2], fresh(node, zero)], dict(node.attrs))
        stand_in(node, made)


@dataclass(frozen=True)
class ScaleWrong(Planted):
    """The scale of a DequantizeLinear as a constant of its own; wrong: half as large."""

    name = "scale-wrong"
    contract = Contract.EXACT

    def fits(self, node: Node) -> bool:
        return node.is_op("DequantizeLinear") and constant_values(node.inputs[1]) is not None

    def rewrite(self, node: Node, wrong: bool) -> None:
        scale = known(node.inputs[1])
        made = fresh(node, (scale / np.float32(2) if wrong else scale).astype(scale.dtype))
        stand_in(node, put(node, node.op, [node.inputs[0], made, *node.inputs[2:]], dict(node.attrs)))


@dataclass(frozen=True)
class BranchWrong(Planted):
    """The condition of an If negated twice; wrong: once, which takes the other branch."""

    name = "branch-wrong"
    contract = Contract.EXACT

    def fits(self, node: Node) -> bool:
        return node.is_op("If")

    def rewrite(self, node: Node, wrong: bool) -> None:
        once = put(node, "Not", [node.inputs[0]])
        scope = node.graph
        assert scope is not None
        scope.rewire(node, 0, once if wrong else put(node, "Not", [once]))


@dataclass(frozen=True)
class BoundDropped(Planted):
    """A Clip as Max and Min; wrong: no Max, which drops the lower bound."""

    name = "bound-dropped"
    contract = Contract.EXACT

    def fits(self, node: Node) -> bool:
        return node.is_op("Clip") and len(node.inputs) == 3 and all(one.name for one in node.inputs)

    def rewrite(self, node: Node, wrong: bool) -> None:
        x, low, high = node.inputs
        stand_in(node, put(node, "Min", [x if wrong else put(node, "Max", [x, low]), high]))


@dataclass(frozen=True)
class MeanForgotten(Planted):
    """A BatchNormalization as a scale and a shift; wrong: the mean is not in the shift."""

    name = "mean-forgotten"
    contract = Contract.ROUNDING

    def fits(self, node: Node) -> bool:
        fits = node.is_op("BatchNormalization") and len([one for one in node.outputs if one.name]) == 1
        return fits and all(constant_values(one) is not None for one in node.inputs[1:])

    def rewrite(self, node: Node, wrong: bool) -> None:
        gamma, beta, mean, variance = (known(one).astype(np.float64) for one in node.inputs[1:])
        scale = gamma / np.sqrt(variance + node.attrs.get("epsilon", 1e-5))
        shift = beta if wrong else beta - mean * scale
        rank = 4
        wide = [(1, -1, *[1] * (rank - 2))] * 2
        a, b = (
            fresh(node, one.astype(np.float32).reshape(shape)) for one, shape in zip((scale, shift), wide, strict=True)
        )
        stand_in(node, put(node, "Add", [put(node, "Mul", [node.inputs[0], a]), b]))


@dataclass(frozen=True)
class KeptAxisWrong(Planted):
    """A ReduceMean that keeps its axis as one that drops it, and an Unsqueeze; wrong: at another place."""

    name = "kept-axis-wrong"
    contract = Contract.EXACT

    def fits(self, node: Node) -> bool:
        scope = node.graph
        assert scope is not None
        axes = node.attrs.get("axes") or []
        return (
            node.is_op("ReduceMean") and scope.opset_of() < 13 and len(axes) == 1 and node.attrs.get("keepdims", 1) == 1
        )

    def rewrite(self, node: Node, wrong: bool) -> None:
        axes = list(node.attrs["axes"])
        mean = put(node, "ReduceMean", [node.inputs[0]], {"axes": axes, "keepdims": 0})
        stand_in(node, put(node, "Unsqueeze", [mean], {"axes": [axes[0] - 1] if wrong else axes}))


@dataclass(frozen=True)
class FoldPermuted(Pass):
    """Constant folding; wrong: the values of one result in the order of another permutation."""

    name = "fold-permuted"
    contract = Contract.EXACT
    at: str = ""

    def run(self, graph: Graph, ctx: Context) -> None:
        at = self.at

        class Work(folding._Work):
            def results(self, nodes: list[Node]) -> dict[Node, dict[Tensor, Values]]:
                found = super().results(nodes)
                for node, stored in found.items():
                    if place(node) == at:
                        for tensor, values in stored.items():
                            stored[tensor] = np.ascontiguousarray(values.T[..., ::-1]).reshape(values.shape)
                return found

        work = Work(graph, ctx)
        while work.round():
            pass


@dataclass(frozen=True)
class AttributeIgnored(Pass):
    """Common subexpressions; wrong: one node counts as the same as another of other attributes."""

    name = "attribute-ignored"
    contract = Contract.EXACT
    at: str = ""

    def run(self, graph: Graph, ctx: Context) -> None:
        at = self.at

        class Work(subexpressions._Work):
            loose: dict[Hashable, Hashable]

            def key(self, node: Node) -> Hashable:
                full: Any = super().key(node)
                if full is None:
                    return None
                without = (*full[:4], full[5])
                if place(node) == at and without in self.loose:
                    return self.loose[without]
                self.loose.setdefault(without, full)
                return full  # type: ignore[no-any-return]

        while True:
            work = Work(graph, ctx)
            work.loose = {}
            if not work.sweep():
                return


@dataclass(frozen=True)
class ValuesIgnored(Pass):
    """Duplicate initializers; wrong: one counts as the same as another of its dtype and shape."""

    name = "values-ignored"
    contract = Contract.EXACT
    at: str = ""

    def run(self, graph: Graph, ctx: Context) -> None:
        at = self.at

        class Work(duplicates._Work):
            first: dict[Hashable, Tensor]

            def meet(self, tensor: Tensor, scope: Graph, sight: Any) -> None:
                form = (id(scope), duplicates._form(tensor))
                twin = self.first.setdefault(form, tensor)
                if place(duplicates._subject(tensor)) != at or twin is tensor:
                    super().meet(tensor, scope, sight)
                elif scope.why_not_replace(tensor, twin) is None and self.ctx.rewrite(
                    duplicates.RULE, duplicates._subject(tensor)
                ):
                    scope.replace_uses(tensor, twin)
                    if isinstance(tensor, Constant):
                        scope.remove_initializer(tensor)
                    else:
                        scope.remove(tensor.inputs[0])

        from collections import Counter

        from graphopt.analysis.annotations import Annotations

        for top in (graph, *graph.functions):
            forms = Counter(duplicates._form(one) for one in duplicates._stated(top))
            work = Work(Annotations(graph), ctx, forms)
            work.first = {}
            work.sweep(top)


@dataclass(frozen=True)
class StepWrong(Pass):
    """Weights rounded to 8 bits, in place; wrong: one is scaled by another step than it was divided by."""

    name = "step-wrong"
    contract = Contract.LOSSY
    at: str = ""

    def run(self, graph: Graph, ctx: Context) -> None:
        for constant in list(graph.initializers):
            if constant.dtype != np.float32 or constant.nbytes < 1024:
                continue
            if ctx.rewrite("round", constant):
                values = np.array(constant.values)
                step = np.float32(np.abs(values).max() / 127)
                rounded = np.rint(values / step) if step else values
                graph.set_values(constant, (rounded * step * np.float32(1.5 if place(constant) == self.at else 1)))
