"""Rounding one input after the other and passing the error on: GPTQ.

Frantar, Ashkboos, Hoefler, Alistarh, "GPTQ: Accurate Post-Training Quantization for Generative
Pre-trained Transformers", 2022 (ICLR 2023). After the weights of one input are rounded, the weights
of the inputs that come later move so that they make up for the error as well as they can.
"""

from __future__ import annotations

import numpy as np

from passes.quantize.quadratic import Array, Lattice, Layer

_BLOCK = 128  # inputs whose errors are passed on at once, so that most of the work is matrix products


def rounded(layer: Layer, lattice: Lattice, ordered: bool) -> Array:
    """Codes for the weights of `layer`, whose H has to be positive definite (see `Layer.damped`) and whose
    weights are its target.

    `ordered` takes inputs in the order of their energy, largest first, so that the errors that are
    hard to make up for are made while most inputs are left; scales stay those of their inputs.

    Raises numpy.linalg.LinAlgError for an H that is not positive definite.
    """
    shape = layer.weights.shape
    gram, target, lattice = layer.gram, layer.weights.copy(), lattice.over(shape)
    order = np.broadcast_to(np.arange(shape[1]), shape[:2])
    if ordered:
        order = np.argsort(-np.einsum("gkk->gk", gram), axis=1, kind="stable")
        gram = np.take_along_axis(np.take_along_axis(gram, order[:, :, None], 1), order[:, None, :], 2)
        target = np.take_along_axis(target, order[:, :, None], 1)
        lattice = lattice.taken(order)
    codes = _in_turn(target, _inverse_root(gram), lattice)
    back = np.empty_like(codes)
    np.put_along_axis(back, order[:, :, None], codes, 1)
    return back


def _inverse_root(gram: Array) -> Array:
    """The upper triangular U with U' U = inverse of H, for each group."""
    # With J turning the order around and J H J = L L', H = (J L J)(J L J)', where J L J is upper
    # triangular; U is its inverse. The inverse of H itself, which loses digits, is not formed.
    lower = np.linalg.cholesky(gram[:, ::-1, ::-1])
    return np.linalg.inv(lower)[:, ::-1, ::-1]


def _in_turn(target: Array, root: Array, lattice: Lattice) -> Array:
    """Codes of `target` [groups, inputs, outputs], which is used up, with errors passed on along `root`."""
    size = target.shape[1]
    codes = np.empty_like(target)
    for start in range(0, size, _BLOCK):
        stop = min(start + _BLOCK, size)
        errors = np.empty_like(target[:, start:stop])
        for at in range(start, stop):
            scale, zero, now = lattice.scale[:, at], lattice.zero[:, at], target[:, at]
            code = np.clip(np.rint(now / scale + zero), lattice.low, lattice.high)
            codes[:, at] = code
            error = errors[:, at - start] = (now - (code - zero) * scale) / root[:, at, at, None]
            if at + 1 < stop:
                target[:, at + 1 : stop] -= root[:, at, at + 1 : stop, None] * error[:, None, :]
        if stop < size:
            target[:, stop:] -= root[:, start:stop, stop:].transpose(0, 2, 1) @ errors
    return codes
