"""The grids that quantized fusions compare: the same only in type, scale and zero point."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.ir import decode
from graphopt.ir.store import Store
from graphopt.testing import model
from passes.fuse.onnxruntime.grids import Grid, grid

F, U8, S8 = np.float32, np.uint8, np.int8


def read(scale: Any, zero: Any, step: str = "DequantizeLinear(x, s, z)") -> Grid | None:
    """Of the one node of a model that states them."""
    text = f'<ir_version: 11, opset_import: ["": 23]> g (uint8[N] x) => (float[M] y) {{ y = {step} }}'
    graph = decode(model(text, s=scale, z=zero), Store())
    return grid(graph.nodes[0])


def test_what_makes_two_grids_the_same() -> None:
    one = read(F(0.5), U8(3))
    assert one is not None
    for scale, zero, same in (
        (F(0.5), U8(3), True),
        (F(0.5), U8(4), False),
        (F(0.25), U8(3), False),
        (F(0.5), S8(3), False),
        (np.array([0.5], F), np.array([3], U8), True),
        (np.array([0.5, 0.5], F), np.array([3, 3], U8), False),
        (np.array([[0.5]], F), np.array([[3]], U8), False),
    ):
        other = read(scale, zero)
        assert other is not None and one.same(other) == other.same(one) == same, (scale, zero)


@pytest.mark.parametrize(
    ("scale", "zero"),
    [(np.float16(0.5), U8(3)), (F(0), U8(3)), (F(-1), U8(3)), (F(0.5), np.uint16(3)), (F(0.5), np.array([3], U8))],
)
def test_what_is_no_grid(scale: Any, zero: Any) -> None:
    assert read(scale, zero) is None


@pytest.mark.parametrize("attribute", ["block_size = 2", "precision = 1", "output_dtype = 10"])
def test_attributes_that_make_it_another_one(attribute: str) -> None:
    op = "QuantizeLinear" if "precision" in attribute else "DequantizeLinear"
    assert read(F(0.5), U8(3), f"{op}<{attribute}>(x, s, z)") is None


def test_the_ends_of_a_grid() -> None:
    found = read(F(0.5), U8(3))
    assert found is not None and found.range == (-1.5, 126.0)
