"""Take out single operators, and short chains of them, that the outputs do not need."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from graphopt.analysis.changes import Change, Effects
from graphopt.ir import Graph, Node, Tensor
from graphopt.pipeline.protocol import Context, Contract, Pass, option
from passes.prune.dispensable import Dispensable, bypasses, constants, cost_of
from passes.prune.reached import unreached
from passes.prune.spans import Span, bypass, why_not_bypassed

RULE = "operator"

_FEW = 4  # samples of the first look
_FAR = 16.0  # times theta, beyond which a first look decides
_ROUNDS = 8


@dataclass(frozen=True)
class Operators(Pass):
    """Take out operators whose absence changes the outputs by no more than theta.

    What it does
        Candidates are operators with an input of the shape and type of their output, which can stand for that
        output: an activation, a convolution that keeps its shape, a gate, a sum; chains of operators between two
        such values, where the second is computed from the first alone; and operators whose output hardly
        differs from its mean over the calibration feeds, for which the mean of each channel is written as a constant.
        With an operator goes everything that only it read.

        What each would do is measured by running the model without it, on the calibration feeds, against the
        outputs of the model as it was read: first all of them on a few samples, then one by one, the one with
        the least error for the work it saves first, each in the model without those before it. The operator goes if
        the error of every output stays at or below theta. What stays is named with the error that it would cost.

    Example
        operators{theta=0.001}
        before: y = Mul(x, s)    s = Sigmoid(z)    z = Conv(p, w)    p = GlobalAveragePool(x)
        after:  y = Mul(x, c)                 with c the mean of s, where that hardly changes

    When not
        Left, with the reason: operators without which the error would be above theta; those that skip names, or
        that only does not; those that make next to nothing of what is computed (`least`), such as what keeps a
        divisor from zero; values that annotations are about. Operators that only move elements are not looked at:
        passes that are exact take those out that do nothing. With theta=0 only operators go that change no bit of any
        output on the samples: on other data they might. For whole residual blocks, and for what stands in their
        place, see blocks.

        Cost: for n candidates, n runs of the part of the model behind one on four samples each, and for those that
        could go a run on `samples` samples each, again after each round in which some went.

    Contract
        LOSSY: needs a budget. The error on the samples measured stays at or below theta.

    Source
        Influence as the change of the outputs when a unit is left out: Molchanov et al., "Importance Estimation for
        Neural Network Pruning", CVPR 2019. Constant units: Sietsma, Dow, "Creating Artificial Neural Networks That
        Generalize", Neural Networks 1991.
    """

    name = "operators"
    contract = Contract.LOSSY
    calibrates = True

    theta: float = option(0.001, "largest error of an output that is borne, as a share of its energy")
    samples: int = option(32, "samples of the calibration feeds that decide; 0 for all")
    longest: int = option(16, "nodes that one rewrite may take out by reading past them")
    least: float = option(1e-4, "leave operators that make less than this share of all that is computed")
    spread: float = option(0.1, "share of the energy by which an output may differ from its mean to be tried as that")
    means: bool = option(True, "try the mean of an output in its place, too")
    skip: tuple[str, ...] = option((), "patterns such as /head/* of nodes and values to leave as they are")
    only: tuple[str, ...] = option((), "patterns of the nodes and values to try; all when empty")

    def __post_init__(self) -> None:
        if not self.theta >= 0:
            raise ValueError(f"theta must not be negative, and {self.theta:g} is")
        if self.samples < 0 or self.longest < 1:
            raise ValueError("samples must not be negative, and longest at least 1")
        if not 0 <= self.spread <= 1 or not 0 <= self.least <= 1:
            raise ValueError("spread and least must be from 0 to 1")

    def run(self, graph: Graph, ctx: Context) -> None:
        work = _Work(graph, ctx, self)
        for _ in range(_ROUNDS):
            if not work.round():
                break
        work.report()

    def unwanted(self, span: Span) -> str | None:
        """Why the user wants a span left alone, in a clause."""
        names = [name for node in span.nodes for name in (node.name, *(out.name for out in node.outputs)) if name]
        pattern = next((one for one in self.skip if any(fnmatchcase(name, one) for name in names)), None)
        if pattern is not None:
            return f"skip has {pattern!r}"
        own = (span.subject.name, *(out.name for out in span.subject.outputs))
        if self.only and not any(fnmatchcase(name, one) for one in self.only for name in own if name):
            return "only has no pattern for it"
        return None


class _Work:
    """One run of the pass: what was judged, and what it would cost."""

    def __init__(self, graph: Graph, ctx: Context, options: Operators) -> None:
        self._graph, self._ctx, self._options = graph, ctx, options
        self._judged = set[tuple[Node, Tensor | None]]()
        self._stayed: dict[Node, Effects | str] = {}
        self._any = False

    def round(self) -> bool:
        """Try everything that was not tried before; whether anything went."""
        options, ctx = self._options, self._ctx
        found = bypasses(self._graph, ctx.shapes, options.longest)
        if options.means:
            found += constants(self._graph, ctx, options.spread)
        least = options.least * cost_of((node for scope in self._graph.scopes() for node in scope.nodes), ctx.shapes)
        found = [one for one in found if self._is_new(one, least)]
        never = unreached([one.span for one in found], ctx)
        for one in [one for one in found if one.span in never]:
            self._stays(one, never[one.span])
        found = [one for one in found if one.span not in never]
        changes = {one: _change(one) for one in found}
        few = min(_FEW, options.samples or _FEW)
        measured = ctx.measure.changes(list(changes.values()), few)
        costs: dict[Dispensable, float] = {}
        for one, change in changes.items():
            effects = measured.original.get(change)
            if effects is None:
                self._stays(one, measured.refused.get(change, "it was not measured"))
            elif effects.error > options.theta * _FAR:
                self._stays(one, effects)
            else:
                costs[one] = max(effects.error - measured.now.error, 0.0) / max(one.cost, 1.0)
        went = False
        for one in sorted(costs, key=lambda one: (costs[one], -one.cost)):
            span = one.now()
            went |= span is not None and self._decide(one, span)
        return went

    def _is_new(self, one: Dispensable, least: float) -> bool:
        if one.key in self._judged:
            return False
        self._judged.add(one.key)
        self._any = True
        if one.cost < least:
            self._stays(one, f"it makes less than least={self._options.least:g} of all that is computed")
            return False
        why = self._options.unwanted(one.span) or why_not_bypassed(self._graph, one.span)
        if why is not None:
            self._stays(one, why)
        return why is None

    def _decide(self, one: Dispensable, span: Span) -> bool:
        """Measure one in the graph as it is now, and take it out where that is within theta."""
        change, ctx, subject = _change(one), self._ctx, span.subject
        if not one.fits(ctx.shapes):
            self._stays(one, "its mean would not do for what reads it since another operator went")
            return False
        inner = span.graph is not self._graph.root  # perhaps taken for the last sample only
        measured = ctx.measure.changes([change], 0 if inner else self._options.samples)
        effects = measured.original.get(change)
        if effects is None or effects.error > self._options.theta:
            self._stays(one, measured.refused.get(change, "it was not measured") if effects is None else effects)
            return False
        what = "its mean" if one.mean is not None else repr(span.start.name)
        more = f", with it {len(span.nodes) - 1} nodes that nothing else read go" if len(span.nodes) > 1 else ""
        if not ctx.rewrite(RULE, subject, f"{what} stands for it{more}; the model now has {effects.text}"):
            return False
        self._stayed.pop(subject, None)
        bypass(span, span.start if one.mean is None else span.graph.constant(one.mean, f"{span.end.name}_mean"))
        return True

    def _stays(self, one: Dispensable, why: Effects | str) -> None:
        """Keep the smallest error for each operator."""
        known = self._stayed.get(one.span.subject)
        if isinstance(known, Effects) and (isinstance(why, str) or known.error <= why.error):
            return
        self._stayed[one.span.subject] = why

    def report(self) -> None:
        """Say of every operator that stays why."""
        theta = self._options.theta
        for node, why in self._stayed.items():
            if node.graph is not None:
                cost = why if isinstance(why, str) else f"without it the model would have {why.text}"
                self._ctx.missed(RULE, node, cost if isinstance(why, str) else f"{cost}, more than theta={theta:g}")
        if not self._any:
            makers = [maker for output in self._graph.outputs for maker in output.inputs]
            for node in makers[:1]:
                self._ctx.missed(
                    RULE, node, "no operator has an input of the shape of its output, or a constant output"
                )


def _change(one: Dispensable) -> Change:
    return Change(((one.span.end, one.span.start if one.mean is None else one.mean),))
