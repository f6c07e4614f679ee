"""Take out whole residual blocks and layers that the outputs miss least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from graphopt.analysis.changes import Change, Effects, Measured
from graphopt.analysis.cost import macs
from graphopt.ir import Graph, Node
from graphopt.pipeline.protocol import Context, Contract, Pass, option
from passes.prune.reached import unreached
from passes.prune.spans import Span, bypass, residual_spans, why_not_bypassed
from passes.prune.stand_ins import NAMES, Form, StandIn, stand_ins

RULE = "block"


@dataclass(frozen=True)
class Blocks(Pass):
    """Take out the residual blocks and layers whose absence changes the outputs least.

    What it does
        A residual block is a sum x + f(x), whatever f is: attention or the two dense layers of a transformer,
        before or behind a normalization, or the convolutions of a residual network; where the shortcut has a
        convolution of its own, x is what that gives. Taking the block out means that x is read in place of the sum.
        A LayerNormalization or activation behind the sum stays. Layers, which are one block or two in a row together
        with the normalization behind them, are tried as well.

        Each block is tried by itself: the model is run on the calibration feeds without it, and its outputs are
        compared with those of the model as it was read. The one goes that costs least error for the
        multiply-accumulates it takes; then all others are measured again, in the model without it, until `share` of
        the multiply-accumulates of the model has gone, or `count` blocks have, or the next one would bring the error
        of an output above theta.

        instead says what stands for a block. nothing: x alone. mean: x plus a constant for each channel, so
        that the mean is right. scale: a factor and an offset for each channel. linear: a matrix and an offset
        (a convolution with a kernel of 1 for images), where that takes fewer multiply-accumulates. They are least
        squares fits over the calibration feeds of what the sum was in the model as it was read, from x as it is now,
        with a pull towards x alone that is found on samples that were not fitted. best tries linear (where that cannot
        be had, scale) and nothing.

    Example
        blocks{share=0.3}
        before: s = Add(x, f)    f = MatMul(h, v)    h = Relu(g)    g = MatMul(x, w)    y = LayerNormalization(s)
        after:  y = LayerNormalization(x)

    When not
        Left, with the reason: blocks after which the error would be above theta; blocks that skip names, or that
        only does not; sums that annotations are about. Small models have few blocks to spare: look at what the
        report says of each. Without feeds like the real ones the pass cannot tell blocks apart.

        Cost: for n blocks, r of them taken out, about 5 n r runs of the part of the model behind a block, on `samples`
        samples each, and one run that sums up the products of channels for each one taken out.

    Contract
        LOSSY: needs a budget. The error on the samples measured stays at or below theta.

    Source
        Men et al., "ShortGPT: Layers in Large Language Models are More Redundant Than You Expect", 2024. Gromov et
        al., "The Unreasonable Ineffectiveness of the Deeper Layers", 2024. Veit, Wilber, Belongie, "Residual Networks
        Behave Like Ensembles of Relatively Shallow Networks", NeurIPS 2016. Hoerl, Kennard, "Ridge Regression", 1970.
    """

    name = "blocks"
    contract = Contract.LOSSY
    calibrates = True
    strength = "share"

    share: float = option(0.25, "share of the model's multiply-accumulates that is to go, 0 to 1")
    theta: float = option(1.0, "largest error of an output that is borne, as a share of its energy")
    count: int = option(0, "at most so many blocks; 0 for as many as share asks for")
    instead: Literal["best", "nothing", "mean", "scale", "linear"] = option("best", "what stands for a block")
    samples: int = option(32, "samples of the calibration feeds that trials run on; 0 for all")
    rows: int = option(4096, "vectors of a feed that a fit looks at; 0 for all")
    damping: float = option(0.0, "share of the mean energy that pulls a fit towards x alone; 0 finds the best")
    skip: tuple[str, ...] = option((), "patterns such as /layer.0/* of nodes and values; blocks with one are left")
    only: tuple[str, ...] = option((), "patterns of nodes and values; blocks without one are left; all when empty")

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"share must be from 0 to 1, and {self.share:g} is not")
        if not self.theta >= 0:
            raise ValueError(f"theta must not be negative, and {self.theta:g} is")
        if min(self.count, self.samples, self.rows) < 0:
            raise ValueError("count, samples and rows must not be negative")
        if not 0 <= self.damping <= 100:
            raise ValueError(f"damping must be from 0 to 100, and {self.damping:g} is not")

    def run(self, graph: Graph, ctx: Context) -> None:
        total = max(macs(graph, ctx.shapes).count, 1)
        taken, gone = 0, 0
        disabled = set[Node]()
        while True:
            spans = self._spans(graph, ctx, disabled)
            if not spans:
                if not taken and not disabled:
                    _said_of_the_model(graph, ctx, "no residual block that may go was found")
                return
            enough = self._enough(gone / total, taken)
            if enough is not None and not taken and not disabled:
                for span in spans:
                    ctx.missed(RULE, span.subject, enough)
                return
            tried = self._tried(spans, max(self.share * total - gone, 1), ctx)
            if enough is not None or not tried.bearable:
                tried.report(spans, ctx, self.theta, enough)
                return
            best = min(tried.bearable, key=tried.price)
            node, macs_gone = best.span.subject, best.span.macs - best.macs
            if not ctx.rewrite(RULE, node, _detail(best, tried.effects(best), macs_gone, total)):
                disabled.add(node)
                continue
            bypass(best.span, best.write())
            taken, gone = taken + 1, gone + macs_gone

    def _enough(self, gone: float, taken: int) -> str | None:
        """Why no further block goes, in a clause."""
        if gone >= self.share:
            return f"{gone:.1%} of the multiply-accumulates have gone, and share is {self.share:g}"
        if self.count and taken >= self.count:
            return f"{taken} blocks have gone, and count is {self.count}"
        return None

    def _spans(self, graph: Graph, ctx: Context, disabled: set[Node]) -> list[Span]:
        found, spans = list[Span](), residual_spans(graph, ctx.shapes)
        never = unreached(spans, ctx)
        for span in spans:
            if span.subject in disabled:
                continue
            why = self._unwanted(span) or why_not_bypassed(graph, span) or never.get(span)
            if why is None:
                found.append(span)
            else:
                ctx.missed(RULE, span.subject, why)
        return found

    def _unwanted(self, span: Span) -> str | None:
        if span.parts:
            return next((why for why in map(self._unwanted, span.parts) if why is not None), None)
        names = [name for node in span.nodes for name in (node.name, *(out.name for out in node.outputs)) if name]
        pattern = next((one for one in self.skip if any(fnmatchcase(name, one) for name in names)), None)
        if pattern is not None:
            return f"skip has {pattern!r}"
        if self.only and not any(fnmatchcase(name, one) for one in self.only for name in names):
            return "only has no pattern for it"
        return None

    def _tried(self, spans: Sequence[Span], wanted: float, ctx: Context) -> _Tried:
        best: list[list[Form]] = [["linear", "scale"], ["nothing"]]
        forms = best if self.instead == "best" else [[self.instead]]
        found = stand_ins(spans, forms, self.rows, self.damping, ctx)
        changes = {one: Change(((one.span.end, one.value),)) for one in found}
        inner = any(one.graph is not one.graph.root for one in spans)  # perhaps taken for the last sample only
        measured = ctx.measure.changes(list(changes.values()), 0 if inner else self.samples)
        return _Tried(changes, measured, self.theta, wanted)


@dataclass
class _Tried:
    """What was measured of what may stand for blocks, of which `wanted` multiply-accumulates are to go."""

    changes: dict[StandIn, Change]
    measured: Measured
    theta: float
    wanted: float

    @property
    def bearable(self) -> list[StandIn]:
        """Those whose error stays within theta."""
        return [one for one in self.changes if self.error(one) <= self.theta]

    def error(self, one: StandIn) -> float:
        found = self.measured.original.get(self.changes[one])
        return float("inf") if found is None else found.error

    def effects(self, one: StandIn) -> Effects:
        return self.measured.original[self.changes[one]]

    def price(self, one: StandIn) -> float:
        """How much the error grows for each multiply-accumulate that goes, of those wanted; below zero is best."""
        more = self.error(one) - self.measured.now.error
        saved = max(min(one.span.macs - one.macs, self.wanted), 1)
        return more / saved if more > 0 else more * saved

    def report(self, spans: Sequence[Span], ctx: Context, theta: float, enough: str | None) -> None:
        """Say of every block that stays why, with the error that it would cost."""
        for span in spans:
            own = [one for one in self.changes if one.span is span]
            measured = [one for one in own if self.changes[one] in self.measured.original]
            if not measured:
                refused = (self.measured.refused[self.changes[one]] for one in own)
                ctx.missed(RULE, span.subject, next(refused, "what would stand for it cannot be fitted"))
                continue
            best = min(measured, key=self.error)
            cost = f"with {NAMES[best.form]} in its place the model would have {self.effects(best).text}"
            ctx.missed(
                RULE, span.subject, f"{cost}, {f'more than theta={theta:g}' if enough is None else f'and {enough}'}"
            )


def _detail(one: StandIn, effects: Effects, macs_gone: int, total: int) -> str:
    gone = f"{len(one.span.nodes)} nodes with {macs_gone / total:.1%} of the multiply-accumulates gone"
    where = f"from {one.span.start.name!r} to {one.span.end.name!r}"
    return f"{gone} {where}, {NAMES[one.form]} in their place; the model now has {effects.text}"


def _said_of_the_model(graph: Graph, ctx: Context, why: str) -> None:
    """A remark on the whole model, on the node that makes its first output."""
    node = next((maker for output in graph.outputs for maker in output.inputs), None)
    if node is not None:
        ctx.missed(RULE, node, why)
