"""Weights that are not what they say, and weights that are odd but right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from building import FLOAT, STRING, floats, ints, node, port, save, scalar, tensor, whole
from casebook import FED, Family
from onnx import SparseTensorProto, TensorProto

TENSORS = Family("tensor")
case = TENSORS.case


def _weight(folder: Path, weight: TensorProto) -> None:
    nodes = [node("ReduceMax", [weight.name], ["m"], keepdims=0), node("Add", ["x", "m"], ["y"])]
    save(folder, whole(nodes, [weight]))


@case(3, "'w' needs 4000 bytes for its 1000 elements but its data has 4")
def too_short(folder: Path) -> None:
    """A thousand elements in four bytes."""
    _weight(folder, TensorProto(name="w", dims=[1000], data_type=FLOAT, raw_data=bytes(4)))


@case(3, "'w' needs 4 bytes for its 1 elements but its data has 4000")
def too_long(folder: Path) -> None:
    """One element in four thousand bytes."""
    _weight(folder, TensorProto(name="w", dims=[1], data_type=FLOAT, raw_data=bytes(4000)))


@case(3, "'w' needs 3 values for its 3 elements but its data has 1")
def too_few_values(folder: Path) -> None:
    """The same in typed fields."""
    _weight(folder, TensorProto(name="w", dims=[3], data_type=FLOAT, float_data=[1]))


@case(3, "'w' has dimension -1")
def negative_dimension(folder: Path) -> None:
    """A count below zero."""
    _weight(folder, TensorProto(name="w", dims=[-1], data_type=FLOAT, raw_data=bytes(4)))


@case(3, "'w' has dimension -4")
def negative_dimensions(folder: Path) -> None:
    """Two of them, whose product is right."""
    _weight(folder, TensorProto(name="w", dims=[-4, -1], data_type=FLOAT, raw_data=bytes(16)))


@case(3, "'w' says that it has 18446744073709551616 elements")
def overflowing_dimensions(folder: Path) -> None:
    """Dimensions whose product is 1 modulo 2^64 and more without."""
    _weight(folder, TensorProto(name="w", dims=[1 << 32, 1 << 32], data_type=FLOAT, raw_data=bytes(4)))


@case(3, "dimension product overflow")
def empty_and_huge(folder: Path) -> None:
    """Nothing at all, in a shape whose other dimensions overflow."""
    nodes = [node("Size", ["w"], ["s"]), node("Cast", ["s"], ["f"], to=FLOAT), node("Add", ["x", "f"], ["y"])]
    save(folder, whole(nodes, [TensorProto(name="w", dims=[1 << 62, 1 << 62, 0], data_type=FLOAT)]))


@case(5, "tensor 'w' has 1000 axes, more than the (64|32) that arrays can have")
def thousand_axes(folder: Path) -> None:
    """A tensor of one element and a thousand axes."""
    _weight(folder, TensorProto(name="w", dims=[1] * 1000, data_type=FLOAT, raw_data=bytes(4)))


@case(3, "'w' has element type 9999")
def unknown_type(folder: Path) -> None:
    """Elements of a type of the future."""
    _weight(folder, TensorProto(name="w", dims=[1], data_type=9999, raw_data=bytes(4)))


@case(3, "'w' has element type 0")
def undefined_type(folder: Path) -> None:
    """Elements of no type."""
    _weight(folder, TensorProto(name="w", dims=[1], data_type=0, raw_data=bytes(4)))


@case(3, "holds its values more than once")
def two_contents(folder: Path) -> None:
    """Bytes and numbers at once, which readers choose from as they like."""
    _weight(folder, TensorProto(name="w", dims=[1], data_type=FLOAT, raw_data=bytes(4), float_data=[5]))


@case(3, "has its values in int64_data, which is not for its element type")
def field_of_another_type(folder: Path) -> None:
    """Floats stored as whole numbers."""
    _weight(folder, TensorProto(name="w", dims=[1], data_type=FLOAT, int64_data=[1]))


@case(3, "raw bytes instead of strings")
def strings_as_bytes(folder: Path) -> None:
    """Strings in the field of numbers."""
    save(
        folder,
        whole(
            [node("Identity", ["w"], ["y"])],
            [TensorProto(name="w", dims=[1], data_type=STRING, raw_data=bytes(8))],
            outputs=[port("y", (1,), STRING)],
        ),
    )


@case(0)
def truth_that_is_two(folder: Path) -> None:
    """A boolean whose byte is neither 0 nor 1."""
    flags = TensorProto(name="w", dims=[3], data_type=TensorProto.BOOL, raw_data=b"\x02\x00\xff")
    save(
        folder, whole([node("Where", ["w", "x", "k"], ["t"]), node("Identity", ["t"], ["y"])], [flags, scalar("k", 0)])
    )


@case(0)
def number_out_of_range(folder: Path) -> None:
    """An eight-bit number of 70000, in the field that is wide enough for it."""
    wide = TensorProto(name="w", dims=[1], data_type=TensorProto.INT8, int32_data=[70000])
    save(folder, whole([node("Cast", ["w"], ["f"], to=FLOAT), node("Add", ["x", "f"], ["y"])], [wide]))


def _sparse(values: TensorProto, indices: TensorProto, dims: list[int]) -> SparseTensorProto:
    made = SparseTensorProto(dims=dims)
    made.values.CopyFrom(values)
    made.indices.CopyFrom(indices)
    return made


@case(0)
def sparse(folder: Path) -> None:
    """A sparse weight as it should be."""
    made = _sparse(floats("w", 5), ints("i", 2), [3])
    save(folder, whole([node("Add", ["x", "w"], ["y"])], sparse_initializer=[made]))


@case(3, "unsupported type: sparse_tensor")
def sparse_and_huge(folder: Path) -> None:
    """One value in a matrix of four terabytes."""
    made = _sparse(floats("w", 5), ints("i", 9), [1 << 20, 1 << 20])
    nodes = [node("ReduceMax", ["w"], ["m"], keepdims=0), node("Add", ["x", "m"], ["y"])]
    save(folder, whole(nodes, sparse_initializer=[made]))


@case(3, "out of range")
def sparse_beyond_its_end(folder: Path) -> None:
    """A sparse value behind the last place."""
    made = _sparse(floats("w", 5), ints("i", 1 << 40), [3])
    save(folder, whole([node("Add", ["x", "w"], ["y"])], sparse_initializer=[made]))


@case(3, "sparse tensor 'w' has indices of shape")
def sparse_without_places(folder: Path) -> None:
    """Two values with one place."""
    made = _sparse(floats("w", 5, 6), ints("i", 1), [3])
    save(folder, whole([node("Add", ["x", "w"], ["y"])], sparse_initializer=[made]))


@case(0, fed={"x": FED})
def special_values(folder: Path) -> None:
    """Weights of NaN, infinities, a negative zero and numbers too small to be normal."""
    weights = [floats("a", np.nan, np.inf, -np.inf), floats("b", -0.0, 1e-44, 3.3e38)]
    nodes = [node("Add", ["x", "a"], ["p"]), node("Mul", ["x", "b"], ["q"]), node("Concat", ["p", "q"], ["y"], axis=0)]
    save(folder, whole(nodes, weights, outputs=[port("y", (4, 3))]))


@case(0, fed={"x": np.float32([[np.nan, np.inf, -np.inf], [0, 2, -0.0]])}, keep=("Mul", "Sub", "Div"))
def algebra_that_is_not(folder: Path) -> None:
    """x*0, x-x and x/x, which are not 0, 0 and 1."""
    nodes = [
        node("Mul", ["x", "o"], ["a"]), node("Sub", ["x", "x"], ["b"]), node("Div", ["x", "x"], ["c"]),
        node("Concat", ["a", "b", "c"], ["y"], axis=0),
    ]  # fmt: skip
    save(folder, whole(nodes, [scalar("o", 0)], outputs=[port("y", (6, 3))]))


@case(0)
def empty_tensors(folder: Path) -> None:
    """A product of matrices without an inside is zero."""
    nodes = [
        node("Slice", ["x", "o", "o", "a"], ["e"]),
        node("MatMul", ["e", "w"], ["m"]),
        node("Add", ["m", "x"], ["y"]),
    ]
    save(folder, whole(nodes, [ints("o", 0), ints("a", 1), tensor("w", np.zeros((0, 3), np.float32))]))


@case(0)
def empty_slots(folder: Path) -> None:
    """An optional input left out in the middle."""
    save(folder, whole([node("Clip", ["x", "", "h"], ["y"])], [scalar("h", 2)]))
