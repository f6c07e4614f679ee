"""Operators that a kernel cannot compute on what it is given: windows that never move, blocks of nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from building import ints, node, port, save, tensor, whole
from fold_cases import LEAST, note
from onnx import NodeProto, TensorProto


def _fed(
    name: str,
    why: str,
    made: NodeProto,
    *weights: TensorProto,
    shape: tuple[int, ...] = (2, 3),
    code: int | None = None,
) -> None:
    """A model of one node that reads `x`, behind a node to remove."""

    def build(folder: Path) -> None:
        nodes = [node("Identity", ["x"], ["t"]), made]
        save(folder, whole(nodes, weights, opset=18, inputs=[port("x", shape)], outputs=[port("y", None)]))

    note(name, why, build, code)


_fed(
    "slice_of_no_step",
    "A slice that never moves on.",
    node("Slice", ["t", "s", "e", "a", "d"], ["y"]),
    ints("s", 0),
    ints("e", 2),
    ints("a", 0),
    ints("d", 0),
)
_fed(
    "slice_of_least_step",
    "A slice whose step has no opposite.",
    node("Slice", ["t", "s", "e", "a", "d"], ["y"]),
    ints("s", -1),
    ints("e", LEAST),
    ints("a", 0),
    ints("d", LEAST),
    code=0,
)
_fed("split_into_nothing", "No parts.", node("Split", ["t"], ["y"], axis=0, num_outputs=0))
_fed(
    "blocks_of_nothing", "Blocks without an edge.", node("DepthToSpace", ["t"], ["y"], blocksize=0), shape=(1, 4, 2, 2)
)
_fed("space_of_nothing", "The same the other way.", node("SpaceToDepth", ["t"], ["y"], blocksize=0), shape=(1, 4, 2, 2))
_fed(
    "steps_of_nothing",
    "A window that never moves.",
    node("MaxPool", ["t"], ["y"], kernel_shape=[2, 2], strides=[0, 0]),
    shape=(1, 1, 4, 4),
)
_fed(
    "window_without_size",
    "A window of no size.",
    node("AveragePool", ["t"], ["y"], kernel_shape=[0, 0]),
    shape=(1, 1, 4, 4),
)
_fed(
    "window_of_huge_border",
    "A window with a border of everything.",
    node("MaxPool", ["t"], ["y"], kernel_shape=[2, 2], pads=[1 << 62] * 4),
    shape=(1, 1, 4, 4),
)
_fed(
    "groups_of_nothing",
    "A convolution in no groups.",
    node("Conv", ["t", "w"], ["y"], group=0),
    tensor("w", np.ones((1, 1, 2, 2), np.float32)),
    shape=(1, 1, 4, 4),
)
_fed(
    "gaps_of_nothing",
    "A convolution whose taps lie on one another.",
    node("Conv", ["t", "w"], ["y"], dilations=[0, 0]),
    tensor("w", np.ones((1, 1, 2, 2), np.float32)),
    shape=(1, 1, 4, 4),
)
_fed(
    "steps_of_a_convolution",
    "A convolution that never moves.",
    node("Conv", ["t", "w"], ["y"], strides=[0, 0]),
    tensor("w", np.ones((1, 1, 2, 2), np.float32)),
    shape=(1, 1, 4, 4),
)
_fed(
    "neighbours_of_nothing", "A normalization over no channels.", node("LRN", ["t"], ["y"], size=0), shape=(1, 4, 2, 2)
)
_fed("axis_of_softmax", "An axis that is not there.", node("Softmax", ["t"], ["y"], axis=-77))
_fed(
    "many_axes_reduced",
    "A hundred thousand axes to reduce.",
    node("ReduceSum", ["t", "a"], ["y"]),
    ints("a", *([0] * 100_000)),
    code=0,
)
_fed(
    "frames_of_nothing",
    "A spectrum of frames that never move.",
    node("STFT", ["t", "s", "", "l"], ["y"]),
    tensor("s", np.int64(0)),
    tensor("l", np.int64(2)),
    shape=(1, 8, 1),
)
