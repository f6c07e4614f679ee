"""Branches that are always taken."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from graphopt.analysis.annotations import Annotations
from graphopt.analysis.conditions import Conditions
from graphopt.analysis.constants import constant_values
from graphopt.analysis.liveness import Effects
from graphopt.analysis.rank_demands import RankDemands
from graphopt.analysis.sameness import same_bodies
from graphopt.analysis.shapes import Shapes
from graphopt.ir import Constant, Graph, Node, Tensor
from graphopt.ir.dissolve import Dissolver
from graphopt.ir.membership import in_place
from graphopt.pipeline.protocol import Context, Contract, Pass, option
from passes.fold.folding import sweep

_DEEP = 64  # nodes behind a condition that are looked at


@dataclass(frozen=True)
class InlineBranches(Pass):
    """Put the branch that an If always takes in its place.

    What it does
        Precondition: one of four rules says which branch of an If is taken. `known-condition`: the
        condition is the same in every run, because it is computed from constants, or from sizes that
        the declared inputs fix. `same-condition`: the If stands in a branch of another If on the same
        condition, or on its negation. `same-branches`: both branches are the same node for node.
        `demanded-rank`: an operator that runs whenever the If does takes its result in one number of
        axes only, and one branch only gives that many; exporters write such an If for a squeeze of an
        axis of unknown size. Rewrite: nodes and initializers of the branch move to where the If
        stands, under names that nothing else in the model has, and make the outputs of the If
        themselves; the other branch goes, and so does what only computed the condition. A value that
        the branch hands through is read directly, or copied by an Identity where it is an output of
        its graph. Main graph, bodies and functions.

    Example
        before: n = Shape(x)    r = Size(n)    two = 2    c = Equal(r, two)    x has three axes
                y = If(c) { then: a = Neg(x), else: a = Relu(x) }
        after:  y = Relu(x)

    When not
        A condition that depends on what is fed. A branch with quantization annotations. Where longer
        names made the file grow. `demanded-rank` looks at conditions that depend on shapes alone; with
        `demands=false` it is off.

    Contract
        EXACT. The nodes of the branch run on the same values as before. With `demanded-rank` that holds for
        every input that the model gives outputs for: on an input for which it stopped with an error
        at the operator in question it may stop at another node, or not stop.

    Source
        Constant folding of control flow: Wegman and Zadeck, "Constant propagation with conditional
        branches", 1991. ONNX operators: If (1, 11, 13, 16, 19, 21 ...).
    """

    name = "inline-branches"
    contract = Contract.EXACT

    demands: bool = option(True, "conclude from the ranks that operators take which branch was taken")

    def run(self, graph: Graph, ctx: Context) -> None:
        work = _Work(graph, ctx, self.demands)
        while work.sweep():  # sizes behind a branch that is gone may be known now
            pass
        for node, (rule, why) in work.stayed.items():
            ctx.missed(rule, node, why)


class _Work:
    def __init__(self, graph: Graph, ctx: Context, demands: bool) -> None:
        self.graph, self.ctx, self.demands = graph, ctx, demands
        self.stayed: dict[Node, tuple[str, str]] = {}
        self.dissolver: Dissolver | None = None
        self.annotations, self.effects = Annotations(graph), Effects(graph)
        self.shapes: Shapes | None = None  # at the beginning of a sweep; values keep theirs

    def sweep(self) -> int:
        """Decide about every If of the model, then carry out; how many went."""
        switches = list(_switches(self.graph))
        if not switches:
            return 0
        decide = _Deciding(self.graph, self.ctx, self.demands)
        decided = [(node, found) for node in switches if (found := decide.branch(node)) is not None]
        self.stayed, self.shapes = {}, None
        if any(
            _suspect(*pair) for node, (body, *_) in decided for pair in zip(node.outputs, body.outputs, strict=False)
        ):
            self.shapes = self.ctx.shapes
        applied = sum(self.inline(node, *found) for node, found in decided if in_place(node))
        if self.dissolver is not None:
            self.dissolver.finish()
        return applied

    def inline(self, node: Node, body: Graph, rule: str, detail: str) -> int:
        self.dissolver = self.dissolver or Dissolver()
        why = self.dissolver.why_not(node, body, {}) or self.contradiction(node, body)
        if why is not None:
            self.stayed[node] = (rule, why)
            return 0
        if not self.ctx.rewrite(rule, node, detail):
            return 0
        condition = node.inputs[0]
        self.dissolver.dissolve(node, body, {})
        if condition.inputs:
            sweep(condition.inputs[0], self.annotations, self.effects)
        elif isinstance(condition, Constant) and not condition.is_read and self.annotations.needs(condition) is None:
            home: Graph | None = condition.__dict__.get("home")
            if home is not None:
                home.remove_initializer(condition)
        return 1

    def contradiction(self, node: Node, body: Graph) -> str | None:
        """An output of a graph that is declared as the branch does not make it, in a clause."""
        for old, new in zip(node.outputs, body.outputs, strict=False):
            said = old.shape
            known = self.shapes.dims(new) if self.shapes is not None and _suspect(old, new) else None
            if known is None or said is None:
                continue
            sizes = zip(said, known, strict=False)
            if len(known) != len(said) or any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in sizes):
                return f"the output {old.name!r} is declared with another shape than the branch gives it"
        return None


class _Deciding:
    """Which branches are taken, in one revision of the model."""

    def __init__(self, graph: Graph, ctx: Context, demands: bool) -> None:
        self.ctx, self.demands = ctx, demands
        self.conditions = Conditions(graph, lambda: ctx.shapes, ctx.evaluate)
        self.ranks: RankDemands | None = None

    def branch(self, node: Node) -> tuple[Graph, str, str] | None:
        """The branch that `node` takes, the rule that says so, and a detail; None when unknown."""
        then, other = node.attrs["then_branch"], node.attrs["else_branch"]
        condition = node.inputs[0]
        known = self.conditions.truth(condition)
        if known is not None:
            return (then if known else other), "known-condition", f"{condition.name} is always {str(known).lower()}"
        around = _around(node)
        if around is not None:
            taken, outer = around
            return (then if taken else other), "same-condition", f"as {outer.label}"
        if same_bodies(then, other):
            return then, "same-branches", ""
        return self._demanded(node, then, other)

    def _demanded(self, node: Node, then: Graph, other: Graph) -> tuple[Graph, str, str] | None:
        if not self.demands or not _about_shapes(node.inputs[0]):
            return None
        self.ranks = self.ranks or RankDemands(self.ctx.shapes)
        for index, output in enumerate(node.outputs):
            if not output.name or index >= min(len(then.outputs), len(other.outputs)):
                continue
            sets = [self.ranks.possible(one.outputs[index]) for one in (then, other)]
            if sets[0] is None or sets[1] is None:
                continue
            demand = self.ranks.demanded(output)
            if demand is None:
                continue
            rank, reader = demand
            fitting = [body for body, ranks in zip((then, other), sets, strict=True) if ranks and rank in ranks]
            if len(fitting) == 1:
                return fitting[0], "demanded-rank", f"{reader.label} takes {rank} axes of {output.name}"
        return None


def _switches(graph: Graph) -> Iterator[Node]:
    """Every If of the model with both branches, outer ones first."""
    for scope in graph.scopes():
        for node in scope.nodes:
            if not node.is_op("If") or len(node.inputs) != 1:
                continue
            if all(isinstance(node.attrs.get(key), Graph) for key in ("then_branch", "else_branch")):
                yield node


def _suspect(old: Tensor, new: Tensor) -> bool:
    """Whether the output `old` of a graph is declared otherwise than `new`, which is going to be it."""
    return bool(old.graph_outputs) and old.shape is not None and list(old.shape) != list(new.shape or ())


def _around(node: Node) -> tuple[bool, Node] | None:
    """What the branch that `node` stands in says of its condition, and the If that it is a branch of."""
    root, negated = _resolved(node.inputs[0])
    scope = node.graph
    while scope is not None and scope.is_body:
        outer: Node = scope.parent
        if outer.is_op("If"):
            known, inverted = _resolved(outer.inputs[0])
            if known is root:
                holds = (scope is outer.attrs["then_branch"]) != inverted
                return holds != negated, outer
        scope = outer.graph
    return None


def _resolved(condition: Tensor) -> tuple[Tensor, bool]:
    """What a condition copies or negates, and whether it negates it."""
    negated = False
    for _ in range(_DEEP):
        maker = condition.inputs[0] if len(condition.inputs) == 1 else None
        if maker is None or not maker.is_op("Not", "Identity"):
            break
        negated ^= maker.op == "Not"
        condition = maker.inputs[0]
    return condition, negated


def _about_shapes(condition: Tensor) -> bool:
    """Whether a condition is computed from shapes and constants alone."""
    pending, seen = [condition], set[Node]()
    while pending:
        one = pending.pop()
        if isinstance(one, Constant) or not one.name or constant_values(one) is not None:
            continue
        maker = one.inputs[0] if len(one.inputs) == 1 else None
        if maker is None or not maker.is_standard or maker.bodies:
            return False
        if maker.op in ("Shape", "Size") or maker in seen:
            continue
        seen.add(maker)
        if len(seen) > _DEEP:
            return False
        pending.extend(maker.inputs)
    return True
