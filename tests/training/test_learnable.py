"""Zeros stay zero, codes stay on their grid, and before the first step every weight is what the model has."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from graphopt.training.adamw import AdamW  # noqa: E402
from graphopt.training.learnable import Learnable  # noqa: E402

DRAW = np.random.default_rng(0)


def moved(one: Learnable, steps: int = 20, rate: float = 0.3) -> Learnable:
    """After some steps of a loss that pulls every element somewhere else."""
    target = torch.tensor(DRAW.normal(size=one.values.shape) * 3)
    optimizer = AdamW(one.tensors, [one.size, 1.0][: len(one.tensors)], [0.0] * len(one.tensors))
    for step in range(1, steps + 1):
        torch.square(one.value() - target).sum().backward()
        optimizer.step(step, rate)
    return one


def grid(shape: tuple[int, ...] = (6, 8), **more: Any) -> Learnable:
    codes = DRAW.integers(-7, 8, shape)
    given: dict[str, Any] = {"scale": np.float32(0.1) * np.ones((), np.float32), "low": -8, "high": 7}
    return Learnable("w", codes, **(given | more))


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16", "float64"])
def test_floats_start_as_they_are(kind: str) -> None:
    import ml_dtypes  # noqa: F401 - registers bfloat16

    stored = DRAW.normal(size=(5, 4)).astype(np.dtype(kind))
    wide = stored if stored.dtype.kind == "f" else stored.astype(np.float32)
    one = Learnable("w", wide, kind)
    np.testing.assert_array_equal(one.value().detach().numpy(), stored.astype(np.float64))
    np.testing.assert_array_equal(one.stored()[0].astype(np.dtype(kind)), stored)


def test_half_precision_is_trained_on_what_can_be_stored() -> None:
    one = moved(Learnable("w", DRAW.normal(size=(5, 4)).astype(np.float16), "float16"), rate=0.001)
    value = one.value().detach().numpy()
    np.testing.assert_array_equal(value.astype(np.float16).astype(np.float32), value)
    np.testing.assert_array_equal(one.stored()[0].astype(np.float16).astype(np.float32), value)


def test_zeros_that_stay_are_zero_to_the_bit() -> None:
    values = DRAW.normal(size=(6, 6)).astype(np.float32)
    values[values < 0.3] = 0.0
    values[0, 0] = -0.0
    one = moved(Learnable("w", values, masked=True))
    stored, _ = one.stored()
    assert stored[values == 0].tobytes() == values[values == 0].tobytes()
    assert (stored[values != 0] != values[values != 0]).all()


def test_zeros_that_need_not_stay_move() -> None:
    stored, _ = moved(Learnable("w", np.zeros((3, 3), np.float32))).stored()
    assert (stored != 0).all()


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"zero": np.array(3)},
        {"scale": np.linspace(0.05, 0.2, 6).astype(np.float32), "axis": 0},
        {"scale": np.linspace(0.05, 0.2, 8).astype(np.float32), "axis": 1, "zero": np.arange(8) - 4},
        {"scale": np.full((6, 3), 0.1, np.float32), "axis": 1, "block": 3, "zero": np.ones((6, 3), int)},
    ],
)
def test_codes_start_as_they_are_and_stay_on_their_grid(more: dict[str, Any]) -> None:
    one = grid(**more)
    codes, _ = one.stored()
    np.testing.assert_array_equal(codes, one.values)
    moved(one)
    codes, scale = one.stored()
    assert scale is None and codes.dtype.kind == "i"
    assert codes.min() >= -8 and codes.max() <= 7
    assert (codes != one.values).any()
    _, step, zero = one._expanded()
    np.testing.assert_allclose(one.value().detach().numpy(), (codes - zero) * step, rtol=1e-6)


def test_zeros_among_codes_stay() -> None:
    one = grid(zero=np.array(2), masked=True)
    where = one.values == 2
    assert where.any()
    codes, _ = moved(one).stored()
    assert (codes[where] == 2).all() and (codes[~where] != one.values[~where]).any()


def test_where_a_number_was_in_its_cell_is_remembered() -> None:
    exact = DRAW.normal(size=(6, 8)) * 0.3
    codes = np.clip(np.round(exact / 0.1), -8, 7).astype(int)
    one = Learnable("w", codes, scale=np.array(0.1, np.float32), low=-8, high=7, near=exact.astype(np.float32))
    np.testing.assert_array_equal(one.stored()[0], codes)  # the codes are those of the model all the same
    off = one.free.detach().numpy() - codes
    assert np.abs(off).max() <= 0.5 and np.abs(off).max() > 0.1


def test_wide_codes_lose_nothing() -> None:
    codes = np.array([2**30 + 1, -(2**30) - 3, 5, 7])
    one = Learnable("b", codes, scale=np.array(1e-6, np.float32), low=-(2**31), high=2**31 - 1)
    np.testing.assert_array_equal(one.stored()[0], codes)


def test_scales_are_trained_where_asked_and_stay_positive() -> None:
    one = grid(scale=np.linspace(0.05, 0.2, 6).astype(np.float32), axis=0, trains_scale=True)
    _, scale = one.stored()
    np.testing.assert_array_equal(scale, one.scale)
    moved(one)
    _, scale = one.stored()
    assert scale is not None and (scale > 0).all() and (scale != one.scale).all()


def test_weight_decay_shrinks_and_no_gradient_leaves() -> None:
    one = torch.ones(3, requires_grad=True)
    optimizer = AdamW([one], [1.0], [0.5])
    optimizer.step(1, 0.1)
    assert one.tolist() == [1.0] * 3
    one.grad = torch.zeros(3)
    optimizer.step(1, 0.1)
    assert one.tolist() == pytest.approx([0.95] * 3)


def test_steps_are_those_of_pytorch() -> None:
    start = torch.tensor(DRAW.normal(size=(4, 4)), dtype=torch.float32)
    mine, theirs = start.clone().requires_grad_(True), start.clone().requires_grad_(True)
    ours = AdamW([mine], [1.0], [0.01])
    other = torch.optim.AdamW([theirs], lr=0.02, weight_decay=0.01, eps=1e-12)
    for step in range(1, 20):
        for one in (mine, theirs):
            (torch.sin(3 * one).sum() + torch.square(one).sum()).backward()
        ours.step(step, 0.02)
        other.step()
        other.zero_grad()
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
