"""How many units each block loses, so that together they cost least."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from passes.prune.unit_blocks import Block

Array = np.ndarray[Any, Any]

_TOGETHER: Final = 1 << 30  # bytes of the sums of layers that are observed in one run


def shared(curves: Mapping[Block, Array], share: float, left: Callable[[Block, int], int]) -> dict[Block, int]:
    """How many units each block keeps when together they lose `share` of their weights at least cost.

    The curve of a block says what each unit that goes adds to its error, in a measure that all blocks share.
    `left` rounds the number of units that a block keeps when so many are gone.
    """
    total = share * sum(one.numbers * one.size for one in curves)
    steps = list[tuple[float, int, int, Block]]()
    for at, (block, costs) in enumerate(curves.items()):
        marginal = np.maximum.accumulate(costs) / block.numbers
        steps += [(float(cost), at, index, block) for index, cost in enumerate(marginal)]
    gone = dict.fromkeys(curves, 0)
    spent = 0
    for _, _, _, block in sorted(steps, key=lambda one: one[:3]):
        if spent + block.numbers > total:
            break
        gone[block] += 1
        spent += block.numbers
    return {block: left(block, count) for block, count in gone.items()}


def together(blocks: Sequence[Block]) -> Iterator[list[Block]]:
    chosen, size = list[Block](), 0
    for block in blocks:
        if chosen and size + block.layer.sums > _TOGETHER:
            yield chosen
            chosen, size = [], 0
        chosen.append(block)
        size += block.layer.sums
    if chosen:
        yield chosen
