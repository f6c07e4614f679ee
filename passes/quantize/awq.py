"""Scale channels so that those that matter lose least when weights are quantized."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from graphopt.analysis.activations import Observation, Observed
from graphopt.analysis.shapes import Shapes
from graphopt.ir import Graph
from graphopt.ir.values import Array
from graphopt.pipeline.protocol import Context, Contract, Pass, option
from passes.quantize.grid import asymmetric, codes, spread, symmetric, values_of
from passes.quantize.product_groups import Group, names_of, product_groups
from passes.quantize.products import Selection
from passes.quantize.row_sample import RowSample
from passes.quantize.smoothing_error import decibels

RULE = "awq"
_ALPHAS = tuple(one / 20 for one in range(1, 21))
_ROUNDS = 4  # searches that start where the last one ended
_SINGLE = np.dtype(np.float32)
_WIDEST = 1e4  # factors stay within 1 / this and this


@dataclass(frozen=True)
class Awq(Pass):
    """Multiply the rows of weights that large activations meet, and divide these, before weights are quantized.

    What it does
        A few input channels of a product carry most of what comes out, and the rounding of their weights
        does most of the harm. A row of weights that is multiplied by a factor loses less when
        rounded, and a channel of data that is divided by it keeps the product the same. For each value that MatMul
        or Gemm multiply with stored weights, factors are mean(|x|)^alpha of each channel, with alpha
        searched from 0.05 to 1: the one with the least error of the products, of a sample of rows of
        the calibration data with the weights rounded as bits, block and symmetric say. Query, key and
        value of an attention get the same factors.

        The operators before take the division into constants of theirs where they can; elsewhere a Mul is
        put in if the error falls by insert_gain_db. This pass only scales: weight-int4, gptq or
        another pass with the same options quantizes behind it.

    Example
        before: x = LayerNormalization(h, g, b)             y = MatMul(x, w)
        after:  x = LayerNormalization(h, g_over_s, b_over_s)      y = MatMul(x, s_times_w)

    When not
        For activations that are quantized too: smooth is for those. fold-scale-bias would fold a Mul that was
        put in back into the weights: run clean-up passes before, not behind. Left, with the reason: weights
        that others read too or that are quantized already, values that the calibration data do not reach, and gains
        below min_gain_db. A pass that weighs errors itself, as gptq does, gains less from it.

    Contract
        ROUNDING: the same mathematics. Time is 20 roundings of each weight, and their products with
        `rows` rows, a few times over.

    Source
        Lin et al., "AWQ: Activation-aware Weight Quantization for On-Device LLM Compression and
        Acceleration", MLSys 2024.
    """

    name = "awq"
    contract = Contract.ROUNDING
    grows = True
    calibrates = True

    bits: Literal[2, 4, 8] = option(4, "bits that the weights are going to have")
    block: int = option(32, "how many inputs are going to share a scale; 0 for a scale for each output")
    symmetric: bool = option(True, "whether codes are going to be around zero")
    rows: int = option(256, "rows of the data to keep for the search")
    min_gain_db: float = option(0.2, "leave values alone whose products would gain less, in decibels")
    insert: bool = option(True, "put a Mul where no operator before can take the factors")
    insert_gain_db: float = option(1.0, "the gain from which on a Mul is worth it")
    skip: tuple[str, ...] = option((), "patterns of nodes, weights and values whose operators to leave alone")
    only: tuple[str, ...] = option((), "patterns of the only ones to scale")

    def __post_init__(self) -> None:
        if self.block < 0 or self.rows < 1:
            raise ValueError(f"block must not be negative, and rows at least 1: {self.block} and {self.rows} are not")
        if self.min_gain_db <= 0:
            raise ValueError(f"min-gain-db must be positive, and {self.min_gain_db} is not")

    def run(self, graph: Graph, ctx: Context) -> None:
        groups = product_groups(graph, ctx, RULE, Selection(self.skip, self.only))
        samples = [RowSample(self.rows) for _ in groups]
        asked = [Observation((group.data,), sample) for group, sample in zip(groups, samples, strict=True)]
        seen = ctx.calibration.observe(asked) if asked else Observed()
        shapes = ctx.shapes
        for group, question, sample in zip(groups, asked, samples, strict=True):
            why = seen.refused.get(question) or self._scale(group, sample.rows, shapes, ctx)
            if why is not None:
                ctx.missed(RULE, group.products[0].node, why)

    def _scale(self, group: Group, data: Array, shapes: Shapes, ctx: Context) -> str | None:
        weights = group.weights
        if data.size == 0:
            return "the calibration data make it empty"
        if not (np.isfinite(data).all() and np.isfinite(weights).all()):
            return "there are NaN or infinities in its weights or its data"
        factors, gain = self._search(weights, data)
        if gain < self.min_gain_db:
            return f"its error would be {gain:.1f} dB lower, less than min-gain-db={self.min_gain_db:g}"
        takers = group.takers(shapes)
        if isinstance(takers, str) and not self.insert:
            return f"{takers}, and insert is false"
        if isinstance(takers, str) and gain < self.insert_gain_db:
            return f"{takers}, and a gain of {gain:.1f} dB is less than insert-gain-db={self.insert_gain_db:g}"
        detail = f"factors {factors.min():.3g} to {factors.max():.3g}, taken by {names_of(takers)}"
        if ctx.rewrite(RULE, group.products[0].node, f"{detail}: error {gain:.1f} dB lower"):
            group.apply(factors, takers, np.zeros(0, np.int64))
        return None

    def _search(self, weights: Array, data: Array) -> tuple[Array, float]:
        """Factors [K] with the least error, and by how many decibels it is lower than without."""
        factors = np.ones(len(weights))
        first = least = self._error(weights, data)
        if first == 0:
            return factors, 0.0
        for _ in range(_ROUNDS):
            step = np.ones(len(weights))
            size = np.mean(np.abs(data / factors.astype(np.float32)), axis=0, dtype=np.float64)
            size = np.maximum(size, 1e-4 * max(float(size.max()), 1e-30))
            found = least
            for alpha in _ALPHAS:
                trial = size**alpha
                trial = np.clip(factors * trial / np.exp(np.mean(np.log(trial))), 1 / _WIDEST, _WIDEST)
                error = self._error(weights * trial[:, None].astype(np.float32), data / trial.astype(np.float32))
                if error < found:
                    step, found = trial / factors, error
            if decibels(least, found) < self.min_gain_db / 2:
                break
            factors, least = factors * step, found
        return factors, decibels(first, least)

    def _error(self, weights: Array, data: Array) -> float:
        """The squared error of the products of data with weights rounded to the nearest."""
        axis, block = (0, self.block) if self.block else (1, 0)
        make = symmetric if self.symmetric else asymmetric
        grid = make(spread(weights, axis, block), axis, _SINGLE, self.bits, block=block)
        return float(np.sum(np.square(data @ (values_of(codes(weights, grid), grid) - weights), dtype=np.float64)))
