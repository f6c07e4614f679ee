"""What is best when two things count: the points that no other point is better than in both."""

from __future__ import annotations

from collections.abc import Sequence

Point = tuple[float, float]
"""Two figures of one trial, less being better in both."""


def front(points: Sequence[Point]) -> tuple[int, ...]:
    """The places of the points that no other is better than in one figure and at least as good in the other; those
    with the least first figure first, and of equal points the first one alone."""
    found: list[int] = []
    least = float("inf")
    for place in sorted(range(len(points)), key=lambda one: (points[one], one)):
        if points[place][1] < least or not found:
            found.append(place)
            least = points[place][1]
    return tuple(found)


def layers(points: Sequence[Point]) -> list[int]:
    """For each point, how many fronts have to be taken away until it is on one: 0 for those of the front itself."""
    found = [0] * len(points)
    left, depth = list(range(len(points))), 0
    while left:
        outer = {left[place] for place in front([points[one] for one in left])}
        for one in outer:
            found[one] = depth
        left = [one for one in left if one not in outer]
        depth += 1
    return found
