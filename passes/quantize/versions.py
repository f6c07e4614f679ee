"""Which opset each way to make floats of codes needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import ml_dtypes
import numpy as np

Form = Literal["dequantize", "cast", "table"]
"""What makes floats of codes: DequantizeLinear; Cast and Mul, which runtimes compute at load; or a table
that Gather looks them up in."""

Needs = Sequence[tuple[int, str]]
"""Opsets, and what is only there from each of them on; ascending."""

_HALVES = (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))

_FIRST = 10  # the opset in which DequantizeLinear appeared, with one scale a tensor
_AXIS = 13  # ... could have one scale for each index of an axis
_HALF = 19  # ... could have scales and results of float16 and bfloat16
_WIDE = 21  # ... could read integers of 16 and of 4 bits, and have scales for blocks
_NARROW = 25  # ... could read integers of 2 bits
_BROADCAST = 7  # ... Mul lined up its operands by itself
_BRAIN = 13  # ... Cast made bfloat16


def needs_of(form: Form, bits: int, dtype: np.dtype[Any], channels: bool, blocks: bool) -> Needs:
    """What codes of `bits` bits need to become floats of `dtype`, with scales for channels or blocks."""
    if form == "dequantize":
        return _dequantize(bits, dtype, channels, blocks)
    needs = [(_BROADCAST, "Mul by scales")]
    if dtype == ml_dtypes.bfloat16:
        needs.append((_BRAIN, f"Cast to {dtype}"))
    if form == "cast" and bits in (2, 4):
        needs.append((_WIDE if bits == 4 else _NARROW, f"Cast from {bits} bits"))
    return needs


def _dequantize(bits: int, dtype: np.dtype[Any], channels: bool, blocks: bool) -> Needs:
    needs = [(_FIRST, "DequantizeLinear")]
    if channels:
        needs.append((_AXIS, "one scale a channel"))
    if dtype in _HALVES:
        needs.append((_HALF, f"DequantizeLinear to {dtype}"))
    if blocks:
        needs.append((_WIDE, "one scale a block"))
    if bits in (4, 16):
        needs.append((_WIDE, f"DequantizeLinear from {bits} bits"))
    if bits == 2:
        needs.append((_NARROW, "DequantizeLinear from 2 bits"))
    return needs


def why_too_old(needs: Needs, opset: int) -> str | None:
    """What an opset is too old for and what helps, in a clause; None when it has everything."""
    found = next(((least, what) for least, what in reversed(needs) if opset < least), None)
    if found is None:
        return None
    least = max(least for least, _ in needs)
    advice = f"raise it with opset{{to={least}}} first"
    if least == _AXIS and opset >= _FIRST and (_AXIS, "one scale a channel") in needs:
        advice += " or ask for granularity=tensor"
    return f"{found[1]} needs opset {found[0]} and the model has {opset}: {advice}"
