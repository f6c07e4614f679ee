"""Theorems about rounding with data: never worse than nearest, monotone descent, the best scales."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from graphopt.analysis.weight_matrices import Layout
from passes.quantize import descent, feedback, half_quadratic, scale_fit
from passes.quantize.grid import Grid, asymmetric, codes, over, spread, symmetric, values_of
from passes.quantize.layer_rounding import Method, Rounded, rounded
from passes.quantize.quadratic import Array, Lattice, Layer

SINGLE = np.dtype(np.float32)
GPTQ = Method(feedback=True, ordered=True, sweeps=2, neighbours=False, fits=1, damping=0.01)
PLAIN = Method(feedback=True, ordered=False, sweeps=0, neighbours=False, fits=0, damping=0.01)
NEIGHBOURS = Method(feedback=False, ordered=False, sweeps=6, neighbours=True, fits=0, damping=0.01)
SCALES = Method(feedback=False, ordered=False, sweeps=3, neighbours=True, fits=2, damping=0.01)
METHODS = (GPTQ, PLAIN, NEIGHBOURS, SCALES)

DENSE = Layout((64, 24), (64, 24), (0, 1), 1, 64, 24)
FLIPPED = Layout((24, 64), (24, 64), (1, 0), 1, 64, 24)
CONV = Layout((24, 6, 3, 2), (2, 12, 36), (0, 2, 1), 2, 36, 12)
DEPTHWISE = Layout((8, 1, 3, 3), (8, 1, 9), (0, 2, 1), 8, 9, 1)
TRANSPOSED = Layout((8, 6, 2, 2), (2, 4, 24), (0, 1, 2), 2, 4, 24)
CASES = [
    (DENSE, 1, 0), (DENSE, 0, 16), (DENSE, 0, 24), (DENSE, 0, 200), (DENSE, None, 0), (FLIPPED, 0, 0), (FLIPPED, 1, 16),
    (CONV, 0, 0), (CONV, None, 0), (DEPTHWISE, 0, 0), (TRANSPOSED, 1, 0),
]  # fmt: skip


def problem(layout: Layout, seed: int = 0, samples: int = 300) -> tuple[Array, Layer]:
    """A weight in stored order, and its layer with inputs that are correlated and of different energy."""
    rng = np.random.default_rng(seed)
    stored = rng.standard_normal(layout.shape).astype(np.float32)
    mix = rng.standard_normal((layout.groups, layout.inputs, layout.inputs)) * np.exp(
        rng.standard_normal(layout.inputs)
    )
    inputs = rng.standard_normal((layout.groups, samples, layout.inputs)) @ mix
    gram = inputs.transpose(0, 2, 1) @ inputs
    return stored, Layer.of(layout.matrices(stored.astype(np.float64)), gram)


def grid_of(axis: int | None, block: int, bits: int, make: Any) -> Any:
    return lambda values: make(spread(values.astype(np.float32), axis, block), axis, SINGLE, bits, block=block)


def error(layer: Layer, layout: Layout, made: Array, grid: Grid) -> Array:
    """(w - q)' H (w - q) of each output, with what DequantizeLinear makes of the codes."""
    off = layer.weights - layout.matrices(values_of(made, grid).astype(np.float64))
    return np.asarray(np.einsum("gkr,gkr->gr", off, layer.gram @ off))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(("layout", "axis", "block"), CASES)
