"""Keeps the means of output channels where the float graph has them: bias correction inside a pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.analysis.activations import Moments, Observation
from graphopt.ir import Tensor
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
                made, read = (
                    self._drift(one, value, site) for one, value in zip(pair, (site.result, sites[site]), strict=True)
                )
                if made is None or read is None or any(one in refused for one in pair):
                    ctx.missed(RULE, site.node, "its means cannot be observed")
                elif (agreed is not None and site in agreed) or ctx.rewrite(RULE, site.node):
                    shift(site, made - sums(site.node) @ read)
                    kept.add(site)
            agreed = kept

    def _is_possible(self, site: Site, ctx: Context) -> bool:
        why = why_not(site)
        if why is not None:
            ctx.missed(RULE, site.node, why)
        return why is None

    def _drift(
        self, now: Observation, before: Tensor, site: Site
    ) -> np.ndarray[tuple[int], np.dtype[np.float64]] | None:
        """The mean of what is now less that of what was before, for each channel; None where too little was seen."""
        one, other = now.accumulator, self._floats[before, site.axis].accumulator
        assert isinstance(one, Moments) and isinstance(other, Moments)
        if min(one.count, other.count) < _ENOUGH or one.mean.shape != other.mean.shape:
            return None
        found = np.asarray(one.mean - other.mean)
        return found if bool(np.isfinite(found).all()) else None
