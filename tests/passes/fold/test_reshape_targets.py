"""What a Reshape is asked for as a constant: the same as its computed shape, in every run."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.analysis.dims import Dim, symbol
from graphopt.ir import Node
from passes.fold.targets import target_of

N, M = symbol("N"), symbol("M")
SIZES = ((1, 1), (2, 3), (3, 2), (4, 4), (0, 2), (2, 0))


def at(dim: Dim, n: int, m: int) -> int:
    return dim if isinstance(dim, int) else {"N": n, "M": m, "2*N": 2 * n}[str(dim).replace(" ", "")]


def reshaped(shape: tuple[int, ...], target: tuple[int, ...], allowzero: bool) -> tuple[int, ...] | None:
    """The shape that ONNX defines; None where it defines none."""
    filled = [shape[i] if one == 0 and not allowzero and i < len(shape) else one for i, one in enumerate(target)]
    try:
        return np.zeros(shape).reshape(filled).shape
    except ValueError:
        return None


GIVEN: tuple[tuple[Dim, ...], ...] = ((N, M), (N, 4), (4, N), (N, M, 2))
ENTRIES: tuple[tuple[Dim, ...], ...] = (
    *((N, M), (N, 4), (4, N), (N, M, 2), (N, 2, 2), (2, 2, N), (M, N), (N, 2, M), (M, 2, N), (2, N, M)),
    *((-1, N), (N, -1), (-1, M), (-1, 4), (N, -1, 2), (-1,), (2, -1), (0, -1), (0, 4), (0, M)),
)


@pytest.mark.parametrize("given", GIVEN, ids=str)
@pytest.mark.parametrize("allowzero", [False, True])
def test_a_target_asks_for_the_shape_that_the_entries_ask_for(given: tuple[Dim, ...], allowzero: bool) -> None:
    """For every run in which the entries ask for something that can be, the target asks for that."""
    found = 0
    for entries in ENTRIES:
        if allowzero and 0 in entries and -1 in entries:
            continue  # no Reshape may ask for both
        concrete = [
            reshaped(tuple(at(one, n, m) for one in given), tuple(at(one, n, m) for one in entries), allowzero)
            for n, m in SIZES
        ]
        made = _made(given, entries, allowzero)
        if made is None:
            continue
        target, why = target_of(given, entries, made, Node("Reshape", attrs={"allowzero": int(allowzero)}))
        assert (target is None) == bool(why)
        if target is None:
            continue
        found += 1
        for (n, m), wanted in zip(SIZES, concrete, strict=True):
            if wanted is not None and wanted == tuple(at(one, n, m) for one in made):
                assert reshaped(tuple(at(one, n, m) for one in given), target, allowzero) == wanted, (entries, target)
    assert found >= 3


def _made(given: tuple[Dim, ...], entries: tuple[Dim, ...], allowzero: bool) -> tuple[Dim, ...] | None:
    """The dims of the result, where every entry says one."""
    made = [given[place] if one == 0 and not allowzero else one for place, one in enumerate(entries)]
    if -1 not in made:
        return tuple(made)
    rest = list(given)
    for one in made:
        if one != -1 and one in rest:
            rest.remove(one)
        elif one != -1:
            return None
    if len(rest) != 1:
        return None
    return tuple(rest[0] if one == -1 else one for one in made)


def test_a_number_stays_itself_and_a_size_of_the_input_is_copied() -> None:
    node = Node("Reshape")
    assert target_of((N, M, 4), (N, M, 2, 2), (N, M, 2, 2), node)[0] == (0, 0, 2, 2)
    assert target_of((N, 4), (2, 2, N), (2, 2, N), node)[0] == (2, 2, -1)
    assert target_of((N, M), (M, N), (M, N), node)[0] is None
    assert target_of(None, (N, 4), (N, 4), node)[0] == (-1, 4)
    assert target_of((N, M), (3, M), (3, M, 1), node) == (None, "the rank of the result is not known")


def test_two_shapes_that_never_hold_as_much() -> None:
    assert target_of((2, 3), (5,), (5,), Node("Reshape")) == (None, "no run gets by it")


def test_zero_is_zero_where_that_is_asked_for() -> None:
    asked = Node("Reshape", attrs={"allowzero": 1})
    assert target_of((N, 4), (N, 4), (N, 4), asked)[0] == (-1, 4)
    target, why = target_of((N, 0), (0, N), (0, N), asked)
    assert target is None and "another one may be 0" in why
