"""Figures of difference against numbers worked out by hand, for every kind of value."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

from graphopt.validation import compare as comparison
from graphopt.validation.compare import Summary, compare, same_bits, unsettled

A = np.array([3.0, -4.0, 0.0, 0.0], np.float32)


def test_equal_values() -> None:
    found = compare(A, A.copy())
    assert (found.kind, found.elements, found.differing, found.problem) == ("float", 4, 0, "")
    assert (found.scaled, found.sqnr_db, found.cosine, found.agreement) == (0.0, math.inf, 1.0, 1.0)


def test_figures_of_a_known_difference() -> None:
    b = A + np.array([0.0, 0.0, 0.5, 0.0], np.float32)
    found = compare(A, b)
    assert found.differing == 1
    assert found.peak == 0.5
    assert found.scaled == pytest.approx(0.5 / 2.5)  # RMS of (3, -4, 0, 0) is 2.5
    assert found.sqnr_db == pytest.approx(10 * math.log10(25 / 0.25))
    assert found.cosine == pytest.approx(25 / (5 * math.sqrt(25.25)))
    assert found.agreement == 1.0


def test_a_zero_reference_makes_any_difference_infinite() -> None:
    found = compare(np.zeros(3, np.float32), np.full(3, 1e-9, np.float32))
    assert (found.scaled, found.sqnr_db, found.cosine) == (math.inf, -math.inf, 0.0)


def test_the_sign_of_zero_is_a_bit() -> None:
    found = compare(np.array([0.0], np.float32), np.array([-0.0], np.float32))
    assert found.differing == 1
    assert found.sqnr_db == math.inf
    assert not same_bits(np.array([0.0]), np.array([-0.0]))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn])
def test_nan_payloads_are_not_compared(dtype: type) -> None:
    words = np.dtype(f"u{np.dtype(dtype).itemsize}")
    a = np.array([1.0, np.nan]).astype(dtype)
    b = a.copy()
    b.view(words)[1] ^= words.type(1 << (8 * words.itemsize - 1))  # the sign bit of the NaN
    assert np.isnan(b[1].astype(np.float32))
    assert a.view(words)[1] != b.view(words)[1]
    assert compare(a, b).differing == 0
    assert same_bits(a, b)
    assert compare(a, np.array([2.0, np.nan]).astype(dtype)).differing == 1


def test_nan_and_infinity_are_counted_apart() -> None:
    inf, nan = np.inf, np.nan
    a = np.array([1.0, nan, inf, -inf, 1.0, 1.0, inf, nan], np.float32)
    b = np.array([1.5, nan, inf, -inf, nan, inf, -inf, 1.0], np.float32)
    found = compare(a, b)
    assert found.nonfinite == 4
    assert found.differing == 5
    assert found.peak == 0.5
    assert found.finite == 1
    assert unsettled(a, b).tolist() == [4, 5, 6, 7]


def test_integers_are_decisions_and_numbers() -> None:
    found = compare(np.array([1, 2, 250], np.uint8), np.array([1, 4, 250], np.uint8))
    assert (found.kind, found.decided, found.peak) == ("integer", 1, 2.0)
    assert found.agreement == pytest.approx(2 / 3)
    assert unsettled(np.array([[1, 2], [3, 4]]), np.array([[1, 0], [3, 0]])).tolist() == [1, 3]


def test_booleans_and_strings() -> None:
    found = compare(np.array([True, False]), np.array([True, True]))
    assert (found.kind, found.decided, found.elements) == ("boolean", 1, 2)
    found = compare(np.array(["a", "b"], object), np.array(["a", "c"], object))
    assert (found.kind, found.decided, found.agreement) == ("text", 1, 0.5)
    assert compare(np.array(["a", "b"], object), np.array(["a", "b"])).differing == 0  # object or str, same text


def test_sub_byte_integers() -> None:
    a = np.array([1, -8, 7]).astype(ml_dtypes.int4)
    assert compare(a, a.copy()).differing == 0
    assert compare(a, np.array([1, -8, 6]).astype(ml_dtypes.int4)).decided == 1


def test_complex_numbers_are_compared_part_by_part() -> None:
    a = np.array([1 + 2j, 3 - 1j], np.complex64)
    found = compare(a, a + np.array([0, 1j], np.complex64))
    assert (found.elements, found.differing, found.peak) == (4, 1, 1.0)


def test_top1_is_counted_per_row_and_a_tie_may_be_broken_either_way() -> None:
    a = np.array([[0.1, 0.9, 0.0], [0.5, 0.5, 0.0], [0.9, 0.1, 0.0]], np.float32)
    b = np.array([[0.1, 0.8, 0.0], [0.4, 0.5, 0.0], [0.1, 0.9, 0.0]], np.float32)
    found = compare(a, b)
    assert (found.rows, found.agreeing) == (3, 2)
    assert compare(a[:, :1], b[:, :1]).agreement is None


def test_empty_tensors() -> None:
    found = compare(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32))
    assert (found.elements, found.scaled, found.sqnr_db, found.problem) == (0, 0.0, math.inf, "")


@pytest.mark.parametrize(
    ("a", "b", "problem"),
    [
        (np.zeros((2, 3), np.float32), np.zeros((3, 2), np.float32), "is float32[3,2] instead of float32[2,3]"),
        (np.zeros(2, np.float32), np.zeros(2, np.float64), "is float64[2] instead of float32[2]"),
        (np.zeros(2, np.int64), np.zeros(2, bool), "is bool[2] instead of int64[2]"),
        ([A], [A, A], "has 2 elements instead of 1"),
        ([A, A], [A, A[:2]], "is float32[2] at element 1 instead of float32[4]"),
        ([A], A, "is a tensor instead of a sequence"),
        (A, {0: 1.0}, "is a map instead of a tensor"),
        ({"a": 1.0}, {"b": 1.0}, "has other keys than the reference"),
        (None, A, "is present where the reference is not"),
        (A, None, "is absent where the reference is not"),
        ({"a": A}, {"a": A[:1]}, "is float32[1] at key 'a' instead of float32[4]"),
    ],
)
def test_other_types_shapes_and_structures_are_said(a: object, b: object, problem: str) -> None:
    assert compare(a, b).problem == problem  # type: ignore[arg-type]
    assert unsettled(a, b) is None  # type: ignore[arg-type]
    assert not same_bits(a, b)  # type: ignore[arg-type]


def test_sequences_maps_and_optionals_are_compared_element_by_element() -> None:
    b = A.copy()
    b[0] = 4.0
    assert compare([A, A], [A, b]).differing == 1
    assert compare({"x": A, "y": A}, {"y": b, "x": A}).differing == 1  # by key, not by order
    assert compare(None, None).problem == ""
    assert unsettled([np.array([1, 2]), np.array([3, 4])], [np.array([1, 2]), np.array([3, 5])]).tolist() == [3]


def test_a_classifiers_list_of_maps_is_one_matrix() -> None:
    rows = [{0: 0.1, 1: 0.9}, {0: 0.8, 1: 0.2}]
    other = [{0: 0.1, 1: 0.9}, {0: 0.3, 1: 0.7}]
    found = compare(rows, other)
    assert (found.elements, found.rows, found.agreeing) == (4, 2, 1)
    assert compare(rows, [{1: 0.9, 0: 0.1}, {1: 0.2, 0: 0.8}]).differing == 0


def test_several_feeds_sum_their_energies_and_keep_the_worst() -> None:
    loud = compare(np.array([100.0, 0.0]), np.array([101.0, 0.0]))
    quiet = compare(np.array([1.0, 0.0]), np.array([1.0, 0.5]))
    both = Summary.of([loud, quiet])
    assert both.total.sqnr_db == pytest.approx(10 * math.log10((10000 + 1) / (1 + 0.25)))
    assert both.worst_sqnr_db == pytest.approx(10 * math.log10(1 / 0.25))
    assert both.scaled == pytest.approx(0.5 / math.sqrt(0.5))
    assert both.worst_cosine == pytest.approx(1 / math.sqrt(1.25))
    assert Summary.of([]).total.elements == 0


def test_long_arrays_are_gone_through_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((37, 11)).astype(np.float32)
    b = a + rng.standard_normal((37, 11)).astype(np.float32)
    b[3, 3] = np.nan
    whole, positions = compare(a, b), unsettled(a, b)
    monkeypatch.setattr(comparison, "CHUNK", 16)
    pieces = compare(a, b)
    assert (pieces.differing, pieces.nonfinite, pieces.rows, pieces.agreeing, pieces.peak) == (
        (whole.differing, whole.nonfinite, whole.rows, whole.agreeing, whole.peak)
    )
    assert pieces.sqnr_db == pytest.approx(whole.sqnr_db)
    assert unsettled(a, b).tolist() == positions.tolist() == [36]


def test_numbers_too_large_to_square_do_not_pass_for_equal() -> None:
    a = np.array([1e200, 1.0])
    found = compare(a, a * 2)
    assert (found.sqnr_db, found.scaled) == (-math.inf, math.inf)
