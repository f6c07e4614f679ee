"""Which opset each way to make floats of codes needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import ml_dtypes
import numpy as np

Form = Literal["dequantize", "cast", "table"]
"""What makes floats of codes: DequantizeLinear; Cast and Mul, which runtimes compute at load; or a table
that Gather looks them up in."""

Kind = Literal["integer", "float8", "micro"]
"""What codes are: integers, small floats with scales of the weight's type, or small floats with scales
that are powers of two ("microscaling")."""

Needs = Sequence[tuple[int, str]]
"""Opsets, and what is only there from each of them on; ascending."""

_HALVES = (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))

_FIRST = 10  # the opset in which DequantizeLinear appeared, with one scale a tensor
_AXIS = 13  # ... could have one scale for each index of an axis
_HALF = 19  # ... could have scales and results of float16 and bfloat16, and codes of float8
_WIDE = 21  # ... could read integers of 16 and of 4 bits, and have scales for blocks
_POWERS = 24  # ... could have scales that are powers of two
_NARROW = 25  # ... could read integers of 2 bits
_NUMBERED = 6  # ... Cast took the type as a number
_BROADCAST = 7  # ... Mul lined up its operands by itself
_BRAIN = 13  # ... Cast made bfloat16


@dataclass(frozen=True)
class Coding:
    """Codes of `bits` bits that become floats of `dtype`, with scales for channels or for blocks of them."""

    form: Form
    bits: int
    dtype: np.dtype[Any]
    channels: bool = False
    blocks: bool = False
    kind: Kind = "integer"


def needs_of(made: Coding) -> Needs:
    """What it takes to make floats of such codes."""
    if made.form == "dequantize":
        return _dequantize(made)
    needs = [(_NUMBERED, "Cast to a type by number")]
    if made.form == "cast" or made.channels or made.kind == "micro":
        needs.append((_BROADCAST, "Mul by scales"))
    if made.dtype == ml_dtypes.bfloat16:
        needs.append((_BRAIN, f"Cast to {made.dtype}"))
    if made.form == "cast" and made.kind == "float8":
        needs.append((_HALF, "Cast from float8"))
    if made.form == "cast" and made.bits in (2, 4):
        needs.append((_WIDE if made.bits == 4 else _NARROW, f"Cast from {made.bits} bits"))
    return needs


def _dequantize(made: Coding) -> Needs:
    needs = [(_FIRST, "DequantizeLinear")]
    if made.channels:
        needs.append((_AXIS, "one scale a channel"))
    if made.dtype in _HALVES:
        needs.append((_HALF, f"DequantizeLinear to {made.dtype}"))
    if made.kind == "float8":
        needs.append((_HALF, "DequantizeLinear from float8"))
    if made.blocks:
        needs.append((_WIDE, "one scale a block"))
    if made.kind == "integer" and made.bits in (4, 16):
        needs.append((_WIDE, f"DequantizeLinear from {made.bits} bits"))
    if made.kind == "micro":
        needs.append((_POWERS, "DequantizeLinear by powers of two"))
    if made.kind == "integer" and made.bits == 2:
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
