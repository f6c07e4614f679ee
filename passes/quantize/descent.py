"""Rounding by coordinate descent: each weight in turn takes the best code that it can, given all others.

Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization", ICML 2020, state the
problem and choose between the two neighbours of each weight; Behdin et al., "QuantEase:
Optimization-based Quantization for Language Models", 2023, choose among all codes one coordinate
after the other, which never makes the error larger.
"""

from __future__ import annotations

import numpy as np

from passes.quantize.quadratic import Array, Lattice, Layer

_BLOCK = 128  # inputs after which what the others see of the changes is brought up to date


def descended(layer: Layer, lattice: Lattice, codes: Array, sweeps: int, neighbours: bool = False) -> Array:
    """Codes that are no worse than `codes` for any output, after at most `sweeps` rounds over all inputs.

    With `neighbours`, only the two codes next to each weight may be chosen. Ends early when a round
    changes nothing: then no single change of a code makes the error smaller.
    """
    lattice = lattice.over(codes.shape)
    low, high = _limits(layer, lattice, neighbours)
    codes = np.clip(codes, low, high)
    # Minus half the gradient; what is left to gain by moving a weight is in its slope.
    slope = layer.linear - layer.gram @ lattice.values(codes)
    for _ in range(sweeps):
        if not _sweep(layer.gram, lattice, codes, slope, low, high):
            break
    return codes


def _limits(layer: Layer, lattice: Lattice, neighbours: bool) -> tuple[Array, Array]:
    shape = layer.weights.shape
    if not neighbours:
        return np.broadcast_to(np.float64(lattice.low), shape), np.broadcast_to(np.float64(lattice.high), shape)
    below = np.clip(np.floor(layer.weights / lattice.scale + lattice.zero), lattice.low, lattice.high)
    return below, np.minimum(below + 1, lattice.high)


def _sweep(gram: Array, lattice: Lattice, codes: Array, slope: Array, low: Array, high: Array) -> bool:
    """One round over all inputs; `codes` and `slope` are changed in place. Whether a code changed."""
    size, changed = codes.shape[1], False
    curvature = np.einsum("gkk->gk", gram)
    curvature = np.where(curvature > 0, curvature, np.inf)  # what was never seen stays as it is
    for start in range(0, size, _BLOCK):
        stop = min(start + _BLOCK, size)
        moves = np.zeros_like(slope[:, start:stop])
        nearby = slope[:, start:stop].copy()
        for at in range(start, stop):
            scale, now = lattice.scale[:, at], codes[:, at]
            wanted = now + nearby[:, at - start] / (scale * curvature[:, at, None])
            code = np.clip(np.rint(wanted), low[:, at], high[:, at])
            move = (code - now) * scale
            if not move.any():
                continue
            changed = True
            codes[:, at], moves[:, at - start] = code, move
            if at + 1 < stop:
                nearby[:, at + 1 - start :] -= gram[:, at, at + 1 : stop, None] * move[:, None, :]
        slope -= gram[:, :, start:stop] @ moves
    return changed
