"""How onnxruntime's MatMulNBits and GatherBlockQuantized want codes to be stored.

MatMulNBits reads B as [N, blocks of K, bytes of a block]: along K, codes of less than a byte lie in
it from the least significant bits up; a last block is filled up. Scales are [N, blocks], zeros
[N, bytes] of one row each. GatherBlockQuantized reads rows in the same way, without the fill.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphopt.ir.dtypes import pack

Array = np.ndarray[Any, Any]

BLOCKS = (256, 128, 64, 32, 16)
"""The numbers of inputs that may share a scale."""


def packed_blocks(codes: Array, block: int, bits: int) -> Array:
    """uint8 codes [K, N] from 0 on as B: uint8 [N, blocks, block * bits / 8]."""
    inputs, outputs = codes.shape
    blocks = -(-inputs // block)
    rows = np.zeros((outputs, blocks * block), np.uint8)
    rows[:, :inputs] = codes.T
    return packed_rows(rows, bits).reshape(outputs, blocks, block * bits // 8)


def packed_rows(rows: Array, bits: int) -> Array:
    """uint8 codes [R, C] from 0 on, each row by itself: uint8 [R, bytes], the last byte filled up with zeros."""
    if bits == 8:
        return np.ascontiguousarray(rows)
    group = 8 // bits
    short = -rows.shape[1] % group
    if short:
        rows = np.pad(rows, ((0, 0), (0, short)))
    return pack(rows, bits).reshape(len(rows), -1)


def shared_block(block: int, inputs: int, largest: int = 256) -> int | None:
    """The largest of `BLOCKS` into which scales for `block` inputs fit (0: one scale for all inputs, for
    which the block is at most `largest`); None where there is none."""
    whole = not block or block >= inputs
    for one in BLOCKS:
        if (inputs if whole else block) % one == 0 and not (whole and one > largest):
            return one
    return 32 if whole else None


def block_steps(scale: Array, axis: int | None, block: int, shape: tuple[int, int], to: int) -> Array:
    """Scales or zeros of a matrix [K, N], one in all, for each column or for `block` rows, as [N, blocks of `to`]."""
    inputs, outputs = shape
    blocks = -(-inputs // to)
    if axis is None:
        return np.full((outputs, blocks), scale)
    if not block:
        return np.repeat(scale.reshape(outputs, 1), blocks, 1)
    starts = np.arange(blocks) * to // block
    return np.ascontiguousarray(scale[starts].T)
