"""Even out the weights of neighbouring layers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from graphopt.analysis.channel_readers import LINEAR, Channels, channels_of
from graphopt.analysis.channel_scaling import Holder, holders
from graphopt.analysis.constants import constant_of
from graphopt.analysis.shapes import Shapes
from graphopt.ir import Constant, Graph, Tensor
from graphopt.ir.values import Array
from graphopt.pipeline.protocol import Context, Contract, Pass, option
from passes.quantize.products import Selection

RULE = "equalize"
_SETTLED = 1.01  # a sweep that moves no factor further than this is the last one
_SWEEPS = 200
_WIDEST = 1e4  # factors stay within 1 / this and this


@dataclass(frozen=True)
class Equalize(Pass):
    """Scale channels between two layers so that the weights on both sides span the same range.

    What it does
        Between two linear operators, what the first puts into a channel can be divided by a factor
        if the second multiplies that channel by it: the function stays the same. Factors are
        sqrt(peak1 / peak2), the largest magnitudes of the weights that make the channel and of
        those that read it, so that both become sqrt(peak1 * peak2). Then no channel is much wider
        or narrower than the others, which one scale for a whole tensor needs, of activations and of
        weights. Chains are gone through until nothing moves any more; no data are needed.

        Operators are Conv (in groups and depthwise, too), ConvTranspose, Gemm and MatMul with stored weights of
        their own. Between them may be what lets positive factors through: Relu, LeakyRelu, PRelu, max and
        average pooling, Add and Sub where both sides take the factors, Mul with what does not. Several
        operators may read the value.

    Example
        before: y = Conv(x, w, b)    r = Relu(y)    z = Conv(r, v)          w[3] up to 20, v[:,3] up to 0.2
        after:  the same nodes, w[3] and b[3] divided by 10, v[:,3] multiplied    both up to 2

    When not
        Relu6, Clip, HardSwish, Sigmoid and the like do not let factors through and are left with the reason.
        Values that are graph outputs, or read by something else. Weights with a scale for each output already absorb
        half of what this brings; for activations with outliers of MatMul, smooth looks at the data.
        Weights that are quantized already. fold-batchnorm should have been before, fold-scale-bias too.

    Contract
        ROUNDING: the same mathematics. Time is some passes over the weights, more for long chains.

    Source
        Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019.
    """

    name = "equalize"
    contract = Contract.ROUNDING

    min_factor: float = option(1.1, "leave pairs alone whose factors all are nearer to 1 than this")
    skip: tuple[str, ...] = option((), "patterns of nodes, weights and values whose operators to leave alone")
    only: tuple[str, ...] = option((), "patterns of the only ones to equalize")

    def __post_init__(self) -> None:
        if not self.min_factor > _SETTLED:
            raise ValueError(f"min-factor must be more than {_SETTLED}, and {self.min_factor} is not")

    def run(self, graph: Graph, ctx: Context) -> None:
        seams = self._seams(graph, ctx)
        magnitudes = _magnitudes(seams)
        for _ in range(_SWEEPS):
            if max((one.settle(magnitudes) for one in seams), default=1.0) < _SETTLED:
                break
        for one in seams:
            reader, span = one.channels.readers[0].node, float(np.abs(np.log(one.factors)).max())
            if span < np.log(self.min_factor):
                ctx.missed(RULE, reader, f"no factor reaches min-factor={self.min_factor:g}")
                continue
            sides = " and ".join(dict.fromkeys(f"{each.node.op} {each.node.label!r}" for each in one.takers))
            detail = f"factors {one.factors.min():.3g} to {one.factors.max():.3g} from {sides}"
            if ctx.rewrite(RULE, reader, detail):
                one.apply()

    def _seams(self, graph: Graph, ctx: Context) -> list[_Seam]:
        shapes, selection = ctx.shapes, Selection(self.skip, self.only)
        found: dict[Tensor, _Seam] = {}
        seen: set[Tensor] = set()
        for scope in graph.scopes():
            for node in scope.nodes:
                if not node.is_op(*LINEAR) or len(node.inputs) < 2 or constant_of(node.inputs[1]) is None:
                    continue
                value: Tensor = node.inputs[0]
                if value in seen:
                    continue
                seen.add(value)
                channels = selection.why_not(node) or channels_of(value)
                made = channels if isinstance(channels, str) else _seam(value, channels, shapes)
                if isinstance(made, str):
                    ctx.missed(RULE, node, made)
                else:
                    found[value] = made
        return list(found.values())


@dataclass(eq=False)
class _Seam:
    """A value between linear operators: factors by which `takers` are divided and `channels` multiplied."""

    channels: Channels
    takers: list[Holder]
    factors: Array = field(default_factory=lambda: np.ones(0))

    @property
    def makers(self) -> list[Holder]:
        """The takers that are weights and not biases."""
        return [one for one in self.takers if one.slot == 1 and one.node.is_op(*LINEAR)]

    def settle(self, magnitudes: dict[Constant, Array]) -> float:
        """Even out both sides as they are now; returns the farthest factor that took, as more than 1."""
        before = np.max([_peaks(magnitudes[_held(one.node.inputs[1])], one.axis) for one in self.makers], axis=0)
        behind = np.max([one.peaks(magnitudes[_held(one.weight)]) for one in self.channels.readers], axis=0)
        alive = (before > 0) & (behind > 0)
        step = np.where(alive, np.sqrt(np.where(alive, before, 1) / np.where(alive, behind, 1)), 1.0)
        factors = np.clip(self.factors * step, 1 / _WIDEST, _WIDEST)
        step, self.factors = factors / self.factors, factors
        for one in self.makers:
            magnitudes[_held(one.node.inputs[1])] /= step.reshape([-1] + [1] * (-one.axis - 1))
        for reader in self.channels.readers:
            held = _held(reader.weight)
            magnitudes[held] *= reader.laid_out(step, magnitudes[held].shape)
        return float(np.exp(np.abs(np.log(step)).max()))

    def apply(self) -> None:
        for one in self.takers:
            one.apply(1 / self.factors)
        for reader in self.channels.readers:
            reader.apply(self.factors)


def _seam(value: Tensor, channels: Channels, shapes: Shapes) -> _Seam | str:
    takers = holders(value, channels.axis, channels.size, shapes)
    if isinstance(takers, str):
        return takers
    made = _Seam(channels, takers, np.ones(channels.size))
    if not made.makers:
        return f"no weights make the channels of {value.name!r}"
    weights = [*(one.node.inputs[1] for one in made.makers), *(one.weight for one in channels.readers)]
    if not all(bool(np.isfinite(_held(one).values).all()) for one in weights):
        return "there are NaN or infinities in the weights"
    return made


def _magnitudes(seams: list[_Seam]) -> dict[Constant, Array]:
    found: dict[Constant, Array] = {}
    for one in seams:
        for tensor in (*(each.node.inputs[1] for each in one.makers), *(each.weight for each in one.channels.readers)):
            held = _held(tensor)
            if held not in found:
                found[held] = np.abs(held.values.astype(np.float64))
    return found


def _held(tensor: Tensor) -> Constant:
    held = constant_of(tensor)
    assert held is not None, "checked when it was found"
    return held


def _peaks(magnitudes: Array, axis: int) -> Array:
    """The largest magnitude of each index of `axis`, from the end."""
    others = tuple(i for i in range(magnitudes.ndim) if i != magnitudes.ndim + axis)
    found: Array = magnitudes.max(axis=others, initial=0)  # a weight may have no elements
    return found
