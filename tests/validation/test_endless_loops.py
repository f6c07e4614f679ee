"""Which Loops are told to be without end before anything is run, and which are left to the clock."""

from __future__ import annotations

import pytest

from graphopt.limits import Limits, limited
from graphopt.testing import model
from graphopt.validation.endless import endless

KEPT = "d = Identity(c)"


def _looping(count: str, condition: str, inner: str, first: str = "", inputs: str = "float x") -> str | None:
    """Whether a model with one Loop is said to end."""
    text = f"""agraph ({inputs}) => (float y) <bool yes = {{1}}, bool no = {{0}}, int64 few = {{3}},
        int64 many = {{4611686018427387904}}, float one = {{1}}> {{
        {first} y = Loop <body = trip (int64 i, bool c, float v) => (bool d, float w) {{ {inner} w = Add(v, one) }}>
        ({count}, {condition}, x)
    }}"""
    return endless(model(text))


@pytest.mark.parametrize(
    ("count", "condition", "inner"),
    [
        ("", "yes", KEPT),
        ("", "", KEPT),
        ("", "yes", "e = Identity(c)  d = Identity(e)"),
        ("", "yes", "d = Identity(yes)"),
        ("", "yes", "k = Constant <value = bool {1}> ()  d = Identity(k)"),
    ],
)
def test_without_a_count_and_always_true(count: str, condition: str, inner: str) -> None:
    assert _looping(count, condition, inner) == (
        "Loop 'y' never ends, because it has no trip count and its condition is always true"
    )


def test_a_count_beyond_any_clock() -> None:
    assert _looping("many", "yes", KEPT) == (
        "Loop 'y' is to make 4611686018427387904 trips and its condition is always true; --max loop-trips=N moves it"
    )
    with limited(Limits(loop_trips=1 << 62)):
        assert _looping("many", "yes", KEPT) is None
    with limited(Limits(loop_trips=2)):
        assert "is to make 3 trips" in str(_looping("few", "yes", KEPT))


@pytest.mark.parametrize(
    ("count", "condition", "inner"),
    [
        ("few", "yes", KEPT),  # it makes three trips
        ("", "no", KEPT),  # it makes none
        ("many", "no", KEPT),
        ("", "yes", "d = Not(c)"),  # it makes one
        ("", "yes", "d = Identity(no)"),
        ("", "yes", "d = Less(v, one)"),  # who knows
        ("", "yes", "k = Constant <value = bool {0}> ()  d = Identity(k)"),
    ],
)
def test_a_loop_that_may_end_is_left_alone(count: str, condition: str, inner: str) -> None:
    assert _looping(count, condition, inner) is None


def test_what_the_caller_gives_is_not_known() -> None:
    assert _looping("n", "yes", KEPT, inputs="float x, int64 n") is None
    assert _looping("", "b", KEPT, inputs="float x, bool b") is None
    assert _looping("", "b", KEPT, first="b = Cast <to = 9> (x)") is None
