"""Operators that shape, move, pad, pick and place values, against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from one_operator import agree, floats, ints

pytest.importorskip("torch", reason="needs the extra: pip install 'graphopt[distill]'")

X = floats(2, 3, 4)


def test_shapes() -> None:
    agree("Shape", X)
    agree("Shape", X, start=1)
    agree("Shape", X, start=-2, end=-1)
    agree("Shape", X, end=9)
    agree("Size", X)
    agree("Identity", X)


@pytest.mark.parametrize("shape", [(4, 6), (0, -1), (2, -1, 2), (-1,), (0, 0, 2, 2)])
def test_reshape(shape: tuple[int, ...]) -> None:
    agree("Reshape", X, ints(*shape))


def test_reshape_of_nothing() -> None:
    nothing = np.zeros((0, 3), np.float32)
    agree("Reshape", nothing, ints(3, 0), allowzero=1)
    agree("Reshape", nothing, ints(0, 3))
    agree("Reshape", nothing, ints(-1, 3))


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
def test_flatten(axis: int) -> None:
    agree("Flatten", X, axis=axis)


def test_axes_of_one() -> None:
    thin = X.reshape(1, 2, 1, 12)
    agree("Squeeze", thin)
    agree("Squeeze", thin, ints(-2))
    agree("Squeeze", thin, ints(0, 2))
    agree("Squeeze", thin, axes=[2, 0], opset=11)
    agree("Unsqueeze", X, ints(0, -1))
    agree("Unsqueeze", X, ints(4, 1))
    agree("Unsqueeze", X, axes=[1, 3], opset=11)


def test_transpose_and_expand() -> None:
    agree("Transpose", X)
    agree("Transpose", X, perm=[1, 2, 0])
    agree("Expand", X, ints(5, 1, 3, 1))
    agree("Expand", X, ints(4))
    agree("Tile", X, ints(2, 1, 3))


@pytest.mark.parametrize("kind", [1, 2, 3, 6, 7, 9, 10, 11])
def test_cast(kind: int) -> None:
    agree("Cast", X * 3, to=kind)
    agree("Cast", np.array([0, 1, 5], np.int64), to=kind)
    agree("Cast", np.array([True, False]), to=kind)


def test_made_tensors() -> None:
    agree("ConstantOfShape", ints(2, 3))
    agree("ConstantOfShape", ints())
    agree("Range", np.array(2, np.int64), np.array(11, np.int64), np.array(3, np.int64))
    agree("Range", np.array(5, np.int64), np.array(-2, np.int64), np.array(-2, np.int64))
    agree("Range", np.array(0.5, np.float32), np.array(2.2, np.float32), np.array(0.5, np.float32))
    agree("Range", np.array(3, np.int64), np.array(1, np.int64), np.array(1, np.int64))
    for offset in (0, 1, -2):
        agree("EyeLike", floats(3, 5), k=offset)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_concat_and_split(axis: int) -> None:
    agree("Concat", X, X + 1, axis=axis)
    wide = np.concatenate([X, X, X], axis)
    agree("Split", wide, axis=axis, num_outputs=3, outputs=3, opset=18)
    agree("Split", wide, axis=axis, outputs=3, opset=11)
    size = wide.shape[axis]
    agree("Split", wide, ints(1, size - 1), axis=axis, outputs=2)
    agree("Split", wide, axis=axis, split=[size - 2, 2], outputs=2, opset=11)


def test_uneven_split() -> None:
    agree("Split", floats(7, 2), axis=0, num_outputs=3, outputs=3, opset=18)


@pytest.mark.parametrize(
    ("starts", "ends", "axes", "steps"),
    [
        ((1, 0), (2, 9), (0, 2), (1, 2)),
        ((-1,), (-9,), (2,), (-1,)),
        ((3,), (0,), (2,), (-2,)),
        ((9,), (-9,), (-1,), (-3,)),
        ((5,), (9,), (1,), (1,)),
        ((1,), (2**62,), (1,), (1,)),
        ((0,), (4,), (2,), (3,)),
        ((2,), (1,), (2,), (2,)),
        ((1,), (3,), (2,), (-1,)),
    ],
)
def test_slice(starts: Any, ends: Any, axes: Any, steps: Any) -> None:
    agree("Slice", X, ints(*starts), ints(*ends), ints(*axes), ints(*steps))


def test_slice_without_axes() -> None:
    agree("Slice", X, ints(0, 1), ints(1, 3))
    agree("Slice", X, starts=[0, 1], ends=[1, -1], opset=9)
    agree("Slice", X, starts=[-3], ends=[9], axes=[2], opset=9)


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
@pytest.mark.parametrize("pads", [(0, 1, 2, 1, 0, 3), (0, -1, 1, 0, 0, -1), (0, 0, 0, 0, 0, 0)])
def test_pad(mode: str, pads: tuple[int, ...]) -> None:
    if mode == "wrap" and min(pads) < 0:
        pytest.skip("onnxruntime wraps round what it cut off")
    agree("Pad", X, ints(*pads), mode=mode)


def test_pad_with_a_value() -> None:
    agree("Pad", X, ints(0, 1, 0, 0, 1, 0), np.float32(7))
    agree("Pad", X, ints(1, 2), np.float32(7), ints(-1))
    agree("Pad", np.arange(3), ints(1, 2), np.array(5))
    agree("Pad", X, pads=[0, 1, 0, 0, 1, 0], value=2.0, opset=10)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space(mode: str) -> None:
    agree("DepthToSpace", floats(1, 8, 2, 3), blocksize=2, mode=mode)
    agree("SpaceToDepth", floats(1, 2, 4, 6), blocksize=2)


def test_triangles() -> None:
    for upper in (0, 1):
        agree("Trilu", floats(2, 4, 5), upper=upper)
        agree("Trilu", floats(2, 4, 5), np.array(-2), upper=upper)
        agree("Trilu", floats(2, 4, 5), np.array(2), upper=upper)


def test_reversed_sequences() -> None:
    agree("ReverseSequence", floats(4, 3, 2), ints(4, 1, 2), time_axis=0, batch_axis=1)
    agree("ReverseSequence", floats(3, 4, 2), ints(3, 4, 2), time_axis=1, batch_axis=0)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_gather(axis: int) -> None:
    agree("Gather", X, ints(0, -1, 1).reshape(3, 1), axis=axis)
    agree("Gather", X, np.array(-1), axis=axis)
    places = np.random.default_rng(0).integers(-2, 2, X.shape)
    agree("GatherElements", X, places, axis=axis)
    rows = np.argsort(floats(*X.shape), axis)
    agree("ScatterElements", X, rows, X + 9, axis=axis)


def test_gather_from_a_table() -> None:
    agree("Gather", floats(5, 3), np.array([[4, -5], [0, -1]], np.int32))


@pytest.mark.parametrize("how", ["none", "add", "mul", "min", "max"])
def test_scatter(how: str) -> None:
    agree("ScatterElements", X, np.array([[[1, 0, 1, 0]]]), floats(1, 1, 4, seed=1), axis=1, reduction=how, opset=18)
    agree("ScatterND", X, np.array([[0, 1], [1, -1]]), floats(2, 4, seed=1), reduction=how, opset=18)
    agree("ScatterND", X, np.array([[0, 1, 2], [1, 2, 0]]), floats(2, seed=1), reduction=how, opset=18)


def test_gather_points() -> None:
    agree("GatherND", X, np.array([[0, 1], [1, -1]]))
    agree("GatherND", X, np.array([[[0, 1, 2]], [[1, 0, -1]]]))
    agree("GatherND", X, np.array([[2], [0]]), batch_dims=1)
    agree("GatherND", floats(2, 3, 4, 5), np.array([[[1, 2]], [[2, 0]]]), batch_dims=1)


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_one_hot(axis: int) -> None:
    agree("OneHot", ints(0, -1, 3, 7, -9), np.array(4), np.array([2, 5], np.float32), axis=axis)


def test_largest() -> None:
    ties = np.array([[1, 3, 3, 0], [2, 2, 5, 2]], np.float32)
    for largest in (0, 1):
        agree("TopK", ties, ints(3), largest=largest, outputs=2)
        agree("TopK", ties, ints(1), axis=0, largest=largest, outputs=2)
    many = np.random.default_rng(0).integers(0, 5, (3, 500)).astype(np.float32)
    agree("TopK", many, ints(400), outputs=2)
    agree("TopK", ties, k=2, opset=9, outputs=2)


def test_what_is_there() -> None:
    agree("NonZero", np.round(X))
    agree("Compress", X, np.array([True, False, True]), axis=1)
    agree("Compress", X, np.array([False, True]))