def test_no_output_is_worse_than_with_the_nearest_codes(
    layout: Layout, axis: int | None, block: int, bits: int, method: Method
) -> None:
    stored, layer = problem(layout)
    for make in (symmetric, asymmetric):
        choose = grid_of(axis, block, bits, make)
        found = rounded(layer, layout, choose, method)
        first = choose(stored)
        before = error(layer, layout, codes(stored, first), first)
        after = error(layer, layout, found.codes, found.grid)
        assert found.codes.shape == layout.shape
        assert found.codes.dtype == first.code
        assert found.grid.scale.shape == first.scale.shape
        whole = found.codes.astype(np.int16)
        assert first.low <= whole.min()
        assert whole.max() <= first.high
        if axis is None or layout is TRANSPOSED:  # outputs share scales
            before, after = before.sum(), after.sum()
        elif method.fits == 0:
            assert (found.grid.scale == first.scale).all()
        assert (after <= before * (1 + 1e-5)).all()
        assert after.sum() < 0.95 * before.sum()
        assert found.left == pytest.approx(float(after.sum() / before.sum()), rel=1e-3)


@pytest.mark.parametrize(("layout", "axis", "block"), CASES)
def test_damping_that_hides_the_inputs_makes_no_output_worse(layout: Layout, axis: int | None, block: int) -> None:
    """What is then made smaller is the error of the weights, and scales that suit it may harm outputs."""
    stored, layer = problem(layout)
    choose = grid_of(axis, block, 2, symmetric)
    found = rounded(layer, layout, choose, dataclasses.replace(SCALES, damping=1e4))
    before = error(layer, layout, codes(stored, choose(stored)), choose(stored))
    after = error(layer, layout, found.codes, found.grid)
    if axis is None or layout is TRANSPOSED:  # outputs share scales
        before, after = before.sum(), after.sum()
    assert (after <= before * (1 + 1e-5)).all()


def test_inputs_that_do_not_correlate_leave_nothing_to_make_up_for() -> None:
    stored, layer = problem(DENSE)
    layer = Layer.of(layer.weights, np.diag(np.arange(1.0, 65.0))[None])
    choose = grid_of(1, 0, 4, symmetric)
    found = rounded(layer, DENSE, choose, PLAIN)
    assert (found.codes == codes(stored, choose(stored))).all()
    assert found.left == 1


@pytest.mark.parametrize("samples", [1, 5, 40])
def test_fewer_samples_than_inputs_are_no_trouble(samples: int) -> None:
    _, layer = problem(DENSE, samples=samples)
    found = rounded(layer, DENSE, grid_of(1, 0, 4, symmetric), GPTQ)
    assert found.left <= 1


def test_inputs_that_were_never_seen_keep_their_nearest_codes() -> None:
    stored, layer = problem(DENSE)
    gram = layer.gram.copy()
    gram[:, 10:20] = 0
    gram[:, :, 10:20] = 0
    choose = grid_of(1, 0, 4, symmetric)
    found = rounded(Layer.of(layer.weights, gram), DENSE, choose, PLAIN)
    assert (found.codes[10:20] == codes(stored, choose(stored))[10:20]).all()
    assert (found.codes != codes(stored, choose(stored))).any()


def test_neighbours_are_less_than_a_step_away() -> None:
    stored, layer = problem(CONV)
    found = rounded(layer, CONV, grid_of(0, 0, 4, symmetric), NEIGHBOURS)
    steps = over(found.grid.scale, found.grid, CONV.shape)
    assert (np.abs(values_of(found.codes, found.grid) - stored) < steps * (1 + 1e-5)).all()


def test_descent_never_goes_up_and_ends_where_no_single_code_helps() -> None:
    _, layer = problem(DENSE)
    lattice = Lattice(np.full((1, 1, 1), 0.3), np.zeros((1, 1, 1)), -8, 7)
    made = lattice.nearest(layer.weights)
    last = layer.loss(lattice.values(made))
    for _ in range(60):
        made = descent.descended(layer, lattice, made, 1)
        now = layer.loss(lattice.values(made))
        assert (now <= last + 1e-9 * np.abs(last)).all()
        last = now
    for at in range(0, 64, 7):
        for move in (-1, 1):
            other = made.copy()
            other[:, at] = np.clip(other[:, at] + move, -8, 7)
            assert (layer.loss(lattice.values(other)) >= last - 1e-9 * np.abs(last)).all()


