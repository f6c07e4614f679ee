"""Which part of another tensor a value is: the indices along one axis that a Slice, Gather or Split takes."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.analysis.constants import constant_values
from graphopt.analysis.matching import integers, operand
from graphopt.analysis.shapes import Shapes
from graphopt.ir import Node, Tensor

MOST = 1 << 12  # indices that are followed
_PARTS_ARE_COUNTED = 18  # from this opset on the last part of a Split may be shorter than the others


@dataclass(frozen=True)
class Part:
    """Elements `indices` of `source` along `axis`, of `size` there are; everything along the other axes."""

    node: Node
    source: Tensor
    axis: int
    size: int
    indices: tuple[int, ...]

    @property
    def is_run(self) -> bool:
        """Whether the indices are consecutive and ascending; also for none."""
        start = self.indices[0] if self.indices else 0
        return self.indices == tuple(range(start, start + len(self.indices)))


def part_of(tensor: Tensor, shapes: Shapes, opset: int) -> Part | None:
    """The part that `tensor` is, where its maker takes one along one axis of known size."""
    if len(tensor.inputs) != 1:
        return None
    node: Node = tensor.inputs[0]
    if not node.is_op("Slice", "Gather", "Split") or not node.inputs:
        return None
    source = node.inputs[0]
    dims = shapes.dims(source)
    if not dims:
        return None
    axis = _axis(node, len(dims))
    size = dims[axis] if axis is not None and -len(dims) <= axis < len(dims) else None
    if axis is None or not isinstance(size, int) or size > MOST:
        return None
    indices = _indices(node, tensor, size, opset)
    return None if indices is None else Part(node, source, axis % len(dims), size, indices)


def _axis(node: Node, rank: int) -> int | None:
    if node.op != "Slice":
        axis = node.attrs.get("axis", 0)
        return axis if isinstance(axis, int) else None
    starts = integers(node, 1, "starts")
    axes = integers(node, 3, "axes")
    if starts is None or len(starts) != 1:
        return None
    if axes is None:
        given = operand(node, 3) is not None or "axes" in node.attrs
        return None if given else 0
    return axes[0] if len(axes) == 1 and -rank <= axes[0] < rank else None


def _indices(node: Node, tensor: Tensor, size: int, opset: int) -> tuple[int, ...] | None:
    if node.op == "Slice":
        return _sliced(node, size)
    if node.op == "Gather":
        given = constant_values(node.inputs[1])
        if given is None or given.ndim != 1 or given.size > MOST or given.dtype.kind not in "iu":
            return None
        found = [int(one) for one in given]
        fits = all(-size <= one < size for one in found)
        return tuple(one % size for one in found) if fits else None
    sizes = _split_sizes(node, size, opset)
    if sizes is None:
        return None
    place = next(index for index, one in enumerate(node.outputs) if one is tensor)
    start = sum(sizes[:place])
    return tuple(range(start, start + sizes[place]))


def _sliced(node: Node, size: int) -> tuple[int, ...] | None:
    starts, ends = integers(node, 1, "starts"), integers(node, 2, "ends")
    steps = integers(node, 4)
    if starts is None or ends is None or len(ends) != 1 or (steps is None and operand(node, 4) is not None):
        return None
    step = 1 if steps is None else steps[0] if len(steps) == 1 else 0
    if step < 1:
        return None
    return tuple(range(size)[starts[0] : ends[0] : step])


def _split_sizes(node: Node, size: int, opset: int) -> list[int] | None:
    """The sizes of the outputs of a Split."""
    count = len(node.outputs)
    sizes = integers(node, 1, "split")
    if sizes is not None:
        return sizes if len(sizes) == count and sum(sizes) == size else None
    if operand(node, 1) is not None or "split" in node.attrs:
        return None
    if opset >= _PARTS_ARE_COUNTED:
        each = -(-size // count)
        sizes = [min(each, max(0, size - each * place)) for place in range(count)]
        return sizes if node.attrs.get("num_outputs", count) == count and sum(sizes) == size else None
    return [size // count] * count if size % count == 0 else None
