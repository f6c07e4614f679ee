"""Takes channels out group by group in the order of the graph, and repairs every layer on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from graphopt.analysis.channels import Group
from graphopt.analysis.float_layers import FloatLayer, float_layer
from graphopt.analysis.layer_fit import LayerFit
from graphopt.analysis.layer_goals import Goal, kept_channels
from graphopt.analysis.layer_levels import layer_levels
from graphopt.analysis.layer_repair import announced, best, means, shifted
from graphopt.analysis.least_squares import Fit, decibels, fitted
from graphopt.analysis.unit_removal import Removal
from graphopt.ir import Graph, Node
from graphopt.pipeline.protocol import Context
from passes.prune.channel_readers import TOGETHER, WIDEST, Reader, Seen, look, removal
from passes.prune.narrowing import Narrowing

Array = np.ndarray[Any, Any]

RULE: Final = "channels"
REPAIR: Final = "repair"


@dataclass(frozen=True)
class Terms:
    """How layers are fitted: see the options of the same names."""

    damping: float = 0.0
    rows: int = 4096


@dataclass(frozen=True, eq=False)
class Cut:
    """A group of which `count` units are to go. `readers` are the layers that tell which, and make good for it;
    where there are none, `chosen` says which."""

    group: Group
    count: int
    readers: Sequence[Reader]
    chosen: Removal

    @property
    def nodes(self) -> set[Node]:
        """Nodes with weights of the group."""
        return {site.node for site in (*self.group.makers, *self.group.readers)}


@dataclass
class Sweep:
    """One walk over the graph."""

    graph: Graph
    ctx: Context
    goals: Mapping[Node, Goal]
    importance: str
    repairs: bool
    terms: Terms
    narrowing: Narrowing = field(default_factory=Narrowing)

    def run(self, cuts: Sequence[Cut]) -> None:
        """Take out what is to go, at the turn of the first layer that reads it; repair each layer at its turn."""
        for cut in cuts:
            if not cut.readers:
                self._narrow(cut, cut.chosen, "")
        due = [cut for cut in cuts if cut.readers]
        layers = [*self.goals] if self.repairs else [one.layer.node for cut in due for one in cut.readers]
        levels = layer_levels(self.graph, layers)
        first = {cut: min(levels[one.layer.node] for one in cut.readers) for cut in due}
        begun = min(first.values(), default=0) if len(due) == len(cuts) else 0
        for level in sorted({one for one in levels.values() if one >= begun}):
            todo = [node for node in layers if levels[node] == level] if self.repairs else []
            self._level([cut for cut in due if first[cut] == level], list(dict.fromkeys(todo)))

    def _level(self, due: list[Cut], todo: list[Node]) -> None:
        while due or todo:
            cuts, touched, size = list[Cut](), set[Node](), 0
            for cut in due:
                needed = sum(min(one.layer.sums, WIDEST) for one in cut.readers)
                if touched.isdisjoint(cut.nodes) and (not cuts or size + needed <= TOGETHER):
                    cuts.append(cut)
                    touched |= cut.nodes
                    size += needed
            due = [cut for cut in due if cut not in cuts]
            layers = dict[Node, FloatLayer]()
            for node, layer in _layers(todo).items():
                room = not (cuts or layers) or size + layer.sums <= TOGETHER
                if node not in touched and room:
                    layers[node] = layer
                    size += min(layer.sums, WIDEST)
            readers = {one.layer.node: one.layer for cut in cuts for one in cut.readers}
            narrow = {node: layer for node, layer in layers.items() if layer.sums <= WIDEST}
            seen = look([*readers.values(), *narrow.values()], self.goals, self.ctx, self.terms.rows)
            done = {node for cut in cuts for node in self._cut(cut, seen)}
            for node, layer in narrow.items():
                fit = seen.fits[node]
                found = fit if isinstance(fit, str) else best(layer, fit, self.terms.damping)
                announced(layer, found, self.ctx, REPAIR)
            self._shift([layer for node, layer in layers.items() if node not in narrow])
            todo = [node for node in _layers(todo) if node not in layers and node not in done]

    def _shift(self, wide: Sequence[FloatLayer]) -> None:
        """Repair the biases of layers that are too wide for more."""
        asked = {layer: means(layer, self.goals[layer.node]) for layer in wide}
        refused = self.ctx.calibration.observe([one for each in asked.values() for one in each]).refused if wide else {}
        for layer, each in asked.items():
            kept = kept_channels(self.goals[layer.node], layer.result, layer.axis, self.ctx.shapes)
            why = kept if isinstance(kept, str) else next((refused[one] for one in each if one in refused), None)
            announced(layer, why or shifted(layer, each, None if isinstance(kept, str) else kept), self.ctx, REPAIR)

    def _cut(self, cut: Cut, seen: Seen) -> list[Node]:
        """Decide on one group, carry it out, and fit the layers that read it; those that were fitted."""
        found = cut.chosen
        if self.importance not in ("magnitude", "output"):
            told = removal(cut.readers, seen, self.narrowing, self.importance, self.terms.damping)
            found = cut.chosen if isinstance(told, str) else told
        gone = found.order[: cut.count]
        made_good = dict[Reader, Fit]()
        shares = list[tuple[float, float]]()
        for one in cut.readers:
            fit = seen.fits[one.layer.node]
            outputs = self._outputs_left(cut, one, gone)
            if cut.group.figures:
                continue  # what the layer reads changes with the cut, and is looked at once more
            if isinstance(fit, LayerFit) and outputs.any():
                before, after, made = self._fitted(one, fit, gone)
                shares.append((before, after))
                if made is not None:
                    made_good[one] = replace(made, weights=made.weights[:, :, outputs], bias=made.bias[:, outputs])
        text = ""
        if shares:
            whole = np.mean(shares, axis=0)
            text = f", error {decibels(float(whole[0]))} dB below the results of the layers that read them"
            text += f", {decibels(float(whole[1]))} after repair" if made_good else ""
        if not self._narrow(cut, found, text):
            return []
        if cut.group.figures:
            return []
        for one, made in made_good.items():
            layer = float_layer(one.layer.node)
            assert isinstance(layer, FloatLayer), "it was one before it got narrower"
            layer.write(made.weights, made.bias)
        return [one.layer.node for one in cut.readers if self.repairs]

    def _outputs_left(self, cut: Cut, reader: Reader, gone: Array) -> Array:
        """Which outputs of a reader stay: all but those that are of the group, too, as in a residual sum."""
        left = np.ones(reader.layer.outputs, np.bool_)
        for site in cut.group.makers:
            if site.node is reader.layer.node and site.slot == 1:
                left[self.narrowing.positions(site)[gone].ravel()] = False
        return left

    def _fitted(self, reader: Reader, seen: LayerFit, gone: Array) -> tuple[float, float, Fit | None]:
        """The error of a layer without the units, before and after repair, and what it is repaired with."""
        layer = reader.layer
        left = np.ones(layer.inputs, np.bool_)
        left[reader.columns(self.narrowing)[gone].ravel()] = False
        fewer = seen.of_inputs(np.flatnonzero(left))
        sums = fewer.whole
        if sums is None or not sums.finite:
            return np.inf, np.inf, None
        weights, bias = layer.weights()[:, left], layer.bias()
        before = sums.error(np.concatenate([weights, bias[:, None, :]], axis=1))
        fit = fitted(fewer, weights, bias, layer.has_bias, self.terms.damping) if self.repairs else ""
        if isinstance(fit, str):
            return before, before, None
        values, made = layer.stored(fit.weights, fit.bias)
        after = sums.error(np.concatenate([values, made[:, None, :]], axis=1))
        return before, after, Fit(values, made, before, after, fit.damping) if after < before else None

    def _narrow(self, cut: Cut, found: Removal, text: str) -> bool:
        """Announce a cut and carry it out, where the gate lets it through."""
        group = cut.group
        kept = np.setdiff1d(np.arange(group.size), found.order[: cut.count])
        if not self.ctx.rewrite(RULE, group.subject, f"{cut.count} of {group.size} channels gone{text}"):
            return False
        self.narrowing.narrow(group, kept)
        return True


def _layers(nodes: Sequence[Node]) -> dict[Node, FloatLayer]:
    """The layers that nodes are as the graph is now."""
    found = {node: float_layer(node) for node in nodes}
    return {node: layer for node, layer in found.items() if isinstance(layer, FloatLayer)}
