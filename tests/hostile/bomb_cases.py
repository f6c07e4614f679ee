"""Small files that want to be large: sizes are computed before anything is made, and clocks end the rest."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from building import BOOL, FLOAT, INT64, body, floats, ints, node, port, save, scalar, tensor, whole
from casebook import Family
from onnx import ModelProto, NodeProto, TensorProto

BOMBS = Family("bomb")
case = BOMBS.case


def _largest(folder: Path, nodes: list[NodeProto], *weights: TensorProto, opset: int = 18) -> None:
    """Adds the largest element of `q`."""
    last = [
        node("Cast", ["q"], ["f"], to=FLOAT),
        node("ReduceMax", ["f"], ["m"], keepdims=0),
        node("Add", ["x", "m"], ["y"]),
    ]
    save(folder, whole([*nodes, *last], weights, opset=opset))


@case(6, "out of memory while running .*ConstantOfShape")
def fill(folder: Path) -> None:
    """Four terabytes of zeros."""
    _largest(folder, [node("ConstantOfShape", ["s"], ["q"])], ints("s", 1 << 40))


@case(6, "Integer overflow")
def fill_that_overflows(folder: Path) -> None:
    """More elements than a number can say."""
    _largest(folder, [node("ConstantOfShape", ["s"], ["q"])], ints("s", 1 << 40, 1 << 40, 1 << 40))


@case(0, "nothing to change", fed=None)
def size_of_a_fill(folder: Path) -> None:
    """Only the shape of four terabytes is asked for."""
    nodes = [
        node("ConstantOfShape", ["s"], ["c"]),
        node("Shape", ["c"], ["n"]),
        node("Cast", ["n"], ["f"], to=FLOAT),
        node("Add", ["x", "f"], ["y"]),
    ]
    save(folder, whole(nodes, [ints("s", 1 << 40)]))


@case(0, "nothing to change")
def broadcast(folder: Path) -> None:
    """256 MB that come of one number, and must not end up in the file."""
    nodes = [
        node("Expand", ["k", "s"], ["e"]),
        node("ReduceMax", ["x"], ["m"], keepdims=0),
        node("Mul", ["e", "m"], ["a"]),
        node("ReduceMin", ["a"], ["y"], keepdims=0),
    ]
    save(folder, whole(nodes, [scalar("k", 2), ints("s", 1 << 26)], outputs=[port("y", ())]))


@case(3, "Integer overflow while multiplying")
def repetition(folder: Path) -> None:
    """A thousand times, ten times over."""
    names = ["k", *(f"t{i}" for i in range(9)), "q"]
    _largest(
        folder, [node("Tile", [names[i], "r"], [names[i + 1]]) for i in range(10)], floats("k", 1), ints("r", 1000)
    )


@case(6, "out of memory while running .*OneHot")
def classes(folder: Path) -> None:
    """One of a million million classes."""
    _largest(folder, [node("OneHot", ["i", "d", "v"], ["q"])], ints("i", 1), ints("d", 1 << 40), floats("v", 0, 1))


@case(6, "out of memory while running .*Pad")
def border(folder: Path) -> None:
    """A border of four terabytes."""
    _largest(folder, [node("Pad", ["a", "p"], ["q"])], floats("a", 1), ints("p", 0, 1 << 40))


@case(0, "nothing to change", fed=None)
def counting(folder: Path) -> None:
    """A range of a million million numbers."""
    weights = [tensor("s", np.int64(0)), tensor("e", np.int64(1 << 40)), tensor("d", np.int64(1))]
    _largest(folder, [node("Range", ["s", "e", "d"], ["q"])], *weights)


@case(6, "out of memory while running .*Resize")
def enlargement(folder: Path) -> None:
    """A picture of four pixels, a million times as wide and high."""
    picture = tensor("a", np.ones((1, 1, 2, 2), np.float32))
    _largest(folder, [node("Resize", ["a", "", "s"], ["q"])], picture, floats("s", 1, 1, 1e6, 1e6))


@case(6, "out of memory while running .*ConstantOfShape")
def identity_matrix(folder: Path) -> None:
    """A unit matrix of a million rows."""
    nodes = [node("ConstantOfShape", ["s"], ["z"]), node("EyeLike", ["z"], ["q"])]
    _largest(folder, nodes, ints("s", 1 << 20, 1 << 20))


@case(6, "out of memory while running .*MatMul")
def outer_product(folder: Path) -> None:
    """A product of two vectors that fit and give a matrix that does not."""
    nodes = [
        node("ConstantOfShape", ["s"], ["a"]),
        node("ConstantOfShape", ["t"], ["b"]),
        node("MatMul", ["a", "b"], ["q"]),
    ]
    _largest(folder, nodes, ints("s", 1 << 20, 1), ints("t", 1, 1 << 20))


@case(6, "out of memory while running .*HannWindow")
def window_function(folder: Path) -> None:
    """A window of a million million samples."""
    _largest(folder, [node("HannWindow", ["n"], ["q"])], tensor("n", np.int64(1 << 40)))


@case(0, "nothing to change", fed=None)
def places_of_everything(folder: Path) -> None:
    """How much this gives cannot be told before: the places of all that is not zero in 256 MB."""
    nodes = [node("ConstantOfShape", ["s"], ["c"], value=ints("v", 1)), node("NonZero", ["c"], ["q"])]
    _largest(folder, nodes, ints("s", 1 << 25))


def _doubling(times: int) -> ModelProto:
    names = ["t", *(f"t{i}" for i in range(times))]
    nodes = [node("Concat", [one, one], [two], axis=0) for one, two in pairwise(names)]
    return whole(
        [node("Identity", ["x"], ["t"]), *nodes, node("ReduceMax", [names[-1]], ["y"], keepdims=0)],
        outputs=[port("y", ())],
    )


@case(6, "out of memory while running", options=("--memory", "600MB"))
def doubling(folder: Path) -> None:
    """An input that is put after itself forty times: nothing to compute ahead, and nothing that can be run."""
    save(folder, _doubling(40))


@case(3, "Integer overflow computing Concat")
def doubling_beyond_numbers(folder: Path) -> None:
    """The same seventy times, more than a number can say."""
    save(folder, _doubling(70))


def _loop(
    count: str, condition: str, nodes: list[NodeProto] | None = None, *weights: TensorProto, **more: Any
) -> ModelProto:
    """A Loop that adds one to a number; `nodes` make the condition `co` of the next trip from `ci` and the number."""
    inner = [*(nodes or [node("Identity", ["ci"], ["co"])]), node("Add", ["v", "one"], ["w"])]
    ports = [port("i", (), INT64), port("ci", (), BOOL), port("v", ())]
    made = node(
        "Loop",
        [count, condition, "zero"],
        ["n"],
        "spin",
        body=body(inner, ports, [port("co", (), BOOL), port("w", ())]),
    )
    stored = [tensor("many", np.int64(1 << 62)), tensor("yes", np.array(True)), scalar("zero", 0), scalar("one", 1)]
    return whole([node("Identity", ["x"], ["t"]), made, node("Add", ["t", "n"], ["y"])], [*stored, *weights], **more)


NEVER = "Loop 'spin' never ends, because it has no trip count and its condition is always true"


@case(6, NEVER)
def loop_for_ever(folder: Path) -> None:
    """A Loop without a count whose condition is handed on as it came."""
    save(folder, _loop("", "yes"))


@case(6, NEVER)
def loop_without_anything(folder: Path) -> None:
    """Neither count nor condition: that is for ever too."""
    save(folder, _loop("", ""))


@case(6, NEVER)
def loop_on_a_constant(folder: Path) -> None:
    """The body makes its condition anew each time, and it is always true."""
    again = [node("Constant", [], ["k"], value=tensor("k", np.array(True))), node("Identity", ["k"], ["co"])]
    save(folder, _loop("", "yes", again))


@case(6, "Loop 'spin' is to make 4611686018427387904 trips")
def loop_with_a_count(folder: Path) -> None:
    """A count that no machine will see the end of."""
    save(folder, _loop("many", "yes"))


@case(6, "did not finish on generated inputs: onnxruntime gave no answer within 3 s", options=("--timeout", "3"))
def loop_that_nobody_foresees(folder: Path) -> None:
    """A condition that is computed, and true: only the clock ends it."""
    save(folder, _loop("", "yes", [node("Less", ["zero", "one"], ["co"])]))


@case(6, "out of memory while running", options=("--memory", "600MB"))
def loop_that_grows(folder: Path) -> None:
    """A Loop whose value doubles with each trip."""
    inner = [node("Identity", ["ci"], ["co"]), node("Concat", ["v", "v"], ["w"], axis=0)]
    ports = [port("i", (), INT64), port("ci", (), BOOL), port("v", None)]
    made = node("Loop", ["m", "", "t"], ["n"], body=body(inner, ports, [port("co", (), BOOL), port("w", None)]))
    weights = [tensor("m", np.int64(60))]
    save(
        folder,
        whole(
            [node("Identity", ["x"], ["t"]), made, node("ReduceMax", ["n"], ["y"], keepdims=0)],
            weights,
            outputs=[port("y", ())],
        ),
    )


@case(0, "nothing to change", fed=None)
def rank_of_all(folder: Path) -> None:
    """A value that gets an axis with each of two thousand nodes."""
    names = ["x", *(f"t{i}" for i in range(2000))]
    nodes = [node("Unsqueeze", [one, "a"], [two]) for one, two in pairwise(names)]
    save(folder, whole([*nodes, node("Size", [names[-1]], ["y"])], [ints("a", 0)], outputs=[port("y", (), INT64)]))
