"""Which part of another tensor a value is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.analysis.parts import part_of
from graphopt.analysis.shapes import infer
from graphopt.ir import decode
from graphopt.ir.store import Store
from graphopt.testing import model


def indices(nodes: str, opset: int = 17, name: str = "y", size: str = "6", **weights: Any) -> tuple[int, ...] | None:
    head = f'<ir_version: 8, opset_import: ["": {opset}]>'
    root = decode(model(f"{head} g (float[N, {size}] x) => (float[A, B] y) {{ {nodes} }}", **weights), Store())
    tensor = next(one for node in root.nodes for one in node.outputs if one.name == name)
    part = part_of(tensor, infer(root), opset)
    assert part is None or (part.source is root.inputs[0] and part.axis == 1)
    return None if part is None else part.indices


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


@pytest.mark.parametrize(
    ("start", "end", "step", "found"),
    [(1, 3, 1, (1, 2)), (-2, 100, 1, (4, 5)), (0, 6, 2, (0, 2, 4)), (4, 2, 1, ()), (5, 0, -1, None)],
)
def test_slices(start: int, end: int, step: int, found: tuple[int, ...] | None) -> None:
    given: dict[str, Any] = {"s": ints(start), "e": ints(end), "a": ints(-1), "t": ints(step)}
    assert indices("y = Slice(x, s, e, a, t)", **given) == found
    if step == 1:
        assert indices(f"y = Slice<axes=[1], starts=[{start}], ends=[{end}]>(x)", 9) == found


def test_gathers() -> None:
    assert indices("y = Gather<axis=1>(x, i)", i=ints(2, -1, 2)) == (2, 5, 2)
    assert indices("y = Gather<axis=1>(x, i)", i=ints(0, 9)) is None
    assert indices("y = Gather<axis=1>(x, i)", i=np.array([[0, 1]])) is None


@pytest.mark.parametrize(
    ("nodes", "opset", "found"),
    [
        ("a, y = Split<axis=1>(x)", 13, (3, 4, 5)),
        ("a, y = Split<axis=1, split=[5, 1]>(x)", 11, (5,)),
        ("a, b, c, y = Split<axis=1, num_outputs=4>(x)", 18, ()),
        ("a, b, c, y = Split<axis=1>(x)", 13, None),
    ],
)
def test_splits(nodes: str, opset: int, found: tuple[int, ...] | None) -> None:
    assert indices(nodes, opset) == found


def test_what_is_no_part() -> None:
    assert indices("y = Relu(x)") is None
    assert indices("y = Gather<axis=1>(x, i)", size="K", i=ints(0)) is None
    two: dict[str, Any] = {"s": ints(0, 0), "e": ints(1, 1), "a": ints(0, 1)}
    assert indices("y = Slice(x, s, e, a)", **two) is None
