"""Connected components of many elements at once, without a loop over them."""

from __future__ import annotations

import numpy as np

from graphopt.ir.values import Array


def components(count: int, left: Array, right: Array) -> Array:
    """For each of `count` elements the least element that it hangs together with: int64 [count].

    `left` and `right` are int64 arrays of the same length, the ends of the edges. In each round every
    root that has an edge to a smaller one hooks onto it, and all paths are shortened; the number of rounds
    is logarithmic, each linear.
    """
    roots = np.arange(count, dtype=np.int64)
    while left.size:
        one, other = roots[left], roots[right]
        apart = one != other
        if not apart.any():
            break
        left, right = one[apart], other[apart]
        np.minimum.at(roots, np.maximum(left, right), np.minimum(left, right))
        while True:
            shorter = roots[roots]
            if np.array_equal(shorter, roots):
                break
            roots = shorter
    return roots
