"""Fit a compressed model to the original, layer by layer, in closed form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from graphopt.analysis.float_layers import FloatLayer
from graphopt.analysis.layer_levels import layer_levels
from graphopt.ir import Graph, Node
from graphopt.pipeline.protocol import Context, Contract, Pass, option
from passes.distill.student import FAITHFUL, SAME, Layer, Part, factor_of, part_of
from passes.distill.teacher import Goal, goals, labels

RULE = "reconstruct"

_TOGETHER = 1 << 30  # bytes of the sums of parts that are observed in one run


@dataclass(frozen=True)
class Reconstruct(Pass):
    """Fit a compressed model to the original, layer by layer: distillation in closed form.

    What it does
        The model as it was read is the teacher, the model as it is now the student: pruned, narrowed, of low rank.
        Each Conv, Gemm, MatMul and BatchNormalization, in the order of the graph, is fitted to what the teacher has
        in its place (of its channels those that are left), on the data that it reads now, all layers before it
        fitted already: least squares, from sums over all calibration feeds, pulled by damping towards the weights
        there are; unless given, damping is the one with which weights fitted to one half of the samples are best on
        the other half. What a residual connection adds counts: with absorb, a layer in front of a sum is
        fitted so that the sum is the teacher's, and makes up for what is wrong with the other addend. Scale and bias of
        each LayerNormalization are then fitted channel by channel.

        Weights that are zero stay zero: of a sparse layer each output is fitted with the weights that it has.
        Of two factors in place of one matrix the first is fitted through the second, then the second.
        rounds says how often all that is done; factors of low rank gain from a second one.

    Example
        magnitude{sparsity=0.5},reconstruct
        before: y = MatMul(x, w) + b, half of w zero    after: the same with other w and b, the same half zero

    When not
        Behind quantization (refit fits integer weights). Left, with the reason: layers that give what they gave, that
        stand for no value of the original, or whose weights something else reads; nodes in bodies and
        functions, whose values in the original are not known. Calibrate on feeds like the real ones, and on
        many: with as few rows as a layer has inputs nothing can be learned, and little is changed.

        Cost: one run of both models for each level of layers; for a layer with n inputs two matrices of n^2 numbers and
        about 20 times n^3 operations.

    Contract
        LOSSY: needs a budget. No layer's squared error on the calibration feeds grows.

    Source
        Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015; Romero et al., "FitNets", ICLR
        2015 (a teacher's inner values). He, Zhang, Sun, "Channel Pruning for Accelerating Very Deep Neural
        Networks", ICCV 2017 (least squares on the data of the student). Hoerl and Kennard, "Ridge Regression", 1970.
        Hestenes and Stiefel, "Methods of Conjugate Gradients", 1952 (for the sparse layers).
    """

    name = "reconstruct"
    contract = Contract.LOSSY
    calibrates = True
    repairs = True

    damping: float = option(
        0.0, "share of the mean energy of the inputs that pulls towards the weights there are; 0 finds the best"
    )
    absorb: bool = option(True, "fit a layer in front of a sum so that the sum is right")
    rounds: int = option(1, "how often all layers are fitted")
    rows: int = option(4096, "rows of the data of a layer that are looked at in one feed; 0 for all")
    skip: tuple[str, ...] = option((), "patterns such as /head/* of nodes and values to leave as they are")
    only: tuple[str, ...] = option((), "patterns of the nodes and values to fit; all when empty")

    def __post_init__(self) -> None:
        if not 0 <= self.damping <= 100:
            raise ValueError(f"damping must be from 0 to 100, and {self.damping:g} is not")
        if self.rows < 0 or self.rounds < 1:
            raise ValueError("rows must not be negative, and rounds at least 1")

    def run(self, graph: Graph, ctx: Context) -> None:
        parts = list(self._parts(graph, ctx))
        if not parts:
            if graph.outputs and not any(part_of(node) for scope in graph.scopes() for node in scope.nodes):
                ctx.missed(RULE, graph.outputs[0], "the model has no layer with stored float weights")
            return
        wanted = self._goals(parts, ctx)
        parts = [one for one in parts if one.node in wanted]
        changed = False
        for round_ in range(self.rounds):
            for stage in _staged(parts, wanted, graph):
                apart = [one for one in stage if changed or wanted[one.node].apart > FAITHFUL]
                for one in stage:
                    if one not in apart and round_ == 0:
                        ctx.missed(RULE, one.node, SAME)
                if apart:
                    changed = self._fit(apart, wanted, ctx, round_) or changed

    def _parts(self, graph: Graph, ctx: Context) -> Iterator[Part]:
        for scope in graph.scopes():
            for node in scope.nodes:
                found = part_of(node)
                if found is None:
                    continue
                why = found if isinstance(found, str) else found.why_not() or self._unwanted(node)
                if why is None and scope is not graph.root:
                    why = "values inside bodies and functions cannot be compared with those of the original"
                if why is not None:
                    ctx.missed(RULE, node, why)
                elif not isinstance(found, str):
                    yield found

    def _unwanted(self, node: Node) -> str | None:
        names = labels([node])
        pattern = next((one for one in self.skip if any(fnmatchcase(name, one) for name in names)), None)
        if pattern is not None:
            return f"skip has {pattern!r}"
        if self.only and not any(fnmatchcase(name, one) for name in names for one in self.only):
            return "only has no pattern for it"
        return None

    def _goals(self, parts: list[Part], ctx: Context) -> Mapping[Node, Goal]:
        """The goals of all parts; first factors get those of the second ones, which `parts` then says."""
        found = goals({one.node: one.result for one in parts}, {one.node: one.axis for one in parts}, ctx, self.absorb)
        known = dict[Node, Goal]()
        for at, one in enumerate(parts):
            goal = found[one.node]
            behind = factor_of(one.layer) if isinstance(one, Layer) and isinstance(goal, str) else None
            if isinstance(one, Layer) and isinstance(behind, FloatLayer) and behind.node in found:
                parts[at] = Layer(one.layer, behind)
                goal = found[behind.node]
            if isinstance(goal, str):
                ctx.missed(RULE, one.node, goal)
            else:
                known[one.node] = goal
        return known

    def _fit(self, parts: Sequence[Part], wanted: Mapping[Node, Goal], ctx: Context, round_: int) -> bool:
        """Fit parts that do not depend on each other; whether any of them was changed."""
        changed = False
        asked = {one: one.question(wanted[one.node], self.rows) for one in parts}
        refused = ctx.calibration.observe(list(asked.values())).refused
        for part, question in asked.items():
            found = refused.get(question) or part.answer(question.accumulator, self.damping)
            if isinstance(found, str):
                if round_ == 0:
                    ctx.missed(RULE, part.node, found)
            elif ctx.rewrite(RULE, part.node, found[0]):
                part.write(found[1])
                changed = True
        return changed


def _staged(parts: Sequence[Part], wanted: Mapping[Node, Goal], graph: Graph) -> Iterator[list[Part]]:
    """Parts that are fitted in one run over the feeds, shallow ones first, no more than fit in memory.

    One that answers for a sum waits for all that the other addend is made of.
    """
    adders = {node: goal.adder for node, goal in wanted.items() if goal.adder is not None}
    level = layer_levels(graph, [*(one.node for one in parts), *adders.values()])
    when = {one: level[adders[one.node]] - 0.5 if one.node in adders else level[one.node] for one in parts}
    for stage in sorted(set(when.values())):
        chosen, size = list[Part](), 0
        for part in parts:
            if when[part] != stage:
                continue
            if chosen and size + part.bytes > _TOGETHER:
                yield chosen
                chosen, size = [], 0
            chosen.append(part)
            size += part.bytes
        if chosen:
            yield chosen
