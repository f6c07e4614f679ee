"""Put noise on weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final, Literal

import ml_dtypes
import numpy as np

from graphopt.analysis.changes import Change
from graphopt.analysis.named_noise import deviation, noise
from graphopt.analysis.weights import Weight, weights
from graphopt.ir import Graph
from graphopt.ir.dtypes import np_dtype
from graphopt.pipeline.protocol import Context, Contract, Pass, option

Array = np.ndarray[Any, Any]

RULE = "noise"

_WEAKEST: Final = 1e-6  # eps that is tried first, and last
_STRONGEST: Final = 10.0
_AT_ONCE: Final = 8  # tries that cost one run over the feeds
_ROUNDS: Final = 3
_FLOATS: Final = tuple(np.dtype(one) for one in (np.float32, np.float16, ml_dtypes.bfloat16, np.float64))
_LARGEST: Final = {np.dtype(np.float16): 65504.0, np.dtype(np.float64): 1.7976931348623157e308}


@dataclass(frozen=True)
class WeightNoise(Pass):
    """Put seeded random noise on weights, to see what a model tolerates.

    What it does
        Each weight w of Conv, ConvTranspose, Gemm, MatMul, Gather, LSTM, GRU and RNN, whether
        initializers or Constant nodes, in bodies and functions, becomes w + eps * s * n, with n drawn
        independently for each weight (for each output channel with per=channel, for each tensor with
        per=tensor), uniform from -1 to 1 or normal with a deviation of one. relative=weight makes s
        the weight itself, so that w becomes w * (1 + eps * n) and zeros stay zeros; relative=channel and
        relative=tensor make it the root mean square of the weight's output channel or of the whole
        tensor, which is how rounding errs.

        What is drawn depends on `seed`, on the tensor's name and on where it is, and on nothing else: a
        tensor gets the same noise whichever others are skipped, in whatever order.

        sqnr=30 looks for the largest eps, from 1e-6 to 10 and to a hundredth of a decade, with which the worst
        output keeps 30 dB on the calibration feeds; `eps` does not matter then.

        dither=true makes the noise one quantization step wide instead: uniform in half a step to each
        side, the step that `bits` and `granularity` give the weights. Rounding to the nearest code
        afterwards (weight-int8 with the same granularity) is then stochastic: a weight that lies a
        quarter of the way between two codes takes the farther one with probability one quarter, so that
        it is right on average, and rounding errors of neighbours do not conspire. The largest weight of
        each range, which fixes the step, and zeros stay as they are; others are kept within that range.
        `eps`, `distribution`, `per` and `relative` do not matter then.

    Example
        weight-noise{eps=0.01}                          w = 0.5 -1.0    after: w = 0.502 -0.997
        weight-noise{dither},weight-int8                stochastic rounding to 8 bits

    When not
        Not to ship a model. Dither makes the error of rounding larger, twice as large in energy, than rounding
        to nearest, and is better only where the errors of rounding to nearest add up: few bits, and
        weights that repeat.

        Left, with the reason: weights that callers may override, that are graph outputs, or that something
        else reads too; biases; integers; NaN and infinities; tensors below min-elements; weights whose
        channels are not one axis, where noise or steps are for each channel.

    Contract
        LOSSY: needs a budget. With relative=weight and uniform noise no weight moves by more than eps * |w|.
        Costs one pass over the weights, and three runs of eight models over the feeds with sqnr.

    Source
        Croci et al., "Stochastic rounding: implementation, error analysis and applications", Royal
        Society Open Science 2022. Gupta et al., "Deep Learning with Limited Numerical Precision",
        ICML 2015. Schuchman, "Dither signals and their effect on quantization noise", 1964.
    """

    name = "weight-noise"
    contract = Contract.LOSSY
    calibrates = True

    eps: float = option(0.01, "strength of the noise, relative to what `relative` says")
    distribution: Literal["uniform", "normal"] = option("uniform", "from -1 to 1, or normal with a deviation of one")
    sqnr: float = option(0.0, "look for the largest eps that keeps the outputs above so many dB on calibration feeds")
    seed: int = option(0, "other seeds draw other noise")
    per: Literal["weight", "channel", "tensor"] = option("weight", "what gets a number of its own")
    relative: Literal["weight", "channel", "tensor"] = option("weight", "what the strength is relative to")
    dither: bool = option(False, "noise of one quantization step, for rounding that is right on average")
    bits: int = option(8, "of the codes that are dithered for")
    granularity: Literal["channel", "tensor"] = option("channel", "the weights that share a step, where dithered")
    min_elements: int = option(1, "leave smaller weights as they are")
    skip: tuple[str, ...] = option((), "patterns such as /head/* of weights and nodes to leave as they are")
    only: tuple[str, ...] = option((), "patterns of the weights and nodes to take; all unless given")

    def __post_init__(self) -> None:
        if not 0 <= self.eps <= 1000:
            raise ValueError(f"eps must be from 0 to 1000, and {self.eps:g} is not")
        if not 0 <= self.sqnr <= 200:
            raise ValueError(f"sqnr must be from 0 to 200 dB, and {self.sqnr:g} is not")
        if not 2 <= self.bits <= 16:
            raise ValueError(f"bits must be from 2 to 16, and {self.bits} is not")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, and {self.seed} is")
        if self.min_elements < 0:
            raise ValueError(f"min-elements must not be negative, and {self.min_elements} is")

    def run(self, graph: Graph, ctx: Context) -> None:
        chosen = []
        for weight in weights(graph):
            if not weight.sites:
                continue
            why = self._why_not(weight)
            if why is None:
                why = _why_no_numbers(weight)
            if why is None:
                chosen.append(weight)
            else:
                ctx.missed(RULE, weight.subject, why)
            weight.constant.forget()
        eps = self._searched(chosen, ctx) if self.sqnr and not self.dither else self.eps
        for weight in chosen if eps is not None else ():
            self._perturb(weight, ctx, eps or 0.0)
            weight.constant.forget()

    def _searched(self, chosen: list[Weight], ctx: Context) -> float | None:
        """The largest eps with which the outputs keep the SQNR that is asked for; None, with the reason, where
        there is none."""
        why = ctx.measure.why_not
        low, high = _WEAKEST, _STRONGEST
        for _ in range(_ROUNDS if why is None and chosen else 0):
            tried = np.geomspace(low, high, _AT_ONCE)
            changes = [Change(tuple((one.tensor, self._moved(one, float(eps))) for one in chosen)) for eps in tried]
            answer = ctx.measure.changes(changes)
            why = next(iter(answer.refused.values()), None)
            if why is not None:
                break
            keeps = [answer.present[one].error <= 10.0 ** (-self.sqnr / 10.0) for one in changes]
            count = keeps.index(False) if False in keeps else len(keeps)
            if count == 0:
                why = f"even eps={tried[0]:.2g} brings the outputs below {self.sqnr:g} dB"
                break
            low, high = float(tried[count - 1]), float(tried[min(count, len(tried) - 1)])
            if low == high:
                break
        for one in chosen if why is not None else ():
            ctx.missed(RULE, one.subject, f"no eps could be searched: {why}")
        return low if why is None else None

    def _why_not(self, weight: Weight) -> str | None:
        """Why a weight is left as it is, in a clause; reads no values."""
        if weight.obstacle is not None:
            return weight.obstacle
        dtype = np_dtype(weight.constant.onnx_dtype)
        if dtype not in _FLOATS:
            return f"it is {'of an unknown type' if dtype is None else dtype}, not floating point"
        if weight.elements == 0:
            return "it is empty"
        if weight.elements < self.min_elements:
            return f"it has {weight.elements} elements, fewer than min-elements={self.min_elements}"
        pattern = next((one for one in self.skip if _matches(weight, one)), None)
        if pattern is not None:
            return f"skip has {pattern!r}"
        if self.only and not any(_matches(weight, one) for one in self.only):
            return "only does not name it"
        if not self.dither and "channel" in (self.per, self.relative) and _axis(weight) is None:
            return f"the channels of {weight.sites[0].node.label!r} are not one axis of it"
        return None

    def _perturb(self, weight: Weight, ctx: Context, eps: float) -> None:
        wide = _wide(weight)
        made = self._moved(weight, eps)
        change = made.astype(np.float64) - wide
        if not np.any(change):
            why = "it is all zeros" if not np.any(wide) else "the noise is too small for it"
            ctx.missed(RULE, weight.subject, why)
            return
        detail = _detail(change, wide) + (f", eps={eps:.3g} of the search" if self.sqnr and not self.dither else "")
        if ctx.rewrite(RULE, weight.subject, detail):
            weight.home.set_values(weight.constant, made)

    def _moved(self, weight: Weight, eps: float) -> Array:
        """The weights with noise on them, in their own type."""
        wide = _wide(weight)
        place = f"{weight.home.path}/{weight.tensor.name}"
        moved = self._dithered(wide, weight, place) if self.dither else self._noisy(wide, weight, place, eps)
        dtype = np.asarray(weight.constant.values).dtype
        made: Array = np.clip(moved, -_largest(dtype), _largest(dtype)).astype(dtype)
        return made

    def _noisy(self, wide: Array, weight: Weight, place: str, eps: float) -> Array:
        axis = _axis(weight)
        shapes: Mapping[str, tuple[int, ...]] = {
            "weight": wide.shape,
            "channel": tuple(size if one == axis else 1 for one, size in enumerate(wide.shape)),
            "tensor": (1,) * wide.ndim,
        }
        drawn = noise(place, shapes[self.per], self.seed, self.distribution)
        scale = wide if self.relative == "weight" else deviation(wide, axis if self.relative == "channel" else None)
        found: Array = wide + eps * scale * drawn
        return found

    def _dithered(self, wide: Array, weight: Weight, place: str) -> Array:
        axis = _axis(weight) if self.granularity == "channel" else None
        others = None if axis is None else tuple(one for one in range(wide.ndim) if one != axis)
        peak = np.abs(wide).max(axis=others, keepdims=True)
        step = peak / ((1 << self.bits - 1) - 1)
        moved = np.clip(wide + step * 0.5 * noise(place, wide.shape, self.seed, "uniform"), -peak, peak)
        found: Array = np.where((np.abs(wide) == peak) | (wide == 0.0), wide, moved)
        return found


def _wide(weight: Weight) -> Array:
    return np.asarray(weight.constant.values).astype(np.float64)


def _why_no_numbers(weight: Weight) -> str | None:
    wide = _wide(weight)
    if np.isfinite(wide).all():
        return None
    return "it has a NaN" if np.isnan(wide).any() else "it has an infinity"


def _matches(weight: Weight, pattern: str) -> bool:
    return any(fnmatchcase(name, pattern) for name in weight.names)


def _axis(weight: Weight) -> int | None:
    """The axis of the stored tensor whose indices are output channels for every reader."""
    axes = {site.channel for site in weight.sites}
    return axes.pop() if len(axes) == 1 else None


def _largest(dtype: np.dtype[Any]) -> float:
    return _LARGEST.get(dtype, 3.3895313892515355e38)  # of bfloat16, which float32 has, too


def _detail(change: Array, wide: Array) -> str:
    square, whole = float(np.square(change).sum()), float(np.square(wide).sum())
    if not 0.0 < whole < np.inf or not 0.0 < square < np.inf:
        return "noise on all of it"
    return f"noise {-10.0 * np.log10(square / whole):.1f} dB below it"