def test_feedback_is_what_its_definition_says() -> None:
    """One input after the other, the rest moved by least squares: without the factorization."""
    _, layer = problem(Layout((12, 3), (12, 3), (0, 1), 1, 12, 3))
    lattice = Lattice(np.full((1, 1, 1), 0.5), np.zeros((1, 1, 1)), -4, 3)
    target, gram, wanted = layer.weights[0].copy(), layer.gram[0], np.empty((12, 3))
    for at in range(12):
        wanted[at] = np.clip(np.rint(target[at] / 0.5), -4, 3)
        off = target[at] - wanted[at] * 0.5
        target[at] = wanted[at] * 0.5
        if at < 11:
            target[at + 1 :] += np.linalg.solve(gram[at + 1 :, at + 1 :], gram[at + 1 :, at : at + 1] * off)
    assert (feedback.rounded(layer, lattice, ordered=False)[0] == wanted).all()


@pytest.mark.parametrize(("layout", "axis", "block"), CASES)
def test_no_other_scales_fit_better(layout: Layout, axis: int | None, block: int) -> None:
    stored, layer = problem(layout)
    grid = grid_of(axis, block, 4, symmetric)(stored)
    whole = layout.matrices(codes(stored, grid).astype(np.float64))
    which = layout.matrices(over(np.arange(grid.scale.size).reshape(grid.scale.shape), grid, layout.shape))
    one = Lattice(np.ones((1, 1, 1)), np.zeros((1, 1, 1)), -8, 7)
    found = scale_fit.fitted(layer, one, whole, which)
    best = layer.loss(whole * found[which]).sum()
    rng = np.random.default_rng(0)
    for size in (1e-4, 1e-2):
        other = found * (1 + size * rng.standard_normal(found.shape))
        assert layer.loss(whole * other[which]).sum() > best


def test_a_layer_makes_up_for_errors_in_its_inputs() -> None:
    rng = np.random.default_rng(0)
    then = rng.standard_normal((400, 64)) @ rng.standard_normal((64, 64))
    now = then + rng.standard_normal((400, 64)) @ (rng.standard_normal((64, 64)) * (rng.random(64) < 0.3))
    weights = rng.standard_normal((1, 64, 24))
    gram, cross = (now.T @ now)[None], (now.T @ then)[None]
    found: list[Rounded] = [
        rounded(layer, DENSE, grid_of(1, 0, 8, symmetric), GPTQ)
        for layer in (Layer.of(weights, gram), Layer(weights, gram, cross @ weights, corrected=True))
    ]
    errors = [np.square(then @ weights[0] - now @ values_of(one.codes, one.grid)).sum() for one in found]
    assert errors[1] < 0.9 * errors[0]


@pytest.mark.parametrize("layout", [DENSE, FLIPPED, CONV, DEPTHWISE, TRANSPOSED])
def test_layouts_go_both_ways(layout: Layout) -> None:
    stored = np.arange(np.prod(layout.shape)).reshape(layout.shape)
    assert (layout.stored(layout.matrices(stored)) == stored).all()


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(("axis", "block"), [(None, 0), (1, 0), (0, 16), (0, 24)])
def test_half_quadratic_grids_never_have_a_larger_norm(axis: int | None, block: int, bits: int) -> None:
    rng = np.random.default_rng(0)
    values = (rng.standard_t(3, (64, 24)) + 0.5).astype(np.float32)
    before = asymmetric(spread(values, axis, block), axis, SINGLE, bits, block=block)
    after = half_quadratic.fitted(values, before, 10, 0.7)
    norms = [np.power(np.abs(values - values_of(codes(values, one), one)), 0.7).sum() for one in (before, after)]
    assert norms[1] <= norms[0]
    assert norms[1] < norms[0] or (bits == 8 and axis is None)
    assert after.zero is not None
    assert dataclasses.replace(after, scale=before.scale, zero=before.zero) == before
    assert (after.scale > 0).all()
