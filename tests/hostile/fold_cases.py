"""Constants that nobody can compute: kernels that divide by zero, read beyond an end, or never finish."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from building import FLOAT, floats, ints, node, save, scalar, tensor, whole
from casebook import Build, Family
from onnx import NodeProto, TensorProto

FOLDS = Family("fold")
LEAST = np.iinfo(np.int64).min


def _stored(name: str, why: str, nodes: list[NodeProto], *weights: TensorProto, code: int | None = None) -> None:
    """A model that adds the largest element of `q`, which `nodes` make of weights alone."""

    def build(folder: Path) -> None:
        last = [node("Cast", ["q"], ["f"], to=FLOAT), node("ReduceMax", ["f"], ["m"], keepdims=0)]
        save(folder, whole([*nodes, *last, node("Add", ["x", "m"], ["y"])], weights, opset=18))

    note(name, why, build, code)


def note(name: str, why: str, build: Build, code: int | None) -> None:
    """Note a case that is refused by whoever looks first, unless a `code` says that it is not."""
    build.__name__, build.__doc__ = name, why
    if code is None:
        FOLDS.case((3, 6), "the input is not a valid model|could not tell")(build)
    else:
        FOLDS.case(code)(build)


_stored(
    "whole_number_by_zero",
    "A division that ends a process.",
    [node("Div", ["a", "b"], ["q"])],
    ints("a", 1),
    ints("b", 0),
    code=0,
)
_stored(
    "least_by_minus_one",
    "The one quotient that does not fit.",
    [node("Div", ["a", "b"], ["q"])],
    ints("a", LEAST),
    ints("b", -1),
    code=0,
)
_stored(
    "rest_of_least",
    "The same as a remainder.",
    [node("Mod", ["a", "b"], ["q"])],
    ints("a", LEAST),
    ints("b", -1),
    code=0,
)
_stored(
    "rest_by_zero",
    "A remainder of a division by zero.",
    [node("Mod", ["a", "b"], ["q"])],
    ints("a", 7),
    ints("b", 0),
    code=0,
)
_stored(
    "float_rest_by_zero",
    "The same of floats.",
    [node("Mod", ["a", "b"], ["q"], fmod=1)],
    floats("a", 7),
    floats("b", 0),
)
_stored(
    "huge_power", "A power that overflows.", [node("Pow", ["a", "b"], ["q"])], ints("a", 7), ints("b", 1 << 40), code=0
)
_stored(
    "index_beyond_the_end",
    "An index that is not there.",
    [node("Gather", ["a", "i"], ["q"])],
    floats("a", 1, 2),
    ints("i", 9),
)
_stored(
    "index_before_the_start",
    "The same below.",
    [node("Gather", ["a", "i"], ["q"])],
    floats("a", 1, 2),
    ints("i", LEAST),
)
_stored(
    "scatter_beyond_the_end",
    "Writing where nothing is.",
    [node("ScatterND", ["a", "i", "u"], ["q"])],
    floats("a", 1, 2),
    tensor("i", np.array([[1 << 40]])),
    floats("u", 5),
)
_stored(
    "scatter_elements_beyond",
    "The same by elements.",
    [node("ScatterElements", ["a", "i", "u"], ["q"])],
    floats("a", 1, 2),
    ints("i", -99),
    floats("u", 5),
)
_stored(
    "gather_nd_beyond",
    "An index of several axes that is not there.",
    [node("GatherND", ["a", "i"], ["q"])],
    floats("a", 1, 2),
    tensor("i", np.array([[77]])),
)
_stored(
    "impossible_shape",
    "Six elements as seven.",
    [node("Reshape", ["a", "s"], ["q"])],
    floats("a", *range(6)),
    ints("s", 7),
)
_stored(
    "two_open_sizes",
    "A shape with two sizes to find.",
    [node("Reshape", ["a", "s"], ["q"])],
    floats("a", *range(6)),
    ints("s", -1, -1),
)
_stored(
    "shape_below_zero",
    "Sizes of minus five.",
    [node("Reshape", ["a", "s"], ["q"])],
    floats("a", *range(6)),
    ints("s", -5, 2),
)
_stored("fill_below_zero", "Minus one elements.", [node("ConstantOfShape", ["s"], ["q"])], ints("s", -1))
_stored(
    "repeat_below_zero",
    "A repetition of minus two.",
    [node("Tile", ["a", "r"], ["q"])],
    floats("a", 1, 2),
    ints("r", -2),
)
_stored(
    "pad_away_everything",
    "A border of minus nine.",
    [node("Pad", ["a", "p"], ["q"])],
    floats("a", 1, 2),
    ints("p", -9, 0),
)
_stored(
    "range_of_no_step",
    "A range that never arrives.",
    [node("Range", ["s", "e", "d"], ["q"])],
    scalar("s", 0),
    scalar("e", 5),
    scalar("d", 0),
)
_stored(
    "range_of_nan",
    "A range to nowhere.",
    [node("Range", ["s", "e", "d"], ["q"])],
    scalar("s", 0),
    scalar("e", np.nan),
    scalar("d", 1),
)
_stored(
    "infinite_as_a_number",
    "Infinity as a whole number.",
    [node("Cast", ["a"], ["q"], to=7)],
    floats("a", np.inf, np.nan, -1e30),
    code=0,
)
_stored(
    "text_as_a_number",
    "A word as a number.",
    [node("Cast", ["a"], ["q"], to=FLOAT)],
    tensor("a", np.array(["twelve"], object)),
)
_stored(
    "digits_of_others",
    "Digits that only some readers take.",
    [node("Cast", ["a"], ["q"], to=FLOAT)],
    tensor("a", np.array(["\u0661\u0662"], object)),
)
_stored(
    "most_of_too_few", "The best nine of two.", [node("TopK", ["a", "k"], ["q", "i"])], floats("a", 1, 2), ints("k", 9)
)
_stored(
    "most_below_zero", "The best minus one.", [node("TopK", ["a", "k"], ["q", "i"])], floats("a", 1, 2), ints("k", -1)
)
_stored(
    "depth_below_zero",
    "Classes below zero.",
    [node("OneHot", ["i", "d", "v"], ["q"])],
    ints("i", 0),
    ints("d", -3),
    floats("v", 0, 1),
)
_stored(
    "shift_beyond_the_width",
    "A shift by more than there are bits.",
    [node("BitShift", ["a", "b"], ["q"], direction="LEFT")],
    tensor("a", np.uint64([1])),
    tensor("b", np.uint64([200])),
    code=0,
)
_stored(
    "window_of_nothing",
    "A window of minus four samples.",
    [node("HannWindow", ["n"], ["q"])],
    tensor("n", np.int64(-4)),
)
_stored(
    "axis_far_away", "An axis that is not there.", [node("Concat", ["a", "a"], ["q"], axis=1 << 40)], floats("a", 1, 2)
)
_stored(
    "axes_swapped_twice",
    "A permutation that is none.",
    [node("Transpose", ["a"], ["q"], perm=[0, 0])],
    tensor("a", np.ones((2, 2), np.float32)),
)
_stored(
    "axes_added_twice",
    "The same axis put in twice.",
    [node("Unsqueeze", ["a", "i"], ["q"])],
    floats("a", 1, 2),
    ints("i", 0, 0),
)
_stored(
    "sum_without_sense",
    "An equation of nothing.",
    [node("Einsum", ["a", "a"], ["q"], equation="...ij,jk...->->i")],
    tensor("a", np.ones((2, 2), np.float32)),
)
_stored(
    "scale_of_nothing",
    "A picture scaled to nothing.",
    [node("Resize", ["a", "", "s"], ["q"])],
    tensor("a", np.ones((1, 1, 2, 2), np.float32)),
    floats("s", 1, 1, 0, 1),
)
_stored(
    "scale_of_nan",
    "A picture of no size.",
    [node("Resize", ["a", "", "s"], ["q"])],
    tensor("a", np.ones((1, 1, 2, 2), np.float32)),
    floats("s", 1, 1, np.nan, 1),
)
_stored(
    "scale_below_zero",
    "A picture turned inside out.",
    [node("Resize", ["a", "", "s"], ["q"])],
    tensor("a", np.ones((1, 1, 2, 2), np.float32)),
    floats("s", 1, 1, -2, 1),
)
