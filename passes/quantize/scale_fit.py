"""The best scales for codes that are given: least squares on the outputs of the layer.

Hubara et al., "Improving Post Training Neural Quantization: Layer-wise Calibration and Integer
Programming" (AdaQuant), 2020, fit scales on the outputs of each layer; with the codes held that is
linear least squares in few unknowns.
"""

from __future__ import annotations

import numpy as np

from passes.quantize.quadratic import Array, Lattice, Layer


def fitted(layer: Layer, lattice: Lattice, codes: Array, which: Array) -> Array:
    """Scales that make the error of `codes` least, [number of scales]; NaN where there is no positive one.

    `which` [groups, inputs, outputs] numbers, from 0, the scale of each weight. An output has one scale
    for all its inputs, which others may share; or one for each run of inputs, to itself.
    """
    count = int(which.max()) + 1
    whole = codes - lattice.zero
    if (which == which[:, :1]).all():
        owner = which[:, 0].ravel()
        right = np.bincount(owner, np.einsum("gkr,gkr->gr", whole, layer.linear).ravel(), count)
        normal = np.bincount(owner, np.einsum("gkr,gkr->gr", whole, layer.gram @ whole).ravel(), count)
        found = np.divide(right, normal, out=np.full(count, np.nan), where=normal > 0)
    else:
        starts = np.flatnonzero(np.diff(which[0, :, 0], prepend=-1))
        found = np.full(count, np.nan)
        found[which[:, starts].ravel()] = _in_runs(layer, whole, starts).ravel()
    return np.where(found > 0, found, np.nan)


def _in_runs(layer: Layer, whole: Array, starts: Array) -> Array:
    """The scales [groups, runs, outputs] of runs of inputs: for each output, as many equations as runs."""
    groups, size, outputs = whole.shape
    normal = np.empty((groups, outputs, len(starts), len(starts)))
    for run, (start, stop) in enumerate(zip(starts, [*starts[1:], size], strict=True)):
        seen = layer.gram[:, :, start:stop] @ whole[:, start:stop]
        normal[:, :, run] = np.add.reduceat(whole * seen, starts, axis=1).transpose(0, 2, 1)
    right = np.add.reduceat(whole * layer.linear, starts, axis=1).transpose(0, 2, 1)
    # A run whose codes are all zero has no equation; its scale does not matter.
    own = np.einsum("grcc->grc", normal)
    own[own <= 0] = 1.0
    try:
        return np.asarray(np.linalg.solve(normal, right[..., None])[..., 0].transpose(0, 2, 1))
    except np.linalg.LinAlgError:
        return np.full((groups, len(starts), outputs), np.nan)
