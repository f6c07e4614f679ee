"""What a pass promises about the outputs, and how strictly validation holds it to that."""

from __future__ import annotations

import enum


class Contract(enum.IntEnum):
    """How far a rewrite may move a model's outputs. Ordered: the loosest that ran governs.

    EXACT     the same bits, NaN payloads aside and -0.0 included.
    ROUNDING  the same function over the reals; floating point may be reassociated.
    LOSSY     a different function, allowed only inside a stated budget.
    """

    EXACT = 0
    ROUNDING = 1
    LOSSY = 2

    def __str__(self) -> str:
        return self.name
