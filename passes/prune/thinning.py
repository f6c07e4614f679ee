"""Takes units out of what linear layers read: which ones, how many where, and how the layers make up for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final

import numpy as np

from graphopt.analysis.activations import Moments, Observation
from graphopt.analysis.batches import batches
from graphopt.analysis.float_layers import FloatLayer, float_layer
from graphopt.analysis.layer_fit import LayerFit, Sums
from graphopt.analysis.layer_goals import Goal, goals_of, question, summed
from graphopt.analysis.layer_repair import best, scales
from graphopt.analysis.least_squares import Fit, decibels
from graphopt.analysis.unit_removal import Removal, second_order, steadied
from graphopt.pipeline.protocol import Context
from passes.prune.narrowing import Narrowing
from passes.prune.output_importance import Told, by_outputs
from passes.prune.thinning_terms import Terms
from passes.prune.unit_allocation import shared
from passes.prune.unit_blocks import Block, names_of, norms_of

Array = np.ndarray[Any, Any]
Goals = Mapping[FloatLayer, Goal | None]

_WIDEST: Final = 1 << 30  # bytes of the sums of one layer
_TOGETHER: Final = 1 << 30  # bytes of the sums of layers that are observed in one run
_STEPS: Final = 96  # in which units go
_BETWEEN: Final = 12  # steps after which the error is computed, where it is asked for
_MOST: Final = 0.9  # of a block that may go


@dataclass(frozen=True, eq=False)
class Seen:
    """The sums of a layer, and for each of its outputs one over the spread of what its result is added to."""

    fit: LayerFit
    scale: Array


@dataclass
class Thinning:
    """One run of one pass: `rule` and `noun` are its words."""

    ctx: Context
    terms: Terms
    rule: str
    noun: str
    _narrowing: Narrowing = field(default_factory=Narrowing)
    _measured: dict[Block, Removal] = field(default_factory=dict)

    def run(self, blocks: Sequence[Block]) -> None:
        """Thin out the blocks, which come from one analysis, in the order of the graph."""
        wanted = [one for one in blocks if not self._unwanted(one)]
        if not wanted:
            return
        goals = self._goals(wanted) if self.terms.sees else {}
        kept = self._allocated(wanted, goals)
        for block in wanted:
            if kept.get(block) == block.size:
                self.ctx.missed(self.rule, block.node, f"all {block.size} {self.noun} stay, since others cost less")
            elif block in kept:
                self._thin(block, kept[block], goals)

    def _unwanted(self, block: Block) -> bool:
        names = [name for node in block.nodes for name in names_of(node)]
        pattern = next((one for one in self.terms.skip if any(fnmatchcase(name, one) for name in names)), None)
        why = None if pattern is None else f"skip has {pattern!r}"
        if why is None and self.terms.only and not any(fnmatchcase(n, p) for n in names for p in self.terms.only):
            why = "only has no pattern for it"
        if why is None and self.terms.sees and block.layer.sums > _WIDEST:
            why = (
                f"{block.layer.inputs} inputs are too many for a Gram matrix; "
                "importance=magnitude with repair=false needs none"
            )
        if why is None and (block.size < 2 or self._count(block.size, self.terms.share) == block.size):
            text = f"of {block.size} {self.noun} none goes at share={self.terms.share:g}"
            why = text if self.terms.multiple == 1 else f"{text} and multiple={self.terms.multiple}"
        if why is not None:
            self.ctx.missed(self.rule, block.node, why)
        return why is not None

    def _count(self, size: int, share: float) -> int:
        """How many units are left of `size`: a multiple, at least one of them, and no more than there are."""
        multiple = self.terms.multiple
        left = int(np.floor(size * (1 - share) / multiple + 0.5 + 1e-9)) * multiple
        return min(max(left, min(multiple, size)), size)

    def _goals(self, blocks: Sequence[Block]) -> Goals:
        """What each layer should go on making: its result in the original, or, where that is not known, its own."""
        main = [one.layer for one in blocks if one.group.graph is one.group.graph.root]
        known = goals_of(main, self.ctx)
        return {block.layer: known.get(block.layer.node) for block in blocks}

    def _allocated(self, blocks: Sequence[Block], goals: Goals) -> dict[Block, int]:
        """How many units each block keeps."""
        if self.terms.allocation == "uniform" or len(blocks) < 2:
            return {one: self._count(one.size, self.terms.share) for one in blocks}
        curves = dict[Block, Array]()
        for part in batches(blocks, lambda one: one.layer.sums, _TOGETHER):
            for block, seen in self._seen(part, goals).items():
                if isinstance(seen, str):
                    self.ctx.missed(self.rule, block.node, seen)
                    continue
                most = block.size - self._count(block.size, _MOST)
                order = self._order(block, seen, most, priced=True)
                if isinstance(order, str):
                    self.ctx.missed(self.rule, block.node, order)
                else:
                    curves[block] = np.diff(order.errors)
        return shared(curves, self.terms.share, self.terms.multiple)

    def _seen(self, blocks: Sequence[Block], goals: Goals) -> dict[Block, Seen | str]:
        """What is known of each block's layer as the graph is now, or a clause on why nothing is."""
        found = dict[Block, Seen | str]()
        asked = dict[Block, Observation]()
        sums = {one: Observation((summed(one.layer.result, self.ctx.shapes),), Moments(-1)) for one in blocks}
        for block in blocks:
            layer, goal = block.layer, goals[block.layer]
            asking = "" if goal is None else question(layer, goal, self.terms.rows, self.ctx.shapes)
            if isinstance(asking, str):
                asking = Observation((layer.data, layer.result), LayerFit(layer.rows, self.terms.rows))
            asked[block] = asking
        refused = self.ctx.calibration.observe([*asked.values(), *sums.values()]).refused
        for block, asking in asked.items():
            fit, moments = asking.accumulator, sums[block].accumulator
            assert isinstance(fit, LayerFit) and isinstance(moments, Moments)
            why = refused.get(asking) or refused.get(sums[block]) or _trouble(block, fit)
            found[block] = why or Seen(fit, scales(moments, block.layer.outputs))
        return found

    def _order(self, block: Block, seen: Seen | None, count: int, priced: bool = False) -> Removal | str:
        """The units in the order in which they go, by the importance that was asked for, and the error then.

        An error counts by the spread that its channel has behind the next sum: a few channels may be a thousand times
        as large as the others, and what normalizes them makes them all alike.
        """
        weights = block.layer.weights()[0]
        scale = np.ones(weights.shape[1]) if seen is None else seen.scale
        whole = None if seen is None else seen.fit.whole
        if self.terms.importance in ("second-order", "output") and whole is not None:
            reading, judge = steadied(whole.scaled(scale[None]), weights * scale, block.layer.has_bias, block.positions)
            measured = self.terms.importance == "output"
            try:
                if not measured:
                    return second_order([reading], judge if priced else None, count, _STEPS, _BETWEEN)
                return self._at_outputs(block, whole, second_order([reading], steps=_STEPS), count)
            except np.linalg.LinAlgError:
                return "the Gram matrix of its data cannot be inverted"
        norms = np.square(weights * scale if priced else weights).sum(1)
        if self.terms.importance == "magnitude" or whole is None:
            scores = norms[block.positions].sum(1) * norms_of(block.group)
        else:
            energy = np.diagonal(whole.gram[0])[:-1] / max(whole.count, 1)
            scores = (norms * energy)[block.positions].sum(1)
        units = np.argsort(scores, kind="stable")[:count]
        return Removal(units, np.concatenate([[0.0], np.cumsum(scores[units])]))

    def _at_outputs(self, block: Block, whole: Sums, order: Removal | str, count: int) -> Removal | str:
        """The units by what the outputs lose; what was measured of all blocks holds when the turn of each comes."""
        if isinstance(order, str):
            return order
        found = self._measured.get(block)
        if found is None:
            reading, _ = steadied(whole, block.layer.weights()[0], block.layer.has_bias, block.positions)
            told = Told(block.layer, whole, reading)
            made = by_outputs([told], order.order, self.terms.repair, self.ctx, self.terms.samples)
            if isinstance(made, str):
                return made
            found = self._measured[block] = made
        return Removal(found.order[:count], found.errors[: count + 1])

    def _thin(self, block: Block, left: int, goals: Goals) -> None:
        seen: Seen | None = None
        if self.terms.sees:
            found = self._seen([block], goals)[block]
            if isinstance(found, str):
                self.ctx.missed(self.rule, block.node, found)
                return
            seen = found
        order = self._order(block, seen, block.size - left)
        if isinstance(order, str):
            self.ctx.missed(self.rule, block.node, order)
            return
        kept = np.setdiff1d(np.arange(block.size), order.order)
        text = f"{block.size - left} of {block.size} {self.noun} gone"
        before, fit = self._repaired(block, seen, kept)
        if before is not None:
            text += f", error {decibels(before)} dB below the result"
        if isinstance(fit, Fit):
            text += f", {decibels(fit.after)} after repair with damping {fit.damping:g}"
        elif fit is not None:
            text += f", not repaired: {fit}"
        if not self.ctx.rewrite(self.rule, block.node, text):
            return
        self._narrowing.narrow(block.group, kept)
        if isinstance(fit, Fit):
            layer = float_layer(block.node)
            assert isinstance(layer, FloatLayer), "it was one before it lost inputs"
            layer.write(fit.weights, fit.bias)

    def _repaired(self, block: Block, seen: Seen | None, kept: Array) -> tuple[float | None, Fit | str | None]:
        """The error with only `kept` units and the weights as they are, and the best fit."""
        if seen is None:
            return None, None
        inputs = np.setdiff1d(np.arange(block.layer.inputs), np.delete(block.positions, kept, axis=0))
        part = seen.fit.of_inputs(inputs)
        whole = part.whole
        assert whole is not None, "something was seen"
        weights, bias = block.layer.weights()[:, inputs], block.layer.bias()
        before = whole.error(np.concatenate([weights, bias[:, None]], axis=1))
        return before, best(block.layer, part, self.terms.damping, inputs=inputs) if self.terms.repair else None


def _trouble(block: Block, seen: LayerFit) -> str | None:
    sums = seen.whole
    if seen.trouble is not None:
        return seen.trouble
    if sums is None or sums.cross.shape[1:] != (block.layer.inputs + 1, block.layer.outputs):
        return "no data of the size of its weight were seen"
    return None if sums.finite else "its data or results have NaN or infinities"
