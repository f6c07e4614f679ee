"""Constant folding: values that no input decides about, computed once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from graphopt.analysis.annotations import Annotations
from graphopt.analysis.determined import Determined
from graphopt.analysis.excerpt import closure
from graphopt.ir import Graph, Node, Tensor
from graphopt.ir.dtypes import Array
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.fold.folding import fold
from passes.fold.growth import Growth
from passes.fold.sizing import Sizing

RULE = "fold"
_INITIALIZERS_ALONE = 4  # the IR version from which on an initializer need not be an input
_PLANS = 16  # how often one round thinks again, when something cannot be computed or is larger than it seemed


@dataclass(frozen=True)
class FoldConstants(Pass):
    """Replace what is computed from constants by its values.

    What it does
        Precondition: a node of ONNX's operators, or a call of a function of the model, reads nothing
        but initializers, Constant nodes and values of such nodes, and its results are tensors of a
        size that can be told beforehand; and the results together take no more bytes in the file than
        what goes with them. Rewrite: the values that others read become initializers of the same
        name; the node goes, and in its wake the nodes and initializers that were there for it alone.
        Each node whose results are stored is one rewrite. Where a value is an output of its graph,
        inside of a function, and in a model of IR version 3 (whose initializers are inputs), it
        becomes a Constant node instead, because initializers as outputs are legal but refused by some
        runtimes. Main graph, bodies and functions. onnxruntime computes the values, apart from small
        integers.

    Example
        before: initializers: w    u = Transpose(w)    v = Neg(u)    y = MatMul(x, v)
        after:  initializers: v    y = MatMul(x, v)

    When not
        Defaults of inputs that callers may override are no constants. Operators that draw random
        numbers, or are not ONNX's own, may give other values each time; an If, Loop or Scan is not
        computed, but nodes in its bodies are looked at like any others. The file must not grow: a
        Transpose of a weight that is also read as it is stays, and so does an Expand, a Tile or a
        ConstantOfShape of more than a few elements. What is stored small stays small: a
        DequantizeLinear, a Cast from fewer bits to floating point and what is sparse are never
        computed, nor what reads them. A sequence cannot be an initializer.

    Contract
        EXACT. onnxruntime, its optimizations off, computes the values that it would compute at each
        run. Bits that depend on the processor (the last ones of Exp, the payload of a NaN) are those of
        the machine that folded.

    Source
        Constant folding: Aho, Sethi and Ullman, "Compilers", 9.1. ONNX IR specification, "Graphs".
    """

    name = "fold-constants"
    contract = Contract.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        work = _Work(graph, ctx)
        while work.round():
            pass
        work.report()


class _Work:
    """One run. A round folds all it can; what is known then may tell the size of something else."""

    def __init__(self, graph: Graph, ctx: Context) -> None:
        self.graph, self.ctx = graph, ctx
        self.determined = Determined(graph)
        self.annotations = Annotations(graph)
        self.disabled: set[Node] = set()

    def round(self) -> bool:
        """Fold once; whether anything was."""
        self.refused: dict[Node, str] = {}
        applied = 0
        for node, stored in self.results(list(self.candidates())).items():
            if not self.ctx.rewrite(RULE, node, ", ".join(_text(array) for array in stored.values())):
                self.disabled.add(node)
                continue
            fold(node, stored, self.as_nodes, self.annotations)
            applied += 1
        return applied > 0

    def report(self) -> None:
        """Say of what is still there why it was not folded."""
        for node, why in self.refused.items():
            if node.graph is not None:
                self.ctx.missed(RULE, node, why)

    def candidates(self) -> Iterator[Node]:
        """The nodes whose results are determined; notes how results will be stored."""
        self.as_nodes: set[Tensor] = set()
        self.pinned: set[Tensor] = set()
        in_function, old = False, 0 < int(self.graph.ir_version or 0) < _INITIALIZERS_ALONE
        for scope in self.graph.scopes():
            in_function = in_function or scope.is_function
            for node in scope.nodes:
                outputs = [one for one in node.outputs if one.name]
                if not outputs or node.is_op("Constant") or node in self.disabled:
                    continue
                if self.determined.why_not(outputs[0]) is not None:
                    self.note(node)
                    continue
                self.as_nodes.update(one for one in outputs if in_function or old or one.graph_outputs)
                self.pinned.update(one for one in outputs if self.annotations.needs(one) is not None)
                yield node

    def note(self, node: Node) -> None:
        """Note why a node stays although everything that it reads is known."""
        reads = [one for one in node.inputs if one.name]
        if (reads or node.bodies) and all(self.determined.why_not(one) is None for one in reads):
            why = self.determined.obstacle(node)
            if why is not None:
                self.refused[node] = why

    def results(self, nodes: list[Node]) -> dict[Node, dict[Tensor, Array]]:
        """What to store, by the node that computes it, such that the file does not grow."""
        if not nodes:
            return {}
        mine = set(nodes)
        nodes = [node for node in closure(one for node in nodes for one in node.outputs if one.name) if node in mine]
        sizing = Sizing(self.graph, self.determined, nodes, self.as_nodes)
        arrays: dict[Tensor, Array] = {}
        kept = {one for node in nodes for one in node.inputs if self.annotations.needs(one) is not None}
        for _ in range(_PLANS):
            plan = Growth(sizing.foldable(), sizing.extents, self.pinned, self.as_nodes, kept).plan()
            answer = self.ctx.evaluate(one for stored in plan.fold.values() for one in stored if one not in arrays)
            arrays.update(answer)
            if not sizing.learn(answer):
                self.refused |= sizing.refused | plan.refused
                return {node: {one: arrays[one] for one in stored} for node, stored in plan.fold.items()}
        return {}


def _text(array: Array) -> str:
    return f"{array.dtype if array.dtype != object else 'string'}[{','.join(map(str, array.shape))}]"
