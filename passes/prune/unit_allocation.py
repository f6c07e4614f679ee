"""How many units each block loses, so that together they cost least."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from passes.prune.unit_blocks import Block

Array = np.ndarray[Any, Any]


def shared(curves: Mapping[Block, Array], share: float, multiple: int) -> dict[Block, int]:
    """How many units each block keeps, multiples, when together they lose `share` of their weights at least cost.

    The curve of a block says what each unit that goes adds to its error, in a measure that all blocks share. Units go
    in packs that leave a multiple, the pack with the least error for its weights first.
    """
    total = share * sum(one.numbers * one.size for one in curves)
    packs = list[tuple[float, int, int, int, Block]]()
    for at, (block, costs) in enumerate(curves.items()):
        ends = [gone for gone in range(1, len(costs) + 1) if (block.size - gone) % multiple == 0]
        sizes = np.diff(ends, prepend=0)
        spent = np.diff(np.cumsum(costs)[[end - 1 for end in ends]], prepend=0.0) if ends else np.zeros(0)
        rates = np.maximum.accumulate(spent / (sizes * block.numbers)) if ends else spent
        packs += [(float(rate), at, index, int(sizes[index]), block) for index, rate in enumerate(rates)]
    left = {block: block.size for block in curves}
    gone = 0.0
    for _, _, _, size, block in sorted(packs, key=lambda one: one[:3]):
        if gone + size * block.numbers / 2 > total:
            break
        left[block] -= size
        gone += size * block.numbers
    return left
