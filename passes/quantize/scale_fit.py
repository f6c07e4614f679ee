"""The best scales for codes that are given: least squares on the outputs of the layer.

Hubara et al., "Improving Post Training Neural Quantization: Layer-wise Calibration and Integer
Programming" (AdaQuant), 2020, fit scales on the outputs of each layer; with the codes held that is
linear least squares with a few unknowns for each output.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from passes.quantize.quadratic import Array, Lattice, Layer


def fitted(layer: Layer, lattice: Lattice, codes: Array, cells: Array) -> Array:
    """The scales [groups, cells, outputs] that make the error of `codes` least, before any rounding of them.

    `cells` [inputs] numbers the scale of an output that each input uses, from 0. Where least squares
    finds no positive scale or none at all, it is NaN.
    """
    count = int(cells.max()) + 1
    whole = codes - lattice.zero
    groups, size, outputs = whole.shape
    inside = cells[:, None] == np.arange(count)  # [inputs, cells]
    starts = np.flatnonzero(np.diff(cells, prepend=-1))
    assert len(starts) == count, "the inputs of a cell lie together"
    normal = np.empty((groups, outputs, count, count))
    for cell, start in enumerate(starts):
        stop = starts[cell + 1] if cell + 1 < count else size
        seen = layer.gram[:, :, start:stop] @ whole[:, start:stop]
        normal[:, :, cell] = np.add.reduceat(whole * seen, starts, axis=1).transpose(0, 2, 1)
    right = np.add.reduceat(whole * layer.linear, starts, axis=1).transpose(0, 2, 1)
    del inside
    try:
        found = np.linalg.solve(normal, right[..., None])[..., 0]
    except np.linalg.LinAlgError:
        return np.full((groups, count, outputs), np.nan)
    return np.where(found > 0, found, np.nan).transpose(0, 2, 1)
