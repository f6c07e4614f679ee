"""Keeps the means of output channels where the float graph has them: bias correction inside a pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.analysis.activations import Moments, Observation
from graphopt.ir import Tensor
from graphopt.ir.values import Array
from graphopt.pipeline.protocol import Context
from passes.quantize.static.biases import LINEAR, Site, shift, site_of, sums, why_not
from passes.quantize.static.units import Unit

RULE = "correct-bias"

_ENOUGH = 32  # samples of a channel, for a mean


class Correction:
    """Means of the float graph, asked with its ranges, and what the quantized graph makes of them.

    The mean error of a result is what the operator's own rounding makes of it and what the operators
    before carry along: their part is the shift of what the operator reads, times its weights. Only the
    operator's own part goes into its bias, so that one run serves all operators at once.
    """

    def __init__(self, units: Sequence[Unit]) -> None:
        self._read: dict[Site, Tensor] = {}
        for unit in units:
            site = site_of(unit.node) if unit.op in LINEAR and unit.weight == 1 else ""
            if isinstance(site, Site):
                self._read[site] = site.read
        asked = dict.fromkeys((value, site.axis) for site in self._read for value in (site.result, site.read))
        self._floats = {one: Observation((one[0],), Moments(one[1])) for one in asked}

    @property
    def questions(self) -> list[Observation]:
        """What is to be observed of the float graph."""
        return list(self._floats.values())

    def run(self, ctx: Context, quantized: set[Unit], rounds: int) -> None:
        """Correct the units that were quantized, each as a rewrite of its own."""
        nodes = {unit.node for unit in quantized}
        sites = {site: read for site, read in self._read.items() if site.node in nodes}
        agreed: set[Site] | None = None
        for _ in range(rounds):
            asked = {
                site: (Observation((site.result,), Moments(site.axis)), Observation((site.read,), Moments(site.axis)))
                for site in sites
                if (agreed is None or site in agreed) and self._is_possible(site, ctx)
            }
            refused = ctx.calibration.observe([one for pair in asked.values() for one in pair]).refused
            kept = set[Site]()
            for site, pair in asked.items():
                made = self._drift(pair[0], site.result, site.axis)
                read = self._drift(pair[1], sites[site], site.axis)
                why = next((refused[one] for one in pair if one in refused), None)
                why = why or next((one for one in (made, read) if isinstance(one, str)), None)
                if why is not None or isinstance(made, str) or isinstance(read, str):
                    ctx.missed(RULE, site.node, why or "")
                elif agreed is not None or ctx.rewrite(RULE, site.node):
                    shift(site, made - sums(site.node) @ read)
                    kept.add(site)
            agreed = kept

    def _is_possible(self, site: Site, ctx: Context) -> bool:
        why = why_not(site)
        if why is not None:
            ctx.missed(RULE, site.node, why)
        return why is None

    def _drift(self, now: Observation, before: Tensor, axis: int) -> Array | str:
        """The mean of what is now less that of what was before, for each channel, or a clause on why there is none."""
        one, other = now.accumulator, self._floats[before, axis].accumulator
        assert isinstance(one, Moments) and isinstance(other, Moments)
        seen = min(one.count, other.count)
        if seen < _ENOUGH:
            return f"{seen} samples of a channel are too few for a mean"
        if one.mean.shape != other.mean.shape:
            return "its channels are not the same in all feeds"
        found: Array = np.asarray(one.mean - other.mean)
        return found if bool(np.isfinite(found).all()) else "its means are not finite"
