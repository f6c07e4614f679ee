"""Operators that are not functions of their inputs: never computed ahead, never dropped, never called validated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from building import INT64, node, port, save, scalar, tensor, whole
from casebook import Family

EFFECTS = Family("effect")
case = EFFECTS.case
UNTOUCHED = "nothing to change: the output is a copy"


@case(0, UNTOUCHED, fed=None, keep=("RandomNormal",))
def noise(folder: Path) -> None:
    """Random numbers from nothing."""
    save(folder, whole([node("RandomNormal", [], ["r"], shape=[2, 3]), node("Add", ["x", "r"], ["y"])]))


@case(6, "two equal runs of the original gave different values for 'y', because of RandomNormal")
def noise_and_work(folder: Path) -> None:
    """The same, with something to optimize."""
    nodes = [
        node("Identity", ["x"], ["t"]),
        node("RandomNormal", [], ["r"], shape=[2, 3]),
        node("Add", ["t", "r"], ["y"]),
    ]
    save(folder, whole(nodes))


@case(0, UNTOUCHED, fed=None, keep=("Dropout",))
def training_on_a_constant(folder: Path) -> None:
    """A Dropout that trains, on a weight."""
    weights = [tensor("w", np.ones((2, 3), np.float32)), scalar("r", 0.5), tensor("t", np.array(True))]
    save(folder, whole([node("Dropout", ["w", "r", "t"], ["d"]), node("Add", ["x", "d"], ["y"])], weights))


@case(0, UNTOUCHED, fed=None, keep=("Dropout",))
def training(folder: Path) -> None:
    """A Dropout that trains."""
    save(folder, whole([node("Dropout", ["x", "r", "t"], ["y"])], [scalar("r", 0.5), tensor("t", np.array(True))]))


@case(0, UNTOUCHED, fed=None, keep=("Multinomial",))
def drawn_numbers(folder: Path) -> None:
    """Whole numbers that are drawn."""
    save(folder, whole([node("Multinomial", ["x"], ["y"], sample_size=4)], outputs=[port("y", (2, 4), 6)]))


@case(0, UNTOUCHED, fed=None, keep=("Bernoulli",))
def drawn_from_a_constant(folder: Path) -> None:
    """Draws from stored odds, of which only the size is read."""
    nodes = [node("Bernoulli", ["w"], ["b"]), node("NonZero", ["b"], ["n"]), node("Shape", ["n"], ["y"])]
    save(folder, whole(nodes, [tensor("w", np.full(64, 0.5, np.float32))], outputs=[port("y", (2,), INT64)]))
