"""Move the range of outlier channels from activations into weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphopt.analysis.activations import Moments, Observation, Observed
from graphopt.analysis.shapes import Shapes
from graphopt.ir import Graph
from graphopt.pipeline.protocol import Context, Contract, Pass, option
from passes.quantize.product_groups import Group, names_of, product_groups
from passes.quantize.products import Selection
from passes.quantize.smoothing_error import ChannelRanges, Demand, apart, decibels, together

RULE = "smooth"


@dataclass(frozen=True)
class Smooth(Pass):
    """Divide channels of activations by factors and multiply the weights that they meet, so that both quantize well.

    What it does
        One range serves all channels of an activation that is quantized as a whole, so a few outlier
        channels take the precision of all others. For each value that MatMul or Gemm multiply with stored
        weights, a factor for each channel is found; the channel is divided by it and the row of the
        weights multiplied, which changes nothing but rounding. All products of the same value (query,
        key and value of an attention) get the same factors.

        The division costs nothing where the operators before take it into constants of theirs: scale and bias
        of a normalization, columns and bias of a product, through Add, Mul, Relu and the like, when
        nothing else reads the value. Elsewhere (behind a Gelu; where a residual connection reads
        the value, too) a Mul is put in front of the products, if that lowers their own error by
        insert_gain_db and it is above -insert_below_db. The file grows by K numbers for that.

        With outliers=2 or more, the widest channels of a value that a Mul is put behind may be multiplied
        apart, in float: a Gather takes them out, the Mul sets them to zero for the integer products, and the
        small product is added. That takes the range of massive activations (one channel a
        hundred times as wide as others) out of both data and weights, where factors alone only share
        it between them, for the time of three small nodes.

        Factors are max(span, floor)^alpha / peak^(1 - alpha) of a channel's largest activation and weight,
        with alpha and floor searched for each value: they minimize the expected error of the products with
        data quantized to 8 bits with one range (for each run, as dynamic-int8 does; with
        ranges=all one for all runs, as static-int8 does) and weights to 8 bits for each output. What a
        channel spans in each run, and its mean square, come from one run over the calibration data.

    Example
        before: x = LayerNormalization(h, g, b)             y = MatMul(x, w)
        after:  x = LayerNormalization(h, g_over_s, b_over_s)      y = MatMul(x, s_times_w)

    When not
        For activations that stay float; for weight-only quantization, awq is the one. A Mul that was
        put in costs a pass over the value, a percent or two of a product's time, and fold-scale-bias
        would fold it back into the weights: run clean-up passes before, not behind. Left, with the
        reason: weights that others read too or that are quantized already, and gains below min_gain_db.

    Contract
        ROUNDING: the same mathematics. Time is 150 passes over each weight, and one run over the calibration data.

    Source
        Xiao et al., "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language
        Models", ICML 2023. Dettmers et al., "LLM.int8(): 8-bit Matrix Multiplication for Transformers at
        Scale", NeurIPS 2022 (outlier channels apart). The floor, and the closed form of the error, are additions.
    """

    name = "smooth"
    contract = Contract.ROUNDING
    grows = True
    calibrates = True

    min_gain_db: float = option(0.5, "leave values alone whose products would gain less, in decibels")
    insert: bool = option(True, "put a Mul where no operator before can take the factors")
    insert_gain_db: float = option(3.0, "the gain from which on a Mul is worth it")
    insert_below_db: float = option(35.0, "no Mul for products whose own signal-to-noise ratio is above this")
    outliers: int = option(0, "where a Mul is put in, how many channels may be multiplied apart, in float")
    outlier_gain_db: float = option(3.0, "the gain from which on multiplying a channel apart is worth it")
    ranges: str = option("run", "what one range serves: a run, or all of them")
    skip: tuple[str, ...] = option((), "patterns of nodes, weights and values whose operators to leave alone")
    only: tuple[str, ...] = option((), "patterns of the only ones to smooth")

    def __post_init__(self) -> None:
        if self.ranges not in ("run", "all"):
            raise ValueError(f"ranges must be run or all, and {self.ranges!r} is neither")
        if self.outliers < 0:
            raise ValueError(f"outliers must not be negative, and {self.outliers} is")
        if self.min_gain_db <= 0:
            raise ValueError(f"min-gain-db must be positive, and {self.min_gain_db} is not")

    def run(self, graph: Graph, ctx: Context) -> None:
        groups = product_groups(graph, ctx, RULE, Selection(self.skip, self.only))
        asked = [(group, ChannelRanges(), [Moments() for _ in group.products]) for group in groups]
        questions = [question for one in asked for question in _questions(*one)]
        seen = ctx.calibration.observe(questions) if questions else Observed()
        refused = {id(one.accumulator): why for one, why in seen.refused.items()}
        shapes = ctx.shapes
        for group, data, results in asked:
            why = next((refused[id(one)] for one in (data, *results) if id(one) in refused), None)
            why = why or self._smooth(group, data, results, shapes, ctx)
            if why is not None:
                ctx.missed(RULE, group.products[0].node, why)

    def _smooth(
        self, group: Group, data: ChannelRanges, results: list[Moments], shapes: Shapes, ctx: Context
    ) -> str | None:
        demand = _demand(group, data)
        if isinstance(demand, str):
            return demand
        if self.ranges == "all":
            demand = Demand(
                demand.weights,
                demand.low.min(axis=0, keepdims=True),
                demand.high.max(axis=0, keepdims=True),
                demand.mean_square,
            )
        before, choice = demand.noise(np.ones(len(demand.mean_square))), together(demand)
        takers = group.takers(shapes)
        if isinstance(takers, str) and self.insert and self.outliers:
            choice = apart(demand, self.outliers, self.outlier_gain_db)
        gain = decibels(before, choice.noise)
        if gain < self.min_gain_db:
            return f"its error would be {gain:.1f} dB lower, less than min-gain-db={self.min_gain_db:g}"
        if isinstance(takers, str):
            sizes = [one.outputs for one in group.products]
            energy = sum(float(one.mean_square) * size for one, size in zip(results, sizes, strict=True))
            why = self._why_no_mul(gain, decibels(energy, before))
            if why is not None:
                return f"{takers}, and {why}"
        detail = f"factors {choice.factors.min():.3g} to {choice.factors.max():.3g}, taken by {names_of(takers)}"
        if len(choice.apart):
            detail += f", channels {', '.join(map(str, choice.apart.tolist()))} apart"
        if ctx.rewrite(RULE, group.products[0].node, f"{detail}: error {gain:.1f} dB lower"):
            group.apply(choice.factors, takers, choice.apart)
        return None

    def _why_no_mul(self, gain: float, own: float) -> str | None:
        if not self.insert:
            return "insert is false"
        if gain < self.insert_gain_db:
            return f"a gain of {gain:.1f} dB is less than insert-gain-db={self.insert_gain_db:g}"
        if own > self.insert_below_db:
            return f"its own {own:.1f} dB are above insert-below-db={self.insert_below_db:g}"
        return None


def _demand(group: Group, data: ChannelRanges) -> Demand | str:
    if data.count == 0:
        return "the calibration data make it empty"
    numbers = (group.weights, data.low, data.high, data.mean_square)
    if not all(bool(np.isfinite(one).all()) for one in numbers):
        return "there are NaN or infinities in its weights or its data"
    return Demand(*numbers)


def _questions(group: Group, data: ChannelRanges, results: list[Moments]) -> list[Observation]:
    found = [Observation((group.data,), data)]
    for product, result in zip(group.products, results, strict=True):
        found.append(Observation((product.node.outputs[0],), result))
    return found
