"""N:M patterns: of every M neighbours along the axis that an operator sums over, at most N stay."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from passes.prune.magnitudes import Array, keys

_TEXT = re.compile(r"([0-9]{1,3}):([0-9]{1,3})")
_BLOCK = 1 << 18  # groups ranked together


@dataclass(frozen=True)
class Pattern:
    """At most `kept` of each `group` neighbours may be other than zero."""

    kept: int
    group: int

    @property
    def sparsity(self) -> float:
        """The share of zeros that the pattern asks for."""
        return 1 - self.kept / self.group

    def __str__(self) -> str:
        return f"{self.kept}:{self.group}"


def parse(text: str) -> Pattern | None:
    """The pattern that "unstructured" (None) or a text such as "2:4" stands for. Raises ValueError."""
    if text == "unstructured":
        return None
    found = _TEXT.fullmatch(text)
    if found is None or not 0 < int(found[1]) < int(found[2]):
        raise ValueError(
            f"pattern must be unstructured, or such as 2:4 (of each 4 neighbours 2 may stay), and {text!r} is neither"
        )
    return Pattern(int(found[1]), int(found[2]))


def mask(values: Array, axis: int, pattern: Pattern) -> Array:
    """The smallest magnitudes of each group along `axis`, whose length is a multiple of the group: bool.

    Of equal magnitudes the first along the axis count as smaller.
    """
    lined = np.moveaxis(values, axis, -1)
    rows = lined.reshape(-1, pattern.group)
    made = np.zeros(rows.shape, np.bool_)
    for start in range(0, len(rows), _BLOCK):
        order = np.argsort(keys(rows[start : start + _BLOCK]), axis=1, kind="stable")
        smallest = order[:, : pattern.group - pattern.kept]
        np.put_along_axis(made[start : start + _BLOCK], smallest, True, axis=1)
    return np.moveaxis(made.reshape(lined.shape), -1, axis)
