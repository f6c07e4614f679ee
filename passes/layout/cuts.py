"""What a Slice cuts out of an axis, and what two of them cut out together."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.analysis.matching import integers, operand
from graphopt.ir import Node

TO_THE_END = (1 << 31) - 1
"""From here on an end is beyond every axis: exporters write the largest integer of 32 or 64 bits."""
_LARGEST = (1 << 63) - 1


@dataclass(frozen=True)
class Cut:
    """Every `step`-th element from `start` to before `end`; negative bounds count from the end."""

    start: int
    end: int
    step: int = 1


def cuts_of(node: Node, rank: int | None) -> dict[int, Cut] | None:
    """What a Slice cuts out of each axis that it names; None where that is not constant."""
    starts, ends = integers(node, 1, "starts"), integers(node, 2, "ends")
    if starts is None or ends is None or len(starts) != len(ends):
        return None
    axes, steps = integers(node, 3, "axes"), integers(node, 4)
    if (axes is None and (operand(node, 3) is not None or "axes" in node.attrs)) or (
        steps is None and operand(node, 4) is not None
    ):
        return None
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    if not len(axes) == len(steps) == len(starts) or 0 in steps:
        return None
    found: dict[int, Cut] = {}
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if axis < 0 and (rank is None or axis + rank < 0):
            return None
        found[axis + rank if axis < 0 and rank is not None else axis] = Cut(start, end, step)
    return found if len(found) == len(starts) else None


def joined(first: Cut, second: Cut, length: int | None) -> Cut | None:
    """What `second` cuts out of what `first` cuts out of an axis; None where that is no cut for sure."""
    if length is not None:
        return _of_range(range(length)[first.start : first.end : first.step][second.start : second.end : second.step])
    if first.step < 1 or second.step < 1 or second.start < 0:
        return None
    step, whole = first.step * second.step, second.end >= TO_THE_END
    if second.start == 0 and whole:
        return _limited(first.start, first.end, step)
    if first.start < 0 or second.end < 0:
        return None
    start = first.start + second.start * first.step
    if whole:
        return _limited(start, first.end, step)
    end = first.start + second.end * first.step
    if first.end < 0:
        return None
    return _limited(start, min(end, first.end), step)


def _limited(start: int, end: int, step: int) -> Cut | None:
    return Cut(start, end, step) if max(start, end, step) <= _LARGEST else None


def _of_range(kept: range) -> Cut:
    if not kept:
        return Cut(0, 0)
    if kept.step > 0:
        return Cut(kept[0], kept[-1] + 1, kept.step if len(kept) > 1 else 1)
    # The element before the first one has no index of its own: any number far below does.
    return Cut(kept[0], kept[-1] - 1 if kept[-1] > 0 else -_LARGEST, kept.step)
