"""Put noise on weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final, Literal

import ml_dtypes
import numpy as np

from graphopt.analysis.named_noise import deviation, noise
from graphopt.analysis.weights import Weight, weights
from graphopt.ir import Graph
from graphopt.ir.dtypes import np_dtype
from graphopt.pipeline.protocol import Context, Contract, Pass, option

Array = np.ndarray[Any, Any]

RULE = "noise"
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
        Costs one pass over the weights.

    Source
        Croci et al., "Stochastic rounding: implementation, error analysis and applications", Royal
        Society Open Science 2022. Gupta et al., "Deep Learning with Limited Numerical Precision",
        ICML 2015. Schuchman, "Dither signals and their effect on quantization noise", 1964.
    """

    name = "weight-noise"
    contract = Contract.LOSSY

    eps: float = option(0.01, "strength of the noise, relative to what `relative` says")
    distribution: Literal["uniform", "normal"] = option("uniform", "from -1 to 1, or normal with a deviation of one")
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
        if not 2 <= self.bits <= 16:
            raise ValueError(f"bits must be from 2 to 16, and {self.bits} is not")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, and {self.seed} is")
        if self.min_elements < 0:
            raise ValueError(f"min-elements must not be negative, and {self.min_elements} is")

    def run(self, graph: Graph, ctx: Context) -> None:
        for weight in weights(graph):
            if not weight.sites or not weight.tensor.is_read:
                continue
            why = self._why_not(weight)
            if why is None:
                self._perturb(weight, ctx)
            else:
                ctx.missed(RULE, weight.subject, why)
            weight.constant.forget()

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
        by_channel = "channel" in ((self.granularity,) if self.dither else (self.per, self.relative))
        if by_channel and _axis(weight) is None and not self.dither:
            return f"the channels of {weight.sites[0].node.label!r} are not one axis of it"
        return None

    def _perturb(self, weight: Weight, ctx: Context) -> None:
        values = np.asarray(weight.constant.values)
        wide = values.astype(np.float64)
        if not np.isfinite(wide).all():
            ctx.missed(RULE, weight.subject, "it has a NaN" if np.isnan(wide).any() else "it has an infinity")
            return
        place = f"{weight.home.path}/{weight.tensor.name}"
        moved = self._dithered(wide, weight, place) if self.dither else self._noisy(wide, weight, place)
        made = np.clip(moved, -_largest(values.dtype), _largest(values.dtype)).astype(values.dtype)
        change = made.astype(np.float64) - wide
        if not np.any(change):
            ctx.missed(RULE, weight.subject, "it is all zeros" if not np.any(wide) else "the noise is too small for it")
            return
        if ctx.rewrite(RULE, weight.subject, _detail(change, wide)):
            weight.home.set_values(weight.constant, made)

    def _noisy(self, wide: Array, weight: Weight, place: str) -> Array:
        axis = _axis(weight)
        shapes: Mapping[str, tuple[int, ...]] = {
            "weight": wide.shape,
            "channel": tuple(size if one == axis else 1 for one, size in enumerate(wide.shape)),
            "tensor": (1,) * wide.ndim,
        }
        drawn = noise(place, shapes[self.per], self.seed, self.distribution)
        scale = wide if self.relative == "weight" else deviation(wide, axis if self.relative == "channel" else None)
        found: Array = wide + self.eps * scale * drawn
        return found

    def _dithered(self, wide: Array, weight: Weight, place: str) -> Array:
        axis = _axis(weight) if self.granularity == "channel" else None
        others = None if axis is None else tuple(one for one in range(wide.ndim) if one != axis)
        peak = np.abs(wide).max(axis=others, keepdims=True)
        step = peak / ((1 << self.bits - 1) - 1)
        moved = np.clip(wide + step * 0.5 * noise(place, wide.shape, self.seed, "uniform"), -peak, peak)
        found: Array = np.where((np.abs(wide) == peak) | (wide == 0.0), wide, moved)
        return found


def _matches(weight: Weight, pattern: str) -> bool:
    return any(fnmatchcase(name, pattern) for name in weight.names)


def _axis(weight: Weight) -> int | None:
    """The axis of the stored tensor whose indices are output channels for every reader."""
    axes = {site.channel for site in weight.sites}
    axis = axes.pop() if len(axes) == 1 else None
    return axis if axis is not None and int(weight.constant.shape[axis]) > 1 else None


def _largest(dtype: np.dtype[Any]) -> float:
    return _LARGEST.get(dtype, 3.3895313892515355e38)  # of bfloat16, which float32 has, too


def _detail(change: Array, wide: Array) -> str:
    square, whole = float(np.square(change).sum()), float(np.square(wide).sum())
    if not 0.0 < whole < np.inf or not 0.0 < square < np.inf:
        return "noise on all of it"
    return f"noise {-10.0 * np.log10(square / whole):.1f} dB below it"
