"""The error that rounding the weights of one layer makes in its outputs, as a quadratic form.

A layer multiplies its inputs by a matrix: y = W x. With codes in place of W its outputs are off by
(W - Q) x, and summed over all inputs seen in calibration the squared error of one output is
(w - q)' H (w - q) with the Gram matrix H of the inputs (Nagel et al. 2020, section 3; Frantar et al.
2022, section 3). Everything that rounds weights with data minimises this over codes q. Where the
inputs have changed since, because layers before this one are quantized already, outputs are
compared with what the layer made of the inputs it had: J(q) = q' H q - 2 q' l + a constant, with
H of the inputs of now and l = E[x_now x_then'] w.

Arrays have three axes [groups, inputs, outputs]: the groups of a convolution are independent
matrices; a dense layer is one group. float64 throughout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.analysis.least_squares import damped

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Lattice:
    """The values that weights may take: (code - zero) * scale for whole codes from `low` to `high`.

    `scale` (positive) and `zero` broadcast to [groups, inputs, outputs].
    """

    scale: Array
    zero: Array
    low: int
    high: int

    def nearest(self, values: Array) -> Array:
        """The nearest code of each value, as float64; ties to even."""
        return np.clip(np.rint(values / self.scale + self.zero), self.low, self.high)

    def values(self, codes: Array) -> Array:
        """What codes stand for."""
        return np.asarray((codes - self.zero) * self.scale)

    def over(self, shape: tuple[int, ...]) -> Lattice:
        """The same with a scale and a zero written out for each element (no memory is taken for it)."""
        return Lattice(np.broadcast_to(self.scale, shape), np.broadcast_to(self.zero, shape), self.low, self.high)

    def taken(self, order: Array) -> Lattice:
        """The lattice of weights whose inputs were put in another order: [groups, inputs] indices."""
        where = order[:, :, None]
        return Lattice(
            np.take_along_axis(self.scale, where, 1), np.take_along_axis(self.zero, where, 1), self.low, self.high
        )


@dataclass(frozen=True)
class Layer:
    """What is to be rounded: `weights` [groups, inputs, outputs], and how errors in it count.

    `gram` is H [groups, inputs, inputs]; `linear` is l as above, of the shape of the weights. For
    unchanged inputs it is H w (`Layer.of`), and the layer is not `corrected`.
    """

    weights: Array
    gram: Array
    linear: Array
    corrected: bool = False

    @classmethod
    def of(cls, weights: Array, gram: Array) -> Layer:
        """A layer whose inputs are what they were."""
        return cls(weights, gram, gram @ weights)

    @property
    def target(self) -> Array:
        """The weights that would be best without rounding. Raises LinAlgError where H is singular."""
        return np.linalg.solve(self.gram, self.linear) if self.corrected else self.weights

    def loss(self, values: Array) -> Array:
        """J of each output [groups, outputs], less the constant; only differences mean something."""
        return np.asarray(np.einsum("gkr,gkr->gr", values, self.gram @ values - 2 * self.linear))

    def damped(self, share: float) -> Layer:
        """With `share` of the mean diagonal added to H, pulling towards the weights as they are.

        Keeps H invertible, and keeps rounding from fitting the few inputs of the calibration too well
        (Frantar et al. 2022, section 3.3, step 2: 1 %). Inputs that were never seen get the mean.
        """
        gram, linear = damped(self.gram, self.linear, self.weights, share)
        return Layer(self.weights, gram, linear, self.corrected)


def better(layer: Layer, lattice: Lattice, one: Array, other: Array) -> Array:
    """Of two sets of codes, for each output those with the smaller error; `other` where they tie or
    an error is not a number."""
    gain = layer.loss(lattice.values(one)) < layer.loss(lattice.values(other))
    return np.where(gain[:, None, :], one, other)
